/* Scatter of 16-byte rows by hash to many parts, with software write-combining: a part's rows gather in a cache line of their own, which
 * is written with non-temporal stores when full, so that memory is written once and never read for it. */
#ifndef SCATTER_H
#define SCATTER_H
#include "ops_mpi.h"
#ifdef __SSE2__
#include <immintrin.h>
#endif

static inline void stream_line(void *to, const void *from) {
#if defined __AVX512F__
  _mm512_stream_si512((__m512i *)to, _mm512_load_si512(from));
#elif defined __SSE2__
  for (int i = 0; i < 4; i++) _mm_stream_si128((__m128i *)to + i, _mm_load_si128((const __m128i *)from + i));
#else
  memcpy(to, from, 64);
#endif
}
static inline void stream_end(void) {
#ifdef __SSE2__
  _mm_sfence();
#endif
}

static inline void count_parts(const Row *rows, size_t n, size_t *count, size_t parts) {
  memset(count, 0, parts * sizeof *count);
  for (size_t i = 0; i < n; i++) count[part_of(hash64(rows[i].key), parts)]++;
}

/* `at`: where each part begins in `out`, which is aligned to 64; afterwards where it ends. */
static inline void scatter_rows(const Row *rows, size_t n, Row *out, size_t *at, size_t parts) {
  if (parts == 1) {
    memcpy(out + at[0], rows, n * sizeof(Row));
    at[0] += n;
    return;
  }
  Row *lines = (Row *)get(parts * 64);
  size_t *from = (size_t *)get(parts * sizeof *from);
  memcpy(from, at, parts * sizeof *from);
  for (size_t i = 0; i < n; i++) {
    size_t p = part_of(hash64(rows[i].key), parts), w = at[p]++;
    lines[p * 4 + (w & 3)] = rows[i];
    if ((w & 3) == 3) {
      size_t line = w & ~(size_t)3;
      if (line >= from[p])
        stream_line(out + line, lines + p * 4);
      else /* the part's first line, which belongs to the part before it too */
        for (size_t k = from[p]; k <= w; k++) out[k] = lines[p * 4 + (k & 3)];
    }
  }
  stream_end();
  for (size_t p = 0; p < parts; p++) {
    size_t line = at[p] & ~(size_t)3;
    for (size_t k = line > from[p] ? line : from[p]; k < at[p]; k++) out[k] = lines[p * 4 + (k & 3)];
  }
  free(from);
  free(lines);
}
#endif
