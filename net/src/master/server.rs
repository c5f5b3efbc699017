//! The job master's sockets, clock and thread.

use super::state::{Action, ConnId, Event, Outcome, RankExit, RankView, Rules, State};
use crate::control::protocol::{self, JobId, JobSettings, StopReason};
use crate::error::{Blame, NetError, Result};
use crate::noise::{NoiseStream, Readiness, Role, prologue};
use crate::secret::Secret;
use crate::transport::Bell;
use rustix::event::{PollFd, PollFlags};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Connections that have not proven themselves: how many at a time, of one address that is not this host, and for how long.
const UNPROVEN: usize = 64;
const UNPROVEN_OF_ONE: usize = 32;
const UNPROVEN_TIME: Duration = Duration::from_secs(5);
/// After so long such a connection makes room if others wait at the door.
const UNPROVEN_TURN: Duration = Duration::from_millis(300);
/// For so long nobody is let in once the system has no descriptors left.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// A master that is dropped gives its last words so long to leave.
const LINGER: Duration = Duration::from_secs(2);
/// A proven connection must register within this.
const UNREGISTERED_TIME: Duration = Duration::from_secs(10);
/// A rank that reads so little that this much waits for it is closed.
const BACKLOG: usize = 64 << 20;

/// What a master is started with.
pub struct MasterConfig {
    /// Where to listen (a free port is chosen).
    pub bind: IpAddr,
    /// Ranks there will be.
    pub size: u32,
    /// The job's secret.
    pub secret: Secret,
    /// The job.
    pub job: JobId,
    /// Its incarnation.
    pub epoch: u32,
    /// What the ranks have in common.
    pub settings: JobSettings,
    /// From the first rank's registration to the last one's.
    pub start_timeout: Duration,
    /// A launcher watches the processes and will call [`Master::rank_exited`] for each.
    pub exit_reports_expected: bool,
    /// Called once, when the job fails.
    pub report: Box<dyn Fn(&Blame) + Send + Sync>,
}

struct Shared {
    commands: Mutex<Vec<Event>>,
    bell: Bell,
    view: Mutex<(Vec<RankView>, Option<Outcome>)>,
    decided: Condvar,
    quit: AtomicBool,
    drained: AtomicBool,
    joined: AtomicBool,
    all_finished: AtomicBool,
}

/// A running job master. Dropping it ends its thread, after what was decided has been told.
pub struct Master {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Conn {
    id: ConnId,
    /// There may be something to read.
    ready: bool,
    stream: NoiseStream,
    since: Instant,
    spoke: bool,
    closing: bool,
}

impl Master {
    /// Listens and starts the thread.
    ///
    /// # Errors
    /// [`NetError::Os`] if the address cannot be listened on.
    pub fn start(config: MasterConfig) -> Result<Master> {
        let listener = TcpListener::bind((config.bind, 0))
            .map_err(NetError::os(format!("listening as job master on {}", config.bind)))?;
        listener.set_nonblocking(true).map_err(NetError::os("listening as job master"))?;
        // The standard library's queue is short for a node full of ranks that come at once.
        let _ = rustix::net::listen(&listener, crate::limits::BACKLOG as i32);
        let address = listener.local_addr().map_err(NetError::os("asking for the job master's port"))?;
        let shared = Arc::new(Shared {
            commands: Mutex::new(Vec::new()),
            bell: Bell::new()?,
            view: Mutex::new((Vec::new(), None)),
            decided: Condvar::new(),
            quit: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            joined: AtomicBool::new(false),
            all_finished: AtomicBool::new(false),
        });
        let server = Server {
            context: prologue("control", config.job, config.epoch),
            state: State::new(
                Rules {
                    size: config.size,
                    job: config.job,
                    epoch: config.epoch,
                    settings: config.settings,
                    start_timeout: config.start_timeout,
                    exit_reports_expected: config.exit_reports_expected,
                },
                Instant::now(),
            ),
            secret: config.secret,
            report: config.report,
            listener,
            conns: Vec::new(),
            next: 0,
            deaf_until: None,
            tick: (config.settings.hang_timeout / 10)
                .clamp(Duration::from_millis(5), Duration::from_millis(250)),
            shared: shared.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("aeolian-master".into())
            .stack_size(512 << 10)
            .spawn(move || server.run())
            .map_err(NetError::os("starting the job master's thread"))?;
        Ok(Master { shared, address, thread: Some(thread) })
    }

    /// Where ranks register.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    fn tell(&self, event: Event) {
        self.shared.commands.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        if let Ok(ringer) = self.shared.bell.ringer() {
            ringer.ring();
        }
    }

    /// The launcher has started a rank.
    pub fn spawned(&self, rank: u32, host: impl Into<String>, pid: u32) {
        self.tell(Event::Spawned { rank, host: host.into(), pid });
    }

    /// The launcher has seen a rank's process end.
    pub fn rank_exited(&self, rank: u32, exit: RankExit) {
        self.tell(Event::Exited { rank, exit });
    }

    /// Asks the ranks to end in good order; programs that never look for it end at once, with its code.
    pub fn stop(&self, reason: StopReason) {
        self.tell(Event::StopAsked(reason));
    }

    /// The job has failed.
    pub fn fail(&self, blame: Blame) {
        self.tell(Event::Fail(blame));
    }

    /// How the job ended, if it does within `limit`.
    pub fn wait(&self, limit: Duration) -> Option<Outcome> {
        let view = self.shared.view.lock().unwrap_or_else(PoisonError::into_inner);
        let (view, _) = self
            .shared
            .decided
            .wait_timeout_while(view, limit, |v| v.1.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        view.1.clone()
    }

    /// What is known of the ranks (a quarter of a second old at most).
    pub fn snapshot(&self) -> Vec<RankView> {
        self.shared.view.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// True once a rank has registered.
    pub fn anyone_joined(&self) -> bool {
        self.shared.joined.load(Ordering::Acquire)
    }

    /// True once all ranks have said FINISHED.
    pub fn all_finished(&self) -> bool {
        self.shared.all_finished.load(Ordering::Acquire)
    }

    /// Waits until every rank has been told how the job ended and has hung up, `limit` at most.
    pub fn drain(&self, limit: Duration) {
        self.drainer()(limit);
    }

    /// [`Master::drain`] for who cannot hold on to the master: an exit handler.
    pub(crate) fn drainer(&self) -> impl Fn(Duration) + Send + Sync + use<> {
        let shared = self.shared.clone();
        move |limit| {
            let end = Instant::now() + limit;
            while !shared.drained.load(Ordering::Acquire) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::Release);
        if let Ok(ringer) = self.shared.bell.ringer() {
            ringer.ring();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Server {
    context: Vec<u8>,
    state: State,
    secret: Secret,
    report: Box<dyn Fn(&Blame) + Send + Sync>,
    listener: TcpListener,
    conns: Vec<Conn>,
    next: ConnId,
    /// Nobody is let in before this.
    deaf_until: Option<Instant>,
    tick: Duration,
    shared: Arc<Shared>,
}

impl Server {
    fn run(mut self) {
        let mut ticked = Instant::now();
        let mut end: Option<Instant> = None;
        loop {
            self.poll(self.tick.saturating_sub(ticked.elapsed()));
            // Who has something to say says it before it may have to make room for others.
            self.read();
            self.accept();
            let commands =
                std::mem::take(&mut *self.shared.commands.lock().unwrap_or_else(PoisonError::into_inner));
            for event in commands {
                let actions = self.state.handle(Instant::now(), event);
                self.act(actions);
            }
            let tick = ticked.elapsed() >= self.tick;
            if tick {
                ticked = Instant::now();
                let actions = self.state.tick(ticked);
                self.act(actions);
            }
            self.write_and_reap();
            self.publish(tick);
            if self.shared.quit.load(Ordering::Acquire) {
                // A stopped rank never takes its last words.
                let since = *end.get_or_insert_with(Instant::now);
                if self.conns.iter().all(|c| !c.stream.wants_write()) || since.elapsed() > LINGER {
                    return;
                }
            }
        }
    }

    fn poll(&mut self, limit: Duration) {
        let mut limit = limit;
        let mut fds = Vec::with_capacity(self.conns.len() + 2);
        for conn in &self.conns {
            let mut flags = PollFlags::IN;
            if conn.stream.wants_write() {
                flags |= PollFlags::OUT;
            }
            fds.push(PollFd::from_borrowed_fd(conn.stream.fd(), flags));
        }
        fds.push(PollFd::from_borrowed_fd(self.shared.bell.fd(), PollFlags::IN));
        if self.may_accept() {
            fds.push(PollFd::new(&self.listener, PollFlags::IN));
        } else {
            // Somebody may wait at the door, and nothing tells when there is room.
            limit = limit.min(Duration::from_millis(50));
        }
        let limit =
            rustix::event::Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos() as i64 };
        // A failing poll (EINTR, ENOMEM) only means that everything is looked at.
        let all = rustix::event::poll(&mut fds, Some(&limit)).is_err();
        let ready: Vec<bool> = fds.iter().map(|fd| all || !fd.revents().is_empty()).collect();
        self.conns.iter_mut().zip(ready).for_each(|(conn, ready)| conn.ready = ready);
        self.shared.bell.clear();
    }

    fn unproven(&self) -> impl Iterator<Item = &Conn> {
        self.conns.iter().filter(|c| !c.stream.is_proven())
    }

    /// False while the room before the proof is full of connections that have just come: the others wait in the system's
    /// queue.
    fn may_accept(&self) -> bool {
        self.deaf_until.is_none_or(|until| Instant::now() >= until)
            && (self.unproven().count() < UNPROVEN
                || self.unproven().any(|c| c.since.elapsed() >= UNPROVEN_TURN))
    }

    fn accept(&mut self) {
        while self.may_accept() {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    if !self.make_room(peer.ip()) {
                        continue;
                    }
                    if let Ok(stream) = NoiseStream::new(stream, Role::Responder, &self.secret, &self.context)
                    {
                        self.next += 1;
                        let since = Instant::now();
                        let id = self.next;
                        self.conns.push(Conn {
                            id,
                            ready: true,
                            stream,
                            since,
                            spoke: false,
                            closing: false,
                        });
                    }
                }
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(e) => {
                    if e.kind() != ErrorKind::WouldBlock {
                        // Out of descriptors or memory: the listener stays ready, and must not keep us busy.
                        self.deaf_until = Some(Instant::now() + EXHAUSTED);
                    }
                    return;
                }
            }
        }
    }

    /// Ends the unproven connection that has been there longest, where there are too many; false if all have just come.
    /// Those go first that have not even shown a first message made with the secret.
    fn make_room(&mut self, ip: IpAddr) -> bool {
        let far = !ip.to_canonical().is_loopback();
        let same = |c: &&Conn| c.stream.peer_addr().ip() == ip;
        let of_one = far && self.unproven().filter(same).count() >= UNPROVEN_OF_ONE;
        if !of_one && self.unproven().count() < UNPROVEN {
            return true;
        }
        let crowd = self.unproven().filter(|c| !of_one || same(c));
        let oldest = crowd
            .filter(|c| c.since.elapsed() >= UNPROVEN_TURN)
            .min_by_key(|c| (c.stream.is_answered(), c.since))
            .map(|c| c.id);
        self.conns.retain(|c| Some(c.id) != oldest);
        oldest.is_some()
    }

    fn read(&mut self) {
        for at in 0..self.conns.len() {
            if !self.conns[at].ready && self.conns[at].spoke {
                continue;
            }
            let mut gone = false;
            match self.conns[at].stream.read_some() {
                Ok(Readiness::Open) => {}
                Ok(Readiness::Closed) | Err(_) => gone = true,
            }
            loop {
                let conn = &mut self.conns[at];
                match conn.stream.next_message() {
                    Ok(Some(bytes)) => {
                        let (id, from) = (conn.id, conn.stream.peer_addr().ip());
                        let first = !std::mem::replace(&mut conn.spoke, true);
                        match protocol::decode(&bytes, &conn.stream.peer_addr().to_string()) {
                            Ok(message) => {
                                let actions = self.state.handle(Instant::now(), Event::Message(id, message));
                                self.act(actions);
                            }
                            Err(_) if first => {
                                let garbled = Event::Garbled { conn: id, from };
                                let actions = self.state.handle(Instant::now(), garbled);
                                self.act(actions);
                                break;
                            }
                            Err(_) => {
                                gone = true;
                                break;
                            }
                        }
                    }
                    Ok(None) => break,
                    Err(_) => {
                        gone = true;
                        break;
                    }
                }
            }
            let conn = &mut self.conns[at];
            let limit = if conn.stream.is_proven() { UNREGISTERED_TIME } else { UNPROVEN_TIME };
            if gone || (!conn.spoke && conn.since.elapsed() > limit) {
                let id = conn.id;
                conn.stream.mark_closed();
                let actions = self.state.handle(Instant::now(), Event::Closed(id));
                self.act(actions);
            }
        }
        self.conns.retain(|c| !c.stream.is_closed());
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(id, message) => self.queue(&[id], &message),
                Action::SendAll(ids, message) => self.queue(&ids, &message),
                Action::Close(id) => {
                    self.conns.iter_mut().filter(|c| c.id == id).for_each(|c| c.closing = true);
                }
                Action::Report(blame) => (self.report)(&blame),
            }
        }
    }

    fn queue(&mut self, ids: &[ConnId], message: &protocol::ToRank) {
        let Ok(bytes) = protocol::encode(message) else { return };
        for id in ids {
            // They are in the order in which they have come.
            if let Ok(at) = self.conns.binary_search_by_key(id, |c| c.id) {
                let _ = self.conns[at].stream.queue(&bytes);
            }
        }
    }

    fn write_and_reap(&mut self) {
        let mut gone = Vec::new();
        for conn in &mut self.conns {
            let failed = conn.stream.write_some().is_err();
            if failed || conn.stream.backlog() > BACKLOG || (conn.closing && !conn.stream.wants_write()) {
                gone.push(conn.id);
            }
        }
        for id in gone {
            self.conns.retain(|c| c.id != id);
            let actions = self.state.handle(Instant::now(), Event::Closed(id));
            self.act(actions);
        }
    }

    fn publish(&self, ticked: bool) {
        let mut view = self.shared.view.lock().unwrap_or_else(PoisonError::into_inner);
        if ticked || view.1.as_ref() != self.state.outcome() {
            view.0 = self.state.snapshot(Instant::now());
        }
        if view.1.as_ref() != self.state.outcome() {
            view.1 = self.state.outcome().cloned();
            self.shared.decided.notify_all();
        }
        drop(view);
        self.shared.joined.store(self.state.anyone_joined(), Ordering::Release);
        self.shared.all_finished.store(self.state.all_finished(), Ordering::Release);
        let drained = self.state.outcome().is_some() && !self.state.anybody_connected();
        self.shared.drained.store(drained, Ordering::Release);
    }
}
