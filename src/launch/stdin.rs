//! The launcher's standard input, for the one rank that gets it (rank 0; the others read nothing).
//!
//! A rank of this host inherits it. For a rank of another host it is read here and sent, never more ahead than
//! [`AHEAD`] bytes of what the rank has taken: signals travel the same way and must not wait behind data.

use super::agent::StdinFrom;
use super::wire::ToAgent;
use std::io::{self, IsTerminal, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// How much is sent before the rank has taken any of it.
const AHEAD: usize = 256 << 10;

/// What a rank of this host gets.
pub(crate) fn inherited() -> StdinFrom {
    if in_background() { StdinFrom::Null } else { StdinFrom::Own }
}

/// True if a person may type to the rank and see what it asks.
pub(crate) fn is_conversation() -> bool {
    io::stdin().is_terminal() && !in_background()
}

/// True if standard input is a terminal that belongs to somebody else just now (`aeolian run ... &`): reading it would
/// stop us, or steal what is typed to the shell.
fn in_background() -> bool {
    io::stdin().is_terminal()
        && rustix::termios::tcgetpgrp(io::stdin()).is_ok_and(|owner| owner != rustix::process::getpgrp())
}

/// How much may be sent.
#[derive(Default)]
pub(crate) struct Credit {
    on_the_way: Mutex<usize>,
    taken: Condvar,
}

impl Credit {
    /// The rank took so many bytes.
    pub(crate) fn give(&self, bytes: u32) {
        let mut on_the_way = self.on_the_way.lock().unwrap_or_else(PoisonError::into_inner);
        *on_the_way = on_the_way.saturating_sub(bytes as usize);
        self.taken.notify_one();
    }

    fn take(&self, bytes: usize) {
        let full = |on_the_way: &mut usize| *on_the_way >= AHEAD;
        let on_the_way = self.on_the_way.lock().unwrap_or_else(PoisonError::into_inner);
        let mut on_the_way = self.taken.wait_while(on_the_way, full).unwrap_or_else(PoisonError::into_inner);
        *on_the_way += bytes;
    }
}

/// Reads standard input to its end on a thread of its own and hands it to `send`.
pub(crate) fn forward(credit: Arc<Credit>, send: impl Fn(&ToAgent) -> io::Result<()> + Send + 'static) {
    let copy = move || {
        let mut from = io::stdin();
        let mut buffer = vec![0u8; 32 << 10];
        while !in_background() {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    credit.take(n);
                    if send(&ToAgent::Stdin(buffer[..n].to_vec())).is_err() {
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        send(&ToAgent::StdinEnd).unwrap_or_default();
    };
    // Without the thread the rank has no input, as if it were empty.
    drop(std::thread::Builder::new().name("stdin".into()).stack_size(128 << 10).spawn(copy));
}
