/* Join of two files of (u64 key, u64 value), file to file, as an expert would write it by hand in C with MPI.
 *
 *   mpicc -O3 -march=native join_mpi.c -o join_mpi
 *   mpirun -n 2 ./join_mpi LEFT RIGHT OUTPUT|- [inner|full]
 *
 * OUTPUT.RANK: (u64 key, u64 left, u64 right), in any order; what is missing in a full outer join is 2^64 - 1. "-" keeps the rows in memory.
 * Partitioned radix hash join: one pass (count, scatter with software write-combining) cuts a side by hash into ranks x parts, so small that
 * a part's table fits the second-level cache; MPI_Alltoallv; then part by part: the left rows are gathered in the cache and chained by hash,
 * the right rows probe them. What stays at a rank is not moved again. Rows are written from a buffer of 1 MiB. */
#include "scatter.h"

enum { PART_ROWS = 24 << 10, MOST_PARTS = 8192, BUFFER = 1 << 20 };

static size_t p, me, each, parts;

typedef struct {
  Row *out, *got;
  size_t stays, came, *of, *out_at, *in_at; /* of[r * each + q]: rows of my part q from rank r */
} Side;

static void spread(Side *s, const char *path, const char *read, const char *partition, const char *exchanged) {
  Slice in = map_slice(path, sizeof(Row));
  phase(read);
  size_t *n_of = get(parts * 8), *ends = get(parts * 8), *out_n = get0(p * 8), *in_n = get0(p * 8);
  s->of = get(parts * 8), s->out_at = get0(p * 8), s->in_at = get0(p * 8);
  count_parts((const Row *)in.at, in.n, n_of, parts);
  sum_before(n_of, ends, parts);
  s->out = get((in.n + 8) * sizeof(Row));
  scatter_rows((const Row *)in.at, in.n, s->out, ends, parts);
  for (size_t q = 0; q < parts; q++) out_n[q / each] += n_of[q];
  sum_before(out_n, s->out_at, p);
  exchange_counts(n_of, s->of, (int)each);
  for (size_t q = 0; q < parts; q++) in_n[q / each] += s->of[q];
  s->stays = out_n[me];
  out_n[me] = in_n[me] = 0;
  s->came = sum_before(in_n, s->in_at, p);
  s->got = get((s->came + 8) * sizeof(Row));
  if (in.n) munmap((void *)((uintptr_t)in.at / 4096 * 4096), in.n * sizeof(Row) + (uintptr_t)in.at % 4096);
  phase(partition);
  exchange(s->out, out_n, s->out_at, s->got, in_n, s->in_at, sizeof(Row));
  phase(exchanged);
  free(n_of), free(ends), free(out_n), free(in_n);
}

static Joined *rows;
static size_t held, room, found;
static int fd = -1;
static double writing;

/* Space for at least `n` more rows; there is always space for one. */
static void full(size_t n) {
  if (fd >= 0) {
    double began = MPI_Wtime();
    write_all(fd, rows, held * sizeof(Joined));
    writing += MPI_Wtime() - began;
    held = 0;
    return;
  }
  size_t more = room * 2 + n;
  Joined *larger = get(more * sizeof(Joined));
  memcpy(larger, rows, held * sizeof(Joined));
  free(rows);
  rows = larger, room = more;
}
static inline void emit(uint64_t key, uint64_t left, uint64_t right) {
  if (__builtin_expect(held == room, 0)) full(1);
  rows[held++] = (Joined){key, left, right};
  found++;
}

int main(int argc, char **argv) {
  ops_init(&argc, &argv, "join_mpi");
  if (argc < 4) die("usage: join_mpi LEFT RIGHT OUTPUT|- [inner|full]");
  const char *kind = argc > 4 ? argv[4] : "inner";
  int outer = !strcmp(kind, "full"), writes = strcmp(argv[3], "-") != 0;
  if (!outer && strcmp(kind, "inner")) die("a join is inner or full");
  p = (size_t)size_, me = (size_t)rank_;

  phases_begin();
  struct stat st;
  if (stat(argv[1], &st)) die("cannot open the left side");
  size_t all = (size_t)st.st_size / sizeof(Row);
  for (each = 1; each * p * PART_ROWS < all && each * p * 2 <= MOST_PARTS;) each *= 2;
  parts = each * p;
  Side left, right;
  spread(&left, argv[1], "read", "partition", "exchange");
  spread(&right, argv[2], "read", "partition", "exchange");

  char name[4096];
  if (writes) fd = create_part(argv[3], name, sizeof name);
  room = writes ? BUFFER / sizeof(Joined) : left.stays + left.came + 1024;
  rows = get(room * sizeof(Joined));
  const Row **l_next = get(p * sizeof *l_next), **r_next = get(p * sizeof *r_next);
  for (size_t r = 0; r < p; r++) {
    l_next[r] = r == me ? left.out + left.out_at[r] : left.got + left.in_at[r];
    r_next[r] = r == me ? right.out + right.out_at[r] : right.got + right.in_at[r];
  }
  size_t most = 0;
  for (size_t q = 0; q < each; q++) {
    size_t n = 0;
    for (size_t r = 0; r < p; r++) n += left.of[r * each + q];
    if (n > most) most = n;
  }
  if (most >= UINT32_MAX) die("more than 2^32 rows in a part");
  size_t slots = 64;
  while (slots < most) slots *= 2;
  /* Places are counted from 1; 0 is the end of a chain. */
  uint32_t *head = get(slots * 4), *next = get((most + 1) * 4);
  uint8_t *matched = get(most + 1);
  Row *build = get((most + 1) * sizeof(Row));
  for (size_t q = 0; q < each; q++) {
    uint32_t n = 0;
    for (size_t r = 0; r < p; r++) {
      size_t m = left.of[r * each + q];
      memcpy(build + 1 + n, l_next[r], m * sizeof(Row));
      l_next[r] += m, n += (uint32_t)m;
    }
    size_t mask = 64;
    while (mask < n) mask *= 2;
    memset(head, 0, mask-- * 4);
    if (outer) memset(matched, 0, (size_t)n + 1);
    for (uint32_t i = 1; i <= n; i++) {
      uint32_t *h = &head[hash64(build[i].key) & mask];
      next[i] = *h, *h = i;
    }
    for (size_t r = 0; r < p; r++) {
      size_t m = right.of[r * each + q];
      const Row *probe = r_next[r];
      r_next[r] += m;
      if (outer) {
        for (size_t i = 0; i < m; i++) {
          size_t before = found;
          for (uint32_t at = head[hash64(probe[i].key) & mask]; at; at = next[at])
            if (build[at].key == probe[i].key) {
              matched[at] = 1;
              emit(probe[i].key, build[at].value, probe[i].value);
            }
          if (found == before) emit(probe[i].key, NONE, probe[i].value);
        }
      } else {
        for (size_t i = 0; i < m; i++)
          for (uint32_t at = head[hash64(probe[i].key) & mask]; at; at = next[at])
            if (build[at].key == probe[i].key) emit(probe[i].key, build[at].value, probe[i].value);
      }
    }
    if (outer)
      for (uint32_t i = 1; i <= n; i++)
        if (!matched[i]) emit(build[i].key, build[i].value, NONE);
  }
  if (writes) full(0);
  phase_split("join", writing, "write");
  double total = MPI_Wtime() - began_;

  size_t bytes = found * sizeof(Joined);
  const Joined *result = writes ? (const Joined *)map_part(fd, &bytes) : rows;
  if (bytes != found * sizeof(Joined)) die("the result is not complete");
  uint64_t sum = 0;
  for (size_t i = 0; i < found; i++) sum += sum_joined(&result[i]);
  report(outer ? "join full" : "join inner", (left.stays + left.came) + (right.stays + right.came), found, sum, "", total);
  MPI_Finalize();
  return 0;
}
