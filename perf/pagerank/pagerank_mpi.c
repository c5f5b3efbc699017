/* PageRank as an expert would write it by hand in C with MPI: the program that Aeolian is measured against.
 *
 *   mpicc -O3 -march=native pagerank_mpi.c -o pagerank_mpi
 *   mpirun -n 2 ./pagerank_mpi SCALE EDGES SEED ITERATIONS [auto|needed|whole]
 *
 * The R-MAT graph of `pagerank --generate rmat`, made in memory by all ranks; vertices in equal blocks; in-edges in compressed rows,
 * their sources numbered so that those of many edges lie together (as in Aeolian's program: without it the C program is slower). In
 * each iteration MPI_Alltoallv of the values that are needed, or MPI_Allgatherv of all: `auto` times both and takes the faster. One
 * MPI_Allreduce carries dangling mass and change. Prints one JSON line. */
#include <math.h>
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const char *what) {
  fprintf(stderr, "pagerank_mpi: %s\n", what);
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
static uint64_t at(uint64_t seed, uint64_t stream, uint64_t index) { return mix(mix(mix(seed) ^ stream) ^ index); }

static int scale;
static uint64_t seed;
static uint32_t odd[3];

static uint32_t renumber(uint32_t v) {
  uint32_t mask = (1u << scale) - 1;
  int shift = scale / 2 > 1 ? scale / 2 : 1;
  for (int k = 0; k < 3; k++) {
    v = (v * odd[k] + (odd[k] >> 7)) & mask;
    v ^= v >> shift;
  }
  return v;
}

static void edge(uint64_t i, uint32_t *source, uint32_t *target) {
  uint32_t s = 0, t = 0;
  uint64_t word = at(seed, 0, i);
  for (int level = 0; level < scale; level++) {
    uint32_t draw = level % 2 ? (uint32_t)(word >> 32) : (uint32_t)word;
    s = s << 1 | (draw >= 3264175144u);
    t = t << 1 | ((draw >= 2448131358u && draw < 3264175144u) || draw >= 4080218931u);
    if (level % 2) word = mix(word);
  }
  *source = renumber(s), *target = renumber(t);
}

/* Least significant digit first; returns the array that holds the result. */
static uint64_t *sort(uint64_t *a, uint64_t *b, size_t n, int bits) {
  for (int shift = 0; shift < bits; shift += 11) {
    size_t count[2049] = {0};
    for (size_t i = 0; i < n; i++) count[((a[i] >> shift) & 2047) + 1]++;
    for (int d = 0; d < 2048; d++) count[d + 1] += count[d];
    for (size_t i = 0; i < n; i++) b[count[(a[i] >> shift) & 2047]++] = a[i];
    uint64_t *c = a;
    a = b, b = c;
  }
  return a;
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  int rank, size;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (argc < 5) die("usage: pagerank_mpi SCALE EDGES SEED ITERATIONS [auto|needed|whole]");
  scale = atoi(argv[1]);
  uint64_t drawn = strtoull(argv[2], 0, 10);
  seed = strtoull(argv[3], 0, 10);
  int iterations = atoi(argv[4]);
  const char *way = argc > 5 ? argv[5] : "auto";
  if (scale < 1 || scale > 31 || iterations < 1) die("want 1 <= SCALE <= 31 and ITERATIONS >= 1");
  for (int k = 0; k < 3; k++) odd[k] = (uint32_t)at(seed, 1, k + 1) | 1;
  double began = MPI_Wtime();

  uint64_t n = 1ull << scale;
  uint64_t *first = get((size + 1) * 8);
  for (int r = 0; r <= size; r++) first[r] = (uint64_t)((unsigned __int128)n * r / size);
  uint64_t rows = first[rank + 1] - first[rank];
#define OWNER(v) ((int)(((uint64_t)(v) * size + size - 1) >> scale))

  /* Edges to the owners of their targets. */
  uint64_t begin = (uint64_t)((unsigned __int128)drawn * rank / size), end = (uint64_t)((unsigned __int128)drawn * (rank + 1) / size);
  int *out_n = get(size * 4), *out_at = get(size * 4), *in_n = get(size * 4), *in_at = get(size * 4);
  uint64_t *made = get((end - begin) * 8 + 8), *out = get((end - begin) * 8 + 8);
  for (uint64_t i = begin; i < end; i++) {
    uint32_t s, t;
    edge(i, &s, &t);
    int o = OWNER(t);
    while (t < first[o]) o--;
    while (t >= first[o + 1]) o++;
    made[i - begin] = (uint64_t)t << 32 | s;
    out_n[o]++;
  }
  for (int r = 1; r < size; r++) out_at[r] = out_at[r - 1] + out_n[r - 1];
  int *fill = get(size * 4);
  memcpy(fill, out_at, size * 4);
  for (uint64_t i = 0; i < end - begin; i++) {
    int o = OWNER(made[i] >> 32);
    while (made[i] >> 32 < first[o]) o--;
    while (made[i] >> 32 >= first[o + 1]) o++;
    out[fill[o]++] = made[i];
  }
  free(made);
  MPI_Alltoall(out_n, 1, MPI_INT, in_n, 1, MPI_INT, MPI_COMM_WORLD);
  for (int r = 1; r < size; r++) in_at[r] = in_at[r - 1] + in_n[r - 1];
  size_t m = (size_t)in_at[size - 1] + in_n[size - 1];
  uint64_t *keys = get(m * 8 + 8), *other = get(m * 8 + 8);
  MPI_Alltoallv(out, out_n, out_at, MPI_UINT64_T, keys, in_n, in_at, MPI_UINT64_T, MPI_COMM_WORLD);
  free(out);
  /* The target's place and the source in as few bits as there are, sorted, without duplicates. */
  for (size_t i = 0; i < m; i++) keys[i] = ((keys[i] >> 32) - first[rank]) << scale | (uint32_t)keys[i];
  uint64_t *sorted = sort(keys, other, m, 2 * scale);
  size_t kept = 0;
  for (size_t i = 0; i < m; i++)
    if (!i || sorted[i] != sorted[i - 1]) sorted[kept++] = sorted[i];
  size_t *row = get((rows + 1) * sizeof *row);
  uint32_t *column = get(kept * 4 + 4), *uses = get(n * 4);
  for (size_t i = 0; i < kept; i++) {
    column[i] = (uint32_t)(sorted[i] & (n - 1));
    row[(sorted[i] >> scale) + 1]++;
    uses[column[i]]++;
  }
  for (uint64_t v = 0; v < rows; v++) row[v + 1] += row[v];
  free(keys), free(other);

  /* Lists of needed vertices by owner, those of many edges first. */
  uint32_t *list = get(n * 4), *slot = get(n * 4), *counts = get(n * 4);
  int *need_n = get(size * 4), *need_at = get(size * 4), total = 0;
  for (int r = 0; r < size; r++) {
    need_at[r] = total;
    for (int level = 31; level >= 0; level--)
      for (uint64_t v = first[r]; v < first[r + 1]; v++)
        if (uses[v] && 31 - __builtin_clz(uses[v]) == level) {
          counts[total] = uses[v], slot[v] = total;
          list[total++] = (uint32_t)(v - first[r]);
        }
    need_n[r] = total - need_at[r];
  }
  int *give_n = get(size * 4), *give_at = get(size * 4);
  MPI_Alltoall(need_n, 1, MPI_INT, give_n, 1, MPI_INT, MPI_COMM_WORLD);
  for (int r = 1; r < size; r++) give_at[r] = give_at[r - 1] + give_n[r - 1];
  size_t gives = (size_t)give_at[size - 1] + give_n[size - 1];
  uint32_t *give = get(gives * 4 + 4), *times = get(gives * 4 + 4), *degree = get(rows * 4 + 4);
  MPI_Alltoallv(list, need_n, need_at, MPI_UINT32_T, give, give_n, give_at, MPI_UINT32_T, MPI_COMM_WORLD);
  MPI_Alltoallv(counts, need_n, need_at, MPI_UINT32_T, times, give_n, give_at, MPI_UINT32_T, MPI_COMM_WORLD);
  for (size_t i = 0; i < gives; i++) degree[give[i]] += times[i];
  int *block_n = get(size * 4), *block_at = get(size * 4);
  for (int r = 0; r < size; r++) block_n[r] = (int)(first[r + 1] - first[r]), block_at[r] = (int)first[r];

  double *x = get(rows * 8), *share = get(rows * 8), *given = get(rows * 8), *packed = get(gives * 8 + 8), *here = get(n * 8);
  /* What does not travel is not packed twice: the own part goes straight to its place. */
  int own_n = give_n[rank], own_at = need_at[rank];
  give_n[rank] = need_n[rank] = 0;
#define NEEDED()                                                                                                            \
  do {                                                                                                                      \
    for (int r = 0; r < size; r++)                                                                                          \
      if (r != rank)                                                                                                        \
        for (int i = give_at[r]; i < give_at[r] + give_n[r]; i++) packed[i] = given[give[i]];                               \
    for (int i = 0; i < own_n; i++) here[own_at + i] = given[give[give_at[rank] + i]];                                      \
    if (size > 1) MPI_Alltoallv(packed, give_n, give_at, MPI_DOUBLE, here, need_n, need_at, MPI_DOUBLE, MPI_COMM_WORLD);    \
  } while (0)
#define WHOLE() MPI_Allgatherv(given, (int)rows, MPI_DOUBLE, here, block_n, block_at, MPI_DOUBLE, MPI_COMM_WORLD)
  int whole = !strcmp(way, "whole");
  if (!strcmp(way, "auto") && size > 1) {
    double best[2] = {1e9, 1e9};
    for (int i = 0; i < 6; i++) {
      MPI_Barrier(MPI_COMM_WORLD);
      double t = MPI_Wtime();
      if (i % 2) WHOLE(); else NEEDED();
      t = MPI_Wtime() - t;
      MPI_Allreduce(MPI_IN_PLACE, &t, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
      if (t < best[i % 2]) best[i % 2] = t;
    }
    whole = best[1] < best[0];
  }
  if (!whole)
    for (size_t i = 0; i < kept; i++) column[i] = slot[column[i]];

  double sums[2] = {0, 0}, damping = 0.85;
  for (uint64_t v = 0; v < rows; v++) {
    share[v] = degree[v] ? 1.0 / degree[v] : 0;
    x[v] = 1.0 / n;
    given[v] = x[v] * share[v];
    if (!degree[v]) sums[0] += x[v];
  }
  MPI_Allreduce(MPI_IN_PLACE, sums, 2, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  MPI_Barrier(MPI_COMM_WORLD);
  double start = MPI_Wtime();
  for (int it = 0; it < iterations; it++) {
    if (whole) WHOLE(); else NEEDED();
    double base = (1 - damping) / n + damping * sums[0] / n;
    sums[0] = sums[1] = 0;
    for (uint64_t v = 0; v < rows; v++) {
      double a = 0, b = 0, c = 0, d = 0;
      size_t i = row[v], stop = row[v + 1];
      for (; i + 4 <= stop; i += 4) a += here[column[i]], b += here[column[i + 1]], c += here[column[i + 2]], d += here[column[i + 3]];
      for (; i < stop; i++) a += here[column[i]];
      double new = base + damping * (a + b + (c + d));
      sums[1] += fabs(new - x[v]);
      if (share[v] == 0) sums[0] += new;
      x[v] = new, given[v] = new * share[v];
    }
    MPI_Allreduce(MPI_IN_PLACE, sums, 2, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  }
  double seconds = MPI_Wtime() - start, sum = 0, top = 0;
  for (uint64_t v = 0; v < rows; v++) sum += x[v], top = x[v] > top ? x[v] : top;
  MPI_Allreduce(MPI_IN_PLACE, &sum, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  MPI_Allreduce(MPI_IN_PLACE, &top, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  unsigned long long edges = kept;
  MPI_Allreduce(MPI_IN_PLACE, &edges, 1, MPI_UNSIGNED_LONG_LONG, MPI_SUM, MPI_COMM_WORLD);
  if (!rank)
    printf("{\"ranks\":%d,\"edges\":%llu,\"way\":\"%s\",\"build\":%.6f,\"per_iteration\":%.9f,\"change\":%.17g,\"sum\":%.17g,\"top\":%.17g}\n", size, edges,
           size == 1 ? "none" : whole ? "whole" : "needed", start - began, seconds / iterations, sums[1], sum, top);
  MPI_Finalize();
  return 0;
}
