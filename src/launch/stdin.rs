//! The launcher's standard input, for the one rank that gets it (rank 0; the others read nothing).
//!
//! A rank of this host inherits it. For a rank of another host it is read here and sent, as far as its [`Credit`] goes.

use super::agent::StdinFrom;
use super::credit::Credit;
use super::wire::ToAgent;
use std::io::{self, IsTerminal, Read};
use std::sync::Arc;

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
