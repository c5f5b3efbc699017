/* The table of MPI operations that Aeolian uses; net/src/mpi/ops.rs says what each one does and is the same, field by field.
   Everything that differs between MPIs (handle types, constants, struct layouts) stays behind it. Functions return an MPI error code. */
#ifndef AEOLIAN_MPI_H
#define AEOLIAN_MPI_H
#include <stdint.h>

#define AEOLIAN_MPI_ABI 2u

typedef struct aeolian_mpi_info {
  int32_t thread_level; /* 0 single, 1 funneled, 2 serialized, 3 multiple */
  int32_t rank;
  int32_t size;
  int32_t initialized_here; /* 0: the program had called MPI_Init before us */
} aeolian_mpi_info;

typedef struct aeolian_mpi_ops {
  uint32_t abi;       /* AEOLIAN_MPI_ABI */
  uint32_t ops_size;  /* sizeof(aeolian_mpi_ops) */
  const char *flavor; /* "openmpi", "mpich", "abi" or "other": the mpi.h that this was compiled with */
  int (*library_version)(char *text, uint64_t capacity);
  int (*init)(void **ctx, aeolian_mpi_info *info);
  int (*finalize)(void *ctx);
  int (*abort)(void *ctx, int code);
  int (*isend)(void *ctx, const void *buf, uint64_t len, int dst, int tag);
  int (*improbe)(void *ctx, int *found, int *source, int *tag, uint64_t *len);
  int (*imrecv)(void *ctx, void *buf, uint64_t len);
  int (*mrecv)(void *ctx, void *buf, uint64_t len);
  int (*testsome)(void *ctx, uint64_t *done, uint64_t capacity, uint64_t *ndone);
  int (*cancel)(void *ctx);
  int (*yielding)(void *ctx, int on);
  int (*barrier)(void *ctx);
  int (*bcast)(void *ctx, void *buf, uint64_t len, int root);
  int (*allgather)(void *ctx, const void *in, uint64_t len, void *out);
  int (*allreduce)(void *ctx, const void *in, void *out, uint64_t count, int type, int op);
  int (*reduce)(void *ctx, const void *in, void *out, uint64_t count, int type, int op, int root);
  int (*dup)(void *ctx, void **out);
  int (*ibcast)(void *ctx, void *buf, uint64_t len, int root);
  int (*error_string)(int code, char *text, uint64_t capacity);
  void *(*comm)(void *ctx);
  int (*comm_int)(void *ctx, int *handle);
} aeolian_mpi_ops;

/* The one symbol of the library. */
const aeolian_mpi_ops *aeolian_mpi_shim(void);
#endif
