//! A client of PMIx through `libpmix.so.2`, loaded at run time: put, fence, get. The library belongs to the launcher's
//! installation; where it is absent this is an error that says so, and nothing else fails.
//!
//! Layouts and codes are those of `pmix_common.h`, which PMIx keeps stable from version 3 on (library version 2).

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use super::{Kvs, check, decode, encode};
use crate::{NetError, Result};

/// The library's name for the dynamic linker; `AEOLIAN_PMIX` may give a path instead.
pub const LIBRARY: &str = "libpmix.so.2";

/// Seconds that a server which knows time-outs waits at a fence or for a value.
const PATIENCE: c_int = 300;

const SUCCESS: c_int = 0;
const RANK_WILDCARD: u32 = u32::MAX - 1;
const GLOBAL: u8 = 3;
const BOOL: u16 = 1;
const STRING: u16 = 3;
const INT: u16 = 6;
const UINT32: u16 = 14;

#[repr(C)]
#[derive(Clone, Copy)]
struct Proc {
    namespace: [c_char; 256],
    rank: u32,
}

/// `pmix_value_t`: the union's largest members have three words.
#[repr(C)]
#[derive(Clone, Copy)]
struct Value {
    kind: u16,
    data: [u64; 3],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    key: [c_char; 512],
    flags: u32,
    value: Value,
}

const _: () = assert!(size_of::<Value>() == 32 && size_of::<Info>() == 552 && size_of::<Proc>() == 260);

impl Info {
    fn new(key: &str, kind: u16, value: u64) -> Info {
        let mut info = Info { key: [0; 512], flags: 0, value: Value { kind, data: [value, 0, 0] } };
        for (to, from) in info.key.iter_mut().zip(key.bytes().take(511)) {
            *to = from as c_char;
        }
        info
    }
}

struct Functions {
    init: unsafe extern "C" fn(*mut Proc, *mut Info, usize) -> c_int,
    finalize: unsafe extern "C" fn(*const Info, usize) -> c_int,
    put: unsafe extern "C" fn(u8, *const c_char, *mut Value) -> c_int,
    commit: unsafe extern "C" fn() -> c_int,
    fence: unsafe extern "C" fn(*const Proc, usize, *const Info, usize) -> c_int,
    get: unsafe extern "C" fn(*const Proc, *const c_char, *const Info, usize, *mut *mut Value) -> c_int,
    error_string: unsafe extern "C" fn(c_int) -> *const c_char,
}

/// A connection to the launcher's PMIx server.
pub struct Pmix {
    functions: Functions,
    me: Proc,
    size: u32,
}

/// Whether the environment names a PMIx server.
pub fn offered() -> bool {
    std::env::var_os("PMIX_RANK").is_some() && std::env::var_os("PMIX_NAMESPACE").is_some()
}

/// Loads the library and asks for its version, without joining anything: `PMIx 4.2.2`. For `aeolian doctor`.
///
/// # Errors
/// Why it cannot be used, as a phrase for people.
pub fn version() -> std::result::Result<String, String> {
    let name = std::env::var_os("AEOLIAN_PMIX").unwrap_or_else(|| LIBRARY.into());
    // SAFETY: loading runs the initialisers of a PMIx library, which only set up its own data.
    let library =
        unsafe { Library::open(Some(&name), RTLD_NOW | RTLD_GLOBAL) }.map_err(|e| crate::dl::says(&e))?;
    // SAFETY: the signature is that of pmix.h; it may be called before PMIx_Init and returns a constant.
    let text = unsafe {
        let get = library.get::<unsafe extern "C" fn() -> *const c_char>("PMIx_Get_version\0");
        let get = get.map_err(|_| "it is not a PMIx library: no symbol PMIx_Get_version".to_owned())?;
        let text = get();
        if text.is_null() { None } else { Some(CStr::from_ptr(text).to_string_lossy().into_owned()) }
    };
    std::mem::forget(library);
    // "OpenPMIx 4.2.2 (PMIx Standard: 4.1, Stable ABI: ...)": the rest is for implementers.
    let text = text.unwrap_or_else(|| "a version that it does not tell".into());
    Ok(text.split([',', '(']).next().unwrap_or_default().trim().to_owned())
}

impl Pmix {
    /// Loads the library and joins the server that the environment names.
    pub fn connect() -> Result<Pmix> {
        let name = std::env::var_os("AEOLIAN_PMIX").unwrap_or_else(|| LIBRARY.into());
        let help = || {
            format!(
                "install the launcher's PMIx library ({LIBRARY}; Debian: libpmix2), or give its path in AEOLIAN_PMIX"
            )
        };
        // SAFETY: loading runs the initialisers of a PMIx library, which only set up its own data.
        let library = unsafe { Library::open(Some(&name), RTLD_NOW | RTLD_GLOBAL) };
        let library = library.map_err(|e| NetError::Config {
            what: format!(
                "the launcher offers PMIx, but its library cannot be loaded: {}",
                crate::dl::says(&e)
            ),
            help: help(),
        })?;
        // SAFETY: the signatures are those of pmix.h.
        let functions = unsafe { Functions::load(&library) }.map_err(|e| NetError::Config {
            what: format!("{} is not a PMIx library: {}", name.to_string_lossy(), crate::dl::says(&e)),
            help: help(),
        })?;
        std::mem::forget(library); // it has threads of its own
        let mut me = Proc { namespace: [0; 256], rank: 0 };
        // SAFETY: a pointer to a local of the right layout; no directives.
        let rc = unsafe { (functions.init)(&mut me, std::ptr::null_mut(), 0) };
        let mut pmix = Pmix { functions, me, size: 0 };
        pmix.ok("PMIx_Init", rc)?;
        pmix.size = pmix.job_size()?;
        if me.rank >= pmix.size {
            return Err(NetError::Config {
                what: format!("PMIx says that this is rank {} of {}", me.rank, pmix.size),
                help: "start the program with mpirun or srun --mpi=pmix itself".into(),
            });
        }
        Ok(pmix)
    }

    fn job_size(&self) -> Result<u32> {
        let value = self.value(RANK_WILDCARD, c"pmix.job.size")?;
        // SAFETY: PMIx gave a value of this layout, which stays (we leak these few bytes).
        let (kind, size) = unsafe { ((*value).kind, (*value).data[0] as u32) };
        if kind != UINT32 {
            return Err(self.odd(format!("the job size came with type {kind}")));
        }
        Ok(size)
    }

    fn value(&self, rank: u32, key: &CStr) -> Result<*mut Value> {
        let from = Proc { rank, ..self.me };
        let patience = [Info::new("pmix.timeout", INT, PATIENCE as u64)];
        let mut value = std::ptr::null_mut();
        // SAFETY: pointers to locals of the right layout.
        let rc = unsafe { (self.functions.get)(&from, key.as_ptr(), patience.as_ptr(), 1, &mut value) };
        self.ok("PMIx_Get", rc)?;
        if value.is_null() {
            return Err(self.odd(format!("no value for {}", key.to_string_lossy())));
        }
        Ok(value)
    }

    fn ok(&self, call: &str, rc: c_int) -> Result<()> {
        if rc == SUCCESS {
            return Ok(());
        }
        // SAFETY: PMIx gives a constant string for any code.
        let said = unsafe {
            let text = (self.functions.error_string)(rc);
            if text.is_null() { "".into() } else { CStr::from_ptr(text).to_string_lossy() }
        };
        Err(self.odd(format!("{call}: {said} ({rc})")))
    }

    fn odd(&self, what: String) -> NetError {
        NetError::Protocol { peer: "the launcher's PMIx server".into(), what }
    }
}

impl Functions {
    /// # Safety
    /// `library` is a PMIx library and is never unloaded.
    unsafe fn load(library: &Library) -> std::result::Result<Functions, libloading::Error> {
        // SAFETY: the signatures are those of pmix.h.
        unsafe {
            Ok(Functions {
                init: *library.get("PMIx_Init\0")?,
                finalize: *library.get("PMIx_Finalize\0")?,
                put: *library.get("PMIx_Put\0")?,
                commit: *library.get("PMIx_Commit\0")?,
                fence: *library.get("PMIx_Fence\0")?,
                get: *library.get("PMIx_Get\0")?,
                error_string: *library.get("PMIx_Error_string\0")?,
            })
        }
    }
}

/// The name of a key of ours.
fn name(key: &str) -> Result<CString> {
    CString::new(format!("aeolian.{key}")).map_err(|_| NetError::Internal(format!("{key:?} is not a key")))
}

impl Kvs for Pmix {
    fn protocol(&self) -> &'static str {
        "PMIx"
    }

    fn rank(&self) -> u32 {
        self.me.rank
    }

    fn size(&self) -> u32 {
        self.size
    }

    fn max_value(&self) -> usize {
        64 * 1024
    }

    fn put(&mut self, key: &str, value: &[u8]) -> Result<()> {
        check(key, value, self.max_value())?;
        let (key, text) = (name(key)?, CString::new(encode(value)).unwrap_or_default());
        let mut value = Value { kind: STRING, data: [text.as_ptr() as u64, 0, 0] };
        // SAFETY: PMIx copies the key and the string before it returns.
        let rc = unsafe { (self.functions.put)(GLOBAL, key.as_ptr(), &mut value) };
        self.ok("PMIx_Put", rc)
    }

    fn fence(&mut self) -> Result<()> {
        // SAFETY: takes nothing.
        let rc = unsafe { (self.functions.commit)() };
        self.ok("PMIx_Commit", rc)?;
        let how = [Info::new("pmix.collect", BOOL, 1), Info::new("pmix.timeout", INT, PATIENCE as u64)];
        // SAFETY: no processes named means all of the job; the array has two elements.
        let rc = unsafe { (self.functions.fence)(std::ptr::null(), 0, how.as_ptr(), how.len()) };
        self.ok("PMIx_Fence", rc)
    }

    fn get(&mut self, rank: u32, key: &str) -> Result<Vec<u8>> {
        check(key, &[], 0)?;
        let value = self.value(rank, &name(key)?)?;
        // SAFETY: PMIx gave a value of this layout; a string is NUL-terminated. We free both, as the standard tells the caller
        // to (they are from malloc).
        unsafe {
            let (kind, text) = ((*value).kind, (*value).data[0] as *mut c_char);
            let bytes = if kind == STRING && !text.is_null() {
                let bytes = decode(&CStr::from_ptr(text).to_string_lossy());
                libc::free(text.cast::<c_void>());
                bytes
            } else {
                None
            };
            libc::free(value.cast::<c_void>());
            bytes.ok_or_else(|| {
                self.odd(format!("the value of {key} of rank {rank} is not one of ours (type {kind})"))
            })
        }
    }

    fn finalize(&mut self) -> Result<()> {
        // SAFETY: no directives.
        let rc = unsafe { (self.functions.finalize)(std::ptr::null(), 0) };
        self.ok("PMIx_Finalize", rc)
    }
}

impl std::fmt::Debug for Pmix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pmix").field("rank", &self.me.rank).field("size", &self.size).finish_non_exhaustive()
    }
}
