//! Reading the private memory of another process of this node, in one copy (`process_vm_readv`).
//!
//! What lies in the pool others read where it is. What a program gives as a plain slice lies in memory that only its process can see: the system
//! copies it from there, where it lets one process of a user do that with another (as MPIs do by the name of CMA). A restricted system does
//! not: each rank tries it when the boards are opened, and says on its board whether it can.

use crate::buffer::Buf;
use crate::copying;
use crate::error::{NetError, Result};
use crate::pool::{Foreign, token};
use std::io;
use std::sync::OnceLock;

/// Linux' Yama: at 1 a process is only open to its ancestors, and to one process that it names, with the descendants of that.
const YAMA: &str = "/proc/sys/kernel/yama/ptrace_scope";

/// `AEOLIAN_SINGLE_COPY=off` does without, of this process's memory and of others'.
pub(crate) fn is_wanted() -> Result<bool> {
    match std::env::var("AEOLIAN_SINGLE_COPY").as_deref() {
        Err(std::env::VarError::NotPresent) | Ok("" | "on") => Ok(true),
        Ok("off") => Ok(false),
        other => Err(NetError::Config {
            what: format!("AEOLIAN_SINGLE_COPY={:?}", other.unwrap_or("(not text)")),
            help: "write on or off".into(),
        }),
    }
}

/// Where this process's token lies: the first thing that others read to see whether they can. Nowhere if they should not.
pub(crate) fn probe() -> Result<u64> {
    if !is_wanted()? {
        return Ok(0);
    }
    static OPEN: OnceLock<()> = OnceLock::new();
    OPEN.get_or_init(|| {
        if std::fs::read_to_string(YAMA).is_ok_and(|scope| scope.trim() == "1") {
            // The launcher's own process has started the ranks of this node; process 1 has started everything. (If this is refused, others
            // will see that they cannot read.)
            // SAFETY: getppid and prctl(PR_SET_PTRACER, pid) deal in numbers only.
            unsafe {
                let launcher = libc::getppid();
                if launcher > 1 {
                    libc::prctl(libc::PR_SET_PTRACER, libc::c_long::from(launcher), 0, 0, 0);
                }
            }
        }
    });
    Ok(token().map_err(NetError::os("asking for randomness"))?.as_ptr() as u64)
}

/// Whether `mate`, whose token is at `probe` of its memory, can be read.
pub(crate) fn can_read(mate: &Foreign, probe: u64) -> bool {
    let mut there = [0; 16];
    is_wanted().unwrap_or(false)
        && probe != 0
        && read(mate.pid(), probe, &mut there).is_ok()
        && there == mate.token()
}

/// Whether an error of [`read`] says that the process or that memory is not there any more.
pub(crate) fn is_gone(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ESRCH | libc::EFAULT | libc::EPERM))
        || e.kind() == io::ErrorKind::UnexpectedEof
}

/// Bytes that are copied at once where they take a detour: few system calls, inside the second-level cache.
const PIECE: usize = 64 << 10;

/// Reads what is at this address of another process now.
pub(crate) fn read(pid: u32, address: u64, into: &mut [u8]) -> io::Result<()> {
    if !copying::is_slow(address as usize, into.as_ptr() as usize, into.len()) {
        return read_straight(pid, address, into);
    }
    let mut room = Buf::stale(2 * PIECE);
    let start = copying::detour(address as usize, room.as_ptr() as usize);
    for (piece, at) in into.chunks_mut(PIECE).zip((address..).step_by(PIECE)) {
        let between = &mut room[start..start + piece.len()];
        read_straight(pid, at, between)?;
        copying::copy(between, piece);
    }
    Ok(())
}

fn read_straight(pid: u32, mut address: u64, mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        let here = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        let there = libc::iovec { iov_base: address as usize as *mut libc::c_void, iov_len: into.len() };
        // SAFETY: `here` is memory that this function may write to; what is wrong with the other address the system finds.
        let got =
            unsafe { libc::process_vm_readv(pid as libc::pid_t, &raw const here, 1, &raw const there, 1, 0) };
        match usize::try_from(got) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => {
                address += got as u64;
                into = &mut into[got..];
            }
            Err(_) => {
                let e = io::Error::last_os_error();
                if e.kind() != io::ErrorKind::Interrupted {
                    return Err(e);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process can always read itself.
    #[test]
    fn memory_is_read_by_address() {
        let secret: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        let mut copy = vec![0; secret.len() + 4096];
        for ahead in [0, 16] {
            let at = (secret.as_ptr() as usize + ahead).wrapping_sub(copy.as_ptr() as usize) % 4096;
            copy.fill(0);
            read(std::process::id(), secret.as_ptr() as u64, &mut copy[at..at + secret.len()]).unwrap();
            assert_eq!(copy[at..at + secret.len()], secret);
        }
        let nowhere = read(std::process::id(), 8, &mut copy).unwrap_err();
        assert_eq!(nowhere.raw_os_error(), Some(libc::EFAULT));
        let own = Foreign::new(std::process::id(), Foreign::own_token().unwrap());
        assert!(can_read(&own, probe().unwrap()));
        let other = Foreign::new(std::process::id(), [9; 16]);
        assert!(!can_read(&other, probe().unwrap()), "another token");
        assert!(!can_read(&own, 8));
    }
}
