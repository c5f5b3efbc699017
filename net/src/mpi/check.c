/* Loads a shim as Aeolian would and prints "abi size flavor" and the MPI's version. Run by `aeolian mpi build` in a process of its own. */
#include <dlfcn.h>
#include <stdio.h>
#include "aeolian_mpi.h"

int main(int argc, char **argv) {
  void *lib = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL) : NULL;
  const aeolian_mpi_ops *(*get)(void) = NULL;
  char version[8192] = "";
  if (!lib) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  *(void **)&get = dlsym(lib, "aeolian_mpi_shim");
  if (!get) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  get()->library_version(version, sizeof version);
  printf("%u %u %s\n%s\n", get()->abi, get()->ops_size, get()->flavor, version);
  return 0;
}
