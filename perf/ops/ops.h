/* What the generator and the MPI programs of perf/ops share: mixing, hashing, file formats. See README.md for the formats. */
#ifndef OPS_H
#define OPS_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
  uint64_t key, value;
} Row;

typedef struct {
  uint64_t key, left, right;
} Joined;

#define NONE UINT64_MAX /* what a joined row has where a side is missing */
#define RECORD 100      /* gensort's record ... */
#define KEY 10          /* ... and its key */

static inline uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

/* One multiplication, folded. The upper half says which rank and which part, the lower half where in a table. */
static inline uint64_t hash64(uint64_t key) {
  unsigned __int128 p = (unsigned __int128)(key ^ 0x2545f4914f6cdd1dull) * 0x9e3779b97f4a7c15ull;
  return (uint64_t)p ^ (uint64_t)(p >> 64);
}
/* Which of `parts` it is: monotone in the hash. */
static inline size_t part_of(uint64_t hash, size_t parts) { return (size_t)((hash >> 32) * (uint64_t)parts >> 32); }

static inline uint64_t load64(const void *p) {
  uint64_t x;
  memcpy(&x, p, 8);
  return x;
}
static inline uint64_t load64be(const void *p) { return __builtin_bswap64(load64(p)); }

/* Checksums: sums modulo 2^64, so that any order, any number of ranks and any language comes to the same. */
static inline uint64_t sum_row(const Row *r) { return mix(r->key ^ mix(r->value)); }
static inline uint64_t sum_joined(const Joined *r) { return mix(r->key ^ mix(r->left ^ mix(r->right))); }
static inline uint64_t sum_key_at(uint64_t key, uint64_t position) { return mix(key ^ mix(position)); }
static inline uint64_t sum_record_at(const unsigned char *r, uint64_t position) {
  uint64_t h = mix(position);
  uint32_t last;
  for (int i = 0; i < 12; i++) h = mix(h ^ load64(r + 8 * i));
  memcpy(&last, r + 96, 4);
  return mix(h ^ last);
}
#endif
