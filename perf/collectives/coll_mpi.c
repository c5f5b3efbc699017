// MPI's own collectives, timed: the opponent of harp_coll.rs, which does the same with Harp.
//
//   coll_mpi LABEL SHARED [-o op,op] [-m smallest] [-M largest] [-t seconds per cell] [-c cores] [-T 1: begun and tested, where MPI can]
//
// SHARED is an empty file that all ranks map (all ranks are on one host). It carries what must not depend on the library that
// is measured: the aligned start of every timed call, the iterations, the times of all ranks.
//
// A size is that of one block: what MPI's count argument says, and for regroup what one rank has in all. Operations that an expert could write in more than one way
// have a row for each, op/way; the reader takes the best. Before each timed call every rank writes its input anew, as a superstep
// does; then the library's barrier, then the aligned start. A call's time is that of the slowest rank.
// CSV on standard output, microseconds: label,op,ranks,bytes,iterations,min,median,max,back-to-back,hand-over before,after (ns),TCP bytes of rank 0 per call
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/tcp.h>
#include <mpi.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_RANKS 64
#define MAX_ITERATIONS 20000
#define HOPS 400
#define PIECES 8 // of the back-to-back loop: the median of them does not see one interruption

typedef struct {
  _Alignas(128) _Atomic uint64_t v;
} flag;
typedef struct {
  flag here[MAX_RANKS], hop[2];
  uint64_t iterations;
  double back_to_back[MAX_RANKS][PIECES];
  double times[MAX_RANKS][MAX_ITERATIONS];
} shared;

enum way {
  BARRIER, BCAST, REDUCE, ALLREDUCE, ALLREDUCE_IN_PLACE, RSCAT, RSCAT_V, ALLGATHER, ALLTOALL, GATHER, SCATTER, ROTATE, REGROUP,
  REGROUP_RSCAT, REGROUP_BLOCK, PINGPONG, WAYS
};
static const char *names[] = {
    "barrier", "bcast", "reduce", "allreduce", "allreduce/in_place", "reduce_scatter", "reduce_scatter/v", "allgather", "alltoall",
    "gather", "scatter", "rotate", "regroup", "regroup/reduce_scatter", "regroup/reduce_scatter_block", "pingpong"};
// Whether the input and the output have one block for each rank.
static const int sends_np[WAYS] = {[RSCAT] = 1, [RSCAT_V] = 1, [ALLTOALL] = 1, [SCATTER] = 1};
static const int recvs_np[WAYS] = {[ALLGATHER] = 1, [ALLTOALL] = 1, [GATHER] = 1};
// Whether MPI has a form that only begins it.
static const int begins[WAYS] = {[BARRIER] = 1, [BCAST] = 1, [REDUCE] = 1, [ALLREDUCE] = 1, [ALLREDUCE_IN_PLACE] = 1, [RSCAT] = 1,
                                 [ALLGATHER] = 1, [ALLTOALL] = 1, [GATHER] = 1, [SCATTER] = 1};
static const size_t sizes[] = {8, 64, 512, 1024, 4096, 16384, 65536, 262144, 1 << 20, 4 << 20, 16 << 20, 64 << 20};

static shared *S;
static int me, np, spins, tested;
static uint64_t epoch, hops;
static double *sb, *rb, *tmp; // input, output, what alltoallv brings
static size_t n, c, part;     // bytes and elements of a block; elements of one of regroup's partitions
static int *counts, *displs;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// All ranks are here, within a hand-over of each other. What the library still has to send may be what another rank waits for, so a
// long wait moves it.
static void aligned(void) {
  MPI_Barrier(MPI_COMM_WORLD);
  epoch++;
  atomic_store_explicit(&S->here[me].v, epoch, memory_order_release);
  for (int r = 0, s = 0; r < np; r++)
    while (atomic_load_explicit(&S->here[r].v, memory_order_acquire) < epoch) {
      if (++s < spins) {
        relax();
        continue;
      }
      s = 0;
      int any;
      MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &any, MPI_STATUS_IGNORE);
      sched_yield();
    }
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

// Nanoseconds of a hand-over of a cache line between the cores of ranks 0 and 1; 0 where ranks share cores.
static double hand_over(int cores) {
  static double t[HOPS];
  aligned();
  if (np < 2 || np > cores) return 0;
  for (int i = 0; i < HOPS && me < 2; i++) {
    hops++;
    double begin = now();
    if (me == 0) atomic_store_explicit(&S->hop[0].v, hops, memory_order_release);
    while (atomic_load_explicit(&S->hop[1 - me].v, memory_order_acquire) < hops) relax();
    if (me == 1) atomic_store_explicit(&S->hop[1].v, hops, memory_order_release);
    t[i] = now() - begin;
  }
  qsort(t, HOPS, sizeof *t, by_value);
  return t[HOPS / 2] * 0.5e9;
}

// What this process has sent and received over TCP: shows which wire a library really uses.
static double tcp_bytes(void) {
  double sum = 0;
  for (int fd = 0; fd < 1024; fd++) {
    struct tcp_info info;
    socklen_t len = sizeof info;
    memset(&info, 0, sizeof info);
    if (!getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len)) sum += info.tcpi_bytes_acked + info.tcpi_bytes_received;
  }
  return sum;
}

// As call, but begun (MPI_Iallreduce, ...) and tested, as a program does that has other messages under way.
static void call_tested(int way) {
  const MPI_Comm w = MPI_COMM_WORLD;
  int count = (int)c, all = 0;
  MPI_Request r;
  switch (way) {
  case BARRIER: MPI_Ibarrier(w, &r); break;
  case BCAST: MPI_Ibcast(sb, count, MPI_DOUBLE, 0, w, &r); break;
  case REDUCE: MPI_Ireduce(sb, rb, count, MPI_DOUBLE, MPI_SUM, 0, w, &r); break;
  case ALLREDUCE: MPI_Iallreduce(sb, rb, count, MPI_DOUBLE, MPI_SUM, w, &r); break;
  case ALLREDUCE_IN_PLACE: MPI_Iallreduce(MPI_IN_PLACE, sb, count, MPI_DOUBLE, MPI_SUM, w, &r); break;
  case RSCAT: MPI_Ireduce_scatter_block(sb, rb, count, MPI_DOUBLE, MPI_SUM, w, &r); break;
  case ALLGATHER: MPI_Iallgather(sb, count, MPI_DOUBLE, rb, count, MPI_DOUBLE, w, &r); break;
  case ALLTOALL: MPI_Ialltoall(sb, count, MPI_DOUBLE, rb, count, MPI_DOUBLE, w, &r); break;
  case GATHER: MPI_Igather(sb, count, MPI_DOUBLE, rb, count, MPI_DOUBLE, 0, w, &r); break;
  case SCATTER: MPI_Iscatter(sb, count, MPI_DOUBLE, rb, count, MPI_DOUBLE, 0, w, &r); break;
  default: return;
  }
  while (!all) MPI_Test(&r, &all, MPI_STATUS_IGNORE);
}

static void call(int way) {
  const MPI_Comm w = MPI_COMM_WORLD;
  int count = (int)c;
  if (tested) {
    call_tested(way);
    return;
  }
  switch (way) {
  case BARRIER: MPI_Barrier(w); return;
  case BCAST: MPI_Bcast(sb, count, MPI_DOUBLE, 0, w); return;
  case REDUCE: MPI_Reduce(sb, rb, count, MPI_DOUBLE, MPI_SUM, 0, w); return;
  case ALLREDUCE: MPI_Allreduce(sb, rb, count, MPI_DOUBLE, MPI_SUM, w); return;
  case ALLREDUCE_IN_PLACE: MPI_Allreduce(MPI_IN_PLACE, sb, count, MPI_DOUBLE, MPI_SUM, w); return;
  case RSCAT: MPI_Reduce_scatter_block(sb, rb, count, MPI_DOUBLE, MPI_SUM, w); return;
  case RSCAT_V:
  case REGROUP_RSCAT: MPI_Reduce_scatter(sb, rb, counts, MPI_DOUBLE, MPI_SUM, w); return;
  case REGROUP_BLOCK: MPI_Reduce_scatter_block(sb, rb, (int)part, MPI_DOUBLE, MPI_SUM, w); return;
  case ALLGATHER: MPI_Allgather(sb, count, MPI_DOUBLE, rb, count, MPI_DOUBLE, w); return;
  case ALLTOALL: MPI_Alltoall(sb, count, MPI_DOUBLE, rb, count, MPI_DOUBLE, w); return;
  case GATHER: MPI_Gather(sb, count, MPI_DOUBLE, rb, count, MPI_DOUBLE, 0, w); return;
  case SCATTER: MPI_Scatter(sb, count, MPI_DOUBLE, rb, count, MPI_DOUBLE, 0, w); return;
  case ROTATE: {
    MPI_Sendrecv(sb, count, MPI_DOUBLE, (me + 1) % np, 1, rb, count, MPI_DOUBLE, (me + np - 1) % np, 1, w, MPI_STATUS_IGNORE);
    double *t = sb; // what has come is what goes next
    sb = rb;
    rb = t;
    return;
  }
  case REGROUP: {
    MPI_Alltoallv(sb, counts, displs, MPI_DOUBLE, tmp, counts, displs, MPI_DOUBLE, w);
    // In pieces that stay in the first cache, whatever the number of ranks.
    for (size_t at = 0; at < part; at += 1024) {
      size_t k = part - at < 1024 ? part - at : 1024;
      double *restrict out = rb + at;
      memcpy(out, tmp + at, k * sizeof *out);
      for (int r = 1; r < np; r++) {
        const double *in = tmp + r * part + at;
        for (size_t i = 0; i < k; i++) out[i] += in[i];
      }
    }
    return;
  }
  case PINGPONG:
    if (me == 0) {
      MPI_Send(sb, count, MPI_DOUBLE, 1, 2, w);
      MPI_Recv(rb, count, MPI_DOUBLE, 1, 3, w, MPI_STATUS_IGNORE);
    } else if (me == 1) {
      MPI_Recv(rb, count, MPI_DOUBLE, 0, 2, w, MPI_STATUS_IGNORE);
      MPI_Send(sb, count, MPI_DOUBLE, 0, 3, w);
    }
    return;
  }
}

static double val(int r, size_t i) { return (double)((r + 1) * 1000003ull % 9973 + i % 1021); }
static size_t sent(int way) { return sends_np[way] ? c * np : c; }
static size_t received(int way) { return recvs_np[way] ? c * np : c; }

// The input of a timed call, written by the rank that gives it.
static void fill(int way, double x) {
  if (way == BARRIER || (me && (way == BCAST || way == SCATTER))) return;
  for (size_t i = 0, k = sent(way); i < k; i++) sb[i] = x;
}

static void verify(int way) {
  long bad = 0;
  if (way != BARRIER) {
    for (size_t i = 0; i < sent(way); i++) sb[i] = way == BCAST && me ? -2 : val(me, i);
    for (size_t i = 0; i < received(way); i++) rb[i] = -1;
  }
  aligned();
  call(way);
  const double *got = way == ROTATE || way == BCAST || way == ALLREDUCE_IN_PLACE ? sb : rb;
  int regroup = way == REGROUP || way == REGROUP_RSCAT || way == REGROUP_BLOCK;
  for (size_t i = 0; way != BARRIER && i < (regroup ? part : c); i++) {
    double all = 0, mine = 0; // sums of element i, and of the element that stands at i of this rank's block
    for (int r = 0; r < np; r++) all += val(r, i), mine += val(r, me * (regroup ? part : c) + i);
    switch (way) {
    case BCAST: bad += got[i] != val(0, i); break;
    case REDUCE: bad += me == 0 && got[i] != all; break;
    case ALLREDUCE:
    case ALLREDUCE_IN_PLACE: bad += got[i] != all; break;
    case ALLGATHER: for (int r = 0; r < np; r++) bad += got[r * c + i] != val(r, i); break;
    case ALLTOALL: for (int r = 0; r < np; r++) bad += got[r * c + i] != val(r, me * c + i); break;
    case GATHER: for (int r = 0; r < np && me == 0; r++) bad += got[r * c + i] != val(r, i); break;
    case SCATTER: bad += got[i] != val(0, me * c + i); break;
    case ROTATE: bad += got[i] != val((me + np - 1) % np, i); break;
    case PINGPONG: bad += me < 2 && got[i] != val(1 - me, i); break;
    default: bad += got[i] != mine;
    }
  }
  if (bad) {
    fprintf(stderr, "error: WRONG %s of %zu bytes: %ld elements on rank %d\n", names[way], n, bad, me);
    MPI_Abort(MPI_COMM_WORLD, 3);
  }
}

static void measure(int way, const char *label, double budget, int cores) {
  verify(way);
  double before = hand_over(cores), best = 1e9;
  for (int i = 0; i < 3; i++) {
    double begin = now();
    fill(way, 1);
    aligned();
    call(way);
    aligned();
    if (now() - begin < best) best = now() - begin;
  }
  if (me == 0) {
    double k = budget / best;
    S->iterations = k < 3 ? 3 : k > MAX_ITERATIONS ? MAX_ITERATIONS : (uint64_t)k;
  }
  aligned();
  uint64_t iterations = S->iterations;
  double tcp = tcp_bytes();
  for (uint64_t i = 0; i < iterations; i++) {
    fill(way, 1);
    aligned();
    double begin = now();
    call(way);
    S->times[me][i] = now() - begin;
  }
  aligned();
  tcp = (tcp_bytes() - tcp) / iterations;
  fill(way, 0); // zeros stay zeros, also where sums replace what was summed
  int pieces = iterations < PIECES ? (int)iterations : PIECES;
  uint64_t piece = iterations / pieces;
  for (int p = 0; p < pieces; p++) {
    aligned();
    double begin = now();
    for (uint64_t i = 0; i < piece; i++) call(way);
    S->back_to_back[me][p] = (now() - begin) / piece;
  }
  double after = hand_over(cores);
  if (me == 0) {
    double *t = S->times[0], *loop = S->back_to_back[0], unit = way == PINGPONG ? 0.5e6 : 1e6; // one way of two
    for (int r = 1; r < np; r++) {
      for (int p = 0; p < pieces; p++)
        if (S->back_to_back[r][p] > loop[p]) loop[p] = S->back_to_back[r][p];
      for (uint64_t i = 0; i < iterations; i++)
        if (S->times[r][i] > t[i]) t[i] = S->times[r][i];
    }
    qsort(t, iterations, sizeof *t, by_value);
    qsort(loop, pieces, sizeof *loop, by_value);
    printf("%s,%s,%d,%zu,%d,%.3f,%.3f,%.3f,%.3f,%.0f,%.0f,%.0f\n", label, names[way], np, n, (int)iterations, t[0] * unit,
           t[iterations / 2] * unit, t[iterations - 1] * unit, loop[pieces / 2] * unit, before, after, tcp);
    fflush(stdout);
  }
  aligned();
}

static double memcpy_bandwidth(void) {
  const size_t k = 32 << 20;
  char *a = malloc(k), *b = malloc(k);
  double best = 1e9;
  if (!a || !b) return 0;
  memset(a, 1, k);
  memset(b, 2, k);
  for (int i = 0; i < 5; i++) {
    double begin = now();
    memcpy(b, a, k);
    __asm__ volatile("" ::"r"(b) : "memory");
    if (now() - begin < best) best = now() - begin;
  }
  free(a);
  free(b);
  return k / best * 1e-9;
}

static int listed(const char *list, const char *name) {
  size_t len = strcspn(name, "/"); // the ways of an operation go by its name
  for (const char *p = list; p && *p;) {
    size_t l = strcspn(p, ",");
    if (l == len && !strncmp(p, name, l)) return 1;
    p += l + (p[l] == ',');
  }
  return !list;
}

static void *touched(size_t k) {
  void *p = aligned_alloc(4096, (k + 4095) & ~4095ul);
  if (!p) {
    fprintf(stderr, "error: no memory for a buffer of %zu bytes\n", k);
    MPI_Abort(MPI_COMM_WORLD, 4);
    abort();
  }
  return memset(p, 0, k);
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &me);
  MPI_Comm_size(MPI_COMM_WORLD, &np);
  const char *ops = NULL;
  size_t smallest = 8, largest = 64 << 20;
  double budget = 0.1;
  int cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
  if (argc < 3 || np > MAX_RANKS) {
    fprintf(stderr, "error: usage: coll_mpi LABEL SHARED [-o ops] [-m bytes] [-M bytes] [-t seconds] [-c cores] [-T 1], at most %d ranks\n", MAX_RANKS);
    MPI_Abort(MPI_COMM_WORLD, 2);
  }
  for (int i = 3; i + 1 < argc; i += 2) switch (argv[i][1]) {
    case 'o': ops = argv[i + 1]; break;
    case 'm': smallest = strtoul(argv[i + 1], NULL, 10); break;
    case 'M': largest = strtoul(argv[i + 1], NULL, 10); break;
    case 't': budget = atof(argv[i + 1]); break;
    case 'c': cores = atoi(argv[i + 1]); break;
    case 'T': tested = atoi(argv[i + 1]); break;
    }
  spins = np > cores ? 20 : 5000;
  int file = open(argv[2], O_RDWR);
  S = MAP_FAILED;
  if (file >= 0 && !ftruncate(file, sizeof *S)) S = mmap(NULL, sizeof *S, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (S == MAP_FAILED) {
    perror("error: cannot map the shared file");
    MPI_Abort(MPI_COMM_WORLD, 4);
  }
  memset(S->times[me], 0, sizeof S->times[me]);
  int blocks = 1;
  for (int way = 0; way < WAYS; way++)
    if (listed(ops, names[way]) && (sends_np[way] || recvs_np[way])) blocks = np;
  sb = touched(largest * blocks);
  rb = touched(largest * blocks);
  tmp = touched(largest);
  counts = touched(np * sizeof *counts);
  displs = touched(np * sizeof *displs);
  aligned();
  if (me == 0) {
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    int len;
    MPI_Get_library_version(version, &len);
    version[strcspn(version, "\n")] = 0;
    printf("# %s\n# memcpy %.2f GB/s\n", version, memcpy_bandwidth());
    fflush(stdout);
  }
  aligned();
  for (int way = 0; way < WAYS; way++)
    for (size_t q = 0; q < sizeof sizes / sizeof *sizes && listed(ops, names[way]); q++) {
      n = way == BARRIER ? 0 : sizes[q];
      if (way == BARRIER ? q > 0 : n < smallest || n > largest) continue;
      if ((way == PINGPONG && np < 2) || (tested && !begins[way])) continue;
      c = n / sizeof(double);
      part = c / np;
      int regroup = way == REGROUP || way == REGROUP_RSCAT || way == REGROUP_BLOCK;
      if (regroup && part == 0) continue;
      for (int r = 0; r < np; r++) {
        counts[r] = (int)(regroup ? part : c);
        displs[r] = (int)(r * part);
      }
      measure(way, argv[1], budget, cores);
    }
  MPI_Finalize();
  return 0;
}
