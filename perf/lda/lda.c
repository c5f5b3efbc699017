/* LDA by collapsed Gibbs sampling on one thread, as an expert would write it by hand in C: what Aeolian's program is measured against.
 *
 *   cc -O3 -march=native lda.c -o lda -lm
 *   ./lda DOCS VOCABULARY LENGTH TOPICS ALPHA BETA ITERATIONS SEED
 *
 * The texts of `lda --generate planted`, made in memory; words that come less than twice are dropped. The sampler is the same sparse one,
 * word by word: n_dt (n_tw + beta) / (n_t + V beta) is summed up over the topics of the document, what is left is alpha times the topics
 * of the word, and alpha beta times all. No ranks, no blocks, no slices: words in one order, each once an iteration, and counts that are
 * never stale. Prints one JSON line. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void *get(size_t bytes) {
  void *p = calloc(bytes + 64, 1);
  if (!p) {
    fprintf(stderr, "lda: out of memory\n");
    exit(2);
  }
  return p;
}

static uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}
static uint64_t at(uint64_t seed, uint64_t stream, uint64_t index) { return mix(mix(mix(seed) ^ stream) ^ index); }
static uint64_t below(uint64_t seed, uint64_t stream, uint64_t index, uint64_t n) {
  return (uint64_t)(((unsigned __int128)at(seed, stream, index) * n) >> 64);
}
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct {
  uint32_t document, topic;
} token_t;

int main(int argc, char **argv) {
  if (argc != 9) {
    fprintf(stderr, "lda DOCS VOCABULARY LENGTH TOPICS ALPHA BETA ITERATIONS SEED\n");
    return 64;
  }
  uint64_t docs = strtoull(argv[1], 0, 10), vocabulary = strtoull(argv[2], 0, 10), length = strtoull(argv[3], 0, 10);
  uint32_t topics = (uint32_t)atoi(argv[4]);
  double alpha = atof(argv[5]), beta = atof(argv[6]);
  int iterations = atoi(argv[7]);
  uint64_t seed = strtoull(argv[8], 0, 10);

  /* The texts. */
  double *zipf = get(vocabulary * sizeof *zipf), sum = 0;
  for (uint64_t i = 0; i < vocabulary; i++) zipf[i] = sum += 1.0 / (1.0 + (double)i);
  uint32_t *text = get(docs * length * sizeof *text);
  uint64_t *starts = get((vocabulary + 1) * sizeof *starts);
  for (uint64_t d = 0; d < docs; d++)
    for (uint64_t i = 0; i < length; i++) {
      uint64_t draw = at(seed, 12, d * length + i), topic = below(seed, 11, d * 3 + draw % 3, topics);
      double share = (double)(draw >> 11) / 9007199254740992.0 * sum;
      uint64_t low = 0, high = vocabulary;
      while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (zipf[middle] <= share) low = middle + 1;
        else high = middle;
      }
      if (low == vocabulary) low--;
      uint32_t word = (uint32_t)below(seed, 13 + topic, low, vocabulary);
      text[d * length + i] = word;
      starts[word + 1]++;
    }
  uint64_t words = 0;
  for (uint64_t w = 0; w < vocabulary; w++) {
    if (starts[w + 1] < 2) starts[w + 1] = 0;
    words += starts[w + 1] > 0;
    starts[w + 1] += starts[w];
  }
  uint64_t n = starts[vocabulary];

  /* Tokens by word, then by document; lists of topics of words and documents, a count and its topic in one number. */
  token_t *tokens = get(n * sizeof *tokens);
  uint64_t *next = get(vocabulary * sizeof *next);
  memcpy(next, starts, vocabulary * sizeof *next);
  uint32_t cap = topics < length ? topics : (uint32_t)length, bits = 0;
  while ((1u << bits) < topics) bits++;
  const uint32_t mask = (1u << bits) - 1, one = 1u << bits;
  uint32_t *lists = get(docs * cap * sizeof *lists), *used = get(docs * sizeof *used), *lengths = get(docs * sizeof *lengths);
  uint64_t *places = get((vocabulary + 1) * sizeof *places);
  for (uint64_t w = 0; w < vocabulary; w++) {
    uint64_t most = starts[w + 1] - starts[w];
    places[w + 1] = places[w] + (most < topics ? most : topics);
  }
  uint64_t *rows = get(places[vocabulary] * sizeof *rows);
  uint32_t *row_used = get(vocabulary * sizeof *row_used);
  double *total = get(topics * sizeof *total), *share = get(topics * sizeof *share), *weight = get(topics * sizeof *weight);
  double *sums = get((topics + 1) * sizeof *sums), betas = beta * (double)words;
  uint32_t *count = get(topics * sizeof *count), *listed = get((topics + 1) * sizeof *listed);
  uint8_t *is_listed = get(topics);
  for (uint64_t d = 0; d < docs; d++)
    for (uint64_t i = 0; i < length; i++) {
      uint32_t word = text[d * length + i];
      if (starts[word] == starts[word + 1]) continue;
      uint32_t topic = (uint32_t)below(seed, d, i, topics), *list = lists + d * cap, k = 0;
      tokens[next[word]++] = (token_t){(uint32_t)d, topic};
      total[topic] += 1, lengths[d]++;
      while (k < used[d] && (list[k] & mask) != topic) k++;
      if (k == used[d]) list[used[d]++] = topic;
      list[k] += one;
    }
  for (uint64_t w = 0; w < vocabulary; w++) {
    for (uint64_t i = starts[w]; i < starts[w + 1]; i++) count[tokens[i].topic]++;
    for (uint32_t t = 0; t < topics && starts[w] < starts[w + 1]; t++)
      if (count[t]) rows[places[w] + row_used[w]++] = (uint64_t)count[t] << 32 | t, count[t] = 0;
  }
  free(text);

  uint64_t state = mix(seed);
  double begin = now();
  for (int iteration = 0; iteration < iterations; iteration++) {
    double shares = 0;
    for (uint32_t t = 0; t < topics; t++) {
      share[t] = 1 / (total[t] + betas);
      shares += share[t];
      weight[t] = beta * share[t];
    }
    for (uint64_t w = 0; w < vocabulary; w++) {
      if (starts[w] == starts[w + 1]) continue;
      uint64_t *row = rows + places[w];
      uint32_t n_listed = 0;
      double of_word = 0;
      for (uint32_t i = 0; i < row_used[w]; i++) {
        uint32_t t = (uint32_t)row[i];
        listed[n_listed++] = t, is_listed[t] = 1, count[t] = (uint32_t)(row[i] >> 32);
        of_word += count[t] * share[t];
        weight[t] = (count[t] + beta) * share[t];
      }
      for (uint64_t i = starts[w]; i < starts[w + 1]; i++) {
        uint32_t d = tokens[i].document, old = tokens[i].topic, new = topics - 1, from = 0, to = UINT32_MAX;
        uint32_t *list = lists + (uint64_t)d * cap, in_list = used[d];
        double old_share = share[old], old_shares = shares, old_of_word = of_word, c = count[old]--;
        share[old] = 1 / (--total[old] + betas);
        shares += share[old] - old_share;
        of_word += (c - 1) * share[old] - c * old_share;
        weight[old] = (c - 1 + beta) * share[old];
        double sum = 0;
        for (uint32_t k = 0; k < in_list; k++) {
          uint32_t t = list[k] & mask, m = list[k] >> bits;
          if (t == old) m--, from = k;
          sums[k] = sum += m * weight[t];
        }
        state += 0x9e3779b97f4a7c15ull;
        double left = (double)(mix(state) >> 11) / 9007199254740992.0 * (sum + alpha * (of_word + beta * shares));
        if (left < sum) {
          to = 0;
          while (to < in_list - 1 && left >= sums[to]) to++;
          new = list[to] & mask;
        } else if ((left = (left - sum) / alpha) < of_word) {
          new = listed[0];
          for (uint32_t k = 0; k < n_listed; k++) {
            left -= count[listed[k]] * share[listed[k]];
            if (left < 0) {
              new = listed[k];
              break;
            }
          }
        } else {
          left = (left - of_word) / beta;
          for (uint32_t t = 0; t < topics; t++) {
            left -= share[t];
            if (left < 0) {
              new = t;
              break;
            }
          }
        }
        if (new == old) {
          count[old]++, total[old]++;
          share[old] = old_share, shares = old_shares, of_word = old_of_word;
          weight[old] = (c + beta) * old_share;
          continue;
        }
        double before = share[new];
        c = count[new]++;
        share[new] = 1 / (++total[new] + betas);
        shares += share[new] - before;
        of_word += (c + 1) * share[new] - c * before;
        weight[new] = (c + 1 + beta) * share[new];
        if (!is_listed[new]) is_listed[new] = 1, listed[n_listed++] = new;
        if (to == UINT32_MAX)
          for (uint32_t k = 0; k < in_list; k++)
            if ((list[k] & mask) == new) to = k;
        int gone = list[from] >> bits == 1;
        if (to != UINT32_MAX) {
          list[to] += one;
          if (gone) list[from] = list[--used[d]];
          else list[from] -= one;
        } else if (gone) {
          list[from] = one | new;
        } else {
          list[from] -= one;
          list[used[d]++] = one | new;
        }
        tokens[i].topic = new;
      }
      row_used[w] = 0;
      for (uint32_t k = 0; k < n_listed; k++) {
        uint32_t t = listed[k];
        if (count[t]) {
          /* The most frequent first. */
          uint64_t element = (uint64_t)count[t] << 32 | t;
          uint32_t j = row_used[w]++;
          for (; j > 0 && row[j - 1] < element; j--) row[j] = row[j - 1];
          row[j] = element;
        }
        count[t] = 0, is_listed[t] = 0, weight[t] = beta * share[t];
      }
    }
  }
  double seconds = now() - begin, fit = 0;
  for (uint64_t w = 0; w < vocabulary; w++)
    for (uint32_t i = 0; i < row_used[w]; i++) fit += lgamma((double)(rows[places[w] + i] >> 32) + beta) - lgamma(beta);
  for (uint32_t t = 0; t < topics; t++) fit += lgamma(betas) - lgamma(total[t] + betas);
  for (uint64_t d = 0; d < docs; d++) {
    for (uint32_t k = 0; k < used[d]; k++) fit += lgamma((lists[d * cap + k] >> bits) + alpha) - lgamma(alpha);
    fit += lgamma(alpha * topics) - lgamma(alpha * topics + lengths[d]);
  }
  printf("{\"tokens\": %llu, \"words\": %llu, \"seconds\": %.9f, \"tokens_per_second\": %.1f, \"log_likelihood\": %.6f}\n", (unsigned long long)n,
         (unsigned long long)words, seconds, (double)n * iterations / seconds, fit);
  return 0;
}
