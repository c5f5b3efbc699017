/* Seeded points as a .npy file: blobs FILE N D CENTRES f64|f32 [SEED].
 * Centres are uniform in [-10, 10]^d, and the points of each are Gaussian around it with spread 1. With 0 centres the
 * points themselves are uniform there, without any clusters. The same arguments give the same bytes. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state;

static double uniform(void) { /* splitmix64, in (0, 1) */
  uint64_t z = (state += 0x9e3779b97f4a7c15u);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return ((double)((z ^ z >> 31) >> 11) + 0.5) * 0x1p-53;
}

int main(int argc, char **argv) {
  if (argc < 6) return fprintf(stderr, "usage: blobs FILE N D CENTRES f64|f32 [SEED]\n"), 2;
  long n = atol(argv[2]), d = atol(argv[3]), m = atol(argv[4]);
  int wide = !strcmp(argv[5], "f64");
  state = argc > 6 ? strtoull(argv[6], NULL, 10) : 1;
  FILE *f = fopen(argv[1], "wb");
  double *centres = malloc((size_t)(m * d) * 8 + 1); /* + 1: malloc(0) may be NULL */
  if (!f || !centres || n < 1 || d < 1 || m < 0) return fprintf(stderr, "blobs: cannot write %s\n", argv[1]), 2;
  char head[128];
  int len = snprintf(head, sizeof head, "{'descr': '<f%d', 'fortran_order': False, 'shape': (%ld, %ld), }", wide ? 8 : 4, n, d);
  memset(head + len, ' ', sizeof head - (size_t)len);
  head[117] = '\n'; /* 10 + 118 = 128 bytes of header */
  fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, f);
  fwrite(head, 1, 118, f);
  for (long i = 0; i < m * d; i++) centres[i] = 20 * uniform() - 10;
  for (long r = 0; r < n; r++) {
    const double *c = m ? centres + (long)(uniform() * (double)m) * d : NULL;
    for (long i = 0; i < d; i++) {
      double x = c ? c[i] + sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform()) : 20 * uniform() - 10;
      float y = (float)x;
      fwrite(wide ? (void *)&x : (void *)&y, wide ? 8 : 4, 1, f);
    }
  }
  return fclose(f) ? 2 : 0;
}
