/* k-means (Lloyd) as an expert would write it by hand in C with MPI and AVX-512: the program that Aeolian is measured against.
 *
 *   mpicc -O3 -march=native kmeans_mpi.c -o kmeans_mpi
 *   mpirun -n 2 ./kmeans_mpi blobs.npy K ITERATIONS
 *
 * Each rank reads only its own rows of a C-ordered .npy (<f8 or <f4); the first K rows are the first centroids; one
 * MPI_Allreduce an iteration carries sums, counts and inertia. Prints one JSON line. */
#include <fcntl.h>
#include <immintrin.h>
#include <math.h>
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what) {
  fprintf(stderr, "kmeans_mpi: %s\n", what);
  MPI_Abort(MPI_COMM_WORLD, 2);
  exit(2);
}

static void *aligned(size_t bytes) {
  void *p = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
  if (!p) die("out of memory");
  memset(p, 0, bytes);
  return p;
}

#define GROUP 8
typedef int64_t __attribute__((may_alias)) alias64;
typedef int32_t __attribute__((may_alias)) alias32;

#define REAL double
#define IREAL int64_t
#define ALIAS alias64
#define SUFFIX _f64
#define LANES 8
#define VEC __m512d
#define IVEC __m512i
#define GVEC __m512d
#define SET1 _mm512_set1_pd
#define LOAD _mm512_load_pd
#define STORE _mm512_store_pd
#define SUB _mm512_sub_pd
#define FMA _mm512_fmadd_pd
#define MIN _mm512_min_pd
#define LT(a, b) _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ)
#define ISET1 _mm512_set1_epi64
#define IBLEND _mm512_mask_blend_epi64
#define ISTORE _mm512_store_si512
#define GSET1 _mm512_set1_pd
#define GLOAD _mm512_load_pd
#define GFMA _mm512_fmadd_pd
#define GEQ(a, b) _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ)
#define WIDEN(p) _mm512_loadu_pd(p)
#define WIDEN_MASK(m, p) _mm512_maskz_loadu_pd(m, p)
#include "kernel.h"
#undef REAL
#undef IREAL
#undef ALIAS
#undef SUFFIX
#undef LANES
#undef VEC
#undef GVEC
#undef SET1
#undef LOAD
#undef STORE
#undef SUB
#undef FMA
#undef MIN
#undef LT
#undef ISET1
#undef IBLEND
#undef GSET1
#undef GLOAD
#undef GFMA
#undef GEQ
#undef WIDEN
#undef WIDEN_MASK

#define REAL float
#define IREAL int32_t
#define ALIAS alias32
#define SUFFIX _f32
#define LANES 16
#define VEC __m512
#define GVEC __m256
#define SET1 _mm512_set1_ps
#define LOAD _mm512_load_ps
#define STORE _mm512_store_ps
#define SUB _mm512_sub_ps
#define FMA _mm512_fmadd_ps
#define MIN _mm512_min_ps
#define LT(a, b) _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ)
#define ISET1 _mm512_set1_epi32
#define IBLEND _mm512_mask_blend_epi32
#define GSET1 _mm256_set1_ps
#define GLOAD _mm256_load_ps
#define GFMA _mm256_fmadd_ps
#define GEQ(a, b) _mm256_cmp_ps_mask(a, b, _CMP_EQ_OQ)
#define WIDEN(p) _mm512_cvtps_pd(_mm256_loadu_ps(p))
#define WIDEN_MASK(m, p) _mm512_cvtps_pd(_mm256_maskz_loadu_ps(m, p))
#include "kernel.h"

/* Seconds that this thread has computed: on a busy machine they say more about a kernel than the clock on the wall. */
static double cpu_time(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void read_at(int fd, void *to, size_t bytes, size_t at) {
  while (bytes) {
    ssize_t got = pread(fd, to, bytes < 1u << 30 ? bytes : 1u << 30, (off_t)at);
    if (got <= 0) die("the file is shorter than its header says");
    to = (char *)to + got, at += (size_t)got, bytes -= (size_t)got;
  }
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  int rank, size;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (argc != 4) die("usage: kmeans_mpi FILE.npy K ITERATIONS");
  int k = atoi(argv[2]), iterations = atoi(argv[3]);

  int fd = open(argv[1], O_RDONLY);
  unsigned char magic[10];
  if (fd < 0) die("cannot open the input");
  read_at(fd, magic, 10, 0);
  if (memcmp(magic, "\x93NUMPY\x01", 7)) die("not a version 1 .npy file");
  size_t header = 10 + magic[8] + 256u * magic[9];
  char *text = calloc(1, header + 1);
  read_at(fd, text, header - 10, 10);
  size_t n = 0;
  int d = 0, wide = strstr(text, "<f8") != NULL;
  char *shape = strstr(text, "'shape': (");
  if (!shape || sscanf(shape, "'shape': (%zu, %d)", &n, &d) != 2 || (!wide && !strstr(text, "<f4"))) die("want n x d of <f8 or <f4");
  if (k < 1 || (size_t)k > n || iterations < 1) die("want 1 <= K <= n and ITERATIONS >= 1");

  size_t item = wide ? 8 : 4, first = n * rank / size, rows = n * (rank + 1) / size - first;
  void *points = aligned(rows * d * item + 64), *start = aligned((size_t)k * d * item);
  read_at(fd, points, rows * d * item, header + first * d * item);
  read_at(fd, start, (size_t)k * d * item, header);
  close(fd);

  int dpad = (d + 7) / 8 * 8;
  size_t words = (size_t)k * dpad + k + 1;
  double *centroids = aligned((size_t)k * d * 8), *mean = aligned((size_t)d * 8), *acc = aligned(words * 8);
  double *seconds = aligned((size_t)iterations * 8), *cpu = aligned((size_t)iterations * 8), inertia = 0, total = 0;
  int empty = 0;
#define AT(p, i) (wide ? ((double *)(p))[i] : (double)((float *)(p))[i])
  for (size_t i = 0; i < (size_t)k * d; i++) centroids[i] = AT(start, i);
  for (size_t r = 0; r < rows; r++)
    for (int i = 0; i < d; i++) mean[i] += AT(points, r * d + i);
  MPI_Allreduce(MPI_IN_PLACE, mean, d, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  for (int i = 0; i < d; i++) mean[i] /= (double)n;

  prepared_f64 p64 = {0};
  prepared_f32 p32 = {0};
  /* One round more than is timed: its inertia is that of the final centroids. */
  for (int it = 0; it <= iterations; it++) {
    MPI_Barrier(MPI_COMM_WORLD);
    double t = MPI_Wtime(), c = cpu_time();
    memset(acc, 0, words * 8);
    double *counts = acc + (size_t)k * dpad;
    if (wide) {
      prepare_f64(&p64, centroids, mean, k, d);
      acc[words - 1] = pass_f64(points, rows, &p64, acc, counts);
    } else {
      prepare_f32(&p32, centroids, mean, k, d);
      acc[words - 1] = pass_f32(points, rows, &p32, acc, counts);
    }
    MPI_Allreduce(MPI_IN_PLACE, acc, (int)words, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    for (int j = 0; j < k; j++)
      if (counts[j] <= 0) {
        empty++; /* stays where it is; scikit-learn and Aeolian move it to the farthest point */
      } else
        for (int i = 0; i < d; i++) {
          double x = acc[(size_t)j * dpad + i] / counts[j];
          centroids[(size_t)j * d + i] = wide ? x : (double)(float)x;
        }
    if (it == iterations) {
      inertia = acc[words - 1];
      break;
    }
    seconds[it] = MPI_Wtime() - t;
    cpu[it] = cpu_time() - c;
    total += seconds[it];
  }
  qsort(seconds, (size_t)iterations, 8, by_value);
  qsort(cpu, (size_t)iterations, 8, by_value);
  if (!rank)
    printf("{\"n\":%zu,\"d\":%d,\"k\":%d,\"ranks\":%d,\"iterations\":%d,\"median\":%.9f,\"mean\":%.9f,\"min\":%.9f,\"cpu\":%.9f,\"inertia\":%.17g,\"empty\":%d}\n",
           n, d, k, size, iterations, seconds[iterations / 2], total / iterations, seconds[0],
           cpu[iterations / 2], inertia, empty);
  MPI_Finalize();
  return 0;
}
