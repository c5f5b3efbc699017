/* A local sort: one most-significant-digit pass with software write-combining into parts that fit the cache, then in each part a least-
 * significant-digit sort of only as many leading bits as tell its keys apart, then an insertion pass; a part on which that pass has much
 * to do, because its keys are clustered, is merge sorted.
 *
 * Include with T (type, of 8 or 16 bytes), HEAD(x) (its leading 64 bits), LESS(x, y) (full order) and SORT(name) defined. */
#ifndef RADIX_H
#define RADIX_H
#include "scatter.h"
enum { LEAF_BYTES = 128 << 10, MSD_BITS = 11, DIGIT_BITS = 9, MAX_DIGITS = 7 };
static inline int bits_of(uint64_t x) { return x ? 64 - __builtin_clzll(x) : 0; }
#endif

/* Moves from `from` to `to` (which may be the same) in order; gives up, leaving `to` undefined and `from` intact only if they differ. */
static inline int SORT(insertion)(const T *from, T *to, size_t n, size_t budget) {
  if (n) to[0] = from[0];
  for (size_t i = 1; i < n; i++) {
    T x = from[i];
    size_t j = i;
    while (j && LESS(x, to[j - 1])) to[j] = to[j - 1], j--;
    to[j] = x;
    if (i - j > budget) {
      for (i++; i < n; i++) to[i] = from[i];
      return 0;
    }
    budget -= i - j;
  }
  return 1;
}

/* Sorts a; the result is in a. Bottom-up from runs of 16. */
static void SORT(merge)(T *a, T *b, size_t n) {
  for (size_t i = 0; i < n; i += 16) SORT(insertion)(a + i, a + i, n - i < 16 ? n - i : 16, 256);
  T *from = a, *to = b;
  for (size_t width = 16; width < n; width *= 2) {
    for (size_t i = 0; i < n; i += 2 * width) {
      size_t m = i + width < n ? i + width : n, e = m + width < n ? m + width : n, x = i, y = m, k = i;
      while (x < m && y < e) {
        int second = LESS(from[y], from[x]);
        to[k++] = second ? from[y] : from[x];
        y += (size_t)second, x += (size_t)!second;
      }
      while (x < m) to[k++] = from[x++];
      while (y < e) to[k++] = from[y++];
    }
    T *t = from;
    from = to, to = t;
  }
  if (from != a) memcpy(a, from, n * sizeof(T));
}

/* Sorts a with b as scratch; the result goes to b if into_b, else stays in a. The leading bits lie in [lo, hi]. */
static void SORT(leaf)(T *a, T *b, size_t n, int into_b, uint64_t lo, uint64_t hi) {
  T *goal = into_b ? b : a, *from = a, *to = b;
  if (n > 32 && hi != lo) {
    int bits = bits_of(hi - lo), want = bits_of(n) + 4, digits, width, shift;
    if (want > bits) want = bits;
    digits = (want + DIGIT_BITS - 1) / DIGIT_BITS;
    width = (want + digits - 1) / digits;
    shift = bits > digits * width ? bits - digits * width : 0;
    uint32_t count[MAX_DIGITS][1 << DIGIT_BITS];
    uint64_t mask = (1u << width) - 1;
    for (int d = 0; d < digits; d++) memset(count[d], 0, sizeof count[d][0] << width);
    for (size_t i = 0; i < n; i++)
      for (int d = 0; d < digits; d++) count[d][(HEAD(a[i]) - lo) >> (shift + d * width) & mask]++;
    for (int d = 0; d < digits; d++) {
      uint32_t sum = 0;
      for (uint64_t k = 0; k <= mask; k++) {
        uint32_t c = count[d][k];
        count[d][k] = sum, sum += c;
      }
      for (size_t i = 0; i < n; i++) to[count[d][(HEAD(from[i]) - lo) >> (shift + d * width) & mask]++] = from[i];
      T *t = from;
      from = to, to = t;
    }
  }
  if (!SORT(insertion)(from, goal, n, 8 * n + 512)) SORT(merge)(goal, goal == a ? b : a, n);
}

static void SORT(range)(T *a, T *b, size_t n, int into_b, uint64_t lo, uint64_t hi) {
  if (n * sizeof(T) <= LEAF_BYTES) {
    SORT(leaf)(a, b, n, into_b, lo, hi);
    return;
  }
  if (lo == hi) { /* only the rest of a key tells these apart */
    if (into_b) memcpy(b, a, n * sizeof(T));
    SORT(merge)(into_b ? b : a, into_b ? a : b, n);
    return;
  }
  enum { LINE = 64 / sizeof(T) };
  int bits = bits_of(hi - lo), use = bits_of(n * sizeof(T) / (LEAF_BYTES / 4));
  if (use > MSD_BITS) use = MSD_BITS;
  if (use > bits) use = bits;
  int shift = bits - use;
  size_t parts = (size_t)((hi - lo) >> shift) + 1;
  size_t *at = (size_t *)get0((parts + 1) * sizeof *at), *from = (size_t *)get(parts * sizeof *from);
  T *lines = (T *)get(parts * 64);
  for (size_t i = 0; i < n; i++) at[(HEAD(a[i]) - lo) >> shift]++;
  /* Lines are those of memory, wherever b begins. */
  size_t off = (uintptr_t)b / sizeof(T) % LINE, sum = off;
  for (size_t p = 0; p < parts; p++) {
    size_t c = at[p];
    from[p] = at[p] = sum, sum += c;
  }
  T *base = b - off;
  for (size_t i = 0; i < n; i++) {
    size_t p = (HEAD(a[i]) - lo) >> shift, w = at[p]++;
    lines[p * LINE + w % LINE] = a[i];
    if (w % LINE == LINE - 1) {
      size_t line = w / LINE * LINE;
      if (line >= from[p])
        stream_line(base + line, lines + p * LINE);
      else
        for (size_t k = from[p]; k <= w; k++) base[k] = lines[p * LINE + k % LINE];
    }
  }
  stream_end();
  for (size_t p = 0; p < parts; p++) {
    size_t line = at[p] / LINE * LINE;
    for (size_t k = line > from[p] ? line : from[p]; k < at[p]; k++) base[k] = lines[p * LINE + k % LINE];
  }
  free(lines);
  for (size_t p = 0; p < parts; p++) {
    uint64_t low = lo + ((uint64_t)p << shift), high = p + 1 == parts ? hi : low + ((1ull << shift) - 1);
    size_t begin = from[p] - off, m = at[p] - from[p];
    if (m) SORT(range)(b + begin, a + begin, m, !into_b, low, high);
  }
  free(from);
  free(at);
}

/* Sorts a, with b (of the same size, both aligned to T) as scratch. The result is in a. */
static void SORT(all)(T *a, T *b, size_t n) {
  uint64_t lo = UINT64_MAX, hi = 0;
  for (size_t i = 0; i < n; i++) {
    uint64_t h = HEAD(a[i]);
    lo = h < lo ? h : lo;
    hi = h > hi ? h : hi;
  }
  if (n) SORT(range)(a, b, n, 0, lo, hi);
}
#undef T
#undef HEAD
#undef LESS
#undef SORT
