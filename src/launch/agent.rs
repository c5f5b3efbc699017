//! The ranks of one host: started together, watched by a thread each, ended with everything they started.
//!
//! The same code runs inside `aeolian run` for the ranks of its own host and inside `aeolian agent` behind ssh.

use super::child;
use super::error::{LaunchError, Result};
use super::guard::Guard;
use super::output::Lines;
use super::session;
use super::spec::HostSpec;
use super::wire::{Ended, FromAgent, Stream};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group};
use rustix::thread::CpuSet;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long what a rank left running may still write, before it is ended.
const DRAIN: Duration = Duration::from_secs(1);
/// At most so many ranks are between fork and exec at a time: each needs several descriptors meanwhile.
const STARTING: usize = 32;
/// Up to so many ranks, each one's end is a reason to look for what has left its process group.
const FEW: usize = 32;
/// When a question without newline is shown, on a terminal.
const PROMPT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// The threads here do little: many ranks must not cost much memory.
const STACK: usize = 128 << 10;

/// Where an agent's findings go.
pub(crate) trait Report: Send + Sync {
    /// A rank wrote this. Blocks while the reader is slow (and so slows the rank).
    ///
    /// # Errors
    /// Nobody reads this stream any more: the agent then closes the rank's.
    fn output(&self, rank: u32, stream: Stream, data: &[u8]) -> io::Result<()>;
    /// Something happened.
    fn event(&self, event: FromAgent);
}

/// Where the rank that gets the standard input gets it from.
pub(crate) enum StdinFrom {
    /// It inherits ours.
    Own,
    /// [`Agent::feed`].
    Fed,
    /// Nowhere.
    Null,
}

/// Running ranks.
pub(crate) struct Agent {
    ranks: Vec<Slot>,
    feed: Option<Sender<Option<Vec<u8>>>>,
}

/// The leader of a rank's process group while it may be signalled: until just before it is reaped.
type Slot = Arc<Mutex<Option<Pid>>>;

impl Agent {
    /// Starts all ranks of `spec` from the file `program`, at the same time; `cpus` has one entry a rank.
    ///
    /// # Errors
    /// If one cannot be started, the others are killed. The error is then the last word: nothing is reported of their ends.
    pub(crate) fn start(
        spec: HostSpec,
        program: PathBuf,
        cpus: Vec<Option<CpuSet>>,
        stdin: StdinFrom,
        report: Arc<dyn Report>,
    ) -> Result<Agent> {
        let (feed, fed) = mpsc::channel();
        let mut fed = Some(fed);
        let (started, all_started) = mpsc::channel();
        let mut agent = Agent { ranks: Vec::new(), feed: matches!(stdin, StdinFrom::Fed).then_some(feed) };
        let shared = Arc::new(Shared {
            left: AtomicUsize::new(spec.ranks.len()),
            failed: AtomicBool::new(false),
            ranks: spec.ranks.clone(),
            spec,
            program,
            report,
            guard: Guard::start(),
            starting: (Mutex::new(0), Condvar::new()),
        });
        let mut failed = None;
        for (index, rank) in shared.ranks.iter().copied().enumerate() {
            let slot = Slot::default();
            agent.ranks.push(slot.clone());
            let stdin = match stdin {
                _ if shared.spec.stdin_rank != Some(rank) => RankStdin::Null,
                StdinFrom::Own => RankStdin::Own,
                StdinFrom::Fed => fed.take().map_or(RankStdin::Null, RankStdin::Fed),
                StdinFrom::Null => RankStdin::Null,
            };
            let life = Life {
                rank,
                slot,
                stdin,
                cpus: cpus.get(index).copied().flatten(),
                started: Some(started.clone()),
                shared: shared.clone(),
            };
            if let Err(e) = thread(format!("rank {rank}"), move || life.live()) {
                shared.failed.store(true, Ordering::Release);
                failed = Some(e);
                break;
            }
        }
        drop(started);
        // To the end, also after an error: what is started later than that would not be killed.
        failed = all_started.iter().filter_map(Result::err).fold(failed, |first, e| first.or(Some(e)));
        match failed {
            None => Ok(agent),
            Some(e) => {
                agent.signal(Signal::KILL);
                Err(e)
            }
        }
    }

    /// Sends a signal to every process that the ranks consist of.
    pub(crate) fn signal(&self, signal: Signal) {
        for slot in &self.ranks {
            if let Some(leader) = *lock(slot) {
                kill_process_group(leader, signal).unwrap_or_default();
            }
        }
    }

    /// Standard input for the rank that gets it ([`StdinFrom::Fed`]); `None` is its end.
    pub(crate) fn feed(&self, data: Option<Vec<u8>>) {
        if let Some(feed) = &self.feed {
            // The rank may be gone.
            feed.send(data).unwrap_or_default();
        }
    }
}

/// What the threads of an agent share.
struct Shared {
    spec: HostSpec,
    program: PathBuf,
    ranks: Vec<u32>,
    report: Arc<dyn Report>,
    guard: Guard,
    /// Ranks whose life is not over.
    left: AtomicUsize,
    /// A rank could not be started. Set before its life is over, and before any other is killed for it.
    failed: AtomicBool,
    /// Ranks between fork and exec.
    starting: (Mutex<usize>, Condvar),
}

impl Shared {
    /// Reports an end. If a rank could not be started, that must be heard of, and not the ends that follow from it.
    fn ended(&self, event: FromAgent) {
        if !self.failed.load(Ordering::Acquire) {
            self.report.event(event);
        }
    }

    /// One after the other beyond [`STARTING`].
    fn in_turn<T>(&self, start: impl FnOnce() -> T) -> T {
        let (count, changed) = &self.starting;
        let full = |count: &mut usize| *count >= STARTING;
        *changed.wait_while(lock(count), full).unwrap_or_else(PoisonError::into_inner) += 1;
        let started = start();
        *lock(count) -= 1;
        changed.notify_one();
        started
    }
}

enum RankStdin {
    Own,
    Fed(Receiver<Option<Vec<u8>>>),
    Null,
}

/// One rank from start to end, on a thread of its own: the thread that forks must live as long as the child.
struct Life {
    rank: u32,
    slot: Slot,
    stdin: RankStdin,
    cpus: Option<CpuSet>,
    /// Dropped when it is known: the starter waits until nobody holds one.
    started: Option<Sender<Result<()>>>,
    shared: Arc<Shared>,
}

impl Life {
    fn live(mut self) {
        self.run();
        if self.shared.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.ended(FromAgent::Done);
        }
    }

    fn run(&mut self) {
        let Life { rank, shared, slot, .. } = &*self;
        let (rank, shared, slot) = (*rank, shared.clone(), slot.clone());
        // Readable once nobody is left who could write.
        let over = match eventfd(0, EventfdFlags::CLOEXEC) {
            Ok(over) => Arc::new(over),
            Err(e) => return self.tell(Err(LaunchError::os(format!("watching rank {rank}"))(e.into()))),
        };
        let stdin = match &self.stdin {
            RankStdin::Own => Stdio::inherit(),
            RankStdin::Fed(_) => Stdio::piped(),
            RankStdin::Null => Stdio::null(),
        };
        let spawned = shared
            .in_turn(|| child::spawn(&shared.spec, &shared.program, rank, stdin, self.cpus, &shared.guard));
        let mut child = match spawned {
            Ok(child) => child,
            Err(e) => return self.tell(Err(e)),
        };
        let leader = Pid::from_child(&child);
        *lock(&slot) = Some(leader);
        self.tell(Ok(()));
        shared.report.event(FromAgent::Started { rank, pid: child.id() });

        // Both pumps hold the sender; the channel ends when both have come to the end of their streams.
        let (pumping, drained) = mpsc::channel::<()>();
        let prompt = shared.spec.prompt && shared.spec.stdin_rank == Some(rank);
        if let Some(from) = child.stdout.take() {
            let (shared, pumping, over) = (shared.clone(), pumping.clone(), over.clone());
            let go = move || pump(from, rank, Stream::Out, prompt, &shared, &over, pumping);
            self.or_say(thread(format!("stdout {rank}"), go));
        }
        if let Some(from) = child.stderr.take() {
            let (shared, over) = (shared.clone(), over.clone());
            let go = move || pump(from, rank, Stream::Err, prompt, &shared, &over, pumping);
            self.or_say(thread(format!("stderr {rank}"), go));
        }
        if let (Some(to), RankStdin::Fed(fed)) =
            (child.stdin.take(), std::mem::replace(&mut self.stdin, RankStdin::Null))
        {
            let report = shared.report.clone();
            self.or_say(thread(format!("stdin {rank}"), move || feeder(to, &fed, &*report)));
        }

        let ended = wait_without_reaping(leader);
        shared.ended(FromAgent::Exited { rank, ended });
        // The unreaped leader keeps the group's number from being given to others: the kill below hits ours only.
        let held = drained.recv_timeout(DRAIN) == Err(RecvTimeoutError::Timeout);
        kill_process_group(leader, Signal::KILL).unwrap_or_default();
        if held || shared.ranks.len() <= FEW {
            session::kill(&[leader]);
        }
        shared.guard.forget(leader);
        *lock(&slot) = None;
        drop(child.wait());
        // Nobody writes any more; what was written goes out, however slow its reader is.
        rustix::io::write(&*over, &1u64.to_ne_bytes()).unwrap_or_default();
        drained.recv().unwrap_or_default();
    }

    fn tell(&mut self, started: Result<()>) {
        if started.is_err() {
            self.shared.failed.store(true, Ordering::Release);
        }
        if let Some(starter) = self.started.take() {
            starter.send(started).unwrap_or_default();
        }
    }

    /// A thread that cannot be had: the rank's output would be lost, so it must not go unnoticed.
    fn or_say(&self, done: Result<()>) {
        if let Err(e) = done {
            let text = format!("aeolian: error: {e}\n");
            self.shared.report.output(self.rank, Stream::Err, text.as_bytes()).unwrap_or_default();
        }
    }
}

/// Starts a thread with a small stack.
pub(crate) fn thread(name: String, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let what = format!("starting the thread `{name}`");
    std::thread::Builder::new()
        .name(name)
        .stack_size(STACK)
        .spawn(run)
        .map(drop)
        .map_err(LaunchError::os(what))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait_without_reaping(leader: Pid) -> Ended {
    loop {
        match rustix::process::waitid(WaitId::Pid(leader), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(Some(status)) => {
                return match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Ended::Code(code),
                    (None, Some(signal)) => Ended::Signal(signal),
                    (None, None) => Ended::Code(i32::from(aeolian_net::exit::INTERNAL)),
                };
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            // Cannot happen while we are the only one who waits for it; do not wait for ever.
            Err(_) => return Ended::Code(i32::from(aeolian_net::exit::OS)),
        }
    }
}

fn pump(
    mut from: impl Read + AsFd,
    rank: u32,
    stream: Stream,
    prompt: bool,
    shared: &Shared,
    over: &OwnedFd,
    _end: Sender<()>,
) {
    let mut lines = Lines::default();
    let mut buffer = vec![0u8; 64 << 10];
    let mut out = |data: &[u8]| shared.report.output(rank, stream, data);
    // What the pipe still held when the rank was over: a process that has escaped may write for ever.
    let mut rest = None;
    loop {
        if rest.is_none() {
            let asks = prompt && lines.pending();
            let mut fds = [PollFd::new(&from, PollFlags::IN), PollFd::new(over, PollFlags::IN)];
            match rustix::event::poll(&mut fds, asks.then_some(&PROMPT)) {
                Ok(0) if asks && lines.flush(&mut out).is_err() => return,
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) if !fds[1].revents().is_empty() => {
                    rest = Some(rustix::io::ioctl_fionread(&from).unwrap_or(0));
                }
                Ok(_) | Err(_) => {}
            }
        }
        let most = rest.map_or(buffer.len(), |rest| buffer.len().min(rest as usize));
        if most == 0 {
            break;
        }
        match from.read(&mut buffer[..most]) {
            Ok(0) => break,
            // Returning closes the stream: the rank gets SIGPIPE at its next write, as in any pipeline.
            Ok(n) if lines.push(&buffer[..n], &mut out).is_err() => return,
            Ok(n) => rest = rest.map(|rest| rest.saturating_sub(n as u64)),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    lines.flush(&mut out).unwrap_or_default();
}

fn feeder(mut to: std::process::ChildStdin, fed: &Receiver<Option<Vec<u8>>>, report: &dyn Report) {
    let mut open = true;
    while let Ok(Some(data)) = fed.recv() {
        // A rank that does not read its input must not keep the launcher from going on: the rest is dropped.
        open = open && to.write_all(&data).is_ok();
        report.event(FromAgent::StdinTaken(data.len() as u32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::spec::PROTOCOL;

    #[derive(Default)]
    struct Heard(Mutex<Vec<FromAgent>>);

    impl Report for Heard {
        fn output(&self, _rank: u32, _stream: Stream, _data: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn event(&self, event: FromAgent) {
            lock(&self.0).push(event);
        }
    }

    /// The error of a start that fails, and all that was reported until the last rank's life was over.
    fn failed_start(program: &str, cpus: Vec<Option<CpuSet>>) -> (String, Vec<FromAgent>) {
        let spec = HostSpec {
            protocol: PROTOCOL,
            host: "n1".into(),
            ranks: vec![0, 1, 2],
            size: 3,
            program: program.into(),
            args: vec!["1000".into()],
            wdir: "/".into(),
            env: vec![],
            bind: None,
            stdin_rank: None,
            prompt: false,
            secret: vec![],
        };
        let heard = Arc::new(Heard::default());
        let Err(e) = Agent::start(spec, program.into(), cpus, StdinFrom::Null, heard.clone()) else {
            panic!("it was started")
        };
        let begin = std::time::Instant::now();
        while Arc::strong_count(&heard) > 1 {
            assert!(begin.elapsed() < Duration::from_secs(20), "a rank lives on");
            std::thread::sleep(Duration::from_millis(1));
        }
        (e.to_string(), std::mem::take(&mut *lock(&heard.0)))
    }

    #[test]
    fn of_a_start_that_fails_no_end_is_reported() {
        let (error, heard) = failed_start("/no/such", vec![None; 3]);
        assert!(error.contains("starting rank"), "{error}");
        assert!(heard.is_empty(), "{heard:?}");
        // A process cannot be bound to no processor: one rank is not started, and the others are killed.
        let (error, heard) = failed_start("/bin/sleep", vec![None, Some(CpuSet::new()), None]);
        assert!(error.contains("starting rank 1"), "{error}");
        assert!(heard.iter().all(|event| matches!(event, FromAgent::Started { .. })), "{heard:?}");
    }
}
