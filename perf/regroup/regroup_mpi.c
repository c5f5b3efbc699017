/* Regroup of key-values as an expert would write it by hand in C with MPI: the program that Aeolian's `regroup_kv` is measured against.
 *
 *   mpicc -O3 -march=native regroup_mpi.c -o regroup_mpi
 *   mpirun -n 2 ./regroup_mpi PAIRS SEED REPETITIONS delivered|combined
 *
 * Every rank has PAIRS / n pairs (uint64_t, double) with different random keys, a quarter of which all ranks have. `delivered`: all pairs of a key come to
 * one rank, as an array. `combined`: and their values are added up there in a hash table. Two passes (count, place) and one
 * MPI_Alltoallv of 16-byte structs; open addressing with prefetches. All memory is allocated, and was touched, before the time begins;
 * rank 0 prints one JSON line with the slowest rank's seconds of each repetition. */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  uint64_t key;
  double value;
} Pair;

static void die(const char *what) {
  fprintf(stderr, "regroup_mpi: %s\n", what);
  MPI_Abort(MPI_COMM_WORLD, 2);
  exit(2);
}

static void *get(size_t bytes) {
  void *p = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
  if (!p) die("out of memory");
  memset(p, 0, bytes);
  return p;
}

static uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

/* The upper half says which rank, the lower half where in its table. */
static inline uint64_t hash(uint64_t key) {
  unsigned __int128 p = (unsigned __int128)key * 0x9e3779b97f4a7c15ull;
  return (uint64_t)p ^ (uint64_t)(p >> 64);
}
#define OWNER(h) ((int)(((h) >> 32) * (uint64_t)size >> 32))

static Pair *slots;
static uint64_t mask;

/* Key 0 marks a free slot: the keys of this program are never 0. */
static size_t insert(const Pair *pairs, size_t n) {
  enum { AHEAD = 16 };
  size_t fresh = 0;
  for (size_t i = 0; i < n; i++) {
    if (i + AHEAD < n) __builtin_prefetch(&slots[hash(pairs[i + AHEAD].key) & mask], 1);
    uint64_t at = hash(pairs[i].key) & mask;
    while (slots[at].key && slots[at].key != pairs[i].key) at = (at + 1) & mask;
    fresh += !slots[at].key;
    slots[at].key = pairs[i].key;
    slots[at].value += pairs[i].value;
  }
  return fresh;
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  int rank, size;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (argc < 5) die("usage: regroup_mpi PAIRS SEED REPETITIONS delivered|combined");
  size_t n = strtoull(argv[1], 0, 10) / size;
  uint64_t seed = strtoull(argv[2], 0, 10);
  int repetitions = atoi(argv[3]), combined = !strcmp(argv[4], "combined");
  if (n < 1 || n > 100000000 || repetitions < 1) die("want up to 1e8 pairs a rank and 1 or more repetitions");

  Pair *mine = get(n * sizeof(Pair)), *out = get(n * sizeof(Pair));
  for (size_t j = 0; j < n; j++) {
    uint64_t id = j % 4 == 0 ? j : (1ull << 40) + j * size + rank;
    mine[j].key = mix(id ^ seed << 48);
    mine[j].value = (double)(j % 1000 + 1);
  }
  /* Random keys: no rank gets many more than n. */
  size_t room = n + n / 4 + 1024;
  Pair *in = get(room * sizeof(Pair));
  for (mask = 1; mask < room * 5 / 4; mask *= 2) {}
  if (combined) slots = get(mask * sizeof(Pair));
  size_t bytes = mask * sizeof(Pair);
  mask--;
  int *out_n = get(size * 4), *out_at = get(size * 4), *in_n = get(size * 4), *in_at = get(size * 4);
  Pair **to = get(size * sizeof(Pair *));
  MPI_Datatype pair;
  MPI_Type_contiguous(sizeof(Pair), MPI_BYTE, &pair);
  MPI_Type_commit(&pair);

  size_t rows = 0, came = 0;
  double *seconds = get(repetitions * sizeof(double));
  for (int r = 0; r < repetitions; r++) {
    MPI_Barrier(MPI_COMM_WORLD);
    double began = MPI_Wtime();
    memset(out_n, 0, size * 4);
    for (size_t j = 0; j < n; j++) out_n[OWNER(hash(mine[j].key))]++;
    for (int o = 1; o < size; o++) out_at[o] = out_at[o - 1] + out_n[o - 1];
    for (int o = 0; o < size; o++) to[o] = out + out_at[o];
    for (size_t j = 0; j < n; j++) *to[OWNER(hash(mine[j].key))]++ = mine[j];
    MPI_Alltoall(out_n, 1, MPI_INT, in_n, 1, MPI_INT, MPI_COMM_WORLD);
    for (int o = 1; o < size; o++) in_at[o] = in_at[o - 1] + in_n[o - 1];
    came = (size_t)in_at[size - 1] + in_n[size - 1];
    if (came > room) die("the keys are not spread evenly");
    MPI_Alltoallv(out, out_n, out_at, pair, in, in_n, in_at, pair, MPI_COMM_WORLD);
    if (combined) {
      memset(slots, 0, bytes);
      rows = insert(in, came);
    } else {
      rows = came;
    }
    double took = MPI_Wtime() - began;
    MPI_Reduce(&took, &seconds[r], 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
  }

  uint64_t have[2] = {rows, 0}, all[2];
  double sum = 0, total;
  const Pair *from = combined ? slots : in;
  for (size_t i = 0; i < (combined ? mask + 1 : came); i++) have[1] += from[i].key, sum += from[i].value;
  MPI_Reduce(have, all, 2, MPI_UINT64_T, MPI_SUM, 0, MPI_COMM_WORLD);
  MPI_Reduce(&sum, &total, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
  if (rank == 0) {
    printf("{\"rows\": %llu, \"keys\": \"%016llx\", \"sum\": %.1f, \"seconds\": [", (unsigned long long)all[0], (unsigned long long)all[1], total);
    for (int r = 0; r < repetitions; r++) printf("%s%.6f", r ? ", " : "", seconds[r]);
    printf("]}\n");
  }
  MPI_Type_free(&pair);
  MPI_Finalize();
  return 0;
}
