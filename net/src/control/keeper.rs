//! The thread that keeps a rank's connection to the job master: heartbeats, verdicts, signals, deadlines.

use super::client::{LAST_WORDS, Shared, is_one_of_us, lock};
use super::protocol::{StopReason, ToMaster, ToRank, decode, encode};
use crate::error::{Blame, NetError, Result};
use crate::exit;
use crate::noise::{NoiseStream, Readiness};
use crate::transport::Bell;
use rustix::event::{PollFd, PollFlags};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the main thread has to end by itself after the job has failed.
const ABORT_GRACE: Duration = Duration::from_millis(500);

/// How long a rank may take to say who is to blame, once it has noticed.
const SPEECH: Duration = Duration::from_millis(200);

/// The control thread.
pub(super) struct Keeper {
    pub(super) stream: NoiseStream,
    pub(super) peer: String,
    pub(super) shared: Arc<Shared>,
    pub(super) bell: Bell,
    pub(super) hang: Duration,
    pub(super) stop_grace: Duration,
    pub(super) heard: Instant,
    pub(super) beat: Instant,
    /// A program that listens has until then.
    pub(super) stop_by: Option<(Instant, Blame)>,
    /// The main thread has until then.
    pub(super) end_by: Option<Instant>,
    /// Who started this process: a launcher, or what it started.
    pub(super) parent: Option<rustix::process::Pid>,
}

impl Keeper {
    pub(super) fn run(mut self) {
        let interval = (self.hang / 5).max(Duration::from_millis(5));
        self.beat = Instant::now() - interval;
        let mut looked = Instant::now();
        loop {
            if looked.elapsed() > self.hang / 2 {
                // It was this process that stood still: the master gets time to say what it decided meanwhile.
                self.heard = Instant::now();
            }
            looked = Instant::now();
            if self.beat.elapsed() >= interval && self.end_by.is_none() {
                self.beat = looked;
                lock(&self.shared.outbox).push(ToMaster::Heartbeat(self.shared.activity()));
            }
            if self.exchange_bytes().is_err() {
                self.master_lost("its connection is gone", false);
            }
            self.signals();
            self.launcher();
            self.deadlines();
            let said_all = self.stream.is_closed() || (!self.stream.wants_write() && self.outbox_empty());
            if self.shared.quit.load(Ordering::Acquire) && said_all {
                self.stream.shut_down();
                return;
            }
            if self.stream.is_closed() && self.end_by.is_none() {
                return;
            }
            self.wait(interval.saturating_sub(self.beat.elapsed()).min(Duration::from_millis(500)));
        }
    }

    fn outbox_empty(&self) -> bool {
        lock(&self.shared.outbox).is_empty()
    }

    fn wait(&self, limit: Duration) {
        let end = self.end_by.filter(|_| self.shared.config.exit_on_abort);
        let limit = end.map_or(limit, |end| limit.min(end.saturating_duration_since(Instant::now())));
        let mut flags = PollFlags::IN;
        if self.stream.wants_write() {
            flags |= PollFlags::OUT;
        }
        let mut fds = vec![PollFd::from_borrowed_fd(self.bell.fd(), PollFlags::IN)];
        if !self.stream.is_closed() {
            fds.push(PollFd::from_borrowed_fd(self.stream.fd(), flags));
        }
        for fd in super::hooks::signal_fds(&self.shared) {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        let limit =
            rustix::event::Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos() as i64 };
        let _ = rustix::event::poll(&mut fds, Some(&limit));
        self.bell.clear();
    }

    fn exchange_bytes(&mut self) -> Result<()> {
        if self.stream.is_closed() {
            return Ok(());
        }
        let messages = std::mem::take(&mut *lock(&self.shared.outbox));
        for message in &messages {
            self.stream.queue(&encode(message)?)?;
        }
        let wrote = self.stream.write_some();
        if !self.stream.wants_write() {
            *lock(&self.shared.flushed.0) = self.outbox_empty();
            self.shared.flushed.1.notify_all();
        }
        let state = self.stream.read_some();
        while let Some(bytes) = self.stream.next_message()? {
            self.heard = Instant::now();
            match decode(&bytes, &self.peer)? {
                ToRank::Beat => {}
                ToRank::Abort(blame) => self.abort(blame),
                ToRank::Stop(reason) => self.stop(&reason),
                ToRank::AllFinished => {
                    self.shared.all_finished.store(true, Ordering::Release);
                    self.shared.wake();
                }
                ToRank::Exchanged { seq, all } => {
                    lock(&self.shared.exchanged.0).insert(seq, all);
                    self.shared.exchanged.1.notify_all();
                }
                ToRank::Refused(what) => return Err(NetError::NotAllowed { peer: self.peer.clone(), what }),
                other @ ToRank::Welcome(_) => {
                    return Err(NetError::Protocol {
                        peer: self.peer.clone(),
                        what: format!("{other:?} twice"),
                    });
                }
            }
        }
        wrote?;
        match state? {
            Readiness::Open => Ok(()),
            Readiness::Closed => {
                self.master_lost("it closed the connection", false);
                Ok(())
            }
        }
    }

    fn abort(&mut self, blame: Blame) {
        if let (exit::RANK_HUNG, Some(rank)) = (blame.code, blame.rank) {
            self.shared.put_down(rank);
        }
        if self.shared.failure.set(blame).is_ok() {
            self.shared.failed.store(true, Ordering::Release);
            self.end_by = Some(Instant::now() + ABORT_GRACE);
            self.shared.wake();
        }
    }

    pub(super) fn stop(&mut self, reason: &StopReason) {
        if self.stop_by.is_some() || self.shared.finished.load(Ordering::Acquire) {
            return;
        }
        let blame = |cause: String| Blame {
            code: reason.code,
            rank: None,
            host: String::new(),
            pid: 0,
            phase: self.shared.activity().phase(),
            cause,
            remedy: "a program that calls world.stop_requested() from time to time can end in good order"
                .into(),
        };
        if self.shared.listens.load(Ordering::Acquire) {
            let grace = self.stop_grace;
            let cause = format!("asked to stop ({}), did not within {} s", reason.what, grace.as_secs_f32());
            self.stop_by = Some((Instant::now() + grace, blame(cause)));
            self.shared.stop.store(true, Ordering::Release);
            self.shared.wake();
        } else {
            let blame = blame(format!("stopped by {}", reason.what));
            self.stop_by = Some((Instant::now() + Duration::from_secs(3600), blame.clone()));
            self.shared.send(ToMaster::Failed(blame));
        }
    }

    fn signals(&mut self) {
        for signal in super::hooks::pending_signals(&self.shared) {
            self.shared.send(ToMaster::Signal(signal));
        }
    }

    /// A launcher of others (mpirun, Hydra's proxy, slurmstepd) that is killed takes nobody with it.
    fn launcher(&mut self) {
        let config = &self.shared.config;
        if !config.exit_on_abort || !config.master_is_rank_0 || rustix::process::getppid() == self.parent {
            return;
        }
        let gone = self.parent.map_or(0, |pid| pid.as_raw_nonzero().get());
        self.parent = rustix::process::getppid();
        self.shared.send(ToMaster::Failed(Blame {
            code: exit::MASTER_LOST,
            rank: Some(self.shared.rank),
            host: self.shared.host.clone(),
            pid: std::process::id(),
            phase: self.shared.activity().phase(),
            cause: format!("the launcher that started it (pid {gone}) is gone: killed, or crashed"),
            remedy: "see why the launcher ended; a wrapper script must stay until the program ends".into(),
        }));
    }

    fn deadlines(&mut self) {
        let now = Instant::now();
        if let Some((by, blame)) = &self.stop_by
            && now >= *by
            && !self.shared.finished.load(Ordering::Acquire)
        {
            let blame = blame.clone();
            self.stop_by = Some((now + Duration::from_secs(3600), blame.clone()));
            self.shared.send(ToMaster::Failed(blame));
        }
        if self.heard.elapsed() > self.hang {
            let silence = format!("it gave no sign of life for {} s", self.hang.as_secs_f32());
            self.master_lost(&silence, true);
        }
        if self.end_by.is_some_and(|end| now >= end) && self.shared.config.exit_on_abort {
            let code = self.shared.failure.get().map_or(exit::INTERNAL, |b| b.code);
            // The main thread may be anywhere, in foreign code too: no destructors, no exit handlers.
            // SAFETY: ends the process; touches no memory of ours.
            unsafe { libc::_exit(i32::from(code)) };
        }
    }

    fn master_lost(&mut self, how: &str, silent: bool) {
        self.stream.mark_closed();
        *lock(&self.shared.flushed.0) = true;
        self.shared.flushed.1.notify_all();
        // After the end a master that hangs up is in order; one that is stopped may hold up all (in MPI_Finalize, say).
        let over = (self.shared.all_finished.load(Ordering::Acquire) && !silent)
            || self.shared.failed.load(Ordering::Acquire)
            || self.shared.quit.load(Ordering::Acquire);
        if over {
            return;
        }
        let shared = &self.shared;
        let blame = if shared.config.master_is_rank_0 {
            let (code, cause) = if silent {
                (
                    exit::RANK_HUNG,
                    format!(
                        "gave no sign of life for {} s (the job master, which it hosts, neither)",
                        self.hang.as_secs_f32()
                    ),
                )
            } else {
                (
                    exit::RANK_LOST,
                    format!(
                        "its connection closed without a farewell: killed, crashed, or its host is gone (it hosted the job master: {how})"
                    ),
                )
            };
            let (host, pid) = shared.first.clone();
            let remedy =
                "look at the launcher's and the system's log of that host (stopped? out of memory?)".into();
            Blame { code, rank: Some(0), host, pid, phase: "unknown".into(), cause, remedy }
        } else {
            Blame {
                code: exit::MASTER_LOST,
                rank: Some(shared.rank),
                host: shared.host.clone(),
                pid: std::process::id(),
                phase: shared.activity().phase(),
                cause: format!("lost {}: {how}", self.peer),
                remedy: "see why aeolian run ended; this rank ends too, as nobody watches over it".into(),
            }
        };
        // All ranks see this at once. The lowest one left on its node speaks; other nodes wait whether the launcher, woken
        // by its end, ends them first.
        let (rank, config) = (self.shared.rank, &self.shared.config);
        let spokesman =
            |m: &(u32, u32)| m.0 < rank && !(config.master_is_rank_0 && m.0 == 0) && is_one_of_us(m.1);
        if config.exit_on_abort && self.shared.mates.iter().any(spokesman) {
            // It may notice a silence later than we, by a heartbeat. If we ended before it has spoken, a launcher might end it
            // unheard.
            std::thread::sleep(if silent { self.hang / 5 + SPEECH } else { SPEECH });
            return self.abort(blame);
        }
        if config.exit_on_abort && rank > 1 && self.shared.mates.iter().all(|m| m.0 > 1) {
            std::thread::sleep(Duration::from_millis(3000 + 100 * u64::from(rank.min(10))));
        }
        (self.shared.config.report)(&blame);
        if config.exit_on_abort && !self.shared.mates.is_empty() {
            // The others must still see the one that has spoken when they notice: at their next heartbeat at the latest.
            std::thread::sleep(if silent { LAST_WORDS.max(self.hang / 5) } else { LAST_WORDS });
        }
        self.abort(blame);
    }
}
