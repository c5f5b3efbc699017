/* Sort of gensort's 100-byte records by their 10-byte keys as an expert would write it by hand in C with MPI.
 *
 *   mpicc -O3 -march=native terasort_mpi.c -o terasort_mpi
 *   mpirun -n 2 ./terasort_mpi INPUT OUTPUT|-
 *
 * OUTPUT.RANK: sorted, stable, parts in order of the ranks; "-" gathers the result into memory instead. Sample sort: splitters from
 * samples of (key, position); records that stay are not copied, they are read from the mapped file in the end; the others go by MPI_Alltoallv;
 * (first 8 bytes of the key, last 2 and a number) of every record are sorted by radix.h; then the records are gathered in that order, with
 * prefetches, through a buffer of 1 MiB that is written when full. */
#include "ops_mpi.h"

#define T Row
#define HEAD(x) ((x).key)
#define LESS(x, y) ((x).key < (y).key || ((x).key == (y).key && (x).value < (y).value))
#define SORT(name) sort_row_##name
#include "radix.h"

enum { SAMPLES = 1024, BUFFER = 10000 * RECORD, AHEAD = 24 };

typedef struct {
  uint64_t head, tail, position; /* of a key: 8 bytes, 2 bytes; the position makes equal keys differ */
} Splitter;

#define LOWER 0ull
#define OWN (1ull << 46)
#define HIGHER (2ull << 46)
#define FROM (3ull << 46)
#define NUMBER ((1ull << 46) - 1)

static Splitter *splitters;

static inline uint64_t tail_of(const unsigned char *r) { return (uint64_t)r[8] << 8 | r[9]; }

static int compare(const void *x, const void *y) {
  const Splitter *a = x, *b = y;
  if (a->head != b->head) return a->head < b->head ? -1 : 1;
  if (a->tail != b->tail) return a->tail < b->tail ? -1 : 1;
  return a->position < b->position ? -1 : a->position > b->position;
}

static void split(const unsigned char *records, size_t n, size_t first) {
  size_t p = (size_t)size_;
  Splitter *sample = get(SAMPLES * sizeof *sample), *samples = get(p * SAMPLES * sizeof *samples);
  int mine = n ? SAMPLES : 0, some = mine * (int)sizeof *sample, *bytes = get(p * sizeof(int)), *at = get(p * sizeof(int)), sum = 0;
  uint64_t seed = mix((uint64_t)rank_);
  for (int i = 0; i < mine; i++) {
    size_t j = (size_t)((unsigned __int128)mix(seed + (uint64_t)i) * n >> 64);
    sample[i] = (Splitter){load64be(records + j * RECORD), tail_of(records + j * RECORD), first + j};
  }
  MPI_Allgather(&some, 1, MPI_INT, bytes, 1, MPI_INT, MPI_COMM_WORLD);
  for (size_t r = 0; r < p; r++) at[r] = sum, sum += bytes[r];
  MPI_Allgatherv(sample, some, MPI_BYTE, samples, bytes, at, MPI_BYTE, MPI_COMM_WORLD);
  size_t got = (size_t)sum / sizeof *sample;
  qsort(samples, got, sizeof *samples, compare);
  for (size_t r = 1; r < p; r++) splitters[r - 1] = got ? samples[got * r / p] : (Splitter){0, 0, 0};
  free(sample), free(samples), free(bytes), free(at);
}

static inline int reaches(uint64_t head, const unsigned char *r, size_t position, const Splitter *s) {
  if (__builtin_expect(head != s->head, 1)) return head > s->head;
  uint64_t tail = tail_of(r);
  return tail != s->tail ? tail > s->tail : position >= s->position;
}
static inline size_t owner(const unsigned char *r, size_t position) {
  size_t few = (size_t)size_ - 1, lo = 0;
  uint64_t head = load64be(r);
  while (few) {
    size_t half = few / 2;
    int right = reaches(head, r, position, &splitters[lo + half]);
    lo = right ? lo + half + 1 : lo;
    few = right ? few - half - 1 : half;
  }
  return lo;
}

int main(int argc, char **argv) {
  ops_init(&argc, &argv, "terasort_mpi");
  if (argc < 3) die("usage: terasort_mpi INPUT OUTPUT|-");
  size_t p = (size_t)size_, me = (size_t)rank_;
  int writes = strcmp(argv[2], "-") != 0;
  splitters = get0(p * sizeof *splitters);
  size_t *out_n = get0(p * 8), *out_at = get0(p * 8), *in_n = get0(p * 8), *in_at = get0(p * 8);

  phases_begin();
  Slice in = map_slice(argv[1], RECORD);
  phase("read");
  split(in.at, in.n, in.first);
  /* The owners are found once, and kept: reading a key costs a cache line of a record. */
  uint16_t *owners = get(in.n * 2 + 2);
  if (p > UINT16_MAX) die("too many ranks");
  for (size_t i = 0; i < in.n; i++) {
    size_t o = owner(in.at + i * RECORD, in.first + i);
    owners[i] = (uint16_t)o;
    out_n[o]++;
  }
  exchange_counts(out_n, in_n, 1);
  size_t stays = out_n[me], n = sum_before(in_n, in_at, p), before_me = in_at[me];
  out_n[me] = in_n[me] = 0;
  size_t goes = sum_before(out_n, out_at, p), comes = sum_before(in_n, in_at, p);
  unsigned char *out = get(goes * RECORD + 64), *got = get(comes * RECORD + 64);
  Row *a = get((n + 8) * sizeof *a), *b = get((n + 8) * sizeof *b);
  unsigned char **to = get(p * sizeof *to);
  for (size_t r = 0; r < p; r++) to[r] = out + out_at[r] * RECORD;
  /* The rest of a Row: the key's last 2 bytes, where it is from, its number there. In this order equal keys stay in the file's order. */
  size_t own = 0;
  for (size_t i = 0; i < in.n; i++) {
    const unsigned char *r = in.at + i * RECORD;
    size_t o = owners[i];
    if (o == me) {
      a[own++] = (Row){load64be(r), tail_of(r) << 48 | OWN | i};
    } else {
      memcpy(to[o], r, RECORD);
      to[o] += RECORD;
    }
  }
  phase("partition");
  exchange(out, out_n, out_at, got, in_n, in_at, RECORD);
  phase("exchange");
  for (size_t i = 0; i < comes; i++) {
    const unsigned char *r = got + i * RECORD;
    a[stays + i] = (Row){load64be(r), tail_of(r) << 48 | (i < before_me ? LOWER : HIGHER) | i};
  }
  sort_row_all(a, b, n);
  phase("sort");

  char name[4096];
  int fd = -1;
  size_t room = writes ? BUFFER : n * RECORD + 64, held = 0;
  unsigned char *buffer = get(room);
  double writing = 0;
  if (writes) fd = create_part(argv[2], name, sizeof name);
  const unsigned char *soon[AHEAD];
  for (size_t i = 0; i < n + AHEAD; i++) {
    if (i >= AHEAD) {
      if (held + RECORD > room) {
        double began = MPI_Wtime();
        write_all(fd, buffer, held);
        writing += MPI_Wtime() - began;
        held = 0;
      }
      memcpy(buffer + held, soon[i % AHEAD], RECORD);
      held += RECORD;
    }
    if (i < n) {
      const unsigned char *r = ((a[i].value & FROM) == OWN ? in.at : got) + (a[i].value & NUMBER) * RECORD;
      __builtin_prefetch(r);
      __builtin_prefetch(r + 64);
      soon[i % AHEAD] = r;
    }
  }
  if (writes) {
    double began = MPI_Wtime();
    write_all(fd, buffer, held);
    writing += MPI_Wtime() - began;
  }
  phase_split("gather", writing, "write");
  double total = MPI_Wtime() - began_;

  size_t bytes = n * RECORD;
  const unsigned char *result = writes ? map_part(fd, &bytes) : buffer;
  if (bytes != n * RECORD) die("the result is not complete");
  uint64_t count = n, first = 0, sum = 0, *counts = get(p * 8);
  MPI_Exscan(&count, &first, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
  if (!rank_) first = 0;
  unsigned char edge[2 * KEY] = {0}, *edges = get(2 * KEY * p), last[KEY] = {0};
  if (n) memcpy(edge, result, KEY), memcpy(edge + KEY, result + (n - 1) * RECORD, KEY);
  MPI_Allgather(&count, 1, MPI_UINT64_T, counts, 1, MPI_UINT64_T, MPI_COMM_WORLD);
  MPI_Allgather(edge, 2 * KEY, MPI_BYTE, edges, 2 * KEY, MPI_BYTE, MPI_COMM_WORLD);
  for (size_t i = 0; i < n; i++) {
    if (i && memcmp(result + (i - 1) * RECORD, result + i * RECORD, KEY) > 0) die("the result is not sorted");
    sum += sum_record_at(result + i * RECORD, first + i);
  }
  for (size_t r = 0; r < p; r++)
    if (counts[r]) {
      if (memcmp(last, edges + 2 * KEY * r, KEY) > 0) die("the parts are not in order");
      memcpy(last, edges + 2 * KEY * r + KEY, KEY);
    }
  report("terasort", in.n, n, sum, "", total);
  MPI_Finalize();
  return 0;
}
