//! The launcher's hand on a host: the same few actions whether its ranks are ours or behind ssh.

use super::agent::{Agent, Report};
use super::credit::Credit;
use super::output::Terminal;
use super::ssh::Remote;
use super::watch::Happening;
use super::wire::{FromAgent, Stream, ToAgent};
use rustix::process::Signal;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// What can be done with the ranks of a host.
pub(crate) trait Hand: Send + Sync {
    /// The host's name.
    fn host(&self) -> &str;
    /// Sends a signal to all that its ranks consist of.
    fn signal(&self, signal: i32);
    /// The rank with the standard input took so many bytes.
    fn stdin_taken(&self, bytes: u32);
}

/// This host.
pub(crate) struct Here {
    pub(crate) host: String,
    pub(crate) agent: Agent,
}

impl Hand for Here {
    fn host(&self) -> &str {
        &self.host
    }

    fn signal(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            self.agent.signal(signal);
        }
    }

    fn stdin_taken(&self, _bytes: u32) {}
}

/// A host behind ssh.
pub(crate) struct There {
    pub(crate) remote: Arc<Remote>,
    pub(crate) credit: Arc<Credit>,
}

impl Hand for There {
    fn host(&self) -> &str {
        &self.remote.host
    }

    fn signal(&self, signal: i32) {
        // If the connection is gone, so is the agent, and with it its ranks.
        self.remote.send(&ToAgent::Signal(signal)).unwrap_or_default();
    }

    fn stdin_taken(&self, bytes: u32) {
        self.credit.give(bytes);
    }
}

/// The launcher's standard output and error, shared by all who write there.
pub(crate) type SharedTerminal = Arc<Mutex<Terminal<io::Stdout, io::Stderr>>>;

/// Says something of the launcher's own, or not at all if that takes longer than `patience`: what the user does about the
/// job must not wait for it.
pub(crate) fn say(terminal: &SharedTerminal, text: &str, patience: Duration) {
    let end = Instant::now() + patience;
    say_while(terminal, text, || Instant::now() < end);
}

/// Says something of the launcher's own, as long as `go_on` says so. If the output stands still because nobody reads it (a
/// pager, a stopped terminal), it is said past it. Cannot fail: if nobody listens, nobody is told.
pub(crate) fn say_while(terminal: &SharedTerminal, text: &str, mut go_on: impl FnMut() -> bool) {
    let mut pause = Duration::from_millis(1);
    let mut wait = || {
        let on = go_on();
        if on {
            std::thread::sleep(pause);
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
        on
    };
    let past = Instant::now() + PAST;
    let (mut held, line) = loop {
        if room_on_stderr() {
            let held = match terminal.try_lock() {
                Ok(held) => Some(held),
                Err(TryLockError::Poisoned(held)) => Some(held.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            };
            match held {
                Some(mut held) => {
                    let line = held.message(text);
                    break (Some(held), line);
                }
                None if Instant::now() < past => {}
                // Whether a line has begun there is not known: an empty line does less harm than two in one.
                None => break (None, format!("\n{text}\n")),
            }
        }
        if !wait() {
            return;
        }
    };
    // Where there is room, there is room for a piece of this size.
    for piece in line.as_bytes().chunks(rustix::pipe::PIPE_BUF) {
        while !room_on_stderr() {
            if !wait() {
                return;
            }
        }
        if io::stderr().write_all(piece).is_err() {
            break;
        }
    }
    // Nobody else writes in between.
    drop(held.take());
}

/// How often, at least, it is looked whether there is room.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// How long the ranks' output may keep the launcher from a line in its place.
const PAST: Duration = Duration::from_millis(100);

/// True if a line can be written to standard error without waiting for its reader (or nobody will ever read).
fn room_on_stderr() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec};
    let stderr = io::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) != Ok(0)
}

/// What an agent reports: output goes out at once, the rest to the loop.
pub(crate) struct Ear {
    pub(crate) host: usize,
    pub(crate) terminal: SharedTerminal,
    pub(crate) happenings: Sender<Happening>,
    /// The loop was told that a stream is gone.
    pub(crate) told: Arc<[AtomicBool; 2]>,
}

impl Ear {
    fn tell(&self, happening: Happening) {
        // After the loop's end nobody needs to know.
        self.happenings.send(happening).unwrap_or_default();
    }
}

impl Report for Ear {
    fn output(&self, rank: u32, stream: Stream, data: &[u8]) -> io::Result<()> {
        let done = self.terminal.lock().unwrap_or_else(PoisonError::into_inner).write(rank, stream, data);
        if let Err(e) = &done
            && !self.told[usize::from(stream == Stream::Err)].swap(true, Ordering::AcqRel)
        {
            self.tell(match e.kind() {
                io::ErrorKind::BrokenPipe => Happening::OutputClosed(stream),
                _ => Happening::OutputFailed(e.to_string()),
            });
        }
        done
    }

    fn event(&self, event: FromAgent) {
        self.tell(Happening::Agent(self.host, event));
    }
}
