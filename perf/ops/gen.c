/* Inputs of perf/ops with fixed seeds, little-endian binary files.
 *
 *   gen keys    N SEED FILE [KEYS]      u64, random; of KEYS different ones if given
 *   gen pairs   N KEYS SEED FILE [HOT]  (u64, f64) of KEYS different keys, spread over all of u64; HOT percent of the rows have one key
 *   gen join    N SEED LEFT RIGHT       (u64, u64) each: 90 % of a side's keys are different, 10 % repeat one; half of the keys are on both sides
 *   gen records N SEED FILE [KEYS]      gensort's binary records of 100 B; of KEYS different first 8 bytes of a key if given
 *   gen text    BYTES SEED FILE         lines of words that are Zipf distributed, some with bytes above 0x7f (UTF-8)
 *
 * Values of pairs are multiples of 1/64 below 1024, so that sums are exact in any order. Row i depends on the seed and i alone. */
#include "ops.h"
#include <math.h>

static FILE *file;
static char *buffer;
enum { BUFFER = 1 << 20 };
static size_t held;

static void die(const char *what) {
  fprintf(stderr, "gen: %s\n", what);
  exit(2);
}
static void start(const char *path) {
  file = fopen(path, "wb");
  if (!file) die("cannot create the file");
  if (!buffer) buffer = malloc(BUFFER);
  if (!buffer) die("out of memory");
  held = 0;
}
static void flush(void) {
  if (fwrite(buffer, 1, held, file) != held) die("cannot write");
  held = 0;
}
static inline void put(const void *p, size_t n) {
  if (held + n > BUFFER) flush();
  memcpy(buffer + held, p, n);
  held += n;
}
static void end(void) {
  flush();
  if (fclose(file)) die("cannot write");
}

/* A permutation of [0, n): four Feistel rounds over the next power of four, walked until within n. */
static uint64_t permute(uint64_t i, uint64_t n, uint64_t seed) {
  int half = 1;
  while (half < 31 && (1ull << 2 * half) < n) half++;
  uint64_t mask = (1ull << half) - 1;
  do {
    uint64_t l = i >> half, r = i & mask;
    for (int k = 0; k < 4; k++) {
      uint64_t t = l ^ (mix(r ^ seed ^ ((uint64_t)k << 56)) & mask);
      l = r;
      r = t;
    }
    i = l << half | r;
  } while (i >= n);
  return i;
}

static void side(const char *path, uint64_t n, uint64_t seed, uint64_t which) {
  start(path);
  for (uint64_t i = 0; i < n; i++) {
    uint64_t j = permute(i, n, seed ^ which << 48);
    if (j % 10 == 9) j -= 1 + mix(seed ^ j ^ which << 40) % 9;
    Row row = {mix(seed << 32 ^ (j + which * (n / 2))), i * 2 + which};
    put(&row, sizeof row);
  }
  end();
}

int main(int argc, char **argv) {
  if (argc < 5) die("usage: gen keys|records|text N SEED FILE [KEYS]; gen pairs N KEYS SEED FILE [HOT]; gen join N SEED LEFT RIGHT");
  const char *what = argv[1];
  uint64_t n = strtoull(argv[2], NULL, 10), seed = strtoull(argv[3], NULL, 10);
  uint64_t different = argc > 5 ? strtoull(argv[5], NULL, 10) : 0; /* of keys and records */
  if (!strcmp(what, "keys")) {
    start(argv[4]);
    for (uint64_t i = 0; i < n; i++) {
      uint64_t key = mix(mix(seed) + i);
      if (different) key = mix(key % different);
      put(&key, 8);
    }
    end();
  } else if (!strcmp(what, "pairs")) {
    if (argc < 6) die("usage: gen pairs N KEYS SEED FILE [HOT]");
    uint64_t keys = seed, hot = argc > 6 ? strtoull(argv[6], NULL, 10) : 0;
    seed = strtoull(argv[4], NULL, 10);
    if (!keys) die("no keys");
    start(argv[5]);
    for (uint64_t i = 0; i < n; i++) {
      uint64_t word = mix(mix(seed) + i), id = hot && mix(word) % 100 < hot ? 0 : word % keys;
      double value = (double)(word >> 48) / 64;
      uint64_t key = mix(seed << 32 ^ id);
      put(&key, 8);
      put(&value, 8);
    }
    end();
  } else if (!strcmp(what, "join")) {
    if (argc < 6) die("usage: gen join N SEED LEFT RIGHT");
    side(argv[4], n, seed, 0);
    side(argv[5], n, seed, 1);
  } else if (!strcmp(what, "records")) {
    start(argv[4]);
    for (uint64_t i = 0; i < n; i++) {
      unsigned char r[RECORD];
      char number[40];
      uint64_t a = mix(mix(seed) + 2 * i), b = mix(mix(seed) + 2 * i + 1);
      if (different) a = mix(a % different), b = (b & ~0xffffull) | (b & 1);
      memcpy(r, &a, 8);
      memcpy(r + 8, &b, 2);
      memcpy(r + 10, "\x00\x11", 2);
      for (int d = 0; d < 32; d++) number[d] = "0123456789ABCDEF"[d < 16 ? 0 : i >> (31 - d) * 4 & 15];
      memcpy(r + 12, number, 32);
      memcpy(r + 44, "\x88\x99\xaa\xbb", 4);
      for (int d = 0; d < 12; d++) memset(r + 48 + 4 * d, "0123456789ABCDEF"[b >> (16 + 4 * d) & 15], 4);
      memcpy(r + 96, "\xcc\xdd\xee\xff", 4);
      put(r, RECORD);
    }
    end();
  } else if (!strcmp(what, "text")) {
    static const char *letters[] = {"e", "t", "a", "o", "i", "n", "s", "r", "h", "l", "d", "c", "u", "m", "f", "p", "g", "w", "y", "b", "v", "k", "X", "J", "0", "7", "\xc3\xa9", "\xe2\x82\xac", "Q", "z", "9", "1"};
    static const char *between[] = {" ", " ", " ", " ", " ", " ", ", ", ". ", "\n", "\n", " (", ") ", "_", "->", "\t", ";\n"};
    start(argv[4]);
    for (uint64_t i = 0, bytes = 0; bytes < n; i++) {
      uint64_t word = mix(mix(seed) + i);
      /* The number of a word, Zipf with exponent 1, is exp of something uniform; its letters follow from it. */
      uint64_t id = (uint64_t)exp((double)(word >> 11) / 9007199254740992.0 * 15.0), h = mix(seed ^ id << 20);
      int length = 1 + (int)(id < 40 ? h % 4 : h % 13) + (h >> 50 == 1 ? 40 : 0);
      h = mix(h);
      for (int l = 0; l < length; l++) {
        const char *s = letters[h >> 5 * (l % 12) & 31];
        size_t k = strlen(s);
        if (l % 12 == 11) h = mix(h);
        put(s, k);
        bytes += k;
      }
      const char *s = between[word & 15];
      put(s, strlen(s));
      bytes += strlen(s);
    }
    end();
  } else {
    die("what to generate: keys, pairs, join, records or text");
  }
  return 0;
}
