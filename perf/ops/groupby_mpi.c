/* Sums of f64 values by u64 keys, file to file, as an expert would write it by hand in C with MPI.
 *
 *   mpicc -O3 -march=native groupby_mpi.c -o groupby_mpi -lm
 *   mpirun -n 2 ./groupby_mpi INPUT OUTPUT|- [auto|combine|ship]
 *
 * INPUT: (u64, f64). OUTPUT.RANK: (u64 key, f64 sum), each key once, in any order. The hash space is cut into parts, some per rank, so that a
 * part's open-addressing table fits the cache. `combine`: 4 Mi pairs at a time are scattered to parts (scatter.h), and each part is added up in
 * its table; then the tables' sums are exchanged and added up. `ship`: all pairs are scattered and exchanged, and a part is added up in one go.
 * `auto` estimates from a sample how many different keys a rank has and combines if that at least halves what is sent. Where few keys are
 * there, nothing is scattered. Tables are probed with prefetches. */
#include "scatter.h"
#include <math.h>

typedef struct {
  uint64_t key;
  double sum;
} Sum;

typedef struct {
  Sum *slots; /* key 0: free */
  int bits;
  size_t used, limit;
  double zero; /* key 0's sum */
  int has_zero;
} Table;

enum { BLOCK = 64, PART_KEYS = 16 << 10, CHUNK = 4 << 20, MOST_PARTS = 4096 };

static void table_new(Table *t, size_t keys) {
  t->bits = 10;
  while (((size_t)1 << t->bits) < keys * 2) t->bits++;
  t->slots = get0(sizeof(Sum) << t->bits);
  t->used = 0, t->limit = (size_t)5 << t->bits >> 3;
  t->zero = 0, t->has_zero = 0;
}
static inline void table_add(Table *t, uint64_t hash, uint64_t key, double value) {
  size_t mask = ((size_t)1 << t->bits) - 1, at = hash & mask;
  while (t->slots[at].key != key) {
    if (!t->slots[at].key) {
      t->slots[at].key = key;
      t->used++;
      break;
    }
    at = (at + 1) & mask;
  }
  t->slots[at].sum += value;
}
static void table_grow(Table *t) {
  Table old = *t;
  t->bits++, t->used = 0, t->limit *= 2;
  t->slots = get0(sizeof(Sum) << t->bits);
  for (size_t i = 0; i < (size_t)1 << old.bits; i++)
    if (old.slots[i].key) table_add(t, hash64(old.slots[i].key), old.slots[i].key, old.slots[i].sum);
  free(old.slots);
}
static void table_add_all(Table *t, const Sum *rows, size_t n) {
  uint64_t hash[2][BLOCK];
  size_t m = n < BLOCK ? n : BLOCK;
  for (size_t k = 0; k < m; k++) hash[0][k] = hash64(rows[k].key);
  for (size_t i = 0, turn = 0; i < n; i += BLOCK, turn ^= 1) {
    size_t here = n - i < BLOCK ? n - i : BLOCK, next = n - i - here < BLOCK ? n - i - here : BLOCK;
    if (t->used + BLOCK > t->limit) table_grow(t);
    for (size_t k = 0; k < next; k++) {
      uint64_t h = hash64(rows[i + here + k].key);
      hash[turn ^ 1][k] = h;
      __builtin_prefetch(&t->slots[h & (((size_t)1 << t->bits) - 1)], 1);
    }
    for (size_t k = 0; k < here; k++) {
      const Sum *r = &rows[i + k];
      if (__builtin_expect(!r->key, 0))
        t->zero += r->sum, t->has_zero = 1;
      else
        table_add(t, hash[turn][k], r->key, r->sum);
    }
  }
}
static void table_clear(Table *t) {
  memset(t->slots, 0, sizeof(Sum) << t->bits);
  t->used = 0, t->zero = 0, t->has_zero = 0;
}
/* Up to table.used + 2 places are written. */
static size_t table_list(const Table *t, Sum *to) {
  size_t n = 0;
  for (size_t i = 0; i < (size_t)1 << t->bits; i++) {
    to[n] = t->slots[i];
    n += t->slots[i].key != 0;
  }
  if (t->has_zero) to[n++] = (Sum){0, t->zero};
  return n;
}

static int by_key(const void *x, const void *y) {
  uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
  return a < b ? -1 : a > b;
}
/* How many different keys n rows have, from a sample of s: with K keys alike, s draws see K (1 - exp(-s / K)) of them. */
static double estimate(const Sum *rows, size_t n) {
  size_t s = n < 65536 ? n : 65536, seen = 0;
  uint64_t *sample = get(s * 8 + 8);
  for (size_t i = 0; i < s; i++) sample[i] = rows[(size_t)((unsigned __int128)mix(i) * n >> 64)].key;
  qsort(sample, s, 8, by_key);
  for (size_t i = 0; i < s; i++) seen += !i || sample[i] != sample[i - 1];
  free(sample);
  double lo = (double)seen, hi = 1e18;
  for (int i = 0; i < 200; i++) {
    double keys = sqrt(lo * hi);
    if (keys * -expm1(-(double)s / keys) < (double)seen)
      lo = keys;
    else
      hi = keys;
  }
  return s ? lo * -expm1(-(double)n / lo) : 0;
}

int main(int argc, char **argv) {
  ops_init(&argc, &argv, "groupby_mpi");
  if (argc < 3) die("usage: groupby_mpi INPUT OUTPUT|- [auto|combine|ship]");
  const char *how = argc > 3 ? argv[3] : "auto";
  int writes = strcmp(argv[2], "-") != 0, combine = !strcmp(how, "combine");
  size_t p = (size_t)size_;
  size_t *out_n = get0(p * 8), *out_at = get0(p * 8), *in_n = get0(p * 8), *in_at = get0(p * 8);

  phases_begin();
  Slice in = map_slice(argv[1], sizeof(Sum));
  const Sum *rows = (const Sum *)in.at;
  size_t n = in.n;
  phase("read");
  double keys = estimate(rows, n);
  /* All do the same. The most keys of a rank say how small the parts must be: a rank's share of all keys may be as many as that. */
  double mine[2] = {keys, (double)n}, all[2], most;
  MPI_Allreduce(mine, all, 2, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  MPI_Allreduce(&keys, &most, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  if (!strcmp(how, "auto")) combine = p == 1 || all[0] < all[1] / 2;
  size_t each = 1; /* parts of a rank */
  while (each * p * PART_KEYS < most && each * p * 2 <= MOST_PARTS) each *= 2;
  size_t parts = each * p, part_keys = (size_t)(keys * 1.15 / (double)parts) + 64;
  size_t *n_of = get0(parts * 8), *in_of = get0(parts * 8), *ends = get0((parts + 1) * 8), *begins = get0((parts + 1) * 8);
  Sum *out = NULL;
  if (combine) {
    Table *tables = get(parts * sizeof *tables);
    size_t used = 0;
    if (each == 1) { /* one small table: scatter its sums only */
      table_new(&tables[0], (size_t)(keys * 1.15) + 64);
      table_add_all(&tables[0], rows, n);
      phase("combine");
      Sum *list = get((tables[0].used + 2) * sizeof(Sum));
      used = table_list(&tables[0], list);
      count_parts((const Row *)list, used, n_of, parts);
      sum_before(n_of, ends, parts);
      out = get((used + 8) * sizeof(Sum));
      scatter_rows((const Row *)list, used, (Row *)out, ends, parts);
      free(list);
    } else {
      size_t chunk = n < CHUNK ? n : CHUNK;
      Row *some = get((chunk + 8) * sizeof(Row));
      for (size_t q = 0; q < parts; q++) table_new(&tables[q], part_keys);
      for (size_t from = 0; from < n; from += CHUNK) {
        size_t m = n - from < CHUNK ? n - from : CHUNK;
        count_parts((const Row *)rows + from, m, n_of, parts);
        sum_before(n_of, ends, parts);
        memcpy(begins, ends, parts * 8);
        scatter_rows((const Row *)rows + from, m, some, ends, parts);
        for (size_t q = 0; q < parts; q++) table_add_all(&tables[q], (const Sum *)some + begins[q], n_of[q]);
      }
      for (size_t q = 0; q < parts; q++) used += tables[q].used + 2;
      free(some);
      phase("combine");
      out = get(used * sizeof(Sum) + 64);
      used = 0;
      for (size_t q = 0; q < parts; q++) {
        n_of[q] = table_list(&tables[q], out + used);
        used += n_of[q];
        free(tables[q].slots);
      }
    }
    free(tables);
  } else {
    count_parts((const Row *)rows, n, n_of, parts);
    sum_before(n_of, ends, parts);
    out = get((n + 8) * sizeof(Sum));
    scatter_rows((const Row *)rows, n, (Row *)out, ends, parts);
  }
  for (size_t q = 0; q < parts; q++) out_n[q / each] += n_of[q];
  sum_before(out_n, out_at, p);
  exchange_counts(n_of, in_of, (int)each);
  for (size_t q = 0; q < parts; q++) in_n[q / each] += in_of[q];
  size_t stays = out_n[rank_];
  out_n[rank_] = in_n[rank_] = 0;
  size_t came = sum_before(in_n, in_at, p);
  Sum *got = get((came + 8) * sizeof(Sum));
  phase("partition");
  exchange(out, out_n, out_at, got, in_n, in_at, sizeof(Sum));
  phase("exchange");
  /* in_of[r * each + q]: rows of my part q from rank r. What stays is read where it is. */
  const Sum **next = get(p * sizeof *next);
  for (size_t r = 0; r < p; r++) next[r] = r == (size_t)rank_ ? out + out_at[r] : got + in_at[r];
  Table table;
  table_new(&table, combine ? part_keys : (size_t)((double)(came + stays) / (double)(n ? n : 1) * keys / (double)each) + 64);
  Sum *result = NULL;
  size_t found = 0, room = 0;
  for (size_t q = 0; q < each; q++) {
    if (q) table_clear(&table);
    for (size_t r = 0; r < p; r++) {
      size_t m = in_of[r * each + q];
      table_add_all(&table, next[r], m);
      next[r] += m;
    }
    if (found + table.used + 2 > room) {
      size_t more = found + (table.used + 2) * (each - q) * 9 / 8 + 64;
      Sum *larger = get(more * sizeof(Sum));
      if (found) memcpy(larger, result, found * sizeof(Sum));
      free(result);
      result = larger, room = more;
    }
    found += table_list(&table, result + found);
  }
  phase("aggregate");
  if (writes) {
    char name[4096];
    int fd = create_part(argv[2], name, sizeof name);
    write_all(fd, result, found * sizeof(Sum));
    phase("write");
  }
  double total = MPI_Wtime() - began_;
  uint64_t sum = 0;
  for (size_t i = 0; i < found; i++) sum += sum_row((const Row *)&result[i]);
  report("groupby", in.n, found, sum, combine ? ", \"mode\": \"combine\"" : ", \"mode\": \"ship\"", total);
  MPI_Finalize();
  return 0;
}
