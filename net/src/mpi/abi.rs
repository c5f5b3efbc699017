//! The MPI-5 standard ABI: `libmpi_abi.so.1` of any MPI that has it (MPICH 5, Open MPI 6), with nothing to build. Handles and
//! constants are fixed by the standard, so no header is needed.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use super::ops::MpiOps;
use super::table::{Sys, table};

/// The versioned name (the one without a version may be a linker script).
pub(super) const LIBRARY: &str = "libmpi_abi.so.1";

type Handle = *mut c_void;

const COMM_WORLD: usize = 0x101;
const MESSAGE_NULL: usize = 0x128;
const ERRORS_RETURN: usize = 0x143;
const REQUEST_NULL: usize = 0x180;
const BYTE: usize = 0x247;
/// u8 i8 u16 i16 u32 i32 u64 i64 f32 f64
const DATATYPES: [usize; 10] = [0x241, 0x240, 0x249, 0x248, 0x251, 0x250, 0x259, 0x258, 0x210, 0x214];
/// sum prod min max band bor
const OPS: [usize; 6] = [0x21, 0x24, 0x22, 0x23, 0x28, 0x29];
const IN_PLACE: usize = 1;
const ANY_SOURCE: c_int = -1;
const ANY_TAG: c_int = -2;
const THREAD_SERIALIZED: c_int = 2048;

#[repr(C)]
#[derive(Clone, Copy)]
struct Status {
    source: c_int,
    tag: c_int,
    error: c_int,
    internal: [c_int; 5],
}

macro_rules! functions {
    ($($name:ident($($arg:ty),*);)*) => {
        #[allow(non_snake_case)]
        struct Functions { $($name: unsafe extern "C" fn($($arg),*) -> c_int),* }

        impl Functions {
            /// # Safety
            /// `library` is an MPI of the standard ABI and is never unloaded.
            unsafe fn load(library: &Library) -> Result<Functions, libloading::Error> {
                Ok(Functions {
                    // SAFETY: the standard fixes these signatures.
                    $($name: unsafe { *library.get(concat!(stringify!($name), "\0"))? },)*
                })
            }
        }
    };
}

functions! {
    MPI_Initialized(*mut c_int);
    MPI_Finalized(*mut c_int);
    MPI_Init_thread(*mut c_int, *mut *mut *mut c_char, c_int, *mut c_int);
    MPI_Query_thread(*mut c_int);
    MPI_Finalize();
    MPI_Get_library_version(*mut c_char, *mut c_int);
    MPI_Error_string(c_int, *mut c_char, *mut c_int);
    MPI_Abort(Handle, c_int);
    MPI_Comm_dup(Handle, *mut Handle);
    MPI_Comm_set_errhandler(Handle, Handle);
    MPI_Comm_free(*mut Handle);
    MPI_Comm_rank(Handle, *mut c_int);
    MPI_Comm_size(Handle, *mut c_int);
    MPI_Comm_toint(Handle);
    MPI_Isend(*const c_void, c_int, Handle, c_int, c_int, Handle, *mut Handle);
    MPI_Improbe(c_int, c_int, Handle, *mut c_int, *mut Handle, *mut Status);
    MPI_Get_count(*const Status, Handle, *mut c_int);
    MPI_Imrecv(*mut c_void, c_int, Handle, *mut Handle, *mut Handle);
    MPI_Mrecv(*mut c_void, c_int, Handle, *mut Handle, *mut Status);
    MPI_Testsome(c_int, *mut Handle, *mut c_int, *mut c_int, *mut Status);
    MPI_Cancel(*mut Handle);
    MPI_Test(*mut Handle, *mut c_int, *mut Status);
    MPI_Barrier(Handle);
    MPI_Bcast(*mut c_void, c_int, Handle, c_int, Handle);
    MPI_Allgather(*const c_void, c_int, Handle, *mut c_void, c_int, Handle, Handle);
    MPI_Allreduce(*const c_void, *mut c_void, c_int, Handle, Handle, Handle);
    MPI_Reduce(*const c_void, *mut c_void, c_int, Handle, Handle, c_int, Handle);
    MPI_Ibarrier(Handle, *mut Handle);
    MPI_Ibcast(*mut c_void, c_int, Handle, c_int, Handle, *mut Handle);
    MPI_Iallgather(*const c_void, c_int, Handle, *mut c_void, c_int, Handle, Handle, *mut Handle);
    MPI_Iallreduce(*const c_void, *mut c_void, c_int, Handle, Handle, Handle, *mut Handle);
    MPI_Ireduce(*const c_void, *mut c_void, c_int, Handle, Handle, c_int, Handle, *mut Handle);
}

static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
static TABLE: MpiOps = table::<Abi>();

/// Calls a loaded function; without a library (which [`load`] rules out: the table is only given out after it) error 16, MPI_ERR_OTHER.
macro_rules! call {
    ($name:ident($($arg:expr),*)) => {
        match FUNCTIONS.get() {
            // SAFETY: the caller of each `Sys` function keeps MPI's conditions.
            Some(f) => unsafe { (f.$name)($($arg),*) },
            None => Abi::ERR_OTHER,
        }
    };
}

/// Loads an MPI of the standard ABI; `path` may be a bare library name. The reason is for people.
pub(super) fn load(path: &Path) -> Result<&'static MpiOps, String> {
    // SAFETY: loading a library runs its initialisers; an MPI has none that misbehave. RTLD_GLOBAL, as its plugins expect.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
    let library = library.map_err(|e| super::find::explain(&e, None))?;
    // A library of another ABI may export the same names (MPICH's own libmpi.so.12 does): it answers -1 here.
    type AbiVersion = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
    // SAFETY: the signature is the standard's.
    let version = unsafe { library.get::<AbiVersion>("MPI_Abi_get_version\0") };
    let version = version
        .map_err(|_| "it is neither a shim (`aeolian mpi build` makes one) nor an MPI of the standard ABI")?;
    let (mut major, mut minor) = (-1, -1);
    // SAFETY: allowed before MPI_Init.
    let rc = unsafe { version(&mut major, &mut minor) };
    if rc != 0 || major != 1 {
        return Err(format!(
            "it has not the MPI standard ABI 1.x (it says {major}.{minor}); `aeolian mpi build` makes a shim for it"
        ));
    }
    // SAFETY: it says that it is of the standard ABI, and it is leaked below.
    let functions = unsafe { Functions::load(&library) }
        .map_err(|e| format!("it is incomplete: {}", crate::dl::says(&e)))?;
    std::mem::forget(library); // MPIs do not survive being unloaded
    if FUNCTIONS.set(functions).is_err() {
        return Err("another library of the standard ABI is loaded already".into());
    }
    Ok(&TABLE)
}

struct Abi;

fn handle(value: usize) -> Handle {
    std::ptr::without_provenance_mut(value)
}

impl Sys for Abi {
    type Comm = Handle;
    type Request = Handle;
    type Message = Handle;
    type Datatype = Handle;
    type Op = Handle;
    type Status = Status;
    const FLAVOR: &'static CStr = c"abi";
    const ERR_COUNT: c_int = 2;
    const ERR_TYPE: c_int = 3;
    const ERR_OP: c_int = 10;
    const ERR_OTHER: c_int = 16;
    const ERR_PENDING: c_int = 18;
    const ERR_IN_STATUS: c_int = 19;

    fn world() -> Handle {
        handle(COMM_WORLD)
    }
    fn null_request() -> Handle {
        handle(REQUEST_NULL)
    }
    fn null_message() -> Handle {
        handle(MESSAGE_NULL)
    }
    fn byte() -> Handle {
        handle(BYTE)
    }
    fn datatype(code: c_int) -> Option<Handle> {
        DATATYPES.get(usize::try_from(code).ok()?).map(|&v| handle(v))
    }
    fn op(code: c_int) -> Option<Handle> {
        OPS.get(usize::try_from(code).ok()?).map(|&v| handle(v))
    }
    fn in_place() -> Option<*const c_void> {
        Some(handle(IN_PLACE))
    }
    fn level(provided: c_int) -> i32 {
        provided / 1024 - i32::from(provided == 4096)
    }
    fn status(status: &Status) -> (c_int, c_int, c_int) {
        (status.source, status.tag, status.error)
    }

    unsafe fn initialized(flag: *mut c_int) -> c_int {
        call!(MPI_Initialized(flag))
    }
    unsafe fn finalized(flag: *mut c_int) -> c_int {
        call!(MPI_Finalized(flag))
    }
    unsafe fn init_serialized(provided: *mut c_int) -> c_int {
        call!(MPI_Init_thread(std::ptr::null_mut(), std::ptr::null_mut(), THREAD_SERIALIZED, provided))
    }
    unsafe fn query_thread(provided: *mut c_int) -> c_int {
        call!(MPI_Query_thread(provided))
    }
    unsafe fn finalize() -> c_int {
        call!(MPI_Finalize())
    }
    unsafe fn library_version(text: *mut c_char, len: *mut c_int) -> c_int {
        call!(MPI_Get_library_version(text, len))
    }
    unsafe fn error_string(code: c_int, text: *mut c_char, len: *mut c_int) -> c_int {
        call!(MPI_Error_string(code, text, len))
    }
    unsafe fn abort(comm: Handle, code: c_int) -> c_int {
        call!(MPI_Abort(comm, code))
    }
    unsafe fn dup_returning(comm: Handle, out: *mut Handle) -> c_int {
        let rc = call!(MPI_Comm_dup(comm, out));
        if rc != 0 {
            return rc;
        }
        // SAFETY: MPI has just written it.
        let made = unsafe { *out };
        call!(MPI_Comm_set_errhandler(made, handle(ERRORS_RETURN)))
    }
    unsafe fn comm_free(comm: *mut Handle) -> c_int {
        call!(MPI_Comm_free(comm))
    }
    unsafe fn comm_rank(comm: Handle, rank: *mut c_int) -> c_int {
        call!(MPI_Comm_rank(comm, rank))
    }
    unsafe fn comm_size(comm: Handle, size: *mut c_int) -> c_int {
        call!(MPI_Comm_size(comm, size))
    }
    unsafe fn comm_int(comm: Handle) -> c_int {
        call!(MPI_Comm_toint(comm))
    }
    unsafe fn isend(
        buf: *const c_void,
        n: c_int,
        dst: c_int,
        tag: c_int,
        comm: Handle,
        request: *mut Handle,
    ) -> c_int {
        call!(MPI_Isend(buf, n, Self::byte(), dst, tag, comm, request))
    }
    unsafe fn improbe(comm: Handle, found: *mut c_int, message: *mut Handle, status: *mut Status) -> c_int {
        call!(MPI_Improbe(ANY_SOURCE, ANY_TAG, comm, found, message, status))
    }
    unsafe fn get_count(status: *const Status, n: *mut c_int) -> c_int {
        call!(MPI_Get_count(status, Self::byte(), n))
    }
    unsafe fn imrecv(buf: *mut c_void, n: c_int, message: *mut Handle, request: *mut Handle) -> c_int {
        call!(MPI_Imrecv(buf, n, Self::byte(), message, request))
    }
    unsafe fn mrecv(buf: *mut c_void, n: c_int, message: *mut Handle, status: *mut Status) -> c_int {
        call!(MPI_Mrecv(buf, n, Self::byte(), message, status))
    }
    unsafe fn testsome(
        n: c_int,
        requests: *mut Handle,
        done: *mut c_int,
        indices: *mut c_int,
        statuses: *mut Status,
    ) -> c_int {
        call!(MPI_Testsome(n, requests, done, indices, statuses))
    }
    unsafe fn cancel(request: *mut Handle) -> c_int {
        call!(MPI_Cancel(request))
    }
    unsafe fn test(request: *mut Handle, done: *mut c_int) -> c_int {
        call!(MPI_Test(request, done, std::ptr::null_mut()))
    }
    unsafe fn barrier(comm: Handle, request: *mut Handle) -> c_int {
        if request.is_null() { call!(MPI_Barrier(comm)) } else { call!(MPI_Ibarrier(comm, request)) }
    }
    unsafe fn bcast(buf: *mut c_void, n: c_int, root: c_int, comm: Handle, request: *mut Handle) -> c_int {
        if request.is_null() {
            call!(MPI_Bcast(buf, n, Self::byte(), root, comm))
        } else {
            call!(MPI_Ibcast(buf, n, Self::byte(), root, comm, request))
        }
    }
    unsafe fn allgather(
        data: *const c_void,
        n: c_int,
        out: *mut c_void,
        comm: Handle,
        request: *mut Handle,
    ) -> c_int {
        if request.is_null() {
            call!(MPI_Allgather(data, n, Self::byte(), out, n, Self::byte(), comm))
        } else {
            call!(MPI_Iallgather(data, n, Self::byte(), out, n, Self::byte(), comm, request))
        }
    }
    unsafe fn allreduce(
        data: *const c_void,
        out: *mut c_void,
        n: c_int,
        kind: Handle,
        op: Handle,
        comm: Handle,
        request: *mut Handle,
    ) -> c_int {
        if request.is_null() {
            call!(MPI_Allreduce(data, out, n, kind, op, comm))
        } else {
            call!(MPI_Iallreduce(data, out, n, kind, op, comm, request))
        }
    }
    unsafe fn reduce(
        data: *const c_void,
        out: *mut c_void,
        n: c_int,
        kind: Handle,
        op: Handle,
        root: c_int,
        comm: Handle,
        request: *mut Handle,
    ) -> c_int {
        if request.is_null() {
            call!(MPI_Reduce(data, out, n, kind, op, root, comm))
        } else {
            call!(MPI_Ireduce(data, out, n, kind, op, root, comm, request))
        }
    }
}
