//! A rank's connection to the job master.

use super::keeper::Keeper;
use super::protocol::{Activity, Card, JobId, JobInfo, PROTOCOL, ToMaster, ToRank, decode, encode};
use crate::error::{Blame, NetError, Result};
use crate::noise::{NoiseStream, Role, prologue};
use crate::secret::Secret;
use crate::supervisor::{OpName, Supervisor};
use crate::transport::{Bell, Ringer};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long a failure may take to get to the master.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long [`Control::fail`] waits for the verdict (the master may wait a second for a better explanation).
const VERDICT: Duration = Duration::from_millis(2500);
/// How long a master may hang up on our proof (it does so while strangers crowd its door) before we believe that it means us.
const HANG_UPS: Duration = Duration::from_secs(8);
/// A master that is there lets us in again within this.
const AGAIN: Duration = Duration::from_secs(2);

/// How a control thread behaves.
pub struct ControlConfig {
    /// End this process when the job has failed and the main thread does not (off for ranks that are threads of a test).
    pub exit_on_abort: bool,
    /// The job master is a thread of rank 0, which may be stopped together with it.
    pub master_is_rank_0: bool,
    /// Shows a failure of which only this rank can know: the loss of the job master.
    pub report: Box<dyn Fn(&Blame) + Send + Sync>,
}

/// A proven connection, before registration.
pub struct Pending {
    stream: NoiseStream,
    master: SocketAddr,
    secret: Secret,
    job: JobId,
    epoch: u32,
}

/// What all ranks gave in one exchange, by rank.
pub(super) type Parts = Vec<Vec<u8>>;

pub(super) struct Shared {
    pub(super) rank: u32,
    pub(super) host: String,
    pub(super) op: AtomicPtr<OpName>,
    pub(super) seq: AtomicU64,
    pub(super) waiting: AtomicBool,
    pub(super) progress: AtomicU64,
    pub(super) failed: AtomicBool,
    pub(super) failure: OnceLock<Blame>,
    pub(super) stop: AtomicBool,
    pub(super) listens: AtomicBool,
    pub(super) finished: AtomicBool,
    pub(super) all_finished: AtomicBool,
    /// Nothing queued that the system has not taken.
    pub(super) flushed: (Mutex<bool>, Condvar),
    pub(super) outbox: Mutex<Vec<ToMaster>>,
    pub(super) ringer: Ringer,
    pub(super) exchanged: (Mutex<HashMap<u64, Parts>>, Condvar),
    pub(super) rounds: AtomicU64,
    pub(super) waker: Mutex<Option<Box<dyn Fn() + Send>>>,
    pub(super) signals: [AtomicI32; 3],
    /// Nobody listens to signals any more: they do again what the system does with them.
    pub(super) deaf: Arc<AtomicBool>,
    pub(super) config: ControlConfig,
    pub(super) quit: AtomicBool,
    /// Ranks of this node but this one, with their processes.
    pub(super) mates: Vec<(u32, u32)>,
    /// Host and process of rank 0.
    pub(super) first: (String, u32),
}

/// This rank's end of the control plane. Dropping it closes the connection.
pub struct Control {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Control {
    /// Connects to the job master and proves the secret; tries again while nobody listens there, until `limit`, and, for
    /// 8 s at most, when the master hangs up on us before the proof.
    ///
    /// # Errors
    /// [`NetError::Lost`] if nobody answers in time, [`NetError::NotAllowed`] if the master does not know our secret,
    /// [`NetError::Os`] if the address makes no sense.
    pub fn connect(
        addr: SocketAddr,
        secret: &Secret,
        job: JobId,
        epoch: u32,
        limit: Duration,
    ) -> Result<Pending> {
        let deadline = Instant::now() + limit;
        let context = prologue("control", job, epoch);
        let mut pause = Duration::from_millis(2);
        let mut hung_up: Option<Instant> = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let problem = match TcpStream::connect_timeout(&addr, left) {
                // Nobody listens at a port of our own host, and the system has connected us with ourselves.
                Ok(stream) if stream.local_addr().is_ok_and(|own| own == addr) => {
                    "nobody listens there".into()
                }
                Ok(stream) => {
                    let mut stream = NoiseStream::new(stream, Role::Initiator, secret, &context)?;
                    match stream.prove(deadline) {
                        Ok(()) => {
                            return Ok(Pending { stream, master: addr, secret: secret.clone(), job, epoch });
                        }
                        Err(e @ NetError::Lost { .. }) => {
                            if hung_up.get_or_insert_with(Instant::now).elapsed() >= HANG_UPS {
                                return Err(not_allowed(addr));
                            }
                            e.to_string()
                        }
                        Err(e) => return Err(e),
                    }
                }
                Err(e) if may_pass(e.kind()) => format!("cannot connect: {e}"),
                Err(e) => {
                    return Err(NetError::os(format!("connecting to the job master at {addr}"))(e));
                }
            };
            if Instant::now() + pause >= deadline {
                return Err(match hung_up {
                    Some(_) => not_allowed(addr),
                    None => NetError::Lost { peer: format!("the job master at {addr}"), what: problem },
                });
            }
            // Not all ranks of a node at the same moment.
            std::thread::sleep(pause + Duration::from_micros(u64::from(std::process::id() % 64) * 50));
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    /// The operation that this rank is in now; a few stores.
    pub fn enter(&self, op: &'static OpName, seq: u64) {
        self.shared.seq.store(seq, Ordering::Relaxed);
        self.shared.op.store(std::ptr::from_ref(op).cast_mut(), Ordering::Release);
    }

    /// This rank computes again.
    pub fn leave(&self) {
        self.shared.op.store(std::ptr::null_mut(), Ordering::Relaxed);
    }

    /// Whether this rank sleeps until something arrives: all ranks that do so for ever wait for one another.
    pub fn waiting(&self, yes: bool) {
        self.shared.waiting.store(yes, Ordering::Release);
    }

    /// Something has moved.
    pub fn progressed(&self) {
        self.shared.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Why the job has failed, if it has: one load in the good case.
    pub fn failure(&self) -> Option<&Blame> {
        if self.shared.failed.load(Ordering::Acquire) { self.shared.failure.get() } else { None }
    }

    /// True once the job is asked to end in good order. The first call promises that this program listens.
    pub fn stop_requested(&self) -> bool {
        if !self.shared.listens.load(Ordering::Relaxed) {
            self.shared.listens.store(true, Ordering::Relaxed);
        }
        self.shared.stop.load(Ordering::Acquire)
    }

    /// Tells the master that this rank has failed, or (code [`exit::RANK_LOST`](crate::exit::RANK_LOST) and another's number) that it lost another
    /// one, which yields for a second to first-hand knowledge. Returns when the verdict has come, which may be an earlier
    /// cause: see [`Control::failure`]; after 2.5 s in any case.
    pub fn fail(&self, blame: Blame) {
        if self.shared.has_failed() {
            return;
        }
        self.shared.send_and_flush(ToMaster::Failed(blame));
        self.shared.wait_for_verdict(VERDICT);
    }

    /// Says FINISHED.
    pub fn say_finished(&self) {
        self.shared.finished.store(true, Ordering::Release);
        self.shared.send(ToMaster::Finished);
    }

    /// True once all ranks have said so.
    pub fn all_finished(&self) -> bool {
        self.shared.all_finished.load(Ordering::Acquire)
    }

    /// Every rank gives a few bytes and gets all of them, by rank; doubles as a barrier outside of the data plane.
    ///
    /// # Errors
    /// [`NetError::JobFailed`], or [`NetError::TimedOut`] after `limit`.
    pub fn exchange(&self, bytes: &[u8], limit: Duration) -> Result<Vec<Vec<u8>>> {
        // A round may still come to its end after the verdict; none begins after it.
        if let Some(blame) = self.failure() {
            return Err(NetError::JobFailed(Box::new(blame.clone())));
        }
        let seq = self.shared.rounds.fetch_add(1, Ordering::Relaxed);
        self.shared.send(ToMaster::Exchange { seq, bytes: bytes.to_vec() });
        let (rounds, arrived) = &self.shared.exchanged;
        let done = |rounds: &mut HashMap<u64, _>| {
            !rounds.contains_key(&seq) && !self.shared.failed.load(Ordering::Acquire)
        };
        let (mut rounds, _) =
            arrived.wait_timeout_while(lock(rounds), limit, done).unwrap_or_else(PoisonError::into_inner);
        match (rounds.remove(&seq), self.failure()) {
            (Some(all), _) => Ok(all),
            (None, Some(blame)) => Err(NetError::JobFailed(Box::new(blame.clone()))),
            (None, None) => Err(NetError::TimedOut {
                what: format!("exchange {seq} among the ranks"),
                seconds: limit.as_secs(),
                help: "a rank did not come to it".into(),
            }),
        }
    }

    /// Called, from the control thread, when the main thread should look up: failure, stop request, all finished.
    pub fn set_waker(&self, waker: Box<dyn Fn() + Send>) {
        *lock(&self.shared.waker) = Some(waker);
    }

    /// Panic messages, an exit without farewell, and signals of this process now go to this job. Once a process.
    pub fn install_process_hooks(&self) {
        super::hooks::install(&self.shared);
    }
}

impl Supervisor for Control {
    fn enter(&self, op: &'static OpName, seq: u64) {
        Control::enter(self, op, seq);
    }
    fn leave(&self) {
        Control::leave(self);
    }
    fn waiting(&self, yes: bool) {
        Control::waiting(self, yes);
    }
    fn progressed(&self) {
        Control::progressed(self);
    }
    fn failure(&self) -> Option<Blame> {
        Control::failure(self).cloned()
    }
    fn fail(&self, blame: Blame) {
        Control::fail(self, blame);
    }
    fn say_finished(&self) -> Result<()> {
        Control::say_finished(self);
        Ok(())
    }
    fn all_finished(&self) -> bool {
        Control::all_finished(self)
    }
    fn stop_requested(&self) -> bool {
        Control::stop_requested(self)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // After a stop request this rank is about to end: its own copy of the signal may come later than the master's word.
        let stopping = self.shared.stop.load(Ordering::Acquire);
        self.shared.deaf.store(!stopping, Ordering::Release);
        self.shared.hang_up();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Pending {
    /// This host's address on the way to the master: where its other connections belong too.
    ///
    /// # Errors
    /// [`NetError::Os`] if the system does not tell.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Sends the registration, and waits for the master's first word. A crowded master may have hung up on a connection whose proof it had not read
    /// yet, which this end cannot know: then there is another one.
    fn first_answer(&mut self, registration: &[u8], deadline: Instant) -> Result<Vec<u8>> {
        let began = Instant::now();
        loop {
            let sent = self.stream.send(registration, deadline);
            match sent.and_then(|()| self.stream.receive(deadline)) {
                Err(lost @ NetError::Lost { .. }) if began.elapsed() < HANG_UPS => {
                    // Nobody there any more: what was lost is what there is to tell.
                    let again = Control::connect(self.master, &self.secret, self.job, self.epoch, AGAIN);
                    let Ok(Pending { stream, .. }) = again else { return Err(lost) };
                    self.stream = stream;
                }
                outcome => return outcome,
            }
        }
    }

    /// Registers and waits until all ranks have (the master bounds that; `limit` is for its silence).
    ///
    /// # Errors
    /// [`NetError::NotAllowed`] with the master's reason if it refuses, [`NetError::JobFailed`] if the job fails first.
    pub fn register(
        mut self,
        card: Card,
        limit: Duration,
        config: ControlConfig,
    ) -> Result<(Control, JobInfo)> {
        let (rank, host) = (card.rank, card.host.clone());
        let peer = format!("the job master at {}", self.master);
        let deadline = Instant::now() + limit;
        let words = encode(&ToMaster::Register { protocol: PROTOCOL, card })?;
        let mut early_stop = None;
        let mut answer = self.first_answer(&words, deadline)?;
        let info = loop {
            match decode(&answer, &peer)? {
                ToRank::Welcome(info) => break info,
                ToRank::Refused(what) => {
                    return Err(NetError::NotAllowed { peer: format!("rank {rank}"), what });
                }
                ToRank::Abort(blame) => return Err(NetError::JobFailed(Box::new(blame))),
                ToRank::Stop(reason) => early_stop = Some(reason),
                other => {
                    return Err(NetError::Protocol { peer, what: format!("{other:?} before the welcome") });
                }
            }
            answer = self.stream.receive(deadline)?;
        };
        let bell = Bell::new()?;
        let shared = Arc::new(Shared {
            rank,
            host,
            op: AtomicPtr::new(std::ptr::null_mut()),
            seq: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
            progress: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            failure: OnceLock::new(),
            stop: AtomicBool::new(false),
            listens: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            all_finished: AtomicBool::new(false),
            flushed: (Mutex::new(true), Condvar::new()),
            outbox: Mutex::new(Vec::new()),
            ringer: bell.ringer()?,
            exchanged: (Mutex::new(HashMap::new()), Condvar::new()),
            rounds: AtomicU64::new(0),
            waker: Mutex::new(None),
            signals: [const { AtomicI32::new(-1) }; 3],
            deaf: Arc::new(AtomicBool::new(false)),
            config,
            quit: AtomicBool::new(false),
            mates: mates(&info, rank),
            first: info.cards.first().map(|c| (c.host.clone(), c.pid)).unwrap_or_default(),
        });
        let mut keeper = Keeper {
            stream: self.stream,
            peer,
            shared: shared.clone(),
            bell,
            hang: info.settings.hang_timeout,
            stop_grace: info.settings.stop_grace,
            heard: Instant::now(),
            beat: Instant::now(),
            stop_by: None,
            end_by: None,
            parent: rustix::process::getppid(),
        };
        if let Some(reason) = early_stop {
            keeper.stop(&reason);
        }
        let thread = std::thread::Builder::new()
            .name("aeolian-control".into())
            .stack_size(256 << 10)
            .spawn(move || keeper.run())
            .map_err(NetError::os("starting the control thread"))?;
        Ok((Control { shared, thread: Some(thread) }, info))
    }
}

/// Errors of `connect` that pass when the other end gets ready or the network does.
fn may_pass(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::TimedOut
            | ErrorKind::WouldBlock
            | ErrorKind::Interrupted
            | ErrorKind::AddrNotAvailable
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
    )
}

fn not_allowed(addr: SocketAddr) -> NetError {
    NetError::NotAllowed {
        peer: format!("the job master at {addr}"),
        what: "it hangs up on our proof: it has another secret, job or attempt of it (or is no job master at all)"
            .into(),
    }
}

/// The other ranks of this rank's node, with their processes.
fn mates(info: &JobInfo, rank: u32) -> Vec<(u32, u32)> {
    let Some(me) = info.cards.get(rank as usize) else { return vec![] };
    info.cards.iter().filter(|c| c.node == me.node && c.rank != rank).map(|c| (c.rank, c.pid)).collect()
}

/// True if the process runs our own program (and is not somebody else's that got its number).
pub(super) fn is_one_of_us(pid: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    let file = |pid: &str| std::fs::metadata(format!("/proc/{pid}/exe")).map(|m| (m.dev(), m.ino()));
    matches!((file("self"), file(&pid.to_string())), (Ok(ours), Ok(theirs)) if ours == theirs)
}

impl Shared {
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The code of the verdict, once the job has failed.
    pub(super) fn verdict_code(&self) -> Option<u8> {
        self.failure.get().map(|blame| blame.code)
    }

    /// Ends a hung rank of this node: some launchers (Hydra) wait for ever for a stopped process to take their SIGTERM.
    pub(super) fn put_down(&self, rank: u32) {
        if self.config.exit_on_abort
            && let Some(&(_, pid)) = self.mates.iter().find(|m| m.0 == rank)
            && is_one_of_us(pid)
            && let Some(pid) = rustix::process::Pid::from_raw(pid as i32)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    /// Lets the control thread end, once all is sent.
    pub(super) fn hang_up(&self) {
        self.quit.store(true, Ordering::Release);
        self.ringer.ring();
    }

    pub(super) fn send(&self, message: ToMaster) {
        // In this order: the control thread must not take an empty box for this message sent.
        lock(&self.outbox).push(message);
        *lock(&self.flushed.0) = false;
        self.ringer.ring();
    }

    pub(super) fn send_and_flush(&self, message: ToMaster) {
        self.send(message);
        let (flushed, changed) = &self.flushed;
        let _ = changed.wait_timeout_while(lock(flushed), LAST_WORDS, |done| !*done);
    }

    /// Until the job has failed or finished, which the master's loss also ends.
    fn wait_for_verdict(&self, limit: Duration) {
        let over = || self.failed.load(Ordering::Acquire) || self.all_finished.load(Ordering::Acquire);
        let (rounds, changed) = &self.exchanged;
        let _ = changed.wait_timeout_while(lock(rounds), limit, |_| !over());
    }

    pub(super) fn activity(&self) -> Activity {
        let op = self.op.load(Ordering::Acquire);
        Activity {
            // SAFETY: either null or a `&'static OpName` stored by `enter`.
            op: unsafe { op.as_ref() }.map_or(String::new(), |op| op.0.to_string()),
            seq: self.seq.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Acquire),
            progress: self.progress.load(Ordering::Relaxed),
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*lock(&self.waker) {
            waker();
        }
        // Under the lock, so that nobody between check and wait misses it.
        let _guard = lock(&self.exchanged.0);
        self.exchanged.1.notify_all();
    }
}
