/* Word count of a text file as an expert would write it by hand in C++ with MPI.
 *
 *   mpicxx -O3 -march=native wordcount_mpi.cpp -o wordcount_mpi
 *   mpirun -n 2 ./wordcount_mpi INPUT OUTPUT|- [alnum|space] [lower]
 *
 * A word is a maximal run of ASCII letters, ASCII digits and bytes from 0x80 (`alnum`: in UTF-8 every other character belongs to words), or of
 * bytes that are not ASCII white space (`space`: 9 to 13 and 32). `lower` makes A-Z to a-z. OUTPUT.RANK: lines `word TAB count`, in any order.
 *
 * The file is mapped; a rank counts the words that begin in its range of bytes. 64 bytes at a time are classified into a bit mask (AVX-512BW or
 * AVX2, else eight bytes at a time by a table), whose transitions are the borders of words. Words of up to 16 bytes are two integers, in the
 * open-addressing table itself; longer ones are compared where they stand. Tokens go through a small queue, so that the table's lines are
 * prefetched. Then (length, count, bytes) go to the rank of the hash by MPI_Alltoallv, and are merged in a second table. */
#include "ops_mpi.h"
#include <vector>
#ifdef __AVX2__
#include <immintrin.h>
#endif

typedef struct {
  uint64_t a, b;  /* up to 16 bytes of the word, then zeros; of a longer one its hash and its address */
  uint64_t count; /* 0: free */
  uint32_t length, hash;
} Entry;

static bool lower_ = false, space_ = false;
static unsigned char kind_[256]; /* 1: belongs to words */
static unsigned char fold_[256];

static inline uint64_t fold_mul(uint64_t a, uint64_t b) {
  unsigned __int128 p = (unsigned __int128)a * b;
  return (uint64_t)p ^ (uint64_t)(p >> 64);
}

/* Words that are followed by 16 readable bytes. */
typedef struct {
  uint64_t a, b, hash;
  const unsigned char *at;
  uint32_t length;
} Token;

static inline uint64_t lower8(uint64_t x) { /* each byte of A-Z gets 0x20 */
  uint64_t low = x & 0x7f7f7f7f7f7f7f7full, ge = low + 0x3f3f3f3f3f3f3f3full, gt = low + 0x2525252525252525ull;
  return x | ((ge & ~gt & ~x & 0x8080808080808080ull) >> 2);
}

template <bool LOWER> static inline void token(Token *t, const unsigned char *at, size_t length) {
  t->at = at;
  t->length = (uint32_t)length;
  if (__builtin_expect(length <= 16, 1)) {
    uint64_t a = load64(at), b = load64(at + 8);
    /* Shifts by 64 are not defined: in two steps. */
    uint64_t keep_a = length >= 8 ? ~0ull : ~(~0ull << 8 * length), keep_b = length <= 8 ? 0 : ~0ull >> 8 * (16 - length);
    a &= keep_a, b &= keep_b;
    if (LOWER) a = lower8(a), b = lower8(b);
    t->a = a, t->b = b;
    t->hash = fold_mul(a ^ 0xa0761d6478bd642full, b ^ (0xe7037ed1a0b428dbull + length));
  } else {
    uint64_t h = length * 0x9e3779b97f4a7c15ull;
    size_t i = 0;
    for (; i + 8 <= length; i += 8) {
      uint64_t w = load64(at + i);
      h = fold_mul(h ^ (LOWER ? lower8(w) : w), 0xe7037ed1a0b428dbull);
    }
    if (i < length) {
      uint64_t w = load64(at + length - 8);
      h = fold_mul(h ^ (LOWER ? lower8(w) : w), 0xa0761d6478bd642full);
    }
    t->hash = t->a = h;
    t->b = (uint64_t)(uintptr_t)at;
  }
}

static inline bool same_long(const Token *t, const Entry *e) {
  const unsigned char *x = t->at, *y = (const unsigned char *)(uintptr_t)e->b;
  if (!lower_) return !memcmp(x, y, t->length);
  for (uint32_t i = 0; i < t->length; i++)
    if (fold_[x[i]] != fold_[y[i]]) return false;
  return true;
}

struct Table {
  Entry *slots;
  size_t mask, used, limit;

  explicit Table(size_t words) {
    size_t n = 1024;
    while (n < words * 2) n *= 2;
    slots = (Entry *)get0(n * sizeof(Entry));
    mask = n - 1, used = 0, limit = n / 8 * 5;
  }
  /* The upper half of a hash says which rank, the lower half where in the table. */
  inline void prefetch(const Token *t) const { __builtin_prefetch(&slots[t->hash & mask], 1); }
  inline void add(const Token *t, uint64_t count) {
    size_t at = t->hash & mask;
    for (;; at = (at + 1) & mask) {
      Entry *e = &slots[at];
      if (e->a == t->a && e->length == t->length && e->count && (t->length > 16 ? same_long(t, e) : e->b == t->b)) {
        e->count += count;
        return;
      }
      if (!e->count) {
        *e = Entry{t->a, t->b, count, t->length, (uint32_t)(t->hash >> 32)};
        if (++used > limit) grow();
        return;
      }
    }
  }
  /* The low bits of the hash are not kept (they would cost another 8 bytes an entry), they are found again. */
  static inline uint64_t hash_of(const Entry *e) {
    return e->length > 16 ? e->a : fold_mul(e->a ^ 0xa0761d6478bd642full, e->b ^ (0xe7037ed1a0b428dbull + e->length));
  }
  void grow() {
    Entry *old = slots;
    size_t n = mask + 1;
    slots = (Entry *)get0(n * 4 * sizeof(Entry));
    mask = n * 4 - 1, limit *= 4;
    for (size_t i = 0; i < n; i++) {
      if (!old[i].count) continue;
      size_t at = hash_of(&old[i]) & mask;
      while (slots[at].count) at = (at + 1) & mask;
      slots[at] = old[i];
    }
    free(old);
  }
};

/* Which of 64 bytes belong to words. */
template <bool SPACE> static inline uint64_t classify(const unsigned char *p) {
#if defined __AVX512BW__
  __m512i x = _mm512_loadu_si512(p);
  if (SPACE)
    return ~(_mm512_cmple_epu8_mask(_mm512_sub_epi8(x, _mm512_set1_epi8(9)), _mm512_set1_epi8(4)) | _mm512_cmpeq_epu8_mask(x, _mm512_set1_epi8(32)));
  return _mm512_movepi8_mask(x) | _mm512_cmple_epu8_mask(_mm512_sub_epi8(x, _mm512_set1_epi8('0')), _mm512_set1_epi8(9)) |
         _mm512_cmple_epu8_mask(_mm512_sub_epi8(_mm512_or_si512(x, _mm512_set1_epi8(0x20)), _mm512_set1_epi8('a')), _mm512_set1_epi8(25));
#elif defined __AVX2__
  uint64_t mask = 0;
  for (int i = 0; i < 2; i++) {
    __m256i x = _mm256_loadu_si256((const __m256i *)p + i), in;
#define AT_MOST(v, n) _mm256_cmpeq_epi8(_mm256_min_epu8(v, _mm256_set1_epi8(n)), v)
    if (SPACE) {
      in = _mm256_or_si256(AT_MOST(_mm256_sub_epi8(x, _mm256_set1_epi8(9)), 4), _mm256_cmpeq_epi8(x, _mm256_set1_epi8(32)));
      in = _mm256_xor_si256(in, _mm256_set1_epi8(-1));
    } else {
      __m256i digit = AT_MOST(_mm256_sub_epi8(x, _mm256_set1_epi8('0')), 9);
      __m256i letter = AT_MOST(_mm256_sub_epi8(_mm256_or_si256(x, _mm256_set1_epi8(0x20)), _mm256_set1_epi8('a')), 25);
      in = _mm256_or_si256(x, _mm256_or_si256(digit, letter));
    }
    mask |= (uint64_t)(uint32_t)_mm256_movemask_epi8(in) << 32 * i;
  }
  return mask;
#else
  uint64_t mask = 0;
  for (int i = 0; i < 64; i++) mask |= (uint64_t)kind_[p[i]] << i;
  return mask;
#endif
}

enum { QUEUE = 32 };

/* Counts the words that begin in [from, to); `end` is the end of the text, after which 128 zero bytes can be read. */
template <bool SPACE, bool LOWER> static uint64_t count_words(Table *table, const unsigned char *from, const unsigned char *to, const unsigned char *end) {
  Token queue[QUEUE];
  size_t tokens = 0;
  auto push = [&](const unsigned char *at, size_t length) {
    Token *t = &queue[tokens % QUEUE];
    if (tokens >= QUEUE) table->add(t, 1);
    token<LOWER>(t, at, length);
    table->prefetch(t);
    tokens++;
  };
  const unsigned char *word = NULL; /* the word that is open */
  const unsigned char *p = from;
  for (; p < to; p += 64) {
    uint64_t in = classify<SPACE>(p), border;
    size_t n = (size_t)(to - p);
    if (__builtin_expect(n < 64, 0)) { /* what begins from `to` on is not ours: as if it was open already, or closed for good */
      uint64_t ours = ~(~0ull << n);
      in &= ours;
      border = (in ^ (in << 1 | (word != NULL))) & ours;
    } else {
      border = in ^ (in << 1 | (word != NULL));
    }
    while (border) {
      const unsigned char *at = p + __builtin_ctzll(border);
      border &= border - 1;
      if (word) {
        push(word, (size_t)(at - word));
        word = NULL;
      } else {
        word = at;
      }
    }
  }
  if (word) { /* began before `to`: up to its end, wherever that is */
    const unsigned char *q = to;
    while (q < end && kind_[*q]) q++;
    push(word, (size_t)(q - word));
  }
  for (size_t i = tokens > QUEUE ? tokens - QUEUE : 0; i < tokens; i++) table->add(&queue[i % QUEUE], 1);
  return tokens;
}

static inline const unsigned char *bytes_of(const Entry *e) {
  return e->length > 16 ? (const unsigned char *)(uintptr_t)e->b : (const unsigned char *)&e->a;
}
static inline size_t owner(const Entry *e) { return (size_t)((uint64_t)e->hash * (uint64_t)size_ >> 32); }

/* CRC-32 as zlib's, for the checksum. */
static uint32_t crc_[256];
static uint32_t crc32(const unsigned char *p, size_t n) {
  uint32_t c = ~0u;
  for (size_t i = 0; i < n; i++) c = crc_[(c ^ p[i]) & 255] ^ c >> 8;
  return ~c;
}

int main(int argc, char **argv) {
  ops_init(&argc, &argv, "wordcount_mpi");
  if (argc < 3) die("usage: wordcount_mpi INPUT OUTPUT|- [alnum|space] [lower]");
  for (int i = 3; i < argc; i++) {
    if (!strcmp(argv[i], "space")) space_ = true;
    else if (!strcmp(argv[i], "lower")) lower_ = true;
    else if (strcmp(argv[i], "alnum")) die("unknown argument");
  }
  bool writes = strcmp(argv[2], "-") != 0;
  for (int c = 0; c < 256; c++) {
    kind_[c] = space_ ? !((c >= 9 && c <= 13) || c == 32) : c >= 0x80 || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
    fold_[c] = (unsigned char)(c >= 'A' && c <= 'Z' ? c | 32 : c);
  }
  size_t p = (size_t)size_;

  phases_begin();
  int fd = open(argv[1], O_RDONLY);
  struct stat st;
  if (fd < 0 || fstat(fd, &st)) die("cannot open the input");
  size_t size = (size_t)st.st_size, room = (size / 4096 + 2) * 4096;
  /* A page of zeros follows the text. */
  unsigned char *text = (unsigned char *)mmap(NULL, room, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (text == MAP_FAILED) die("out of memory");
  if (size && mmap(text, size, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED) die("cannot map the input");
  close(fd);
  size_t from = size / p * (size_t)rank_ + size % p * (size_t)rank_ / p, to = rank_ + 1 == size_ ? size : size / p * (size_t)(rank_ + 1) + size % p * (size_t)(rank_ + 1) / p;
  madvise(text + from / 4096 * 4096, to - from / 4096 * 4096, MADV_POPULATE_READ);
  if (from) /* a word that began before is the rank's before */
    while (from < size && kind_[text[from - 1]] && kind_[text[from]]) from++;
  if (from > to) from = to;
  phase("read");

  Table table(65536);
  uint64_t tokens = space_ ? (lower_ ? count_words<true, true>(&table, text + from, text + to, text + size) : count_words<true, false>(&table, text + from, text + to, text + size))
                           : (lower_ ? count_words<false, true>(&table, text + from, text + to, text + size) : count_words<false, false>(&table, text + from, text + to, text + size));
  phase("count");

  Table *result = &table;
  unsigned char *got = NULL;
  if (p > 1) {
    std::vector<size_t> out_n(p), out_at(p), in_n(p), in_at(p), to_at(p);
    for (size_t i = 0; i <= table.mask; i++) {
      const Entry *e = &table.slots[i];
      if (e->count && owner(e) != (size_t)rank_) out_n[owner(e)] += 12 + e->length;
    }
    size_t goes = sum_before(out_n.data(), out_at.data(), p), stays = 0;
    unsigned char *out = (unsigned char *)get(goes + 64);
    to_at = out_at;
    for (size_t i = 0; i <= table.mask; i++) {
      Entry *e = &table.slots[i];
      if (!e->count) continue;
      size_t o = owner(e);
      if (o == (size_t)rank_) {
        stays++;
        continue;
      }
      unsigned char *w = out + to_at[o];
      memcpy(w, &e->length, 4);
      memcpy(w + 4, &e->count, 8);
      memcpy(w + 12, bytes_of(e), e->length);
      to_at[o] += 12 + e->length;
    }
    exchange_counts(out_n.data(), in_n.data(), 1);
    size_t comes = sum_before(in_n.data(), in_at.data(), p);
    got = (unsigned char *)get(comes + 64);
    phase("pack");
    exchange(out, out_n.data(), out_at.data(), got, in_n.data(), in_at.data(), 1);
    free(out);
    phase("exchange");
    /* Own words first: they are in the order of the table, and differ. Words of others mostly are among them. */
    result = new Table(stays + stays / 2);
    for (size_t i = 0; i <= table.mask; i++) {
      Entry *e = &table.slots[i];
      if (!e->count || owner(e) != (size_t)rank_) continue;
      size_t at = Table::hash_of(e) & result->mask;
      while (result->slots[at].count) at = (at + 1) & result->mask;
      result->slots[at] = *e;
      if (++result->used > result->limit) result->grow();
    }
    free(table.slots);
    memset(got + comes, 0, 64);
    Token queue[QUEUE];
    uint64_t counts[QUEUE];
    size_t k = 0;
    for (size_t i = 0; i < comes; k++) {
      Token *t = &queue[k % QUEUE];
      if (k >= QUEUE) result->add(t, counts[k % QUEUE]);
      uint32_t length;
      memcpy(&length, got + i, 4);
      memcpy(&counts[k % QUEUE], got + i + 4, 8);
      if (lower_) token<true>(t, got + i + 12, length);
      else token<false>(t, got + i + 12, length);
      result->prefetch(t);
      i += 12 + length;
    }
    for (size_t i = k > QUEUE ? k - QUEUE : 0; i < k; i++) result->add(&queue[i % QUEUE], counts[i % QUEUE]);
    phase("merge");
  }

  uint64_t found = result->used;
  if (writes) {
    char name[4096];
    int out = create_part(argv[2], name, sizeof name);
    enum { BUFFER = 1 << 20 };
    unsigned char *buffer = (unsigned char *)get(BUFFER + 64);
    size_t held = 0;
    for (size_t i = 0; i <= result->mask; i++) {
      const Entry *e = &result->slots[i];
      if (!e->count) continue;
      if (held + e->length + 32 > BUFFER) {
        write_all(out, buffer, held);
        held = 0;
        if (e->length + 32 > BUFFER) { /* in one piece, straight */
          write_all(out, bytes_of(e), e->length);
          char line[32];
          write_all(out, line, (size_t)snprintf(line, sizeof line, "\t%llu\n", (unsigned long long)e->count));
          continue;
        }
      }
      const unsigned char *w = bytes_of(e);
      if (e->length <= 16) memcpy(buffer + held, w, 16);
      else memcpy(buffer + held, w, e->length);
      if (lower_ && e->length > 16)
        for (uint32_t k = 0; k < e->length; k++) buffer[held + k] = fold_[w[k]];
      held += e->length;
      buffer[held++] = '\t';
      unsigned char digits[24];
      int d = 24;
      for (uint64_t c = e->count; c; c /= 10) digits[--d] = (unsigned char)('0' + c % 10);
      memcpy(buffer + held, digits + d, (size_t)(24 - d));
      held += (size_t)(24 - d);
      buffer[held++] = '\n';
    }
    write_all(out, buffer, held);
    phase("write");
  }
  double total = MPI_Wtime() - began_;

  for (uint32_t c = 0; c < 256; c++) {
    uint32_t x = c;
    for (int i = 0; i < 8; i++) x = x & 1 ? 0xedb88320u ^ x >> 1 : x >> 1;
    crc_[c] = x;
  }
  uint64_t sum = 0;
  std::vector<unsigned char> word;
  for (size_t i = 0; i <= result->mask; i++) {
    const Entry *e = &result->slots[i];
    if (!e->count) continue;
    word.assign(bytes_of(e), bytes_of(e) + e->length);
    if (lower_)
      for (auto &c : word) c = fold_[c];
    sum += mix(crc32(word.data(), e->length) ^ e->count << 32);
  }
  report(space_ ? "wordcount space" : "wordcount alnum", tokens, found, sum, "", total);
  MPI_Finalize();
  return 0;
}
