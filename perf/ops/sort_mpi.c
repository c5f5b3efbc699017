/* Sort of u64 keys as an expert would write it by hand in C with MPI: sample sort.
 *
 *   mpicc -O3 -march=native sort_mpi.c -o sort_mpi
 *   mpirun -n 2 ./sort_mpi INPUT OUTPUT|- [REPETITIONS]
 *
 * INPUT: u64, little-endian. OUTPUT.RANK: sorted, parts in order of the ranks; "-" writes nothing. Splitters from a regular sample of
 * (key, position), so that equal keys are spread as evenly as others; two passes (count, scatter) straight from the mapped file; what stays
 * goes to its place at once; MPI_Alltoallv; radix.h. With REPETITIONS the sort is done as often, on touched memory, from memory: `sorts` has
 * the seconds of each (without read and write). */
#include "ops_mpi.h"

#define T uint64_t
#define HEAD(x) (x)
#define LESS(x, y) ((x) < (y))
#define SORT(name) sort_u64_##name
#include "radix.h"

#define T Row
#define HEAD(x) ((x).key)
#define LESS(x, y) ((x).key < (y).key || ((x).key == (y).key && (x).value < (y).value))
#define SORT(name) sort_row_##name
#include "radix.h"

enum { SAMPLES = 1024 }; /* of each rank */

static Row *splitters;

static void split(const uint64_t *keys, size_t n, size_t first) {
  size_t p = (size_t)size_, all = p * SAMPLES;
  Row *sample = get(SAMPLES * sizeof(Row)), *samples = get(2 * all * sizeof(Row));
  uint64_t seed = mix((uint64_t)rank_);
  int mine = n ? SAMPLES : 0;
  for (size_t i = 0; i < (size_t)mine; i++) {
    size_t at = (size_t)((unsigned __int128)mix(seed + i) * n >> 64);
    sample[i] = (Row){keys[at], first + at};
  }
  int *bytes = get((size_t)size_ * sizeof(int)), *at = get((size_t)size_ * sizeof(int)), sum = 0, some = mine * (int)sizeof(Row);
  MPI_Allgather(&some, 1, MPI_INT, bytes, 1, MPI_INT, MPI_COMM_WORLD);
  for (int r = 0; r < size_; r++) at[r] = sum, sum += bytes[r];
  MPI_Allgatherv(sample, some, MPI_BYTE, samples, bytes, at, MPI_BYTE, MPI_COMM_WORLD);
  size_t got = (size_t)sum / sizeof(Row);
  sort_row_all(samples, samples + all, got);
  for (size_t r = 1; r < p; r++) splitters[r - 1] = got ? samples[got * r / p] : (Row){0, 0};
  free(sample), free(samples), free(bytes), free(at);
}

/* The rank of a key at a position: how many splitters are not above it. */
static inline size_t owner(uint64_t key, size_t position) {
  size_t few = (size_t)size_ - 1, lo = 0;
  if (few <= 8) {
    size_t o = 0;
    for (size_t s = 0; s < few; s++) o += key > splitters[s].key || (__builtin_expect(key == splitters[s].key, 0) && position >= splitters[s].value);
    return o;
  }
  while (few) {
    size_t half = few / 2, s = lo + half;
    int right = key > splitters[s].key || (__builtin_expect(key == splitters[s].key, 0) && position >= splitters[s].value);
    lo = right ? s + 1 : lo;
    few = right ? few - half - 1 : half;
  }
  return lo;
}

int main(int argc, char **argv) {
  ops_init(&argc, &argv, "sort_mpi");
  if (argc < 3) die("usage: sort_mpi INPUT OUTPUT|- [REPETITIONS]");
  int repetitions = argc > 3 ? atoi(argv[3]) : 1, writes = strcmp(argv[2], "-") != 0;
  if (repetitions < 1) die("1 or more repetitions");
  size_t p = (size_t)size_;
  splitters = get0(p * sizeof(Row));
  size_t *out_n = get0(p * 8), *out_at = get0(p * 8), *in_n = get0(p * 8), *in_at = get0(p * 8);
  uint64_t **to = get0(p * sizeof *to);
  double *sorts = get0((size_t)repetitions * sizeof(double));

  phases_begin();
  Slice in = map_slice(argv[1], 8);
  const uint64_t *keys = (const uint64_t *)in.at;
  phase("read");
  uint64_t *out = NULL, *a = NULL, *b = NULL;
  size_t room = 0, n = 0;
  for (int k = 0; k < repetitions; k++) {
    if (k) {
      MPI_Barrier(MPI_COMM_WORLD);
      last_ = MPI_Wtime();
    }
    double began = last_;
    split(keys, in.n, in.first);
    memset(out_n, 0, p * 8);
    if (p == 2) { /* no table of counts: the compiler makes this wide */
      size_t c = 0;
      uint64_t key = splitters[0].key, position = splitters[0].value;
      for (size_t i = 0; i < in.n; i++) c += (keys[i] > key) | ((keys[i] == key) & (in.first + i >= position));
      out_n[0] = in.n - c, out_n[1] = c;
    } else {
      for (size_t i = 0; i < in.n; i++) out_n[owner(keys[i], in.first + i)]++;
    }
    exchange_counts(out_n, in_n, 1);
    n = sum_before(in_n, in_at, p);
    size_t stays = out_n[rank_];
    out_n[rank_] = 0;
    size_t goes = sum_before(out_n, out_at, p);
    if (!out) out = get((goes + 16) * 8);
    if (n > room) {
      free(a), free(b);
      room = n;
      a = get((room + 16) * 8), b = get((room + 16) * 8);
    }
    for (size_t r = 0; r < p; r++) to[r] = r == (size_t)rank_ ? a + in_at[r] : out + out_at[r];
    if (p == 1) {
      memcpy(a, keys, in.n * 8);
    } else if (p == 2) { /* both are written, one advances: no branch to miss */
      uint64_t key = splitters[0].key, position = splitters[0].value, *x = to[0], *y = to[1];
      for (size_t i = 0; i < in.n; i++) {
        uint64_t right = (keys[i] > key) | ((keys[i] == key) & (in.first + i >= position));
        *x = *y = keys[i];
        x += right ^ 1, y += right;
      }
    } else {
      for (size_t i = 0; i < in.n; i++) *to[owner(keys[i], in.first + i)]++ = keys[i];
    }
    phase("partition");
    in_n[rank_] = 0;
    exchange(out, out_n, out_at, a, in_n, in_at, 8);
    in_n[rank_] = stays;
    phase("exchange");
    sort_u64_all(a, b, n);
    phase("sort");
    double took = MPI_Wtime() - began;
    MPI_Reduce(&took, &sorts[k], 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
  }
  const uint64_t *result = a;
  if (writes) {
    char name[4096];
    int fd = create_part(argv[2], name, sizeof name);
    write_all(fd, a, n * 8);
    phase("write");
    size_t bytes;
    double total = MPI_Wtime() - began_;
    result = (const uint64_t *)map_part(fd, &bytes);
    began_ = MPI_Wtime() - total;
  }
  double total = MPI_Wtime() - began_;

  /* Each part is in order, and begins where the one before has ended. */
  uint64_t before = 0, sum = 0, count = n, edge[2] = {n ? result[0] : 0, n ? result[n - 1] : 0}, *edges = get0(2 * p * 8), *counts = get0(p * 8);
  MPI_Exscan(&count, &before, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
  if (!rank_) before = 0;
  MPI_Allgather(&count, 1, MPI_UINT64_T, counts, 1, MPI_UINT64_T, MPI_COMM_WORLD);
  MPI_Allgather(edge, 2, MPI_UINT64_T, edges, 2, MPI_UINT64_T, MPI_COMM_WORLD);
  for (size_t i = 0; i < n; i++) {
    if (i && result[i] < result[i - 1]) die("the result is not sorted");
    sum += sum_key_at(result[i], before + i);
  }
  for (size_t r = 0, last = 0; r < p; r++)
    if (counts[r]) {
      if (edges[2 * r] < last) die("the parts are not in order");
      last = edges[2 * r + 1];
    }
  char more[65536] = "";
  if (repetitions > 1 && !rank_) {
    int l = snprintf(more, sizeof more, ", \"sorts\": [");
    for (int k = 0; k < repetitions && l < 65000; k++) l += snprintf(more + l, sizeof more - (size_t)l, "%s%.6f", k ? ", " : "", sorts[k]);
    snprintf(more + l, sizeof more - (size_t)l, "]");
  }
  report("sort", in.n, n, sum, more, total);
  MPI_Finalize();
  return 0;
}
