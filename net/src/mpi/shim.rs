//! Loads a shim: `shim.c` compiled by the site's `mpicc` ([`super::compile`]).

use std::path::Path;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use super::ops::{ABI, MpiOps};

/// The one symbol of a shim.
const SYMBOL: &str = "aeolian_mpi_shim\0";

/// Loads the shim at `path` and the MPI behind it, for good. The reason of a refusal is for people.
pub(super) fn load(path: &Path) -> Result<&'static MpiOps, String> {
    // SAFETY: loading runs initialisers of the shim (none) and of the MPI it was compiled for. RTLD_GLOBAL: plugins of
    // an MPI look its symbols up in the global scope.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
    let library = library.map_err(|e| super::find::explain(&e, Some(path)))?;
    // SAFETY: the symbol has this type in every version of the shim.
    let symbol = unsafe { library.get::<unsafe extern "C" fn() -> *const MpiOps>(SYMBOL) };
    let symbol = symbol.map_err(|_| "it is not a shim: no symbol aeolian_mpi_shim".to_string())?;
    // SAFETY: takes nothing, returns the address of a constant. Only the first two fields are read before they are known to fit.
    let (table, abi, size) = unsafe {
        let table = symbol();
        if table.is_null() {
            return Err("its table is missing".into());
        }
        (table, (*table).abi, (*table).ops_size)
    };
    if (abi, size as usize) != (ABI, size_of::<MpiOps>()) {
        return Err(format!(
            "it is of another version of aeolian (table {abi}, {size} bytes; wanted {ABI}, {}): run `aeolian mpi build` again",
            size_of::<MpiOps>()
        ));
    }
    std::mem::forget(library); // MPIs do not survive being unloaded
    // SAFETY: the table is a constant of a library that stays.
    Ok(unsafe { &*table })
}
