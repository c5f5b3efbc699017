//! The control thread of a rank.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::connect::ControlConfig;
use super::hooks;
use super::protocol::{JobInfo, Pulse, StopReason, ToMaster, ToRank, decode, encode};
use super::shared::{Shared, locked};
use crate::error::{Blame, NetError, Result};
use crate::exit;
use crate::noise::{NoiseStream, Readiness, poll_ready};

/// What the main thread has, once it has been told of the failure, to return and run destructors.
const GRACE: Duration = Duration::from_millis(500);
/// Between two ranks' printing that the master is lost: usually the lowest survivor ends the job before the next.
const STAGGER: Duration = Duration::from_millis(100);
const LONGEST_STAGGER: Duration = Duration::from_secs(3);

pub(super) struct ControlThread {
    shared: Arc<Shared>,
    stream: NoiseStream,
    config: ControlConfig,
    hang: Duration,
    master: String,
    heard: Instant,
    beat: Instant,
    pulse: Pulse,
    changed: Instant,
    told_aware: bool,
}

enum End {
    /// All ranks have finished.
    Finished,
    /// The master has said so.
    Failed(Blame),
    /// The master is gone.
    MasterLost(String),
}

impl ControlThread {
    pub(super) fn new(
        shared: Arc<Shared>,
        stream: NoiseStream,
        config: ControlConfig,
        info: &JobInfo,
        addr: SocketAddr,
    ) -> Self {
        // Rank 0 hosts the master where no launcher does; whoever hosts it, its address tells.
        let host = info.cards.first().filter(|card| card.data.is_some_and(|data| data.ip() == addr.ip()));
        let master = match host {
            Some(card) => format!("{} ({addr})", card.host),
            None => addr.to_string(),
        };
        let now = Instant::now();
        ControlThread {
            shared,
            stream,
            config,
            hang: info.settings.hang_timeout,
            master,
            heard: now,
            beat: now,
            pulse: Pulse::new(),
            changed: now,
            told_aware: false,
        }
    }

    pub(super) fn spawn(self) -> Result<std::thread::JoinHandle<()>> {
        std::thread::Builder::new()
            .name("aeolian-control".into())
            .stack_size(256 << 10)
            .spawn(move || self.run())
            .map_err(NetError::os("starting the control thread"))
    }

    fn run(mut self) {
        let end = loop {
            match self.turn() {
                Ok(None) => {}
                Ok(Some(end)) => break end,
                Err(error) => break End::MasterLost(error.to_string()),
            }
        };
        let shared = Arc::clone(&self.shared);
        match end {
            End::Finished => {
                hooks::forget(&shared);
                drop(self);
                let mut inbox = locked(&shared.inbox);
                inbox.all_finished = true;
                inbox.thread_ended = true;
                drop(inbox);
                shared.wake_main();
            }
            End::Failed(blame) => {
                shared.reported.store(true, Ordering::Release);
                let code = shared.fail_with(blame).code;
                self.leave(code, GRACE);
            }
            End::MasterLost(how) => {
                let blame = Blame {
                    code: exit::MASTER_LOST,
                    rank: None,
                    host: String::new(),
                    pid: 0,
                    phase: String::new(),
                    cause: format!("rank {} lost the job master at {}: {how}", shared.rank, self.master),
                    remedy: "see how the process that hosts it (the launcher, or rank 0) or its host ended"
                        .into(),
                };
                let code = shared.fail_with(blame.clone()).code;
                std::thread::sleep((STAGGER * shared.rank).min(LONGEST_STAGGER));
                (self.config.report)(&blame);
                shared.reported.store(true, Ordering::Release);
                shared.wake_main();
                self.leave(code, GRACE);
            }
        }
    }

    /// The end of a failed rank.
    fn leave(self, code: u8, grace: Duration) {
        if self.config.exit_on_failure {
            std::thread::sleep(grace);
            hooks::end_process(code);
        }
        locked(&self.shared.inbox).thread_ended = true;
        self.shared.wake_main();
    }

    fn turn(&mut self) -> Result<Option<End>> {
        let before = Instant::now();
        let mut events = PollFlags::IN;
        if self.stream.wants_write() {
            events |= PollFlags::OUT;
        }
        let mut fds = [
            PollFd::from_borrowed_fd(self.stream.as_fd(), events),
            PollFd::from_borrowed_fd(self.shared.wake_read.as_fd(), PollFlags::IN),
        ];
        let patience = self.beat.saturating_duration_since(before);
        poll_ready(&mut fds, patience)?;
        let (socket, woken) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if socket && let Some(end) = self.read()? {
            return Ok(Some(end));
        }
        if woken {
            self.drain_wakes()?;
        }
        for message in self.shared.take_queue() {
            self.send(&message)?;
        }
        let stopping = self.shared.stop.get().is_some();
        if stopping && !self.told_aware && self.shared.aware.load(Ordering::Relaxed) {
            self.told_aware = true;
            self.send(&ToMaster::StopSeen { aware: true })?;
        }
        let now = Instant::now();
        // If we ourselves stood still (SIGSTOP, suspended), the silence is ours.
        let stall = now.saturating_duration_since(before).saturating_sub(patience);
        if stall > self.hang / 4 {
            self.heard += stall;
        }
        if now >= self.beat {
            self.beat = now + self.hang / 5;
            let heartbeat = self.heartbeat(now);
            self.send(&heartbeat)?;
        }
        self.stream.write_some()?;
        let silent = now.saturating_duration_since(self.heard);
        if silent >= self.hang {
            return Ok(Some(End::MasterLost(format!(
                "it has been silent for {:.1} s",
                silent.as_secs_f64()
            ))));
        }
        Ok(None)
    }

    fn send(&mut self, message: &ToMaster) -> Result<()> {
        self.stream.queue(&encode(message)?)
    }

    fn heartbeat(&mut self, now: Instant) -> ToMaster {
        let pulse = self.shared.pulse();
        if pulse != self.pulse {
            self.pulse = pulse.clone();
            self.changed = now;
        }
        let since_ms = now.saturating_duration_since(self.changed).as_millis() as u64;
        ToMaster::Heartbeat(Pulse { since_ms, ..pulse })
    }

    fn drain_wakes(&mut self) -> Result<()> {
        let mut bytes = [0u8; 64];
        while let Ok(n) = rustix::io::read(&self.shared.wake_read, &mut bytes) {
            for signal in bytes[..n].iter().filter(|byte| **byte != 0) {
                let reason = StopReason::signal(i32::from(*signal), Some(self.shared.rank));
                self.send(&ToMaster::StopAsked(reason))?;
            }
            if n < bytes.len() {
                break;
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Option<End>> {
        // Last words may stand before an error.
        let state = self.stream.read_some();
        while let Some(bytes) = self.stream.next_message()? {
            self.heard = Instant::now();
            match decode(&bytes)? {
                ToRank::Abort(blame) | ToRank::Refused(blame) => return Ok(Some(End::Failed(blame))),
                ToRank::AllFinished => return Ok(Some(End::Finished)),
                ToRank::Exchanged { seq, parts } => {
                    locked(&self.shared.inbox).exchanged = Some((seq, parts));
                    self.shared.wake_main();
                }
                ToRank::Stop(reason) => {
                    let _ = self.shared.stop.set(reason);
                    let aware = self.shared.aware.load(Ordering::Relaxed);
                    self.told_aware = aware;
                    self.send(&ToMaster::StopSeen { aware })?;
                    self.shared.wake_main();
                }
                ToRank::Welcome(_) | ToRank::Missing { .. } | ToRank::HeartbeatAck => {}
            }
        }
        match state? {
            Readiness::Open => Ok(None),
            Readiness::Closed => Ok(Some(End::MasterLost("it closed the connection".into()))),
        }
    }
}
