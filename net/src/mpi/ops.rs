//! The one internal table of MPI operations, and the codes that go through it.
//!
//! Every way to reach an MPI fills this table: a shim compiled by the site's `mpicc` (`shim.rs`), the MPI-5 standard
//! ABI (`abi.rs`) and, with the cargo feature `mpi`, rsmpi's bindings (`linked.rs`). Nothing above it knows
//! which one. The C side of it is `aeolian_mpi.h`; the two must stay the same field by field, and a change of either raises [`ABI`].

use std::ffi::{c_char, c_int, c_void};

/// Version of [`MpiOps`]; a shim with another one is refused.
pub const ABI: u32 = 2;

/// What `init` found out.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MpiInfo {
    /// Thread support granted: 0 single, 1 funneled, 2 serialized, 3 multiple.
    pub thread_level: i32,
    /// This process's rank.
    pub rank: i32,
    /// How many ranks there are.
    pub size: i32,
    /// 1 if `init` called `MPI_Init_thread`, 0 if the program had done so before.
    pub initialized_here: i32,
}

/// The table. All functions return an MPI error code (0: success), which `error_string` explains.
///
/// `ctx` is what `init` gave: a communicator duplicated from `MPI_COMM_WORLD` with `MPI_ERRORS_RETURN`, and the dense list of
/// requests in flight. One thread at a time may use a `ctx`. Lengths are bytes and must not be above `i32::MAX`
/// in one call (that is all the old MPI calls can count): callers chunk, see [`super::Mpi::chunk_limit`].
#[repr(C)]
pub struct MpiOps {
    /// Must be [`ABI`].
    pub abi: u32,
    /// Must be `size_of::<MpiOps>()`.
    pub ops_size: u32,
    /// Whose `mpi.h` it was compiled with, NUL-terminated: `openmpi`, `mpich` (and its kin), `abi` or `other`.
    pub flavor: *const c_char,
    /// `MPI_Get_library_version`; the one operation that is allowed before `init`.
    pub library_version: unsafe extern "C" fn(text: *mut c_char, capacity: u64) -> c_int,
    /// Initialises MPI unless that was done (asking for `MPI_THREAD_SERIALIZED`), duplicates the world.
    pub init: unsafe extern "C" fn(ctx: *mut *mut c_void, info: *mut MpiInfo) -> c_int,
    /// Frees the communicator, ends MPI if `init` began it, frees `ctx`. Nothing may be in flight.
    pub finalize: unsafe extern "C" fn(ctx: *mut c_void) -> c_int,
    /// `MPI_Abort`: ends all ranks.
    pub abort: unsafe extern "C" fn(ctx: *mut c_void, code: c_int) -> c_int,
    /// Starts a send and appends its request to the list. `buf` must live until `testsome` reports it.
    pub isend:
        unsafe extern "C" fn(ctx: *mut c_void, buf: *const c_void, len: u64, dst: c_int, tag: c_int) -> c_int,
    /// Looks for a message from anyone with any tag and holds the match for exactly one `imrecv` or `mrecv`.
    pub improbe: unsafe extern "C" fn(
        ctx: *mut c_void,
        found: *mut c_int,
        source: *mut c_int,
        tag: *mut c_int,
        len: *mut u64,
    ) -> c_int,
    /// Starts to receive the matched message and appends its request to the list.
    pub imrecv: unsafe extern "C" fn(ctx: *mut c_void, buf: *mut c_void, len: u64) -> c_int,
    /// Receives the matched message now (used for headers of a few bytes only).
    pub mrecv: unsafe extern "C" fn(ctx: *mut c_void, buf: *mut c_void, len: u64) -> c_int,
    /// Tests all requests. Writes the indices of the finished ones in descending order, having replaced each by the
    /// last of the list (`swap_remove`); `capacity` must be at least the length of the list.
    pub testsome:
        unsafe extern "C" fn(ctx: *mut c_void, done: *mut u64, capacity: u64, ndone: *mut u64) -> c_int,
    /// Asks MPI to cancel all requests (best effort: many MPIs finish sends all the same).
    pub cancel: unsafe extern "C" fn(ctx: *mut c_void) -> c_int,
    /// From now on the collectives below begin without blocking (`MPI_Ibarrier`, ...) and are tested, giving the core away
    /// between tests (`on` not 0), or block inside MPI (0, as at first). The two kinds do not match: the same on all ranks.
    pub yielding: unsafe extern "C" fn(ctx: *mut c_void, on: c_int) -> c_int,
    /// `MPI_Barrier`.
    pub barrier: unsafe extern "C" fn(ctx: *mut c_void) -> c_int,
    /// `MPI_Bcast` of bytes.
    pub bcast: unsafe extern "C" fn(ctx: *mut c_void, buf: *mut c_void, len: u64, root: c_int) -> c_int,
    /// `MPI_Allgather` of `len` bytes from each rank into `size * len` bytes.
    pub allgather:
        unsafe extern "C" fn(ctx: *mut c_void, data: *const c_void, len: u64, out: *mut c_void) -> c_int,
    /// `MPI_Allreduce` of `count` elements of type code `kind` with operation code `op`; `data` NULL: in place.
    pub allreduce: unsafe extern "C" fn(
        ctx: *mut c_void,
        data: *const c_void,
        out: *mut c_void,
        count: u64,
        kind: c_int,
        op: c_int,
    ) -> c_int,
    /// `MPI_Reduce`; `data` NULL at the root: in place. `out` matters at the root only.
    pub reduce: unsafe extern "C" fn(
        ctx: *mut c_void,
        data: *const c_void,
        out: *mut c_void,
        count: u64,
        kind: c_int,
        op: c_int,
        root: c_int,
    ) -> c_int,
    /// Another `ctx`, on a duplicate of this one's communicator, without requests. All ranks call it. It is ended by `finalize`, before
    /// this one.
    pub dup: unsafe extern "C" fn(ctx: *mut c_void, out: *mut *mut c_void) -> c_int,
    /// `MPI_Ibcast` of bytes; appends its request to the list. All ranks begin these of one `ctx` in the same order. `buf` must live until
    /// `testsome` reports it; it cannot be cancelled.
    pub ibcast: unsafe extern "C" fn(ctx: *mut c_void, buf: *mut c_void, len: u64, root: c_int) -> c_int,
    /// `MPI_Error_string`.
    pub error_string: unsafe extern "C" fn(code: c_int, text: *mut c_char, capacity: u64) -> c_int,
    /// Address of the `MPI_Comm` that this table works on.
    pub comm: unsafe extern "C" fn(ctx: *mut c_void) -> *mut c_void,
    /// `MPI_Comm_c2f` of it (in the standard ABI, which has none in C: `MPI_Comm_toint`).
    pub comm_int: unsafe extern "C" fn(ctx: *mut c_void, handle: *mut c_int) -> c_int,
}

// SAFETY: function pointers and a pointer to a constant string.
unsafe impl Send for MpiOps {}
// SAFETY: as above; nothing in the table changes.
unsafe impl Sync for MpiOps {}

/// Predefined operations of reductions, by their code in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum MpiOp {
    /// Sum.
    Sum = 0,
    /// Product.
    Prod = 1,
    /// Smallest.
    Min = 2,
    /// Largest.
    Max = 3,
    /// Bitwise and (integers only).
    Band = 4,
    /// Bitwise or (integers only).
    Bor = 5,
}

impl MpiOp {
    /// Whether MPI defines it for floating point too.
    pub fn takes_floats(self) -> bool {
        !matches!(self, MpiOp::Band | MpiOp::Bor)
    }
}

mod sealed {
    pub trait Sealed {}
}

/// Element types that MPI itself can reduce.
pub trait MpiType: bytemuck::Pod + sealed::Sealed {
    /// Its code in the table.
    const CODE: c_int;
    /// Whether it is a floating-point type.
    const FLOAT: bool;
}

macro_rules! mpi_types {
    ($($type:ty = $code:literal $float:literal),* $(,)?) => {$(
        impl sealed::Sealed for $type {}
        impl MpiType for $type {
            const CODE: c_int = $code;
            const FLOAT: bool = $float;
        }
    )*};
}
mpi_types!(
    u8 = 0 false, i8 = 1 false, u16 = 2 false, i16 = 3 false, u32 = 4 false,
    i32 = 5 false, u64 = 6 false, i64 = 7 false, f32 = 8 true, f64 = 9 true,
);
