//! The MPI that a program is linked with through rsmpi (crate `mpi`; cargo feature `mpi`): the same table, on a communicator
//! that the program has already.
//!
//! rsmpi is bound to the MPI of `MPICC` at build time, and does not notice when that changes: use one target directory per MPI.

use std::ffi::{CStr, c_char, c_int, c_void};

use ::mpi::ffi;
use ::mpi::raw::AsRaw;
use ::mpi::topology::{AsCommunicator, Communicator};

use super::find::MpiLibrary;
use super::ops::MpiOps;
use super::table::{Sys, attach, table};
use super::{Mpi, error};
use crate::Result;

static TABLE: MpiOps = table::<Linked>();

/// A world of the ranks of `comm`, on a duplicate of it. All of them must call this; MPI stays the program's to end, after
/// [`Mpi::finalize`].
///
/// # Errors
/// [`crate::NetError::Mpi`] if MPI refuses to duplicate it.
pub fn from_communicator<C>(comm: &C) -> Result<Mpi>
where
    C: AsCommunicator,
    C::Out: AsRaw<Raw = ffi::MPI_Comm>,
{
    let library = MpiLibrary::new(&TABLE, "linked".into());
    let comm = comm.as_communicator();
    debug_assert!(comm.target_size() > 0);
    let mut provided = 0;
    // SAFETY: a communicator exists, so MPI is initialised; `comm` is live.
    let made = unsafe {
        match Linked::query_thread(&mut provided) {
            0 => attach::<Linked>(comm.as_raw(), false, provided),
            rc => Err(rc),
        }
    };
    let (ctx, info) = made.map_err(|rc| error(&TABLE, "MPI_Comm_dup", rc))?;
    Ok(Mpi::from_parts(&library, ctx, info))
}

struct Linked;

// SAFETY of the reads below: the RSMPI_* statics are constants of rsmpi's C part.
impl Sys for Linked {
    type Comm = ffi::MPI_Comm;
    type Request = ffi::MPI_Request;
    type Message = ffi::MPI_Message;
    type Datatype = ffi::MPI_Datatype;
    type Op = ffi::MPI_Op;
    type Status = ffi::MPI_Status;
    const FLAVOR: &'static CStr = c"other";
    const ERR_COUNT: c_int = ffi::MPI_ERR_COUNT as c_int;
    const ERR_TYPE: c_int = ffi::MPI_ERR_TYPE as c_int;
    const ERR_OP: c_int = ffi::MPI_ERR_OP as c_int;
    const ERR_OTHER: c_int = ffi::MPI_ERR_OTHER as c_int;
    const ERR_PENDING: c_int = ffi::MPI_ERR_PENDING as c_int;
    const ERR_IN_STATUS: c_int = ffi::MPI_ERR_IN_STATUS as c_int;

    fn world() -> Self::Comm {
        // SAFETY: see above.
        unsafe { ffi::RSMPI_COMM_WORLD }
    }
    fn null_request() -> Self::Request {
        // SAFETY: see above.
        unsafe { ffi::RSMPI_REQUEST_NULL }
    }
    fn null_message() -> Self::Message {
        // SAFETY: see above.
        unsafe { ffi::RSMPI_MESSAGE_NULL }
    }
    fn byte() -> Self::Datatype {
        // SAFETY: see above. rsmpi has no MPI_BYTE; between like machines this is the same.
        unsafe { ffi::RSMPI_UINT8_T }
    }
    fn datatype(code: c_int) -> Option<Self::Datatype> {
        // SAFETY: see above.
        let all = unsafe {
            [
                ffi::RSMPI_UINT8_T,
                ffi::RSMPI_INT8_T,
                ffi::RSMPI_UINT16_T,
                ffi::RSMPI_INT16_T,
                ffi::RSMPI_UINT32_T,
                ffi::RSMPI_INT32_T,
                ffi::RSMPI_UINT64_T,
                ffi::RSMPI_INT64_T,
                ffi::RSMPI_FLOAT,
                ffi::RSMPI_DOUBLE,
            ]
        };
        all.get(usize::try_from(code).ok()?).copied()
    }
    fn op(code: c_int) -> Option<Self::Op> {
        // SAFETY: see above.
        let all = unsafe {
            [ffi::RSMPI_SUM, ffi::RSMPI_PROD, ffi::RSMPI_MIN, ffi::RSMPI_MAX, ffi::RSMPI_BAND, ffi::RSMPI_BOR]
        };
        all.get(usize::try_from(code).ok()?).copied()
    }
    fn in_place() -> Option<*const c_void> {
        None // a cast in a C macro, which bindgen cannot give: the table copies instead
    }
    fn level(provided: c_int) -> i32 {
        // SAFETY: see above.
        let levels =
            unsafe { [ffi::RSMPI_THREAD_FUNNELED, ffi::RSMPI_THREAD_SERIALIZED, ffi::RSMPI_THREAD_MULTIPLE] };
        levels.iter().position(|&level| level == provided).map_or(0, |index| index as i32 + 1)
    }
    fn status(status: &Self::Status) -> (c_int, c_int, c_int) {
        (status.MPI_SOURCE, status.MPI_TAG, status.MPI_ERROR)
    }

    unsafe fn initialized(flag: *mut c_int) -> c_int {
        // SAFETY: MPI's own conditions, which the caller keeps; so below.
        unsafe { ffi::MPI_Initialized(flag) }
    }
    unsafe fn finalized(flag: *mut c_int) -> c_int {
        // SAFETY: see above.
        unsafe { ffi::MPI_Finalized(flag) }
    }
    unsafe fn init_serialized(provided: *mut c_int) -> c_int {
        let (argc, argv) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: see above.
        unsafe { ffi::MPI_Init_thread(argc, argv, ffi::RSMPI_THREAD_SERIALIZED, provided) }
    }
    unsafe fn query_thread(provided: *mut c_int) -> c_int {
        // SAFETY: see above.
        unsafe { ffi::MPI_Query_thread(provided) }
    }
    unsafe fn finalize() -> c_int {
        // SAFETY: see above.
        unsafe { ffi::MPI_Finalize() }
    }
    unsafe fn library_version(text: *mut c_char, len: *mut c_int) -> c_int {
        // SAFETY: see above.
        unsafe { ffi::MPI_Get_library_version(text, len) }
    }
    unsafe fn error_string(code: c_int, text: *mut c_char, len: *mut c_int) -> c_int {
        // SAFETY: see above.
        unsafe { ffi::MPI_Error_string(code, text, len) }
    }
    unsafe fn abort(comm: Self::Comm, code: c_int) -> c_int {
        // SAFETY: see above.
        unsafe { ffi::MPI_Abort(comm, code) }
    }
    unsafe fn dup_returning(comm: Self::Comm, out: *mut Self::Comm) -> c_int {
        // SAFETY: see above.
        unsafe {
            match ffi::MPI_Comm_dup(comm, out) {
                0 => ffi::MPI_Comm_set_errhandler(*out, ffi::RSMPI_ERRORS_RETURN),
                rc => rc,
            }
        }
    }
    unsafe fn comm_free(comm: *mut Self::Comm) -> c_int {
        // SAFETY: see above.
        unsafe { ffi::MPI_Comm_free(comm) }
    }
    unsafe fn comm_rank(comm: Self::Comm, rank: *mut c_int) -> c_int {
        // SAFETY: see above.
        unsafe { ffi::MPI_Comm_rank(comm, rank) }
    }
    unsafe fn comm_size(comm: Self::Comm, size: *mut c_int) -> c_int {
        // SAFETY: see above.
        unsafe { ffi::MPI_Comm_size(comm, size) }
    }
    unsafe fn comm_int(comm: Self::Comm) -> c_int {
        // SAFETY: see above.
        unsafe { ffi::RSMPI_Comm_c2f(comm) }
    }
    unsafe fn isend(
        buf: *const c_void,
        n: c_int,
        dst: c_int,
        tag: c_int,
        comm: Self::Comm,
        request: *mut Self::Request,
    ) -> c_int {
        // SAFETY: see above.
        unsafe { ffi::MPI_Isend(buf, n, Self::byte(), dst, tag, comm, request) }
    }
    unsafe fn improbe(
        comm: Self::Comm,
        found: *mut c_int,
        message: *mut Self::Message,
        status: *mut Self::Status,
    ) -> c_int {
        // SAFETY: see above.
        unsafe { ffi::MPI_Improbe(ffi::RSMPI_ANY_SOURCE, ffi::RSMPI_ANY_TAG, comm, found, message, status) }
    }
    unsafe fn get_count(status: *const Self::Status, n: *mut c_int) -> c_int {
        // SAFETY: see above.
        unsafe { ffi::MPI_Get_count(status, Self::byte(), n) }
    }
    unsafe fn imrecv(
        buf: *mut c_void,
        n: c_int,
        message: *mut Self::Message,
        request: *mut Self::Request,
    ) -> c_int {
        // SAFETY: see above.
        unsafe { ffi::MPI_Imrecv(buf, n, Self::byte(), message, request) }
    }
    unsafe fn mrecv(
        buf: *mut c_void,
        n: c_int,
        message: *mut Self::Message,
        status: *mut Self::Status,
    ) -> c_int {
        // SAFETY: see above.
        unsafe { ffi::MPI_Mrecv(buf, n, Self::byte(), message, status) }
    }
    unsafe fn testsome(
        n: c_int,
        requests: *mut Self::Request,
        done: *mut c_int,
        indices: *mut c_int,
        statuses: *mut Self::Status,
    ) -> c_int {
        // SAFETY: see above.
        unsafe { ffi::MPI_Testsome(n, requests, done, indices, statuses) }
    }
    unsafe fn cancel(request: *mut Self::Request) -> c_int {
        // SAFETY: see above.
        unsafe { ffi::MPI_Cancel(request) }
    }
    unsafe fn test(request: *mut Self::Request, done: *mut c_int) -> c_int {
        // SAFETY: see above.
        unsafe { ffi::MPI_Test(request, done, ffi::RSMPI_STATUS_IGNORE) }
    }
    unsafe fn barrier(comm: Self::Comm, request: *mut Self::Request) -> c_int {
        // SAFETY: see above.
        unsafe { if request.is_null() { ffi::MPI_Barrier(comm) } else { ffi::MPI_Ibarrier(comm, request) } }
    }
    unsafe fn bcast(
        buf: *mut c_void,
        n: c_int,
        root: c_int,
        comm: Self::Comm,
        request: *mut Self::Request,
    ) -> c_int {
        // SAFETY: see above.
        unsafe {
            if request.is_null() {
                ffi::MPI_Bcast(buf, n, Self::byte(), root, comm)
            } else {
                ffi::MPI_Ibcast(buf, n, Self::byte(), root, comm, request)
            }
        }
    }
    unsafe fn allgather(
        data: *const c_void,
        n: c_int,
        out: *mut c_void,
        comm: Self::Comm,
        request: *mut Self::Request,
    ) -> c_int {
        // SAFETY: see above.
        unsafe {
            if request.is_null() {
                ffi::MPI_Allgather(data, n, Self::byte(), out, n, Self::byte(), comm)
            } else {
                ffi::MPI_Iallgather(data, n, Self::byte(), out, n, Self::byte(), comm, request)
            }
        }
    }
    unsafe fn allreduce(
        data: *const c_void,
        out: *mut c_void,
        n: c_int,
        kind: Self::Datatype,
        op: Self::Op,
        comm: Self::Comm,
        request: *mut Self::Request,
    ) -> c_int {
        // SAFETY: see above.
        unsafe {
            if request.is_null() {
                ffi::MPI_Allreduce(data, out, n, kind, op, comm)
            } else {
                ffi::MPI_Iallreduce(data, out, n, kind, op, comm, request)
            }
        }
    }
    unsafe fn reduce(
        data: *const c_void,
        out: *mut c_void,
        n: c_int,
        kind: Self::Datatype,
        op: Self::Op,
        root: c_int,
        comm: Self::Comm,
        request: *mut Self::Request,
    ) -> c_int {
        // SAFETY: see above.
        unsafe {
            if request.is_null() {
                ffi::MPI_Reduce(data, out, n, kind, op, root, comm)
            } else {
                ffi::MPI_Ireduce(data, out, n, kind, op, root, comm, request)
            }
        }
    }
}
