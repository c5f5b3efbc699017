//! Fills [`MpiOps`] from MPI functions that Rust can call itself: the same steps as `shim.c`, written once for any set of
//! handle types. [`super::abi`] and `linked` each say what their handles and functions are ([`Sys`]).

use std::ffi::{CStr, c_char, c_int, c_void};

use super::ops::{ABI, MpiInfo, MpiOps};

/// One MPI: its handle types, its constants and the few functions that the table needs.
///
/// Functions are MPI's own, with MPI's own conditions; error codes are handed on.
#[allow(clippy::missing_safety_doc, clippy::too_many_arguments)]
pub(super) trait Sys: Sized + 'static {
    type Comm: Copy;
    type Request: Copy;
    type Message: Copy;
    type Datatype: Copy;
    type Op: Copy;
    type Status: Copy;
    const FLAVOR: &'static CStr;
    /// Codes of errors that we raise ourselves.
    const ERR_COUNT: c_int;
    const ERR_TYPE: c_int;
    const ERR_OP: c_int;
    const ERR_OTHER: c_int;
    const ERR_PENDING: c_int;
    const ERR_IN_STATUS: c_int;

    fn world() -> Self::Comm;
    fn null_request() -> Self::Request;
    fn null_message() -> Self::Message;
    fn byte() -> Self::Datatype;
    /// By code, in the order of [`super::ops::MpiType::CODE`].
    fn datatype(code: c_int) -> Option<Self::Datatype>;
    /// By code, in the order of [`super::ops::MpiOp`].
    fn op(code: c_int) -> Option<Self::Op>;
    /// `MPI_IN_PLACE`, where it is known.
    fn in_place() -> Option<*const c_void>;
    /// 0..=3 for MPI's thread level constants.
    fn level(provided: c_int) -> i32;
    /// (source, tag, error).
    fn status(status: &Self::Status) -> (c_int, c_int, c_int);

    unsafe fn initialized(flag: *mut c_int) -> c_int;
    unsafe fn finalized(flag: *mut c_int) -> c_int;
    unsafe fn init_serialized(provided: *mut c_int) -> c_int;
    unsafe fn query_thread(provided: *mut c_int) -> c_int;
    unsafe fn finalize() -> c_int;
    unsafe fn library_version(text: *mut c_char, len: *mut c_int) -> c_int;
    unsafe fn error_string(code: c_int, text: *mut c_char, len: *mut c_int) -> c_int;
    unsafe fn abort(comm: Self::Comm, code: c_int) -> c_int;
    /// `MPI_Comm_dup`, then `MPI_Comm_set_errhandler(MPI_ERRORS_RETURN)`.
    unsafe fn dup_returning(comm: Self::Comm, out: *mut Self::Comm) -> c_int;
    unsafe fn comm_free(comm: *mut Self::Comm) -> c_int;
    unsafe fn comm_rank(comm: Self::Comm, rank: *mut c_int) -> c_int;
    unsafe fn comm_size(comm: Self::Comm, size: *mut c_int) -> c_int;
    unsafe fn comm_int(comm: Self::Comm) -> c_int;
    unsafe fn isend(
        buf: *const c_void,
        n: c_int,
        dst: c_int,
        tag: c_int,
        comm: Self::Comm,
        request: *mut Self::Request,
    ) -> c_int;
    unsafe fn improbe(
        comm: Self::Comm,
        found: *mut c_int,
        message: *mut Self::Message,
        status: *mut Self::Status,
    ) -> c_int;
    unsafe fn get_count(status: *const Self::Status, n: *mut c_int) -> c_int;
    unsafe fn imrecv(
        buf: *mut c_void,
        n: c_int,
        message: *mut Self::Message,
        request: *mut Self::Request,
    ) -> c_int;
    unsafe fn mrecv(
        buf: *mut c_void,
        n: c_int,
        message: *mut Self::Message,
        status: *mut Self::Status,
    ) -> c_int;
    unsafe fn testsome(
        n: c_int,
        requests: *mut Self::Request,
        done: *mut c_int,
        indices: *mut c_int,
        statuses: *mut Self::Status,
    ) -> c_int;
    unsafe fn cancel(request: *mut Self::Request) -> c_int;
    unsafe fn test(request: *mut Self::Request, done: *mut c_int) -> c_int;
    // Collectives: with a request to write they only begin (`MPI_Ibarrier`, ...), without (NULL) they block.
    unsafe fn barrier(comm: Self::Comm, request: *mut Self::Request) -> c_int;
    unsafe fn bcast(
        buf: *mut c_void,
        n: c_int,
        root: c_int,
        comm: Self::Comm,
        request: *mut Self::Request,
    ) -> c_int;
    unsafe fn allgather(
        data: *const c_void,
        n: c_int,
        out: *mut c_void,
        comm: Self::Comm,
        request: *mut Self::Request,
    ) -> c_int;
    unsafe fn allreduce(
        data: *const c_void,
        out: *mut c_void,
        n: c_int,
        kind: Self::Datatype,
        op: Self::Op,
        comm: Self::Comm,
        request: *mut Self::Request,
    ) -> c_int;
    unsafe fn reduce(
        data: *const c_void,
        out: *mut c_void,
        n: c_int,
        kind: Self::Datatype,
        op: Self::Op,
        root: c_int,
        comm: Self::Comm,
        request: *mut Self::Request,
    ) -> c_int;
}

/// What `ctx` points to.
struct State<S: Sys> {
    comm: S::Comm,
    message: Option<S::Message>,
    requests: Vec<S::Request>,
    statuses: Vec<S::Status>,
    indices: Vec<c_int>,
    finalize_here: bool,
    yielding: bool,
}

/// # Safety
/// `ctx` is a live pointer that [`attach`] made for the same `S`, not in use elsewhere.
unsafe fn state<'a, S: Sys>(ctx: *mut c_void) -> &'a mut State<S> {
    // SAFETY: the caller's promise.
    unsafe { &mut *ctx.cast::<State<S>>() }
}

/// The table for `S`.
pub(super) const fn table<S: Sys>() -> MpiOps {
    MpiOps {
        abi: ABI,
        ops_size: size_of::<MpiOps>() as u32,
        flavor: S::FLAVOR.as_ptr(),
        library_version: library_version::<S>,
        init: init::<S>,
        finalize: finalize::<S>,
        abort: abort::<S>,
        isend: isend::<S>,
        improbe: improbe::<S>,
        imrecv: imrecv::<S>,
        mrecv: mrecv::<S>,
        testsome: testsome::<S>,
        cancel: cancel::<S>,
        yielding: yielding::<S>,
        barrier: barrier::<S>,
        bcast: bcast::<S>,
        allgather: allgather::<S>,
        allreduce: allreduce::<S>,
        reduce: reduce::<S>,
        dup: dup::<S>,
        ibcast: ibcast::<S>,
        error_string: error_string::<S>,
        comm: comm::<S>,
        comm_int: comm_int::<S>,
    }
}

/// Makes a `ctx` on a duplicate of `comm`. MPI must be initialised.
///
/// # Safety
/// `comm` is a live communicator; all its ranks call this.
pub(super) unsafe fn attach<S: Sys>(
    comm: S::Comm,
    finalize_here: bool,
    provided: c_int,
) -> Result<(*mut c_void, MpiInfo), c_int> {
    let ok = |rc: c_int| if rc == 0 { Ok(()) } else { Err(rc) };
    let mut own = comm;
    let (mut rank, mut size) = (0, 1);
    // SAFETY: MPI is initialised and `comm` is live (the caller's promise); the pointers are to locals.
    unsafe {
        ok(S::dup_returning(comm, &mut own))?;
        ok(S::comm_rank(own, &mut rank))?;
        ok(S::comm_size(own, &mut size))?;
    }
    let state: State<S> = State {
        comm: own,
        message: None,
        requests: Vec::new(),
        statuses: Vec::new(),
        indices: Vec::new(),
        finalize_here,
        yielding: false,
    };
    let info =
        MpiInfo { thread_level: S::level(provided), rank, size, initialized_here: finalize_here.into() };
    Ok((Box::into_raw(Box::new(state)).cast(), info))
}

/// Copies `len` bytes of `from` to `text`, cut to `capacity` and NUL-terminated.
///
/// # Safety
/// `text` points to `capacity` writable bytes.
unsafe fn copy_text(from: &[c_char], len: c_int, text: *mut c_char, capacity: u64) {
    if capacity == 0 {
        return;
    }
    let n = from.len().min(len.max(0) as usize).min(capacity as usize - 1);
    // SAFETY: n < capacity and n <= from.len().
    unsafe {
        std::ptr::copy_nonoverlapping(from.as_ptr(), text, n);
        *text.add(n) = 0;
    }
}

// MPI's buffer for MPI_Get_library_version and MPI_Error_string: 8192 and 512 are the largest of any MPI.
const TEXT: usize = 8192;

// SAFETY (all below): called through the table by `Mpi`, which keeps the conditions written at `MpiOps`.

unsafe extern "C" fn library_version<S: Sys>(text: *mut c_char, capacity: u64) -> c_int {
    let (mut buf, mut len) = ([0; TEXT], 0);
    // SAFETY: buf is as large as any MPI asks for.
    unsafe {
        let rc = S::library_version(buf.as_mut_ptr(), &mut len);
        if rc == 0 {
            copy_text(&buf, len, text, capacity);
        }
        rc
    }
}

unsafe extern "C" fn error_string<S: Sys>(code: c_int, text: *mut c_char, capacity: u64) -> c_int {
    let (mut buf, mut len) = ([0; TEXT], 0);
    // SAFETY: as above.
    unsafe {
        let rc = S::error_string(code, buf.as_mut_ptr(), &mut len);
        if rc == 0 {
            copy_text(&buf, len, text, capacity);
        }
        rc
    }
}

unsafe extern "C" fn init<S: Sys>(ctx: *mut *mut c_void, info: *mut MpiInfo) -> c_int {
    let (mut already, mut provided) = (0, 0);
    // SAFETY: pointers to locals; ctx and info are the caller's.
    unsafe {
        let mut rc = S::initialized(&mut already);
        if rc == 0 {
            rc =
                if already != 0 { S::query_thread(&mut provided) } else { S::init_serialized(&mut provided) };
        }
        if rc != 0 {
            return rc;
        }
        match attach::<S>(S::world(), already == 0, provided) {
            Ok((made, about)) => {
                *ctx = made;
                *info = about;
                0
            }
            Err(rc) => rc,
        }
    }
}

unsafe extern "C" fn finalize<S: Sys>(ctx: *mut c_void) -> c_int {
    // SAFETY: ctx is from `attach` and is not used again.
    let mut s = unsafe { Box::from_raw(ctx.cast::<State<S>>()) };
    let mut done = 0;
    // SAFETY: plain MPI calls.
    unsafe {
        let mut rc = S::finalized(&mut done);
        if rc == 0 && done == 0 {
            rc = S::comm_free(&mut s.comm);
        }
        if rc == 0 && done == 0 && s.finalize_here {
            rc = S::finalize();
        }
        rc
    }
}

unsafe extern "C" fn abort<S: Sys>(ctx: *mut c_void, code: c_int) -> c_int {
    // SAFETY: see above.
    unsafe { S::abort(state::<S>(ctx).comm, code) }
}

unsafe extern "C" fn isend<S: Sys>(
    ctx: *mut c_void,
    buf: *const c_void,
    len: u64,
    dst: c_int,
    tag: c_int,
) -> c_int {
    let Ok(n) = c_int::try_from(len) else { return S::ERR_COUNT };
    let mut request = S::null_request();
    // SAFETY: buf outlives the request (the table's contract).
    unsafe {
        let s = state::<S>(ctx);
        let rc = S::isend(buf, n, dst, tag, s.comm, &mut request);
        if rc == 0 {
            s.requests.push(request);
        }
        rc
    }
}

unsafe extern "C" fn improbe<S: Sys>(
    ctx: *mut c_void,
    found: *mut c_int,
    source: *mut c_int,
    tag: *mut c_int,
    len: *mut u64,
) -> c_int {
    // SAFETY: out pointers are the caller's; a zeroed status is a valid one to overwrite (plain integers).
    unsafe {
        *found = 0;
        let s = state::<S>(ctx);
        if s.message.is_some() {
            return S::ERR_OTHER; // the last one was not received
        }
        let (mut message, mut n) = (S::null_message(), 0);
        let mut status: S::Status = std::mem::zeroed();
        let rc = S::improbe(s.comm, found, &mut message, &mut status);
        if rc != 0 || *found == 0 {
            return rc;
        }
        s.message = Some(message);
        let rc = S::get_count(&status, &mut n);
        if rc != 0 {
            return rc;
        }
        let Ok(bytes) = u64::try_from(n) else { return S::ERR_COUNT };
        (*source, *tag, _) = S::status(&status);
        *len = bytes;
        0
    }
}

unsafe extern "C" fn imrecv<S: Sys>(ctx: *mut c_void, buf: *mut c_void, len: u64) -> c_int {
    let Ok(n) = c_int::try_from(len) else { return S::ERR_COUNT };
    let mut request = S::null_request();
    // SAFETY: buf outlives the request (the table's contract).
    unsafe {
        let s = state::<S>(ctx);
        let Some(mut message) = s.message.take() else { return S::ERR_OTHER };
        let rc = S::imrecv(buf, n, &mut message, &mut request);
        if rc == 0 {
            s.requests.push(request);
        }
        rc
    }
}

unsafe extern "C" fn mrecv<S: Sys>(ctx: *mut c_void, buf: *mut c_void, len: u64) -> c_int {
    let Ok(n) = c_int::try_from(len) else { return S::ERR_COUNT };
    // SAFETY: buf has len bytes (the table's contract).
    unsafe {
        let Some(mut message) = state::<S>(ctx).message.take() else { return S::ERR_OTHER };
        let mut status: S::Status = std::mem::zeroed();
        S::mrecv(buf, n, &mut message, &mut status)
    }
}

unsafe extern "C" fn testsome<S: Sys>(
    ctx: *mut c_void,
    done: *mut u64,
    capacity: u64,
    ndone: *mut u64,
) -> c_int {
    // SAFETY: done has capacity elements; the arrays given to MPI are as long as the list.
    unsafe {
        *ndone = 0;
        let s = state::<S>(ctx);
        let n = s.requests.len();
        let Ok(count) = c_int::try_from(n) else { return S::ERR_COUNT };
        if n == 0 {
            return 0;
        }
        if capacity < n as u64 {
            return S::ERR_COUNT; // all or none: testing only the first would starve the rest
        }
        s.indices.resize(n, 0);
        s.statuses.resize_with(n, || std::mem::zeroed());
        let mut finished = 0;
        let rc = S::testsome(
            count,
            s.requests.as_mut_ptr(),
            &mut finished,
            s.indices.as_mut_ptr(),
            s.statuses.as_mut_ptr(),
        );
        let finished = usize::try_from(finished).unwrap_or(0); // MPI_UNDEFINED is negative
        if rc == S::ERR_IN_STATUS {
            let errors = s.statuses.iter().take(finished).map(|status| S::status(status).2);
            return errors.into_iter().find(|&e| e != 0 && e != S::ERR_PENDING).unwrap_or(rc);
        }
        if rc != 0 {
            return rc;
        }
        s.indices[..finished].sort_unstable_by(|a, b| b.cmp(a));
        for (k, &index) in s.indices[..finished].iter().enumerate() {
            s.requests.swap_remove(index as usize);
            *done.add(k) = index as u64;
        }
        *ndone = finished as u64;
        0
    }
}

unsafe extern "C" fn cancel<S: Sys>(ctx: *mut c_void) -> c_int {
    let mut first = 0;
    // SAFETY: live requests.
    unsafe {
        for request in &mut state::<S>(ctx).requests {
            let rc = S::cancel(request);
            if first == 0 {
                first = rc;
            }
        }
    }
    first
}

unsafe extern "C" fn yielding<S: Sys>(ctx: *mut c_void, on: c_int) -> c_int {
    // SAFETY: see above.
    unsafe { state::<S>(ctx) }.yielding = on != 0;
    0
}

/// Runs a collective to its end: blocking inside MPI, or begun and tested without keeping the core from those that it waits for.
///
/// # Safety
/// `ctx` is live; `call` keeps MPI's conditions until the end.
unsafe fn collective<S: Sys>(
    ctx: *mut c_void,
    call: impl FnOnce(S::Comm, *mut S::Request) -> c_int,
) -> c_int {
    // SAFETY: see above.
    let s = unsafe { state::<S>(ctx) };
    if !s.yielding {
        return call(s.comm, std::ptr::null_mut());
    }
    let mut request = S::null_request();
    let mut rc = call(s.comm, &mut request);
    let (mut done, mut tries) = (0, 0);
    while rc == 0 && done == 0 {
        if tries > 64 {
            std::thread::yield_now();
        }
        tries += 1;
        // SAFETY: a live request.
        rc = unsafe { S::test(&mut request, &mut done) };
    }
    rc
}

unsafe extern "C" fn barrier<S: Sys>(ctx: *mut c_void) -> c_int {
    // SAFETY: see above.
    unsafe { collective::<S>(ctx, |comm, request| S::barrier(comm, request)) }
}

unsafe extern "C" fn bcast<S: Sys>(ctx: *mut c_void, buf: *mut c_void, len: u64, root: c_int) -> c_int {
    let Ok(n) = c_int::try_from(len) else { return S::ERR_COUNT };
    // SAFETY: buf has len bytes.
    unsafe { collective::<S>(ctx, |comm, request| S::bcast(buf, n, root, comm, request)) }
}

unsafe extern "C" fn allgather<S: Sys>(
    ctx: *mut c_void,
    data: *const c_void,
    len: u64,
    out: *mut c_void,
) -> c_int {
    let Ok(n) = c_int::try_from(len) else { return S::ERR_COUNT };
    // SAFETY: data has len bytes, out size * len.
    unsafe { collective::<S>(ctx, |comm, request| S::allgather(data, n, out, comm, request)) }
}

/// Calls `f` with what stands for "my part is in `out`": `MPI_IN_PLACE`, or a copy where that constant is unknown.
///
/// # Safety
/// If `data` is NULL, `out` has `bytes` bytes.
unsafe fn or_in_place<S: Sys>(
    data: *const c_void,
    out: *mut c_void,
    bytes: usize,
    f: impl FnOnce(*const c_void) -> c_int,
) -> c_int {
    if !data.is_null() {
        return f(data);
    }
    if let Some(mark) = S::in_place() {
        return f(mark);
    }
    // SAFETY: the caller's promise. u64 keeps the copy aligned for every element type of the table.
    let copy = unsafe {
        let mut copy = vec![0u64; bytes.div_ceil(8)];
        std::ptr::copy_nonoverlapping(out.cast::<u8>(), copy.as_mut_ptr().cast(), bytes);
        copy
    };
    f(copy.as_ptr().cast())
}

/// Bytes of an element by type code: u8 i8 u16 i16 u32 i32 u64 i64 f32 f64.
const WIDTHS: [usize; 10] = [1, 1, 2, 2, 4, 4, 8, 8, 4, 8];

unsafe extern "C" fn allreduce<S: Sys>(
    ctx: *mut c_void,
    data: *const c_void,
    out: *mut c_void,
    count: u64,
    kind: c_int,
    op: c_int,
) -> c_int {
    let Ok(n) = c_int::try_from(count) else { return S::ERR_COUNT };
    let Some(datatype) = S::datatype(kind) else { return S::ERR_TYPE };
    let Some(op) = S::op(op) else { return S::ERR_OP };
    let bytes = count as usize * WIDTHS.get(kind as usize).copied().unwrap_or(0);
    // SAFETY: out, and data unless NULL, have count elements.
    unsafe {
        or_in_place::<S>(data, out, bytes, |data| {
            collective::<S>(ctx, |comm, request| S::allreduce(data, out, n, datatype, op, comm, request))
        })
    }
}

unsafe extern "C" fn reduce<S: Sys>(
    ctx: *mut c_void,
    data: *const c_void,
    out: *mut c_void,
    count: u64,
    kind: c_int,
    op: c_int,
    root: c_int,
) -> c_int {
    let Ok(n) = c_int::try_from(count) else { return S::ERR_COUNT };
    let Some(datatype) = S::datatype(kind) else { return S::ERR_TYPE };
    let Some(op) = S::op(op) else { return S::ERR_OP };
    let bytes = count as usize * WIDTHS.get(kind as usize).copied().unwrap_or(0);
    // SAFETY: as for allreduce; out is used at the root only.
    unsafe {
        or_in_place::<S>(data, out, bytes, |data| {
            collective::<S>(ctx, |comm, request| S::reduce(data, out, n, datatype, op, root, comm, request))
        })
    }
}

unsafe extern "C" fn dup<S: Sys>(ctx: *mut c_void, out: *mut *mut c_void) -> c_int {
    // SAFETY: ctx is live; out is the caller's.
    unsafe {
        match attach::<S>(state::<S>(ctx).comm, false, 0) {
            Ok((made, _)) => {
                *out = made;
                0
            }
            Err(rc) => rc,
        }
    }
}

unsafe extern "C" fn ibcast<S: Sys>(ctx: *mut c_void, buf: *mut c_void, len: u64, root: c_int) -> c_int {
    let Ok(n) = c_int::try_from(len) else { return S::ERR_COUNT };
    let mut request = S::null_request();
    // SAFETY: buf outlives the request (the table's contract).
    unsafe {
        let s = state::<S>(ctx);
        let rc = S::bcast(buf, n, root, s.comm, &mut request);
        if rc == 0 {
            s.requests.push(request);
        }
        rc
    }
}

unsafe extern "C" fn comm<S: Sys>(ctx: *mut c_void) -> *mut c_void {
    // SAFETY: see above.
    unsafe { (&raw mut state::<S>(ctx).comm).cast() }
}

unsafe extern "C" fn comm_int<S: Sys>(ctx: *mut c_void, handle: *mut c_int) -> c_int {
    // SAFETY: see above.
    unsafe { *handle = S::comm_int(state::<S>(ctx).comm) };
    0
}
