/* What the MPI programs of perf/ops share: phases, files, the exchange, the JSON line. */
#ifndef OPS_MPI_H
#define OPS_MPI_H
#include "ops.h"
#include <mpi.h>

static int rank_, size_;
static const char *program_ = "ops";

__attribute__((noreturn)) static inline void die(const char *what) {
  fprintf(stderr, "%s: rank %d: %s\n", program_, rank_, what);
  MPI_Abort(MPI_COMM_WORLD, 2);
  exit(2);
}

/* Memory that was not touched yet; large pages where the kernel gives them. */
static inline void *get(size_t bytes) {
  const size_t large = 2u << 20;
  size_t unit = bytes >= 2 * large ? large : 64;
  bytes = (bytes + unit - 1) / unit * unit + unit;
  void *p = aligned_alloc(unit, bytes);
  if (!p) die("out of memory");
  if (unit == large) madvise(p, bytes, MADV_HUGEPAGE);
  return p;
}
static inline void *get0(size_t bytes) {
  void *p = get(bytes);
  memset(p, 0, bytes);
  return p;
}

/* ---- phases: every rank's seconds in each, of which the largest is shown ---- */
static double began_, last_;
static const char *phase_name_[16];
static double phase_seconds_[16];
static int phases_;

static inline void phases_begin(void) {
  phases_ = 0;
  MPI_Barrier(MPI_COMM_WORLD);
  began_ = last_ = MPI_Wtime();
}
static inline void phase_add(const char *name, double seconds) {
  int i = 0;
  while (i < phases_ && strcmp(phase_name_[i], name)) i++;
  if (i == phases_) {
    if (phases_ == 16) die("too many phases");
    phase_name_[phases_] = name;
    phase_seconds_[phases_++] = 0;
  }
  phase_seconds_[i] += seconds;
}
static inline void phase(const char *name) {
  double now = MPI_Wtime();
  phase_add(name, now - last_);
  last_ = now;
}
/* Some of the time since the last phase's end belongs to another phase. */
static inline void phase_split(const char *name, double of_it, const char *other) {
  double now = MPI_Wtime();
  phase_add(name, now - last_ - of_it);
  phase_add(other, of_it);
  last_ = now;
}

/* Rank 0 prints the line. `more`: text within the object, or "". All ranks call it with the same phases. */
static inline void report(const char *what, uint64_t rows_in, uint64_t rows, uint64_t checksum, const char *more, double total) {
  uint64_t mine[3] = {rows_in, rows, checksum}, all[3];
  double slowest[16], slowest_total;
  MPI_Reduce(mine, all, 3, MPI_UINT64_T, MPI_SUM, 0, MPI_COMM_WORLD);
  MPI_Reduce(phase_seconds_, slowest, phases_, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
  MPI_Reduce(&total, &slowest_total, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
  if (rank_) return;
  printf("{\"what\": \"%s\", \"who\": \"c+mpi\", \"ranks\": %d, \"rows_in\": %llu, \"rows\": %llu, \"checksum\": \"%016llx\"%s, \"seconds\": {", what, size_,
         (unsigned long long)all[0], (unsigned long long)all[1], (unsigned long long)all[2], more);
  for (int i = 0; i < phases_; i++) printf("\"%s\": %.6f, ", phase_name_[i], slowest[i]);
  printf("\"total\": %.6f}}\n", slowest_total);
}

/* ---- files ---- */
typedef struct {
  const unsigned char *at; /* this rank's part */
  size_t n;                /* records in it */
  size_t first;            /* the number of its first record in the file */
  size_t all;              /* records in the file */
} Slice;

/* This rank's equal share of a file of fixed-size records, mapped: no copy, and the pages are there afterwards. */
static inline Slice map_slice(const char *path, size_t record) {
  int fd = open(path, O_RDONLY);
  struct stat st;
  if (fd < 0 || fstat(fd, &st)) die("cannot open the input");
  if ((size_t)st.st_size % record) die("the input is no whole number of records");
  Slice s = {NULL, 0, 0, (size_t)st.st_size / record};
  s.first = s.all * (size_t)rank_ / (size_t)size_;
  s.n = s.all * (size_t)(rank_ + 1) / (size_t)size_ - s.first;
  if (s.n) {
    size_t from = s.first * record, page = from / 4096 * 4096;
    void *p = mmap(NULL, from - page + s.n * record, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, (off_t)page);
    if (p == MAP_FAILED) die("cannot map the input");
    s.at = (const unsigned char *)p + (from - page);
  }
  close(fd);
  return s;
}

/* A rank writes a file of its own, PATH.RANK (four digits): one shared file would serialise the writers on its inode. Parts of a sorted result are in order. */
static inline int create_part(const char *path, char *name, size_t room) {
  if ((size_t)snprintf(name, room, "%s.%04d", path, rank_) >= room) die("the output's path is too long");
  unlink(name);
  int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0666);
  if (fd < 0) die("cannot create the output");
  return fd;
}
static inline void write_all(int fd, const void *from, size_t bytes) {
  const char *p = (const char *)from;
  while (bytes) {
    ssize_t n = write(fd, p, bytes < (1u << 30) ? bytes : (1u << 30));
    if (n <= 0) die("cannot write the output");
    p += n;
    bytes -= (size_t)n;
  }
}
/* A part that was written, mapped again: checksums are taken from the file, after the time has ended. */
static inline const unsigned char *map_part(int fd, size_t *bytes) {
  struct stat st;
  if (fstat(fd, &st)) die("cannot read the output again");
  *bytes = (size_t)st.st_size;
  if (!st.st_size) return (const unsigned char *)"";
  void *p = mmap(NULL, *bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (p == MAP_FAILED) die("cannot map the output");
  return (const unsigned char *)p;
}

/* ---- exchange ---- */
/* How many bytes go to one rank in one round: larger messages gain nothing, and counts never overflow an int. */
static inline size_t round_bytes(void) {
  static size_t bytes;
  if (!bytes) {
    const char *s = getenv("OPS_ROUND");
    bytes = s ? strtoull(s, NULL, 10) : 0;
    if (bytes < 1024 || bytes > (1u << 30)) bytes = 8u << 20;
  }
  return bytes;
}

static inline void exchange_counts(const size_t *out_n, size_t *in_n, int each) {
  MPI_Alltoall(out_n, each, MPI_UINT64_T, in_n, each, MPI_UINT64_T, MPI_COMM_WORLD);
}

/* MPI_Alltoallv of records of `bytes` bytes with size_t counts, in rounds. A rank's own records are copied unless out_n[rank] is 0 on both sides. */
static inline void exchange(const void *out, const size_t *out_n, const size_t *out_at, void *in, const size_t *in_n, const size_t *in_at, size_t bytes) {
  size_t p = (size_t)size_, most = 0, limit = round_bytes() / bytes;
  if (!limit) limit = 1;
  MPI_Datatype record;
  MPI_Type_contiguous((int)bytes, MPI_BYTE, &record);
  MPI_Type_commit(&record);
  for (size_t r = 0; r < p; r++)
    if (r != (size_t)rank_ && out_n[r] > most) most = out_n[r];
  uint64_t rounds = (most + limit - 1) / limit, all;
  MPI_Allreduce(&rounds, &all, 1, MPI_UINT64_T, MPI_MAX, MPI_COMM_WORLD);
  memcpy((char *)in + in_at[rank_] * bytes, (const char *)out + out_at[rank_] * bytes, out_n[rank_] * bytes);
  /* Displacements are ints too: they count from the first record of this round to rank 0. For larger ones, requests per peer. */
  MPI_Request *req = (MPI_Request *)malloc(2 * p * sizeof *req);
  int *n_out = (int *)malloc(4 * p * sizeof(int)), *d_out = n_out + p, *n_in = n_out + 2 * p, *d_in = n_out + 3 * p;
  if (!req || !n_out) die("out of memory");
  int fits = 1;
  for (size_t r = 0; r < p; r++)
    if (out_at[r] + out_n[r] > INT32_MAX || in_at[r] + in_n[r] > INT32_MAX) fits = 0;
  int all_fit;
  MPI_Allreduce(&fits, &all_fit, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  for (uint64_t k = 0; k < all; k++) {
    size_t from = k * limit;
    for (size_t r = 0; r < p; r++) {
      size_t o = r == (size_t)rank_ || out_n[r] <= from ? 0 : out_n[r] - from, i = r == (size_t)rank_ || in_n[r] <= from ? 0 : in_n[r] - from;
      n_out[r] = (int)(o < limit ? o : limit);
      n_in[r] = (int)(i < limit ? i : limit);
      d_out[r] = n_out[r] ? (int)(out_at[r] + from) : 0;
      d_in[r] = n_in[r] ? (int)(in_at[r] + from) : 0;
    }
    if (all_fit) {
      MPI_Alltoallv(out, n_out, d_out, record, in, n_in, d_in, record, MPI_COMM_WORLD);
      continue;
    }
    int q = 0;
    for (size_t r = 0; r < p; r++)
      if (n_in[r]) MPI_Irecv((char *)in + (in_at[r] + from) * bytes, n_in[r], record, (int)r, 7, MPI_COMM_WORLD, &req[q++]);
    for (size_t r = 0; r < p; r++)
      if (n_out[r]) MPI_Isend((const char *)out + (out_at[r] + from) * bytes, n_out[r], record, (int)r, 7, MPI_COMM_WORLD, &req[q++]);
    MPI_Waitall(q, req, MPI_STATUSES_IGNORE);
  }
  free(n_out);
  free(req);
  MPI_Type_free(&record);
}

static inline size_t sum_before(const size_t *n, size_t *at, size_t parts) {
  size_t sum = 0;
  for (size_t i = 0; i < parts; i++) at[i] = sum, sum += n[i];
  return sum;
}

static inline void ops_init(int *argc, char ***argv, const char *name) {
  program_ = name;
  MPI_Init(argc, argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &size_);
}
#endif
