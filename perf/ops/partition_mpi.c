/* Hash partition of 16-byte (u64, f64) pairs in memory as an expert would write it by hand in C with MPI.
 *
 *   mpicc -O3 -march=native partition_mpi.c -o partition_mpi
 *   mpirun -n 2 ./partition_mpi INPUT OUTPUT|- [REPETITIONS [whole|rounds]]
 *
 * Afterwards all pairs of a key are at one rank, in any order. The input is copied from the file into touched memory first; all other
 * memory is touched too before the time begins; `partitions` has the slowest rank's seconds of each repetition, from memory to memory.
 *
 * `whole`: count, scatter everything (software write-combining, non-temporal stores), MPI_Alltoallv of everything (in rounds of bytes).
 * `rounds`: 64 Ki pairs at a time: count, scatter into a buffer that stays in the cache, MPI_Alltoallv of it to its final place. What stays
 * at a rank is written to its final place once in both. Neither is faster everywhere: compare with the better one. */
#include "scatter.h"

enum { ROUND = 64 << 10 };

static size_t p, me;
static size_t *out_n, *out_at, *in_n, *in_at, *at;

static size_t whole(const Row *rows, size_t n, Row *out, Row *in, size_t room) {
  count_parts(rows, n, out_n, p);
  exchange_counts(out_n, in_n, 1);
  size_t came = sum_before(in_n, in_at, p);
  if (came > room) die("the keys are not spread evenly");
  if (p == 1) {
    memcpy(in, rows, n * sizeof(Row));
    return n;
  }
  /* The own part is scattered as the others, but `out` and `in` are one allocation: its place is in `in`. */
  out_n[me] = in_n[me] = 0;
  sum_before(out_n, out_at, p);
  memcpy(at, out_at, p * sizeof *at);
  at[me] = (size_t)(in - out) + in_at[me];
  scatter_rows(rows, n, out, at, p);
  exchange(out, out_n, out_at, in, in_n, in_at, sizeof(Row));
  return came;
}

static MPI_Datatype pair;
static int *n_out, *d_out, *n_in, *d_in;

static size_t rounds(const Row *rows, size_t n, size_t longest, Row *out, Row *in, size_t room) {
  size_t came = 0;
  Row **to = (Row **)at;
  uint8_t *owner = (uint8_t *)(out + ROUND);
  for (size_t from = 0; from < longest; from += ROUND) {
    size_t m = from < n ? (n - from < ROUND ? n - from : ROUND) : 0;
    const Row *r = rows + from;
    memset(n_out, 0, p * sizeof(int));
    if (p == 2) {
      size_t right = 0;
      for (size_t i = 0; i < m; i++) right += owner[i] = (uint8_t)(hash64(r[i].key) >> 63);
      n_out[1] = (int)right, n_out[0] = (int)(m - right);
    } else if (p <= 256) {
      for (size_t i = 0; i < m; i++) {
        owner[i] = (uint8_t)part_of(hash64(r[i].key), p);
        n_out[owner[i]]++;
      }
    } else {
      for (size_t i = 0; i < m; i++) n_out[part_of(hash64(r[i].key), p)]++;
    }
    MPI_Alltoall(n_out, 1, MPI_INT, n_in, 1, MPI_INT, MPI_COMM_WORLD);
    int stays = n_out[me];
    if (came + (size_t)stays > room) die("the keys are not spread evenly");
    Row *mine = in + came;
    came += (size_t)stays;
    n_out[me] = n_in[me] = 0;
    int sum = 0, sum_in = 0;
    for (size_t q = 0; q < p; q++) {
      d_out[q] = sum, sum += n_out[q];
      d_in[q] = sum_in, sum_in += n_in[q];
      to[q] = q == me ? mine : out + d_out[q];
    }
    if (came + (size_t)sum_in > room) die("the keys are not spread evenly");
    if (p == 2) { /* both are written, one advances */
      Row *x = to[0], *y = to[1];
      for (size_t i = 0; i < m; i++) {
        *x = *y = r[i];
        x += owner[i] ^ 1, y += owner[i];
      }
    } else if (p <= 256) {
      for (size_t i = 0; i < m; i++) *to[owner[i]]++ = r[i];
    } else {
      for (size_t i = 0; i < m; i++) *to[part_of(hash64(r[i].key), p)]++ = r[i];
    }
    MPI_Alltoallv(out, n_out, d_out, pair, in + came, n_in, d_in, pair, MPI_COMM_WORLD);
    came += (size_t)sum_in;
  }
  return came;
}

int main(int argc, char **argv) {
  ops_init(&argc, &argv, "partition_mpi");
  if (argc < 3) die("usage: partition_mpi INPUT OUTPUT|- [REPETITIONS [whole|rounds]]");
  int repetitions = argc > 3 ? atoi(argv[3]) : 1, in_rounds = argc > 4 ? !strcmp(argv[4], "rounds") : 1, writes = strcmp(argv[2], "-") != 0;
  if (repetitions < 1) die("1 or more repetitions");
  p = (size_t)size_, me = (size_t)rank_;
  out_n = get0(p * 8), out_at = get0(p * 8), in_n = get0(p * 8), in_at = get0(p * 8), at = get0(p * 8);
  n_out = get0(p * 4), d_out = get0(p * 4), n_in = get0(p * 4), d_in = get0(p * 4);
  MPI_Type_contiguous(sizeof(Row), MPI_BYTE, &pair);
  MPI_Type_commit(&pair);

  phases_begin();
  Slice slice = map_slice(argv[1], sizeof(Row));
  size_t n = slice.n, longest = (slice.all + p - 1) / p, room = p == 1 ? n : n + n / 4 + 4096;
  Row *rows = get(n * sizeof(Row) + 64), *out, *in;
  memcpy(rows, slice.at, n * sizeof(Row));
  if (n) munmap((void *)((uintptr_t)slice.at / 4096 * 4096), n * sizeof(Row) + (uintptr_t)slice.at % 4096);
  size_t gap = in_rounds ? ROUND + ROUND / 16 + 64 : (n + n / 4 + 4096) / 4 * 4;
  out = get0((gap + room + 16) * sizeof(Row));
  in = out + gap;
  phase("read");
  double *times = get0((size_t)repetitions * sizeof(double)), spent = 0;
  size_t came = 0;
  for (int k = 0; k < repetitions; k++) {
    MPI_Barrier(MPI_COMM_WORLD);
    double began = MPI_Wtime();
    came = in_rounds ? rounds(rows, n, longest, out, in, room) : whole(rows, n, out, in, room);
    double took = MPI_Wtime() - began;
    spent += took;
    MPI_Reduce(&took, &times[k], 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
  }
  phase("partition");
  if (writes) {
    char name[4096];
    int fd = create_part(argv[2], name, sizeof name);
    write_all(fd, in, came * sizeof(Row));
    phase("write");
  }
  double total = MPI_Wtime() - began_;

  uint64_t sum = 0;
  for (size_t i = 0; i < came; i++) {
    if (part_of(hash64(in[i].key), p) != me) die("a pair is at a wrong rank");
    sum += sum_row(&in[i]);
  }
  char more[65536] = "";
  if (!rank_) {
    int l = snprintf(more, sizeof more, ", \"mode\": \"%s\", \"partitions\": [", in_rounds ? "rounds" : "whole");
    for (int k = 0; k < repetitions && l < 65000; k++) l += snprintf(more + l, sizeof more - (size_t)l, "%s%.6f", k ? ", " : "", times[k]);
    snprintf(more + l, sizeof more - (size_t)l, "]");
  }
  report("partition", n, came, sum, more, total);
  MPI_Type_free(&pair);
  MPI_Finalize();
  return 0;
}
