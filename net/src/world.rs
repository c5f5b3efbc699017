//! [`World`]: all ranks of a job with the wires between them, as one rank sees them.

use crate::alone::Alone;
use crate::buffer::Buf;
use crate::engine::{Engine, Message, Posted, Traffic};
use crate::error::{Blame, NetError, Result};
use crate::exit;
use crate::master::Master;
use crate::mpi::Mpi;
use crate::supervisor::{OpName, Supervisor, failed};
use crate::transport::{Bell, Transport, TransportKind};
use crate::wait::{Step, WaitPolicy};
use std::time::Duration;

/// Shown for a rank that waits for a message outside of any named operation.
static WAIT: OpName = OpName("recv");

/// How long rank 0 stays, at the end, for the others to hear the job master's verdict.
const LAST_VERDICT: Duration = Duration::from_secs(2);

/// One message stream: its number is the same on every rank because every rank opens its edges in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Edge(pub(crate) u32);

/// Where the ranks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// rank -> index of its node, numbered in order of first appearance
    pub node_of: Vec<u32>,
    /// node -> host name
    pub hosts: Vec<String>,
}

impl Layout {
    pub(crate) fn single(size: u32) -> Layout {
        Layout { node_of: vec![0; size as usize], hosts: vec![crate::node::host_name()] }
    }

    /// The ranks of a node, ascending.
    pub fn ranks_on(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        self.node_of.iter().zip(0..).filter(move |(n, _)| **n == node).map(|(_, r)| r)
    }
}

/// A send that could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum TrySendError {
    /// The receiver has not taken enough of this edge yet: the bytes come back, to be tried again after `progress`.
    #[error("the window of the edge is full")]
    Full(Buf),
    /// Something is wrong.
    #[error(transparent)]
    Failed(#[from] NetError),
}

/// All ranks with the wires between them.
///
/// A world belongs to one thread at a time (`Send`, not `Sync`): messages move only while that thread is in one of its
/// calls. Every rank opens the same edges in the same order.
///
/// ```
/// use aeolian_net::{Buf, World};
/// // Three ranks as threads: each sends its number to the next.
/// let got = World::local(3, |mut world| {
///     let edge = world.open_edge();
///     let next = (world.rank() + 1) % world.size();
///     world.send(edge, next, 0, Buf::from_pod(&[world.rank() as u64]))?;
///     let message = world.recv(edge)?;
///     world.finish()?;
///     Ok(message.body.cast::<u64>()[0])
/// })?;
/// assert_eq!(got, [2, 0, 1]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub struct World {
    rank: u32,
    size: u32,
    engine: Engine,
    supervisor: Box<dyn Supervisor>,
    wake: Option<Bell>,
    layout: Layout,
    policy: WaitPolicy,
    /// Hosted by rank 0 where `aeolian run` is not there to do it.
    master: Option<Master>,
    /// Initialised, though it carries nothing: its launcher wants it finalized.
    mpi: Option<Mpi>,
    /// Address of the `MPI_Comm` while an MPI is in use.
    pub(crate) raw_communicator: Option<usize>,
    finished: bool,
    collectives: u64,
    /// inside `enter` and `leave`
    in_op: Option<(&'static OpName, u64)>,
    /// a wait outside of any operation has got a name
    named_wait: bool,
    /// the supervisor knows that this rank sleeps
    asleep: bool,
}

pub(crate) struct Parts {
    pub(crate) rank: u32,
    pub(crate) size: u32,
    pub(crate) wires: Vec<(Box<dyn Transport>, Vec<u32>)>,
    pub(crate) supervisor: Box<dyn Supervisor>,
    pub(crate) wake: Option<Bell>,
    pub(crate) layout: Layout,
    pub(crate) cores: usize,
}

impl World {
    pub(crate) fn assemble(parts: Parts) -> World {
        let mut engine = Engine::new(parts.rank, parts.size, parts.wires);
        // Edge 0 belongs to the collectives.
        engine.open_edge();
        let mates = parts.layout.ranks_on(parts.layout.node_of[parts.rank as usize]).count();
        World {
            rank: parts.rank,
            size: parts.size,
            policy: WaitPolicy::new(mates, parts.cores, engine.polled()),
            engine,
            supervisor: parts.supervisor,
            wake: parts.wake,
            layout: parts.layout,
            master: None,
            mpi: None,
            raw_communicator: None,
            finished: false,
            collectives: 0,
            in_op: None,
            named_wait: false,
            asleep: false,
        }
    }

    /// Joins the world that this process was started for: finds out who started it (`aeolian run`, `mpirun`, `mpiexec`,
    /// `srun`, or nobody), meets the other ranks and makes the wires.
    ///
    /// One executable serves all launchers; MPI is loaded at run time where there is one. Call it once, early.
    ///
    /// ```no_run
    /// let world = aeolian_net::World::init()?;
    /// println!("rank {} of {}", world.rank(), world.size());
    /// world.finish()?;
    /// # Ok::<(), aeolian_net::NetError>(())
    /// ```
    pub fn init() -> Result<World> {
        crate::bootstrap::init()
    }

    /// A world of the ranks of an rsmpi communicator, inside a program that uses MPI itself (cargo feature `mpi`). All ranks of
    /// `comm` must call this. Messages go on a duplicate of it, inside a node through shared memory; MPI stays the program's
    /// to end, after [`World::finish`].
    ///
    /// # Errors
    /// [`NetError::Mpi`] if MPI refuses to duplicate the communicator, and as [`World::init`].
    #[cfg(feature = "mpi")]
    pub fn from_communicator<C>(comm: &C) -> Result<World>
    where
        C: ::mpi::topology::AsCommunicator,
        C::Out: ::mpi::raw::AsRaw<Raw = ::mpi::ffi::MPI_Comm>,
    {
        crate::bootstrap::from_mpi(crate::mpi::linked::from_communicator(comm)?)
    }

    /// Address of the `MPI_Comm` that this world uses, for calls to MPI of one's own; `None` where it uses none.
    ///
    /// All its ranks are on that communicator, with the same numbers. Only messages with tags below 16384 are the world's.
    pub fn raw_communicator(&self) -> Option<*mut std::ffi::c_void> {
        self.raw_communicator.map(|address| address as *mut std::ffi::c_void)
    }

    pub(crate) fn keep_master(&mut self, master: Option<Master>) {
        self.master = master;
    }

    pub(crate) fn keep_mpi(&mut self, mpi: Mpi) {
        self.mpi = Some(mpi);
    }

    /// A world of one: this process alone.
    pub fn alone() -> World {
        crate::panics::remember();
        World::assemble(Parts {
            rank: 0,
            size: 1,
            wires: Vec::new(),
            supervisor: Box::new(Alone::default()),
            wake: None,
            layout: Layout::single(1),
            cores: 1,
        })
    }

    /// This rank's number, 0..size.
    pub fn rank(&self) -> u32 {
        self.rank
    }

    /// How many ranks there are.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Where the ranks are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The wire between this rank and `peer`.
    pub fn transport_to(&self, peer: u32) -> TransportKind {
        self.engine.kind_to(peer)
    }

    /// The kinds of wire in use between this rank and the others, as one word: `shm`, `shm+tcp`, `self`.
    pub fn transport(&self) -> String {
        let mut kinds: Vec<String> = Vec::new();
        for peer in (0..self.size).filter(|&p| p != self.rank) {
            let kind = self.engine.kind_to(peer).to_string();
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds.sort();
        if kinds.is_empty() { "self".into() } else { kinds.join("+") }
    }

    /// What this rank has moved so far.
    pub fn traffic(&self) -> Traffic {
        self.engine.traffic
    }

    /// Opens the next message stream. Every rank must open its edges in the same order.
    pub fn open_edge(&mut self) -> Edge {
        Edge(self.engine.open_edge())
    }

    /// The stream of the collectives and the number of the next one. Every rank must come here in the same order.
    ///
    /// A message on this stream carries that number in the upper 32 bits of its tag; one that nobody has taken by the
    /// end of the world is an error there: the ranks have called different collectives.
    pub fn next_collective(&mut self) -> (Edge, u64) {
        self.collectives += 1;
        (Edge(0), self.collectives)
    }

    /// Hands a message over, or hands it back if the receiver is behind.
    pub fn try_send(&mut self, edge: Edge, to: u32, tag: u64, body: Buf) -> Result<(), TrySendError> {
        match self.engine.post(edge.0, to, tag, body).map_err(|e| self.sick(e))? {
            Posted::Done => Ok(()),
            Posted::Full(body) => Err(TrySendError::Full(body)),
        }
    }

    /// Hands a message over, moving other messages until the receiver has room for it.
    ///
    /// Two ranks that both send more than a window to each other this way, and neither receives, wait for ever: the job
    /// master finds and names it. Use [`World::try_send`] and receive in between.
    pub fn send(&mut self, edge: Edge, to: u32, tag: u64, body: Buf) -> Result<()> {
        let mut body = Some(body);
        self.wait_until(move |world| {
            let Some(b) = body.take() else { return Ok(Some(())) };
            match world.try_send(edge, to, tag, b) {
                Ok(()) => Ok(Some(())),
                Err(TrySendError::Full(_)) if to == world.rank => Err(NetError::Usage(format!(
                    "rank {to} waits for room to send to itself, and only it could make some\n  help: receive in between, with World::try_send"
                ))),
                Err(TrySendError::Full(b)) => {
                    body = Some(b);
                    Ok(None)
                }
                Err(TrySendError::Failed(e)) => Err(e),
            }
        })
    }

    /// The oldest message of an edge that has arrived, if any has.
    pub fn try_recv(&mut self, edge: Edge) -> Result<Option<Message>> {
        self.engine.take(edge.0, None).map_err(|e| self.sick(e))
    }

    /// As [`World::try_recv`], from one rank.
    pub fn try_recv_from(&mut self, edge: Edge, from: u32) -> Result<Option<Message>> {
        if from >= self.size {
            return Err(NetError::Usage(format!("no rank {from} in a world of {}", self.size)));
        }
        self.engine.take(edge.0, Some(from)).map_err(|e| self.sick(e))
    }

    /// Waits for a message of an edge.
    pub fn recv(&mut self, edge: Edge) -> Result<Message> {
        self.wait_until(|world| match world.try_recv(edge)? {
            None if world.size == 1 => Err(world.only_from_itself()),
            message => Ok(message),
        })
    }

    /// Waits for a message of an edge from one rank.
    pub fn recv_from(&mut self, edge: Edge, from: u32) -> Result<Message> {
        self.wait_until(|world| match world.try_recv_from(edge, from)? {
            None if from == world.rank => Err(world.only_from_itself()),
            message => Ok(message),
        })
    }

    /// A rank's messages to itself have arrived when they are sent: one that is not there will never be.
    fn only_from_itself(&self) -> NetError {
        let rank = self.rank;
        NetError::Usage(format!(
            "rank {rank} waits for a message that only itself could send\n  help: send it before, or use World::try_recv"
        ))
    }

    /// Moves messages; true if anything moved. An error once the job has failed.
    pub fn progress(&mut self) -> Result<bool> {
        if let Some(blame) = self.supervisor.failure() {
            return Err(failed(blame));
        }
        let moved = self.engine.progress().map_err(|e| self.sick(e))?;
        if moved {
            self.supervisor.progressed();
        }
        Ok(moved)
    }

    /// Calls `ready` and moves messages, in turn, until `ready` returns a value. Idle waiting costs no processor time.
    ///
    /// Ranks that all wait and to which nothing more can come are a deadlock, which the job master (of [`World::local`], its
    /// own watch) finds and names. Of a process that is alone nobody knows what it waits for: after ten seconds it says so on
    /// standard error, once.
    pub fn wait_until<T>(&mut self, mut ready: impl FnMut(&mut World) -> Result<Option<T>>) -> Result<T> {
        let result = self.wait_loop(&mut ready);
        self.asleep(false);
        if self.named_wait {
            self.named_wait = false;
            self.supervisor.leave();
        }
        result
    }

    fn wait_loop<T>(&mut self, ready: &mut impl FnMut(&mut World) -> Result<Option<T>>) -> Result<T> {
        let mut idle = 0u32;
        loop {
            if let Some(value) = ready(self)? {
                return Ok(value);
            }
            if self.progress()? {
                // What has come may be much work for `ready`.
                self.asleep(false);
                idle = 0;
                continue;
            }
            match self.policy.step(idle) {
                Step::Spin => std::hint::spin_loop(),
                Step::Yield => std::thread::yield_now(),
                Step::Sleep(limit) => {
                    if self.in_op.is_none() && !self.named_wait {
                        self.named_wait = true;
                        self.supervisor.enter(&WAIT, 0);
                    }
                    self.asleep(true);
                    if limit >= Duration::from_secs(1) || idle % 1024 == 1023 {
                        self.supervisor.blocked();
                    }
                    if self.engine.sleep(self.wake.as_ref(), limit).map_err(|e| self.sick(e))? {
                        self.supervisor.progressed();
                        self.asleep(false);
                        idle = 0;
                        continue;
                    }
                }
            }
            idle = idle.saturating_add(1);
        }
    }

    fn asleep(&mut self, yes: bool) {
        if self.asleep != yes {
            self.asleep = yes;
            self.supervisor.waiting(yes);
        }
    }

    /// Tells whoever watches that this rank is now in the `seq`th operation of that name.
    pub fn enter(&mut self, op: &'static OpName, seq: u64) {
        self.in_op = Some((op, seq));
        self.supervisor.enter(op, seq);
    }

    /// Tells whoever watches that this rank is out of it again.
    pub fn leave(&mut self) {
        self.in_op = None;
        self.supervisor.leave();
    }

    /// True once somebody asked the job to end in good order (Ctrl-C, SIGTERM, SIGUSR1, the end of the wall time). A
    /// program that calls this promises to look again from time to time and to end soon after; one that never calls it
    /// is ended at once. Ranks may see it at different moments: agree (say, in an allreduce) before acting on it.
    pub fn stop_requested(&self) -> bool {
        self.supervisor.stop_requested()
    }

    fn phase(&self) -> String {
        match self.in_op {
            _ if self.finished => "finished".into(),
            Some((op, seq)) => format!("{} #{seq}", op.0),
            None => "compute".into(),
        }
    }

    /// Tells the job that this rank has failed, before it ends: all others end too, with this cause and code.
    pub fn fail(&self, code: u8, cause: impl Into<String>, remedy: impl Into<String>) {
        self.supervisor.fail(Blame {
            code,
            rank: Some(self.rank),
            host: crate::node::host_name(),
            pid: std::process::id(),
            phase: self.phase(),
            cause: cause.into(),
            remedy: remedy.into(),
        });
    }

    /// Tells the job that this rank has panicked, with the words of the last panic of this process.
    pub fn fail_by_panic(&self) {
        let what = crate::panics::last().unwrap_or_else(|| "no message".into());
        let help = match crate::panics::is_broken_pipe(&what) {
            true => "whoever read the output has gone",
            false => "see the panic's own output above",
        };
        self.fail(exit::PANICKED, format!("panicked: {what}"), help);
    }

    /// This rank is done: sends what is still under way, says FINISHED, and waits until all ranks have said so.
    ///
    /// A world that is dropped without this ends the job with an error: success is never an accident.
    pub fn finish(mut self) -> Result<()> {
        self.wait_until(|world| Ok(world.engine.idle().then_some(())))?;
        self.finished = true;
        self.supervisor.say_finished()?;
        self.wait_until(|world| Ok(world.supervisor.all_finished().then_some(())))?;
        while self.engine.progress()? {}
        if let Some(stray) = self.engine.take(0, None)? {
            return Err(NetError::Mismatch {
                rank: self.rank,
                ours: "its end".into(),
                peer: stray.from,
                theirs: format!("collective #{}, of which this rank never took a message", stray.tag >> 32),
            });
        }
        self.engine.close()?;
        if let Some(mpi) = &mut self.mpi {
            mpi.finalize()?;
        }
        Ok(())
    }

    /// An error of the wires: the whole job learns of it.
    fn sick(&self, error: NetError) -> NetError {
        if matches!(error, NetError::JobFailed(_) | NetError::Usage(_)) {
            return error;
        }
        match error.lost_rank().filter(|lost| *lost != self.rank && *lost < self.size) {
            // Who is to blame, if we are right; the job master may know better.
            Some(lost) => self.supervisor.fail(Blame {
                code: exit::RANK_LOST,
                rank: Some(lost),
                host: self.layout.hosts[self.layout.node_of[lost as usize] as usize].clone(),
                pid: 0,
                phase: String::new(),
                cause: error.to_string(),
                remedy: "look at the launcher's and the system's log of that host, and at the network between the hosts".into(),
            }),
            None => self.fail(error.exit_code(), error.to_string(), ""),
        }
        match self.supervisor.failure() {
            // The official cause is not our own trouble: it has been told, and decides the exit code.
            Some(blame) if blame.rank != Some(self.rank) => failed(blame),
            _ => error,
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !self.finished && self.size > 1 {
            if std::thread::panicking() {
                self.fail_by_panic();
            } else {
                self.fail(
                    exit::LEFT_EARLY,
                    "left without having said FINISHED",
                    "end the program with world.finish(), also when it has nothing more to do",
                );
            }
        }
        if let Some(master) = &self.master {
            // Rank 0 must not take the job master away before all have heard its verdict; it hangs up itself first.
            self.supervisor = Box::new(Alone::default());
            master.drain(LAST_VERDICT);
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World(rank {} of {}, {})", self.rank, self.size, self.transport())
    }
}
