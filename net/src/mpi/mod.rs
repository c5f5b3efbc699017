//! MPI, loaded at run time and never linked.
//!
//! [`find()`] loads the MPI of the site ([`mod@find`] says where it looks), [`Mpi::init`] joins its world, [`Engine`] moves owned
//! buffers without blocking, and [`Mpi`] has the blocking collectives. Nothing here starts a thread.
//! [`build_shim`] compiles the shim that connects us to an MPI whose binary interface is not the standard one.
//!
//! ```no_run
//! use aeolian_net::mpi::{Mpi, MpiOp, Prefer, find};
//! # fn main() -> aeolian_net::Result<()> {
//! let Ok(found) = find(Prefer::Either) else { return Ok(()) };
//! let mut mpi = Mpi::init(&found.library)?;
//! let mut sum = [mpi.rank() as u64];
//! mpi.allreduce_in_place(&mut sum, MpiOp::Sum)?;
//! mpi.finalize()
//! # }
//! ```

mod abi;
mod begun;
mod collectives;
mod compile;
mod engine;
pub mod find;
#[cfg(feature = "mpi")]
pub mod linked;
pub mod ops;
mod shim;
mod table;

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;
use std::thread::ThreadId;

pub use begun::Begun;
pub use compile::{BuiltShim, build_shim};
pub use engine::{Buffer, Completion, Engine, TAG_MAX};
pub use find::{Flavor, Found, MpiLibrary, Prefer, Rejected, find};
pub use ops::{MpiOp, MpiType};

use crate::{NetError, Result};
use ops::{MpiInfo, MpiOps};

/// Largest piece that is handed to MPI in one call: 1 GiB, well below the 2^31 bytes that its calls can count.
pub const CHUNK: usize = 1 << 30;

/// What MPI promises about threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ThreadLevel {
    /// The process has one thread.
    Single,
    /// Only the thread that initialised MPI may call it.
    Funneled,
    /// Any thread may, one at a time.
    Serialized,
    /// All may at once.
    Multiple,
}

/// A joined MPI world: a communicator of our own, duplicated from MPI's.
///
/// It may move between threads but not be shared (MPI is asked for `MPI_THREAD_SERIALIZED`). Dropping it does *not* end MPI: a
/// rank that fails must not wait in `MPI_Finalize` for the others, and a launcher takes an end without it for the
/// failure that it is. Call [`Mpi::finalize`] when all is well.
#[derive(Debug)]
pub struct Mpi {
    ops: &'static MpiOps,
    ctx: *mut c_void,
    info: MpiInfo,
    flavor: Flavor,
    version: String,
    origin: String,
    chunk: usize,
    finalized: bool,
    /// The only thread that may call, where MPI grants less than serialized.
    bound: Option<ThreadId>,
    not_sync: PhantomData<Cell<()>>,
}

// SAFETY: MPI at level serialized may be called from any one thread at a time, and `&mut`/`&` of a type that is not Sync
// give just that; below that level `check_thread` refuses other threads.
unsafe impl Send for Mpi {}

impl Mpi {
    /// Initialises MPI (unless the program has done so) and duplicates `MPI_COMM_WORLD`. Every rank must call it.
    ///
    /// A launcher's claim of `n` ranks may differ from [`Mpi::size`] when the MPI does not belong to the launcher: compare.
    pub fn init(library: &MpiLibrary) -> Result<Mpi> {
        let mut ctx = std::ptr::null_mut();
        let mut info = MpiInfo::default();
        // SAFETY: pointers to locals.
        let rc = unsafe { (library.ops.init)(&mut ctx, &mut info) };
        if rc != 0 || ctx.is_null() {
            return Err(error(library.ops, "MPI_Init_thread", rc));
        }
        Ok(Mpi::from_parts(library, ctx, info))
    }

    /// The same ranks on a communicator of their own. Every rank must call it; [`Mpi::finalize`] it before this one.
    pub fn duplicate(&self) -> Result<Mpi> {
        let mut ctx = std::ptr::null_mut();
        self.call("MPI_Comm_dup", |ops, from| {
            // SAFETY: ctx is live; a pointer to a local.
            unsafe { (ops.dup)(from, &mut ctx) }
        })?;
        let info = MpiInfo { initialized_here: 0, ..self.info };
        let (version, origin) = (self.version.clone(), self.origin.clone());
        let &Mpi { ops, flavor, chunk, bound, .. } = self;
        Ok(Mpi {
            ops,
            ctx,
            info,
            flavor,
            version,
            origin,
            chunk,
            finalized: false,
            bound,
            not_sync: PhantomData,
        })
    }

    fn from_parts(library: &MpiLibrary, ctx: *mut c_void, info: MpiInfo) -> Mpi {
        Mpi {
            ops: library.ops,
            ctx,
            info,
            flavor: library.flavor,
            version: library.version.clone(),
            origin: library.origin.clone(),
            chunk: CHUNK,
            finalized: false,
            bound: (info.thread_level < 2).then(|| std::thread::current().id()),
            not_sync: PhantomData,
        }
    }

    /// This process's rank, `0..size`.
    pub fn rank(&self) -> u32 {
        self.info.rank.max(0) as u32
    }

    /// Number of ranks.
    pub fn size(&self) -> u32 {
        self.info.size.max(1) as u32
    }

    /// Whose MPI it is.
    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// The MPI's name and version: `Open MPI v4.1.4, ...`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What was loaded: the path of the shim, or `libmpi_abi.so.1`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What MPI granted.
    pub fn thread_level(&self) -> ThreadLevel {
        match self.info.thread_level {
            3 => ThreadLevel::Multiple,
            2 => ThreadLevel::Serialized,
            1 => ThreadLevel::Funneled,
            _ => ThreadLevel::Single,
        }
    }

    /// Whether [`Mpi::init`] initialised MPI (and [`Mpi::finalize`] will end it), and not the program before it.
    pub fn initialized_here(&self) -> bool {
        self.info.initialized_here != 0
    }

    /// Largest piece in bytes that goes to MPI in one call ([`CHUNK`] unless set).
    pub fn chunk_limit(&self) -> usize {
        self.chunk
    }

    /// Sets [`Mpi::chunk_limit`], for tests and for MPIs with trouble above some size: 8 bytes to 1 GiB, rounded
    /// down to a multiple of 8. It must be the same on all ranks, set before any collective.
    pub fn set_chunk_limit(&mut self, bytes: usize) {
        self.chunk = bytes.clamp(8, CHUNK) / 8 * 8;
    }

    /// Address of the `MPI_Comm` that this works on, for code that is linked with the same MPI: `*(MPI_Comm *)address`. It
    /// lives until [`Mpi::finalize`].
    pub fn raw_comm(&self) -> *mut c_void {
        if self.finalized {
            return std::ptr::null_mut();
        }
        // SAFETY: ctx is live.
        unsafe { (self.ops.comm)(self.ctx) }
    }

    /// The communicator as an integer, which `MPI_Comm_f2c` takes (with the standard ABI: `MPI_Comm_fromint`).
    pub fn comm_int(&self) -> Result<i32> {
        let mut handle = 0;
        self.call("MPI_Comm_c2f", |ops, ctx| {
            // SAFETY: ctx is live.
            unsafe { (ops.comm_int)(ctx, &mut handle) }
        })?;
        Ok(handle)
    }

    /// Ends all ranks at once, with `code` as far as the launcher passes it on.
    pub fn abort(&self, code: u8) -> ! {
        if !self.finalized {
            // SAFETY: ctx is live.
            unsafe { (self.ops.abort)(self.ctx, code.into()) };
        }
        std::process::exit(code.into());
    }

    /// Leaves the world: waits for all ranks to do the same and ends MPI if [`Mpi::init`] began it. Calls after it are errors.
    pub fn finalize(&mut self) -> Result<()> {
        self.call("MPI_Finalize", |ops, ctx| {
            // SAFETY: ctx is live and is not used after this.
            unsafe { (ops.finalize)(ctx) }
        })?;
        self.finalized = true;
        Ok(())
    }

    /// Runs one operation of the table and turns its code into an error.
    fn call(&self, name: &'static str, f: impl FnOnce(&MpiOps, *mut c_void) -> c_int) -> Result<()> {
        if self.finalized {
            return Err(NetError::Usage(format!("{name} after the MPI world was finalized")));
        }
        if self.bound.is_some_and(|thread| thread != std::thread::current().id()) {
            return Err(NetError::Usage(format!(
                "{name} from another thread than the one that initialised MPI, but {} grants only {:?}",
                self.version,
                self.thread_level()
            )));
        }
        match f(self.ops, self.ctx) {
            0 => Ok(()),
            rc => Err(error(self.ops, name, rc)),
        }
    }
}

/// MPI's words for `code`.
fn error(ops: &MpiOps, call: &'static str, code: c_int) -> NetError {
    let mut text = [0; 1024];
    // SAFETY: the capacity is that of the buffer; the text is NUL-terminated (and zeroed before).
    let said = unsafe {
        (ops.error_string)(code, text.as_mut_ptr(), text.len() as u64);
        CStr::from_ptr(text.as_ptr()).to_string_lossy()
    };
    let message = match said.trim() {
        "" => format!("error code {code}"),
        said => said.to_string(),
    };
    NetError::Mpi { call, message }
}
