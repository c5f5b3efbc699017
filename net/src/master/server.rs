//! The job master's thread: sockets, clock and queue around [`State`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};

use super::ranks::{RankExit, RankView};
use super::state::{Action, ConnId, Event, Outcome, State, StateConfig};
use crate::control::protocol::{JobId, JobSettings, StopReason, decode, encode};
use crate::error::{Blame, NetError, Result};
use crate::exit;
use crate::noise::{NoiseStream, Readiness, Role, poll_ready, prologue};
use crate::secret::Secret;

/// Unproven connections at a time.
const UNPROVEN: usize = 64;
/// The same, of one address that is not this host.
const UNPROVEN_OF_ONE: usize = 32;
/// How long a connection may stay unproven.
const UNPROVEN_TIME: Duration = Duration::from_secs(5);
/// After so long an unproven connection makes room if others wait.
const UNPROVEN_TURN: Duration = Duration::from_millis(300);
/// What may wait for a rank that does not read.
const MAX_BACKLOG: usize = 64 << 20;
/// How long the end waits for the ranks to hang up.
const LINGER: Duration = Duration::from_secs(2);

/// What a job master needs.
pub struct MasterConfig {
    /// Address to listen at (the port is the system's choice): loopback unless hosts are named.
    pub bind: IpAddr,
    /// Number of ranks.
    pub size: u32,
    /// The job's secret.
    pub secret: Secret,
    /// The job.
    pub job: JobId,
    /// Which attempt this is: ranks of another one are not let in.
    pub epoch: u32,
    /// What all ranks are told.
    pub settings: JobSettings,
    /// How long the ranks may take to come.
    pub start_timeout: Duration,
    /// Whether [`Master::rank_exited`] will be called for every rank: lost connections then wait up to 1 s for it.
    pub exit_reports_expected: bool,
    /// Called once with the cause of a failure, from the master's thread, before the ranks hear of it.
    pub report: Box<dyn Fn(&Blame) + Send>,
}

impl MasterConfig {
    /// For a job on this host: loopback, 60 s to start, no exit reports, failures printed to standard error.
    pub fn local(size: u32, secret: Secret, job: JobId) -> Self {
        MasterConfig {
            bind: IpAddr::from([127, 0, 0, 1]),
            size,
            secret,
            job,
            epoch: 0,
            settings: JobSettings::default(),
            start_timeout: Duration::from_secs(60),
            exit_reports_expected: false,
            report: Box::new(|blame| eprintln!("aeolian: {blame}")),
        }
    }
}

/// A running job master. Dropping it waits up to 2 s until the ranks have got its last words.
pub struct Master {
    shared: Arc<Shared>,
    addr: SocketAddr,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    started: Instant,
    state: Mutex<State>,
    queue: Mutex<Vec<Event>>,
    wake: OwnedFd,
    ending: AtomicBool,
    outcome: Mutex<Option<Outcome>>,
    decided: Condvar,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Master {
    /// Listens and starts the thread.
    ///
    /// # Errors
    /// [`NetError::Os`] if the address cannot be listened at or no thread can be had; [`NetError::Usage`] for no ranks.
    pub fn start(config: MasterConfig) -> Result<Master> {
        if config.size == 0 {
            return Err(NetError::Usage("a job needs at least one rank".into()));
        }
        let place = format!("listening at {} for the ranks of the job", config.bind);
        let listen = || -> std::io::Result<(TcpListener, SocketAddr)> {
            let listener = TcpListener::bind((config.bind, 0))?;
            // The standard library asks for 128; a node full of ranks comes at once.
            rustix::net::listen(&listener, 4096)?;
            listener.set_nonblocking(true)?;
            let addr = listener.local_addr()?;
            Ok((listener, addr))
        };
        let (listener, addr) = listen().map_err(NetError::os(place))?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|error| {
            NetError::Os { what: "making an event descriptor".into(), source: error.into() }
        })?;
        let state = State::new(StateConfig {
            size: config.size,
            job: config.job,
            epoch: config.epoch,
            settings: config.settings.clone(),
            start_timeout: config.start_timeout,
            exit_reports_expected: config.exit_reports_expected,
        });
        let shared = Arc::new(Shared {
            started: Instant::now(),
            state: Mutex::new(state),
            queue: Mutex::new(Vec::new()),
            wake,
            ending: AtomicBool::new(false),
            outcome: Mutex::new(None),
            decided: Condvar::new(),
        });
        let server = Server {
            tick: (config.settings.hang_timeout / 20)
                .clamp(Duration::from_millis(5), Duration::from_millis(100)),
            context: prologue("control", config.job, config.epoch),
            shared: Arc::clone(&shared),
            config,
            listener,
            conns: BTreeMap::new(),
            next: 0,
            deaf_until: None,
        };
        let thread = std::thread::Builder::new()
            .name("aeolian-master".into())
            .stack_size(512 << 10)
            .spawn(move || server.run())
            .map_err(NetError::os("starting the job master's thread"))?;
        Ok(Master { shared, addr, thread: Some(thread) })
    }

    /// Where ranks register. If the job listens at all addresses (`0.0.0.0`), put one that the ranks reach in its place.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Says where a rank's process has been started, so that it can be named before it registers.
    pub fn spawned(&self, rank: u32, host: &str, pid: u32) {
        self.tell(Event::Spawned { rank, host: host.into(), pid });
    }

    /// Says how a rank's process ended.
    pub fn rank_exited(&self, rank: u32, exit: RankExit) {
        self.tell(Event::Exited { rank, exit });
    }

    /// Asks the job to stop in good order; the second time it ends at once.
    pub fn stop(&self, reason: StopReason) {
        self.tell(Event::Stop(reason));
    }

    /// Ends the job.
    pub fn fail(&self, blame: Blame) {
        self.tell(Event::Fail(blame));
    }

    /// Waits until the job is over: every rank said FINISHED (and, if exit reports are expected, every process has
    /// ended), or it failed and the ranks are gone or had 1.5 s to go. `None` after `timeout`.
    pub fn wait(&self, timeout: Duration) -> Option<Outcome> {
        let outcome = locked(&self.shared.outcome);
        let waited = self.shared.decided.wait_timeout_while(outcome, timeout, |outcome| outcome.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Where every rank stands.
    pub fn snapshot(&self) -> Vec<RankView> {
        locked(&self.shared.state).snapshot(self.shared.started.elapsed())
    }

    /// Ranks that are still connected. Once a job has failed and [`Master::wait`] has told so, these did not obey.
    pub fn connected(&self) -> Vec<u32> {
        locked(&self.shared.state).connected()
    }

    fn tell(&self, event: Event) {
        locked(&self.shared.queue).push(event);
        self.wake();
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.shared.wake, &1u64.to_ne_bytes());
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Master {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Master").field("addr", &self.addr).finish_non_exhaustive()
    }
}

struct Conn {
    stream: NoiseStream,
    opened: Instant,
    /// Close it as soon as all is written.
    closing: bool,
    /// A rank has registered by it.
    member: bool,
}

struct Server {
    config: MasterConfig,
    context: Vec<u8>,
    shared: Arc<Shared>,
    listener: TcpListener,
    conns: BTreeMap<ConnId, Conn>,
    next: ConnId,
    tick: Duration,
    /// No accepting before this: out of descriptors.
    deaf_until: Option<Instant>,
}

impl Server {
    fn run(mut self) {
        let mut end: Option<Instant> = None;
        loop {
            let ready = self.wait();
            for id in ready {
                self.read(id);
            }
            let told = std::mem::take(&mut *locked(&self.shared.queue));
            for event in told {
                self.handle(event);
            }
            self.accept();
            self.expire();
            let now = self.shared.started.elapsed();
            let actions = locked(&self.shared.state).tick(now);
            self.perform(actions);
            self.write();
            if self.shared.ending.load(Ordering::Acquire) {
                let over = locked(&self.shared.outcome).is_some();
                let since = *end.get_or_insert_with(Instant::now);
                let peers = self.conns.values().any(|conn| conn.stream.is_proven());
                if (over && !peers) || since.elapsed() >= LINGER {
                    return;
                }
                if !over && since.elapsed() >= LINGER * 2 / 3 {
                    self.handle(Event::Fail(abandoned()));
                    self.write();
                }
            }
        }
    }

    /// Waits for something to do; names the connections to be read.
    fn wait(&mut self) -> Vec<ConnId> {
        let listening = self.may_accept();
        let ids: Vec<ConnId> = self.conns.keys().copied().collect();
        let mut fds = Vec::with_capacity(ids.len() + 2);
        fds.push(PollFd::new(&self.shared.wake, PollFlags::IN));
        fds.push(PollFd::new(&self.listener, if listening { PollFlags::IN } else { PollFlags::empty() }));
        for conn in self.conns.values() {
            let mut events = PollFlags::IN;
            if conn.stream.wants_write() {
                events |= PollFlags::OUT;
            }
            fds.push(PollFd::from_borrowed_fd(conn.stream.as_fd(), events));
        }
        if poll_ready(&mut fds, self.tick).is_err() {
            std::thread::sleep(self.tick);
            return ids;
        }
        let woken = !fds[0].revents().is_empty();
        let ready =
            ids.into_iter().zip(&fds[2..]).filter(|(_, fd)| !fd.revents().is_empty()).map(|(id, _)| id);
        let ready = ready.collect();
        if woken {
            let _ = rustix::io::read(&self.shared.wake, &mut [0u8; 8]);
        }
        ready
    }

    fn handle(&mut self, event: Event) {
        let now = self.shared.started.elapsed();
        let actions = locked(&self.shared.state).handle(now, event);
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(ids, message) => {
                    let Ok(bytes) = encode(&message) else { continue };
                    for id in ids {
                        if let Some(conn) = self.conns.get_mut(&id) {
                            // A broken session shows when it is read or written next.
                            let _ = conn.stream.queue(&bytes);
                        }
                    }
                }
                Action::Close(id) => {
                    if let Some(conn) = self.conns.get_mut(&id) {
                        conn.closing = true;
                    }
                }
                Action::Report(blame) => (self.config.report)(&blame),
                Action::Done(outcome) => {
                    *locked(&self.shared.outcome) = Some(outcome);
                    self.shared.decided.notify_all();
                }
            }
        }
    }

    fn read(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let mut end = match conn.stream.read_some() {
            Ok(Readiness::Open) => None,
            Ok(Readiness::Closed) => Some("closed".to_string()),
            Err(error) => Some(error.to_string()),
        };
        let peer = conn.stream.peer_addr();
        let mut messages = Vec::new();
        loop {
            match conn.stream.next_message().and_then(|bytes| bytes.map(|bytes| decode(&bytes)).transpose()) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => {
                    end = Some(error.to_string());
                    break;
                }
            }
        }
        let spoke = !messages.is_empty();
        for message in messages {
            self.handle(Event::Message { conn: id, peer, message });
        }
        if spoke
            && let Some(conn) = self.conns.get_mut(&id)
            && !conn.member
        {
            conn.member = locked(&self.shared.state).knows(id);
        }
        if let Some(why) = end {
            self.drop_conn(id, why);
        }
    }

    fn write(&mut self) {
        let mut broken = Vec::new();
        for (id, conn) in &mut self.conns {
            let result = conn.stream.write_some();
            if let Err(error) = result {
                broken.push((*id, error.to_string()));
            } else if conn.stream.backlog() > MAX_BACKLOG {
                broken.push((*id, "it does not read what it is sent".into()));
            } else if conn.closing && !conn.stream.wants_write() {
                // Wait for the peer to hang up, so that unread bytes do not reset the connection under our last words.
                conn.stream.shut_down();
                conn.closing = false;
                conn.opened = Instant::now();
            }
        }
        for (id, why) in broken {
            self.drop_conn(id, why);
        }
    }

    fn drop_conn(&mut self, id: ConnId, why: String) {
        if self.conns.remove(&id).is_some() {
            self.handle(Event::Closed { conn: id, why });
        }
    }

    fn unproven(&self) -> impl Iterator<Item = (&ConnId, &Conn)> {
        self.conns.iter().filter(|(_, conn)| !conn.stream.is_proven())
    }

    fn may_accept(&mut self) -> bool {
        if self.deaf_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        self.deaf_until = None;
        self.unproven().count() < UNPROVEN
            || self.unproven().any(|(_, conn)| conn.opened.elapsed() >= UNPROVEN_TURN)
    }

    fn accept(&mut self) {
        while self.may_accept() {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    if !self.make_room(peer.ip()) {
                        continue;
                    }
                    let Ok(stream) =
                        NoiseStream::new(stream, Role::Responder, &self.config.secret, &self.context)
                    else {
                        continue;
                    };
                    self.next += 1;
                    self.conns.insert(
                        self.next,
                        Conn { stream, opened: Instant::now(), closing: false, member: false },
                    );
                }
                Err(error) => {
                    let exhausted = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
                    if error.raw_os_error().is_some_and(|code| exhausted.contains(&code)) {
                        self.deaf_until = Some(Instant::now() + Duration::from_millis(100));
                    }
                    // Whatever else it was (a peer that has gone already): the next turn tries again.
                    return;
                }
            }
        }
    }

    /// Closes the oldest unproven connection where there are too many; `false` if the new one is too many itself.
    fn make_room(&mut self, ip: IpAddr) -> bool {
        let far = !ip.to_canonical().is_loopback();
        let same: Vec<(ConnId, Instant)> = self
            .unproven()
            .filter(|(_, conn)| conn.stream.peer_addr().ip() == ip)
            .map(|(id, conn)| (*id, conn.opened))
            .collect();
        let oldest = if far && same.len() >= UNPROVEN_OF_ONE {
            same.first().copied()
        } else if self.unproven().count() >= UNPROVEN {
            self.unproven().next().map(|(id, conn)| (*id, conn.opened))
        } else {
            return true;
        };
        let crowd = oldest.filter(|(_, opened)| opened.elapsed() >= UNPROVEN_TURN).map(|(id, _)| id);
        match crowd {
            Some(id) => {
                self.conns.remove(&id);
                true
            }
            None => false,
        }
    }

    fn expire(&mut self) {
        let stale: Vec<ConnId> = self
            .conns
            .iter()
            // A proven peer must register, too, before it counts as one of ours.
            .filter(|(_, conn)| !conn.member && conn.opened.elapsed() >= UNPROVEN_TIME)
            .map(|(id, _)| *id)
            .collect();
        for id in stale {
            self.conns.remove(&id);
        }
    }
}

fn abandoned() -> Blame {
    Blame {
        code: exit::MASTER_LOST,
        rank: None,
        host: String::new(),
        pid: 0,
        phase: String::new(),
        cause: "the job master was ended before the job".into(),
        remedy: "the process that hosts it (the launcher, or rank 0) must stay until the job is finished"
            .into(),
    }
}
