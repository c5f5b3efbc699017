/* The bridge between Aeolian and one MPI: compiled by that MPI's mpicc (`aeolian mpi build`), loaded at run time. */
#include <mpi.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include "aeolian_mpi.h"

#if defined(OPEN_MPI) || defined(OMPI_MAJOR_VERSION)
#define FLAVOR "openmpi"
#elif defined(MPICH_VERSION) || defined(I_MPI_VERSION) || defined(MVAPICH2_VERSION) || defined(CRAY_MPICH_VERSION)
#define FLAVOR "mpich"
#elif defined(MPI_ABI_VERSION)
#define FLAVOR "abi"
#define STANDARD_ABI
#else
#define FLAVOR "other"
#endif

/* Requests in flight are dense: [0, n). A finished one is replaced by the last, so the tables of the caller can follow. */
typedef struct {
  MPI_Comm comm;
  MPI_Message message; /* matched by improbe, waiting for imrecv or mrecv */
  MPI_Request *requests;
  MPI_Status *statuses;
  int *indices;
  int n, capacity, finalize_here, yielding;
} state;

static void copy_text(char *to, uint64_t capacity, const char *from, int len) {
  uint64_t n = len < 0 ? 0 : (uint64_t)len;
  if (!capacity) return;
  if (n > capacity - 1) n = capacity - 1;
  memcpy(to, from, n);
  to[n] = 0;
}

/* As large as any MPI asks for: in a program that is linked with another MPI this call ends there, and that one may write more. */
static int library_version(char *text, uint64_t capacity) {
  char b[MPI_MAX_LIBRARY_VERSION_STRING > 8192 ? MPI_MAX_LIBRARY_VERSION_STRING : 8192];
  int len = 0, rc = MPI_Get_library_version(b, &len);
  if (rc == MPI_SUCCESS) copy_text(text, capacity, b, len);
  return rc;
}

static int init(void **ctx, aeolian_mpi_info *info) {
  int already = 0, provided = MPI_THREAD_SINGLE, rank = 0, size = 1, rc;
  state *s = calloc(1, sizeof *s);
  if (!s) return MPI_ERR_NO_MEM;
  if ((rc = MPI_Initialized(&already))) goto fail;
  rc = already ? MPI_Query_thread(&provided) : MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &provided);
  if (rc) goto fail;
  if ((rc = MPI_Comm_dup(MPI_COMM_WORLD, &s->comm))) goto fail;
  if ((rc = MPI_Comm_set_errhandler(s->comm, MPI_ERRORS_RETURN))) goto fail;
  if ((rc = MPI_Comm_rank(s->comm, &rank)) || (rc = MPI_Comm_size(s->comm, &size))) goto fail;
  s->message = MPI_MESSAGE_NULL;
  s->finalize_here = !already;
  info->thread_level = provided == MPI_THREAD_MULTIPLE     ? 3
                       : provided == MPI_THREAD_SERIALIZED ? 2
                       : provided == MPI_THREAD_FUNNELED   ? 1
                                                           : 0;
  info->rank = rank;
  info->size = size;
  info->initialized_here = !already;
  *ctx = s;
  return MPI_SUCCESS;
fail:
  free(s);
  return rc;
}

static int finalize(void *ctx) {
  state *s = ctx;
  int done = 0, rc = MPI_Finalized(&done);
  if (!rc && !done) rc = MPI_Comm_free(&s->comm);
  if (!rc && !done && s->finalize_here) rc = MPI_Finalize();
  free(s->requests);
  free(s->statuses);
  free(s->indices);
  free(s);
  return rc;
}

static int abort_job(void *ctx, int code) { return MPI_Abort(((state *)ctx)->comm, code); }

static int grow(state *s) {
  if (s->n < s->capacity) return MPI_SUCCESS;
  size_t n = s->capacity ? 2 * (size_t)s->capacity : 64;
  if (n > INT_MAX / 2) return MPI_ERR_NO_MEM;
  void *r = realloc(s->requests, n * sizeof *s->requests);
  if (r) s->requests = r;
  void *t = realloc(s->statuses, n * sizeof *s->statuses);
  if (t) s->statuses = t;
  void *i = realloc(s->indices, n * sizeof *s->indices);
  if (i) s->indices = i;
  if (!r || !t || !i) return MPI_ERR_NO_MEM;
  s->capacity = (int)n;
  return MPI_SUCCESS;
}

static int isend(void *ctx, const void *buf, uint64_t len, int dst, int tag) {
  state *s = ctx;
  int rc;
  if (len > INT_MAX) return MPI_ERR_COUNT;
  if ((rc = grow(s))) return rc;
  rc = MPI_Isend(buf, (int)len, MPI_BYTE, dst, tag, s->comm, &s->requests[s->n]);
  if (!rc) s->n++;
  return rc;
}

static int improbe(void *ctx, int *found, int *source, int *tag, uint64_t *len) {
  state *s = ctx;
  MPI_Status status;
  int n = 0, rc;
  *found = 0;
  if (s->message != MPI_MESSAGE_NULL) return MPI_ERR_OTHER; /* the last one was not received */
  rc = MPI_Improbe(MPI_ANY_SOURCE, MPI_ANY_TAG, s->comm, found, &s->message, &status);
  if (rc || !*found) {
    s->message = MPI_MESSAGE_NULL;
    return rc;
  }
  if ((rc = MPI_Get_count(&status, MPI_BYTE, &n))) return rc;
  if (n < 0) return MPI_ERR_COUNT;
  *source = status.MPI_SOURCE;
  *tag = status.MPI_TAG;
  *len = (uint64_t)n;
  return MPI_SUCCESS;
}

static int imrecv(void *ctx, void *buf, uint64_t len) {
  state *s = ctx;
  int rc;
  if (len > INT_MAX) return MPI_ERR_COUNT;
  if ((rc = grow(s))) return rc;
  rc = MPI_Imrecv(buf, (int)len, MPI_BYTE, &s->message, &s->requests[s->n]);
  if (!rc) s->n++;
  return rc;
}

static int mrecv(void *ctx, void *buf, uint64_t len) {
  if (len > INT_MAX) return MPI_ERR_COUNT;
  return MPI_Mrecv(buf, (int)len, MPI_BYTE, &((state *)ctx)->message, MPI_STATUS_IGNORE);
}

static int descending(const void *a, const void *b) {
  int x = *(const int *)a, y = *(const int *)b;
  return (y > x) - (y < x);
}

static int testsome(void *ctx, uint64_t *done, uint64_t capacity, uint64_t *ndone) {
  state *s = ctx;
  int n = 0, rc;
  *ndone = 0;
  if (!s->n) return MPI_SUCCESS;
  if (capacity < (uint64_t)s->n) return MPI_ERR_COUNT; /* all or none: testing only the first would starve the rest */
  rc = MPI_Testsome(s->n, s->requests, &n, s->indices, s->statuses);
  if (rc == MPI_ERR_IN_STATUS)
    for (int k = 0; k < n; k++)
      if (s->statuses[k].MPI_ERROR != MPI_SUCCESS && s->statuses[k].MPI_ERROR != MPI_ERR_PENDING) return s->statuses[k].MPI_ERROR;
  if (rc) return rc;
  if (n == MPI_UNDEFINED || n <= 0) return MPI_SUCCESS;
  qsort(s->indices, (size_t)n, sizeof *s->indices, descending);
  for (int k = 0; k < n; k++) {
    done[k] = (uint64_t)s->indices[k];
    s->requests[s->indices[k]] = s->requests[--s->n];
  }
  *ndone = (uint64_t)n;
  return MPI_SUCCESS;
}

static int cancel(void *ctx) {
  state *s = ctx;
  int first = MPI_SUCCESS;
  for (int i = 0; i < s->n; i++) {
    int rc = MPI_Cancel(&s->requests[i]);
    if (rc && !first) first = rc;
  }
  return first;
}

static int yielding(void *ctx, int on) {
  ((state *)ctx)->yielding = on;
  return MPI_SUCCESS;
}

/* Waits for a collective that was begun with `rc`, without keeping the core from those that it waits for. */
static int wait_yielding(int rc, MPI_Request *request) {
  for (int done = 0, tries = 0; !rc && !done; tries++) {
    if (tries > 64) sched_yield();
    rc = MPI_Test(request, &done, MPI_STATUS_IGNORE);
  }
  return rc;
}

static int barrier(void *ctx) {
  state *s = ctx;
  MPI_Request r = MPI_REQUEST_NULL;
  return s->yielding ? wait_yielding(MPI_Ibarrier(s->comm, &r), &r) : MPI_Barrier(s->comm);
}

static int bcast(void *ctx, void *buf, uint64_t len, int root) {
  state *s = ctx;
  MPI_Request r = MPI_REQUEST_NULL;
  if (len > INT_MAX) return MPI_ERR_COUNT;
  if (s->yielding) return wait_yielding(MPI_Ibcast(buf, (int)len, MPI_BYTE, root, s->comm, &r), &r);
  return MPI_Bcast(buf, (int)len, MPI_BYTE, root, ((state *)ctx)->comm);
}

static int allgather(void *ctx, const void *in, uint64_t len, void *out) {
  state *s = ctx;
  MPI_Request r = MPI_REQUEST_NULL;
  int n = (int)len;
  if (len > INT_MAX) return MPI_ERR_COUNT;
  if (s->yielding) return wait_yielding(MPI_Iallgather(in, n, MPI_BYTE, out, n, MPI_BYTE, s->comm, &r), &r);
  return MPI_Allgather(in, n, MPI_BYTE, out, n, MPI_BYTE, s->comm);
}

static int codes(int type, int op, uint64_t count, MPI_Datatype *t, MPI_Op *o) {
  MPI_Datatype types[] = {MPI_UINT8_T, MPI_INT8_T,   MPI_UINT16_T, MPI_INT16_T, MPI_UINT32_T,
                          MPI_INT32_T, MPI_UINT64_T, MPI_INT64_T,  MPI_FLOAT,   MPI_DOUBLE};
  MPI_Op ops[] = {MPI_SUM, MPI_PROD, MPI_MIN, MPI_MAX, MPI_BAND, MPI_BOR};
  if (count > INT_MAX) return MPI_ERR_COUNT;
  if (type < 0 || type >= (int)(sizeof types / sizeof *types)) return MPI_ERR_TYPE;
  if (op < 0 || op >= (int)(sizeof ops / sizeof *ops)) return MPI_ERR_OP;
  *t = types[type];
  *o = ops[op];
  return MPI_SUCCESS;
}

static int allreduce(void *ctx, const void *in, void *out, uint64_t count, int type, int op) {
  MPI_Datatype t;
  MPI_Op o;
  int rc = codes(type, op, count, &t, &o);
  state *s = ctx;
  MPI_Request r = MPI_REQUEST_NULL;
  if (rc) return rc;
  if (!in) in = MPI_IN_PLACE;
  if (s->yielding) return wait_yielding(MPI_Iallreduce(in, out, (int)count, t, o, s->comm, &r), &r);
  return MPI_Allreduce(in, out, (int)count, t, o, s->comm);
}

static int reduce(void *ctx, const void *in, void *out, uint64_t count, int type, int op, int root) {
  MPI_Datatype t;
  MPI_Op o;
  int rc = codes(type, op, count, &t, &o);
  state *s = ctx;
  MPI_Request r = MPI_REQUEST_NULL;
  if (rc) return rc;
  if (!in) in = MPI_IN_PLACE;
  if (s->yielding) return wait_yielding(MPI_Ireduce(in, out, (int)count, t, o, root, s->comm, &r), &r);
  return MPI_Reduce(in, out, (int)count, t, o, root, s->comm);
}

static int dup_ctx(void *ctx, void **out) {
  int rc;
  state *s = calloc(1, sizeof *s);
  if (!s) return MPI_ERR_NO_MEM;
  if ((rc = MPI_Comm_dup(((state *)ctx)->comm, &s->comm))) {
    free(s);
    return rc;
  }
  MPI_Comm_set_errhandler(s->comm, MPI_ERRORS_RETURN);
  s->message = MPI_MESSAGE_NULL;
  *out = s;
  return MPI_SUCCESS;
}

static int ibcast(void *ctx, void *buf, uint64_t len, int root) {
  state *s = ctx;
  int rc;
  if (len > INT_MAX) return MPI_ERR_COUNT;
  if ((rc = grow(s))) return rc;
  rc = MPI_Ibcast(buf, (int)len, MPI_BYTE, root, s->comm, &s->requests[s->n]);
  if (!rc) s->n++;
  return rc;
}

static int error_string(int code, char *text, uint64_t capacity) {
  char b[MPI_MAX_ERROR_STRING];
  int len = 0, rc = MPI_Error_string(code, b, &len);
  if (rc == MPI_SUCCESS) copy_text(text, capacity, b, len);
  return rc;
}

static void *comm(void *ctx) { return &((state *)ctx)->comm; }

static int comm_int(void *ctx, int *handle) {
#ifdef STANDARD_ABI /* has no Fortran types in C: its integer handles come from toint */
  *handle = MPI_Comm_toint(((state *)ctx)->comm);
#else
  *handle = (int)MPI_Comm_c2f(((state *)ctx)->comm);
#endif
  return MPI_SUCCESS;
}

static const aeolian_mpi_ops OPS = {AEOLIAN_MPI_ABI, sizeof(aeolian_mpi_ops), FLAVOR, library_version, init, finalize, abort_job,
                                    isend, improbe, imrecv, mrecv, testsome, cancel, yielding, barrier, bcast, allgather, allreduce, reduce,
                                    dup_ctx, ibcast, error_string, comm, comm_int};

const aeolian_mpi_ops *aeolian_mpi_shim(void) { return &OPS; }
