/* One Lloyd pass for one element type, included once with REAL = double and once with REAL = float.
 *
 * Points lie in lanes. A block of rows is transposed into L1 (minus the column means); a register tile of GROUP
 * centroids x 2 vectors of points runs one FMA a dimension on  |c|^2 - 2 x.c.  FMA is what the loop is bound by, and on
 * current cores a vector `min` issues beside it for nothing while a compare does not. So where k is large for d, only the
 * minimum of each group is taken, one compare a group remembers the group, and the winner inside it is found once per
 * point by recomputing its GROUP scores bit for bit, with centroids in lanes. Otherwise a compare per score is cheaper.
 */

#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define NAME(x) CAT(x, SUFFIX)
#define TILE (2 * LANES)

typedef struct {
  int d, k, groups, dpad;
  REAL *shift;  /* d: column means */
  REAL *packed; /* groups x d x GROUP: -2 (c - shift) */
  REAL *norms;  /* groups x GROUP: |c - shift|^2, +inf beyond k */
  double *rows; /* k x dpad: the centroids themselves, zero padded */
} NAME(prepared);

static void NAME(prepare)(NAME(prepared) * p, const double *centroids, const double *mean, int k, int d) {
  if (!p->packed) {
    p->d = d, p->k = k, p->groups = (k + GROUP - 1) / GROUP, p->dpad = (d + 7) / 8 * 8;
    p->shift = aligned((size_t)d * sizeof(REAL));
    p->packed = aligned((size_t)p->groups * GROUP * d * sizeof(REAL));
    p->norms = aligned((size_t)p->groups * GROUP * sizeof(REAL));
    p->rows = aligned((size_t)k * p->dpad * sizeof(double));
  }
  for (int i = 0; i < d; i++) p->shift[i] = (REAL)mean[i];
  for (int j = 0; j < p->groups * GROUP; j++) {
    double norm = 0;
    for (int i = 0; i < d; i++) {
      REAL c = j < k ? (REAL)(centroids[(size_t)j * d + i] - (double)p->shift[i]) : 0;
      norm += (double)c * c;
      p->packed[((size_t)(j / GROUP) * d + i) * GROUP + j % GROUP] = -2 * c;
      if (j < k) p->rows[(size_t)j * p->dpad + i] = centroids[(size_t)j * d + i];
    }
    p->norms[j] = j < k ? (REAL)norm : (REAL)INFINITY;
  }
}

/* Label the TILE points whose coordinates stand in x[dim][TILE]. */
static inline __attribute__((always_inline)) void NAME(assign_grouped)(const NAME(prepared) * p, const REAL *x, int d,
                                                                       uint32_t *labels) {
  VEC best0 = SET1((REAL)INFINITY), best1 = best0;
  IVEC win0 = ISET1(0), win1 = win0;
  const REAL *c = p->packed;
  for (int g = 0; g < p->groups; g++, c += (size_t)d * GROUP) {
    VEC a[GROUP], b[GROUP];
#pragma GCC unroll 8
    for (int m = 0; m < GROUP; m++) a[m] = b[m] = SET1(p->norms[g * GROUP + m]);
#pragma GCC unroll 2
    for (int i = 0; i < d; i++) {
      VEC x0 = LOAD(x + i * TILE), x1 = LOAD(x + i * TILE + LANES);
#pragma GCC unroll 8
      for (int m = 0; m < GROUP; m++) {
        VEC cm = SET1(c[i * GROUP + m]);
        a[m] = FMA(x0, cm, a[m]), b[m] = FMA(x1, cm, b[m]);
      }
    }
    VEC min0 = MIN(MIN(MIN(a[0], a[1]), MIN(a[2], a[3])), MIN(MIN(a[4], a[5]), MIN(a[6], a[7])));
    VEC min1 = MIN(MIN(MIN(b[0], b[1]), MIN(b[2], b[3])), MIN(MIN(b[4], b[5]), MIN(b[6], b[7])));
    IVEC here = ISET1(g);
    win0 = IBLEND(LT(min0, best0), win0, here), best0 = MIN(min0, best0);
    win1 = IBLEND(LT(min1, best1), win1, here), best1 = MIN(min1, best1);
  }
  REAL best[TILE] __attribute__((aligned(64)));
  IREAL win[TILE] __attribute__((aligned(64)));
  STORE(best, best0), STORE(best + LANES, best1);
  ISTORE(win, win0), ISTORE(win + LANES, win1);
#pragma GCC unroll 4
  for (int l = 0; l < TILE; l++) {
    const REAL *w = p->packed + (size_t)win[l] * d * GROUP;
    GVEC s = GLOAD(p->norms + win[l] * GROUP);
    for (int i = 0; i < d; i++) s = GFMA(GSET1(x[i * TILE + l]), GLOAD(w + i * GROUP), s);
    labels[l] = (uint32_t)(win[l] * GROUP + __builtin_ctz(GEQ(s, GSET1(best[l])) | 1 << (GROUP - 1)));
  }
}

static inline __attribute__((always_inline)) void NAME(assign_direct)(const NAME(prepared) * p, const REAL *x, int d,
                                                                      uint32_t *labels) {
  VEC best0 = SET1((REAL)INFINITY), best1 = best0;
  IVEC win0 = ISET1(0), win1 = win0;
  const REAL *c = p->packed;
  for (int g = 0; g < p->groups; g++, c += (size_t)d * GROUP) {
    VEC a[GROUP], b[GROUP];
#pragma GCC unroll 8
    for (int m = 0; m < GROUP; m++) a[m] = b[m] = SET1(p->norms[g * GROUP + m]);
#pragma GCC unroll 2
    for (int i = 0; i < d; i++) {
      VEC x0 = LOAD(x + i * TILE), x1 = LOAD(x + i * TILE + LANES);
#pragma GCC unroll 8
      for (int m = 0; m < GROUP; m++) {
        VEC cm = SET1(c[i * GROUP + m]);
        a[m] = FMA(x0, cm, a[m]), b[m] = FMA(x1, cm, b[m]);
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < GROUP; m++) {
      IVEC here = ISET1(g * GROUP + m);
      win0 = IBLEND(LT(a[m], best0), win0, here), best0 = MIN(a[m], best0);
      win1 = IBLEND(LT(b[m], best1), win1, here), best1 = MIN(b[m], best1);
    }
  }
  IREAL win[TILE] __attribute__((aligned(64)));
  ISTORE(win, win0), ISTORE(win + LANES, win1);
  for (int l = 0; l < TILE; l++) labels[l] = (uint32_t)win[l];
}

/* Add row x to its cluster's sum and (x - c)^2 to the running inertia vector. */
static inline __attribute__((always_inline)) __m512d NAME(scatter)(const REAL *x, const double *c, double *sum, int d,
                                                                   __m512d inertia) {
  int i = 0;
  for (; i + 8 <= d; i += 8) {
    __m512d v = WIDEN(x + i), e = _mm512_sub_pd(v, _mm512_load_pd(c + i));
    inertia = _mm512_fmadd_pd(e, e, inertia);
    _mm512_store_pd(sum + i, _mm512_add_pd(_mm512_load_pd(sum + i), v));
  }
  if (i < d) {
    __mmask8 m = (__mmask8)((1 << (d - i)) - 1);
    __m512d v = WIDEN_MASK(m, x + i), e = _mm512_sub_pd(v, _mm512_load_pd(c + i));
    inertia = _mm512_fmadd_pd(e, e, inertia);
    _mm512_store_pd(sum + i, _mm512_add_pd(_mm512_load_pd(sum + i), v));
  }
  return inertia;
}

static inline __attribute__((always_inline)) double NAME(pass_d)(const REAL *points, size_t n, int d, const NAME(prepared) * p,
                                                                 double *sums, double *counts) {
  enum { MAX_TILES = 16 };
  int tiles = (int)(12288 / (TILE * sizeof(REAL) * (size_t)d));
  tiles = tiles < 1 ? 1 : tiles > MAX_TILES ? MAX_TILES : tiles;
  REAL *x = aligned((size_t)tiles * TILE * d * sizeof(REAL));
  uint32_t labels[MAX_TILES * TILE];
  int grouped = p->k > 9 * d;
  double inertia = 0;
  for (size_t at = 0; at < n;) {
    size_t rows = n - at < (size_t)tiles * TILE ? n - at : (size_t)tiles * TILE;
    const REAL *from = points + at * d;
    for (size_t r = 0; r < rows; r++) {
      /* As integers: of those a core stores two a cycle. */
      ALIAS *to = (ALIAS *)(x + r / TILE * TILE * d + r % TILE);
      const ALIAS *row = (const ALIAS *)(from + r * d);
      for (int i = 0; i < d; i++) to[i * TILE] = row[i];
    }
    for (size_t t = 0; t * TILE < rows; t++) {
      REAL *tile = x + t * TILE * d;
      for (int i = 0; i < d; i++) {
        VEC s = SET1(p->shift[i]);
        STORE(tile + i * TILE, SUB(LOAD(tile + i * TILE), s));
        STORE(tile + i * TILE + LANES, SUB(LOAD(tile + i * TILE + LANES), s));
      }
      if (grouped) NAME(assign_grouped)(p, tile, d, labels + t * TILE);
      else NAME(assign_direct)(p, tile, d, labels + t * TILE);
    }
    __m512d part = _mm512_setzero_pd();
    for (size_t r = 0; r < rows; r++) {
      size_t j = labels[r];
      counts[j] += 1;
      part = NAME(scatter)(from + r * d, p->rows + j * p->dpad, sums + j * p->dpad, d, part);
    }
    inertia += _mm512_reduce_add_pd(part);
    at += rows;
  }
  free(x);
  return inertia;
}

/* sums is k x dpad; returns the inertia of these rows. The common small d get code of their own. */
static double NAME(pass)(const REAL *points, size_t n, const NAME(prepared) * p, double *sums, double *counts) {
  switch (p->d) {
    case 2: return NAME(pass_d)(points, n, 2, p, sums, counts);
    case 3: return NAME(pass_d)(points, n, 3, p, sums, counts);
    case 4: return NAME(pass_d)(points, n, 4, p, sums, counts);
    case 8: return NAME(pass_d)(points, n, 8, p, sums, counts);
    case 10: return NAME(pass_d)(points, n, 10, p, sums, counts);
    default: return NAME(pass_d)(points, n, p->d, p, sums, counts);
  }
}
#undef TILE
