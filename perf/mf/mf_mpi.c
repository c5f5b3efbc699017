/* Matrix factorisation by SGD as an expert would write it by hand in C with MPI: the program that Aeolian is measured against.
 *
 *   mpicc -O3 -march=native -ffast-math -DK=32 mf_mpi.c -o mf_mpi -lm
 *   mpirun -n 2 ./mf_mpi USERS ITEMS RATINGS SEED EPOCHS RATE REGULARISATION BLOCKS
 *
 * The ratings of `mf --generate synthetic`, the same ones held out, the same first factors. On one rank this is sequential SGD over the
 * ratings in a random order that was drawn once; with BLOCKS > 1 they are ordered by BLOCKS x BLOCKS blocks of users and items, so
 * that what a block needs stays in the cache. On more ranks, users (by number modulo ranks) stay and items go round the ring in two slices
 * a rank: one is sent by MPI_Isend while the other is computed on. One thread a rank. Prints one JSON line. */
#include <math.h>
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef K
#define K 32
#endif

static void die(const char *what) {
  fprintf(stderr, "mf_mpi: %s\n", what);
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

/* The hash of a number's decimal digits. */
static uint64_t hash(uint32_t number) {
  char text[16];
  int n = snprintf(text, sizeof text, "%u", number), from = 0;
  uint64_t h = mix((uint64_t)n), word = 0;
  if (n >= 8) {
    memcpy(&word, text, 8);
    h = mix(h ^ word);
    from = 8;
  }
  word = 0;
  memcpy(&word, text + from, (size_t)(n - from));
  return mix(h ^ word);
}

static double normal(uint64_t word) {
  uint64_t sum = (word & 0xffff) + (word >> 16 & 0xffff) + (word >> 32 & 0xffff) + (word >> 48);
  return (sum / 65536.0 - 2.0 + 2.0 / 65536.0) * sqrt(3.0);
}

static uint32_t skewed(uint64_t word, uint32_t n) {
  double x = (word >> 11) / 9007199254740992.0;
  uint32_t i = (uint32_t)(n * x * x);
  return i < n ? i : n - 1;
}

static double own(uint64_t seed, uint64_t stream, uint32_t who, int f) { return normal(at(seed, stream, (uint64_t)who * 9 + f)); }

typedef struct {
  uint32_t user, item;
  float value;
  uint32_t random;
  uint64_t block;
} Rating;

static int by_block(const void *a, const void *b) {
  const Rating *x = a, *y = b;
  if (x->block != y->block) return x->block < y->block ? -1 : 1;
  return x->random < y->random ? -1 : x->random > y->random;
}

typedef struct {
  uint32_t user, item;
  float value;
} Entry;

/* Updates for ratings from..to; returns the sum of squared errors. Rows have K factors, biases stand beside them. */
static double train(const Entry *from, const Entry *to, float (*restrict p)[K], float *restrict b, float (*restrict q)[K], float *restrict c, float rate,
                    float decay) {
  double squares = 0;
  float keep = 1 - rate * decay;
  for (; from < to; from++) {
    float *restrict u = __builtin_assume_aligned(p[from->user], K % 16 ? 4 : 64), *restrict v = __builtin_assume_aligned(q[from->item], K % 16 ? 4 : 64);
    float dot = 0;
    for (int f = 0; f < K; f++) dot += u[f] * v[f];
    float error = from->value - b[from->user] - c[from->item] - dot, step = rate * error;
    for (int f = 0; f < K; f++) {
      float old = u[f];
      u[f] = keep * old + step * v[f];
      v[f] = keep * v[f] + step * old;
    }
    b[from->user] = keep * b[from->user] + step;
    c[from->item] = keep * c[from->item] + step;
    squares += (double)error * error;
  }
  return squares;
}

static double test(const Entry *from, const Entry *to, float (*p)[K], float *b, float (*q)[K], float *c) {
  double squares = 0;
  for (; from < to; from++) {
    float dot = 0;
    for (int f = 0; f < K; f++) dot += p[from->user][f] * q[from->item][f];
    double error = from->value - b[from->user] - c[from->item] - dot;
    squares += error * error;
  }
  return squares;
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  int rank, size;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (argc < 9) die("usage: mf_mpi USERS ITEMS RATINGS SEED EPOCHS RATE REGULARISATION BLOCKS");
  uint32_t users = (uint32_t)atol(argv[1]), items = (uint32_t)atol(argv[2]);
  uint64_t ratings = strtoull(argv[3], 0, 10), seed = strtoull(argv[4], 0, 10);
  int epochs = atoi(argv[5]), blocks = atoi(argv[8]);
  float rate = strtof(argv[6], 0), decay = strtof(argv[7], 0);
  if (!users || !items || !ratings || epochs < 1 || blocks < 1) die("all numbers must be positive");

  /* Every rank makes all ratings and keeps those of its users: the building is not measured. */
  uint64_t *user_hash = get(users * 8ull), *item_hash = get(items * 8ull), draw = at(seed, 0x7e57, 0);
  for (uint32_t u = 0; u < users; u++) user_hash[u] = hash(u);
  for (uint32_t i = 0; i < items; i++) item_hash[i] = hash(i);
  uint64_t limit = (uint64_t)(0.1 * 18446744073709551616.0), n = 0, held = 0, train_all = 0, held_all = 0;
  uint32_t slices = 2 * (uint32_t)size, rows = users / size + 1, columns = items / slices + 1;
  uint64_t room = (size > 1 ? ratings / size * 3 / 2 : ratings) + 1024, held_room = ratings / 4 + 1024;
  Rating *mine = get(room * sizeof *mine), *out = get(held_room * sizeof *out);
  uint8_t *seen_user = get(users), *seen_item = get(items);
  double sum = 0;
  for (uint64_t i = 0; i < ratings; i++) {
    uint32_t u = skewed(at(seed, 1, i), users), v = skewed(at(seed, 2, i), items);
    double taste = 0;
    for (int f = 0; f < 8; f++) taste += own(seed, 4, u, f) * own(seed, 5, v, f);
    float value = (float)(3.5 + 0.4 * (own(seed, 4, u, 8) + own(seed, 5, v, 8)) + 0.46 * 0.46 * taste + 0.5 * normal(at(seed, 3, i)));
    int is_held = at(draw, user_hash[u], item_hash[v]) < limit;
    if (is_held) held_all++; else train_all++, sum += value, seen_user[u] = seen_item[v] = 1;
    if (u % size != (uint32_t)rank) continue;
    uint32_t row = u / size, column = v / slices;
    uint64_t block = ((uint64_t)(v % slices) * blocks + (uint64_t)row * blocks / rows) * blocks + (uint64_t)column * blocks / columns;
    /* One rank has all items in one piece. */
    if (size == 1) column = v, block = (uint64_t)row * blocks / rows * blocks + (uint64_t)v * blocks / items;
    Rating r = {row, column, value, (uint32_t)at(seed, 99, i), block};
    if (n == room || held == held_room) die("one rank has far more ratings than the others");
    if (is_held) out[held++] = r; else mine[n++] = r;
  }
  double mean = sum / train_all;
  qsort(mine, n, sizeof *mine, by_block);
  qsort(out, held, sizeof *out, by_block);
  uint32_t strata = size == 1 ? 1 : slices;
  Entry *entries = get(n * sizeof *entries + 64), *tests = get(held * sizeof *tests + 64);
  uint64_t *begin = get((strata + 1) * 8ull), *test_begin = get((strata + 1) * 8ull), per = (uint64_t)blocks * blocks;
  for (uint64_t i = 0; i < n; i++) entries[i] = (Entry){mine[i].user, mine[i].item, (float)(mine[i].value - mean)}, begin[(size == 1 ? 0 : mine[i].block / per) + 1]++;
  for (uint64_t i = 0; i < held; i++) tests[i] = (Entry){out[i].user, out[i].item, (float)(out[i].value - mean)}, test_begin[(size == 1 ? 0 : out[i].block / per) + 1]++;
  for (uint32_t s = 0; s < strata; s++) begin[s + 1] += begin[s], test_begin[s + 1] += test_begin[s];
  free(mine), free(out);

  float(*p)[K] = get((size_t)rows * sizeof *p), *b = get(rows * 4ull);
  uint64_t first = at(seed, 0xfac7, 1), second = at(seed, 0xfac7, 2);
  for (uint32_t u = (uint32_t)rank; u < users; u += size)
    for (int f = 0; seen_user[u] && f < K; f++) p[u / size][f] = (float)(0.1 * normal(at(first, user_hash[u], f)));
  /* A slice: factors of its items, then their biases; two buffers for each, so that one can come while the other leaves. */
  uint32_t in_slice = size == 1 ? items : columns;
  size_t bytes = (size_t)in_slice * (K + 1) * 4;
  int held_slices = size == 1 ? 1 : 2;
  float *now[2], *next[2];
  for (int s = 0; s < held_slices; s++) {
    now[s] = get(bytes), next[s] = get(bytes);
    for (uint32_t c = 0; c < in_slice; c++) {
      uint64_t v = size == 1 ? c : (uint64_t)c * slices + 2 * rank + s;
      for (int f = 0; v < items && seen_item[v] && f < K; f++) now[s][(size_t)c * K + f] = (float)(0.1 * normal(at(second, item_hash[v], f)));
    }
  }

  MPI_Request wait[2][2] = {{MPI_REQUEST_NULL, MPI_REQUEST_NULL}, {MPI_REQUEST_NULL, MPI_REQUEST_NULL}};
  MPI_Status ended[2];
  int to = (rank + 1) % size, from = (rank + size - 1) % size, moving[2] = {0, 0};
  double train_rmse = 0, test_rmse = 0, time = 0;
  for (int epoch = 0; epoch <= epochs; epoch++) {
    /* The last pass only looks at what is held out. */
    int last = epoch == epochs;
    double squares = 0;
    MPI_Barrier(MPI_COMM_WORLD);
    double start = MPI_Wtime();
    for (int turn = 0; turn < size; turn++)
      for (int s = 0; s < held_slices; s++) {
        if (moving[s]) {
          MPI_Waitall(2, wait[s], ended);
          float *came = next[s];
          next[s] = now[s], now[s] = came;
        }
        int home = (rank - turn + size) % size;
        uint32_t stratum = size == 1 ? 0 : (uint32_t)(2 * home + s);
        float(*q)[K] = (float(*)[K])now[s], *c = now[s] + (size_t)in_slice * K;
        if (last) squares += test(tests + test_begin[stratum], tests + test_begin[stratum + 1], p, b, q, c);
        else squares += train(entries + begin[stratum], entries + begin[stratum + 1], p, b, q, c, rate, decay);
        if (size > 1) {
          MPI_Isend(now[s], (int)(bytes / 4), MPI_FLOAT, to, s, MPI_COMM_WORLD, &wait[s][0]);
          MPI_Irecv(next[s], (int)(bytes / 4), MPI_FLOAT, from, s, MPI_COMM_WORLD, &wait[s][1]);
          moving[s] = 1;
        }
      }
    MPI_Allreduce(MPI_IN_PLACE, &squares, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    if (last) test_rmse = sqrt(squares / held_all);
    else train_rmse = sqrt(squares / train_all), time += MPI_Wtime() - start;
  }
  for (int s = 0; s < 2; s++) MPI_Waitall(2, wait[s], ended);
  if (!rank)
    printf("{\"ranks\":%d,\"ratings\":%llu,\"held_out\":%llu,\"train_rmse\":%.9g,\"test_rmse\":%.9g,\"updates_per_second\":%.9g}\n", size,
           (unsigned long long)train_all, (unsigned long long)held_all, train_rmse, test_rmse, (double)train_all * epochs / time);
  MPI_Finalize();
  return 0;
}
