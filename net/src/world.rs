//! [`World`]: all ranks of a job with the wires between them, as one rank sees them.

mod core;
mod group;
mod nodes;
mod pending;
mod tuned;

pub use group::{Edge, Layout};
pub use nodes::Nodes;
pub use pending::Pending;

pub(crate) use self::core::Parts;

use self::core::Core;
use crate::alone::Alone;
use crate::buffer::Buf;
use crate::engine::{Class, Message, Posted, Traffic};
use crate::error::{NetError, Result};
use crate::exit;
use crate::master::Master;
use crate::mpi::{Flavor, Mpi};
use crate::shared::Boards;
use crate::supervisor::OpName;
use crate::transport::TransportKind;
use crate::wait::Step;
use group::Group;
use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// How long rank 0 stays, at the end, for the others to hear the job master's verdict.
const LAST_VERDICT: Duration = Duration::from_secs(2);

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

/// All ranks with the wires between them, or some of them: a world made of another ([`World::sub`]) shares its wires.
///
/// Messages move only while the program is in one of a world's calls, on the one thread that made it (a world is neither
/// `Send` nor `Sync`). All ranks of a world open its edges in the same order.
///
/// ```
/// use aeolian_net::{Buf, World};
/// // Three ranks as threads: each sends its number to the next.
/// let got = World::local(3, |mut world| {
///     let edge = world.open_edge()?;
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
    core: Rc<RefCell<Core>>,
    group: Rc<Group>,
    /// The world that `init` made: dropping it without `finish` is a failure of the job.
    owner: bool,
}

impl World {
    pub(crate) fn assemble(parts: Parts) -> World {
        let group = Group::whole(parts.rank, parts.size, parts.layout.clone());
        World { core: Rc::new(RefCell::new(Core::new(parts))), group: Rc::new(group), owner: true }
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

    /// Address of the `MPI_Comm` that this world uses, for calls to MPI of one's own; `None` where it uses none, or is made
    /// of a part of another world's ranks.
    ///
    /// All its ranks are on that communicator, with the same numbers. Only messages with tags below 16384 are the world's.
    pub fn raw_communicator(&self) -> Option<*mut std::ffi::c_void> {
        let address = if self.group.is_whole() { self.core.borrow().raw_communicator } else { None };
        address.map(|address| address as *mut std::ffi::c_void)
    }

    pub(crate) fn keep_raw_communicator(&self, address: Option<usize>) {
        self.core.borrow_mut().raw_communicator = address;
    }

    pub(crate) fn keep_master(&self, master: Option<Master>) {
        self.core.borrow_mut().master = master;
    }

    pub(crate) fn keep_mpi(&self, mpi: Mpi) {
        self.core.borrow_mut().mpi = Some(mpi);
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
        self.group.rank
    }

    /// How many ranks there are.
    pub fn size(&self) -> u32 {
        self.group.size()
    }

    /// Where the ranks are.
    pub fn layout(&self) -> &Layout {
        &self.group.layout
    }

    /// The number that rank `rank` of this world has in the whole job, as reports name it.
    ///
    /// # Errors
    /// [`NetError::Usage`] if this world has no such rank.
    pub fn job_rank(&self, rank: u32) -> Result<u32> {
        self.group.job_rank(rank)
    }

    /// Another handle on this world, for what outlives the call that it is made in (see [`World::spawn`]). Only the one
    /// that `init` made can [`finish`](World::finish) it.
    pub fn handle(&self) -> World {
        World { core: self.core.clone(), group: self.group.clone(), owner: false }
    }

    /// A world of some of this world's ranks, in this order: its rank `i` is `ranks[i]` here. This rank must be one of
    /// them. `context` tells this world's messages from all others': it must be the same on all its ranks, and on each of
    /// them none that was used before ([`World::next_context`] is the lowest such number).
    ///
    /// This is the mechanism only; `aeolian_harp::split` is the collective that agrees on both.
    ///
    /// # Errors
    /// [`NetError::Usage`] if a rank does not exist or is there twice, this rank is not there, or the context was used.
    pub fn sub(&self, ranks: &[u32], context: u32) -> Result<World> {
        let context = self.core.borrow_mut().open_context(context)?;
        let group = Group::part(&self.group, ranks, context)?;
        Ok(World { core: self.core.clone(), group: Rc::new(group), owner: false })
    }

    /// The lowest context that this rank has not used yet.
    pub fn next_context(&self) -> u32 {
        self.core.borrow().next_context
    }

    /// The wire between this rank and `peer`.
    pub fn transport_to(&self, peer: u32) -> TransportKind {
        match self.group.job_rank(peer) {
            Ok(peer) => self.core.borrow().engine.kind_to(peer),
            Err(_) => TransportKind::Myself,
        }
    }

    /// The kinds of wire in use between this rank and the others, as one word: `shm`, `shm+tcp`, `self`.
    pub fn transport(&self) -> String {
        let mut kinds: Vec<String> = Vec::new();
        for peer in (0..self.size()).filter(|&p| p != self.rank()) {
            let kind = self.transport_to(peer).to_string();
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds.sort();
        if kinds.is_empty() { "self".into() } else { kinds.join("+") }
    }

    /// What this rank has moved so far, in all its worlds.
    pub fn traffic(&self) -> Traffic {
        self.core.borrow().engine.traffic
    }

    /// Opens the next message stream of this world. All its ranks must open its edges in the same order.
    ///
    /// # Errors
    /// [`NetError::Usage`] after 65536 edges.
    pub fn open_edge(&self) -> Result<Edge> {
        Ok(Edge(self.core.borrow_mut().engine.open_edge(self.group.context)?))
    }

    /// This rank neither sends nor takes anything on an edge any more: what is left of it in memory goes. A world has 65536 edges, all told.
    pub fn close_edge(&self, edge: Edge) {
        self.core.borrow_mut().engine.close_edge(edge.0);
    }

    /// Another [`WINDOW`](crate::WINDOW) for all edges of the job, the same on all ranks, before any of them has sent anything: for tests, in
    /// which little should fill it.
    #[doc(hidden)]
    pub fn set_window(&self, bytes: u64) {
        self.core.borrow_mut().engine.set_window(bytes);
    }

    /// The stream of this world's collectives and the number of the next one. All ranks must come here in the same order.
    ///
    /// A message on this stream carries that number in the upper 32 bits of its tag, and is sent with [`World::try_send_call`]; one
    /// that nobody has taken by the end of the job is an error there: the ranks have called different collectives.
    pub fn next_collective(&self) -> Result<(Edge, u64)> {
        self.core.borrow().alive()?;
        Ok((Core::call_edge(self.group.context, self.group.calls_on), self.group.begin_call()))
    }

    /// Numbers of the next `count` exposures of this world (see [`shared`](crate::shared)), for the collective `op` that was begun last: the first of
    /// them. All ranks must reserve alike, in the same order.
    pub fn reserve_exposures(&self, count: u64, op: &'static OpName) -> u64 {
        let first = self.group.exposures.get() + 1;
        self.group.exposures.set(first + count - 1);
        self.group.last_op.set(op.0);
        if let Some(boards) = self.boards().as_ref() {
            let (exposure, call) = self.reserved_so_far();
            boards.reserved(exposure, call);
        }
        first
    }

    /// Whether collectives may use memory that ranks share (as at first) or send messages only: to compare, and to test what otherwise
    /// runs between nodes. All ranks must say the same, between collectives; worlds made of this one later inherit it.
    pub fn use_shared_memory(&self, yes: bool) {
        self.group.apart.set(!yes);
    }

    /// Fruitless looks at memory before others should have the core.
    pub fn spins(&self) -> u32 {
        self.core.borrow().policy.spins().min(200)
    }

    pub(crate) fn boards(&self) -> std::cell::Ref<'_, Option<Boards>> {
        self.group.boards.borrow()
    }

    pub(crate) fn reserved_so_far(&self) -> (u64, (u64, &'static str)) {
        (self.group.exposures.get(), (self.group.last_call(), self.group.last_op.get()))
    }

    pub(crate) fn keep_boards(&self) {
        self.core.borrow_mut().boards.push(self.group.boards.clone());
    }

    pub(crate) fn boards_mut(&self) -> std::cell::RefMut<'_, Option<Boards>> {
        self.group.boards.borrow_mut()
    }

    /// `Some(true)` if all ranks are threads of one process, `Some(false)` if they are processes that share memory.
    pub(crate) fn in_threads(&self) -> Option<bool> {
        if self.group.apart.get() || self.group.layout.hosts.len() > 1 {
            return None;
        }
        *self.group.in_threads.get_or_init(|| {
            let kind = |r| self.transport_to(r);
            let mut others = (0..self.size()).filter(|&r| r != self.rank()).map(kind);
            let first = others.next()?;
            if !others.all(|k| k == first) {
                return None;
            }
            match first {
                TransportKind::Local => Some(true),
                TransportKind::Shm => Some(false),
                _ => None,
            }
        })
    }

    pub(crate) fn process_of(&self, job_rank: u32) -> Option<u32> {
        self.core.borrow().engine.process_of(job_rank)
    }

    /// Wakes the other ranks, which share memory with this one, if they sleep.
    pub(crate) fn nudge_all(&self) {
        // Before the look at who sleeps; see `transport::bell`.
        crate::fences::at_work(self.boards().as_ref().is_some_and(Boards::light));
        let core = self.core.borrow();
        for rank in (0..self.size()).filter(|&r| r != self.rank()) {
            if let Ok(job) = self.group.job_rank(rank) {
                core.engine.nudge(job);
            }
        }
    }

    /// The collective of that number is over on this rank.
    pub fn end_collective(&self, seq: u64) {
        self.group.end_call(seq);
    }

    /// Whose MPI's own broadcasts may be begun on this world: that of all ranks of a job that has an MPI for its messages. All its ranks
    /// answer alike.
    pub fn mpi_broadcasts(&self) -> Option<Flavor> {
        let mut core = self.core.borrow_mut();
        core.engine.begun().filter(|_| self.group.is_whole()).map(|begun| begun.flavor())
    }

    /// Makes collective `seq`, whose turn it is once all that this rank began before it are over, begin broadcasts of `bufs`, each from a rank,
    /// which has its bytes; they have the same lengths in the same order on all ranks. Waits for their end, and returns them.
    ///
    /// Ranks may have several collectives under way, of which one is further on one rank and another on another. By the turns all begin
    /// broadcasts in the same order, as MPI wants it. All ranks must come here, or none: know before that all are in this collective,
    /// with buffers of these lengths. One that this rank never [ends](World::end_collective) keeps all later ones from it.
    pub async fn broadcast_by_mpi(&self, seq: u64, bufs: Vec<(Buf, u32)>) -> Result<Vec<Buf>> {
        poll_fn(|_| if self.group.is_first_call(seq) { Poll::Ready(()) } else { Poll::Pending }).await;
        let begin = |(buf, root)| {
            let mut core = self.core.borrow_mut();
            let Some(begun) = core.engine.begun() else {
                return Err(NetError::Usage("this world has no MPI for its messages".into()));
            };
            let begun = begun.broadcast(buf, root);
            begun.map_err(|e| core.sick(e))
        };
        let numbers = bufs.into_iter().map(begin).collect::<Result<Vec<u64>>>()?;
        let mut came = Vec::with_capacity(numbers.len());
        for number in numbers {
            let buf = poll_fn(|_| match self.core.borrow_mut().engine.begun().and_then(|b| b.take(number)) {
                Some(buf) => Poll::Ready(buf),
                None => Poll::Pending,
            });
            came.push(buf.await);
        }
        Ok(came)
    }

    /// The stream of this world's events: messages beside all else, which need no edge of their own.
    pub fn event_edge(&self) -> Edge {
        Core::event_edge(self.group.context)
    }

    /// Hands a message over, or hands it back if the receiver is behind.
    pub fn try_send(&self, edge: Edge, to: u32, tag: u64, body: Buf) -> Result<(), TrySendError> {
        self.post(edge, to, tag, body, Class::Stream)
    }

    /// As [`World::try_send`], for a message of the collective whose number is the upper half of `tag`: it is never held up by
    /// messages of later collectives that the receiver has not come to yet.
    pub fn try_send_call(&self, edge: Edge, to: u32, tag: u64, body: Buf) -> Result<(), TrySendError> {
        self.post(edge, to, tag, body, Class::Call)
    }

    fn post(&self, edge: Edge, to: u32, tag: u64, body: Buf, class: Class) -> Result<(), TrySendError> {
        let to = self.group.job_rank(to)?;
        let mut core = self.core.borrow_mut();
        core.alive()?;
        match core.engine.post(edge.0, to, tag, body, class) {
            Ok(Posted::Done) => Ok(()),
            Ok(Posted::Full(body)) => Err(TrySendError::Full(body)),
            Err(e) => Err(core.sick(e).into()),
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
                Err(TrySendError::Full(_)) if to == world.rank() => Err(NetError::Usage(format!(
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
    pub fn try_recv(&self, edge: Edge) -> Result<Option<Message>> {
        self.take(edge, |_| true)
    }

    /// As [`World::try_recv`], from one rank.
    pub fn try_recv_from(&self, edge: Edge, from: u32) -> Result<Option<Message>> {
        let from = self.group.job_rank(from)?;
        self.take(edge, |m| m.from == from)
    }

    /// As [`World::try_recv`], from one of the ranks that are `wanted`.
    pub fn try_recv_among(&self, edge: Edge, wanted: impl Fn(u32) -> bool) -> Result<Option<Message>> {
        self.take(edge, |m| wanted(self.group.member(m.from)))
    }

    /// As [`World::try_recv_from`], of the collective `seq` of this world.
    ///
    /// # Errors
    /// [`NetError::Mismatch`] if a message of a collective has come that is over on this rank, which it never expected.
    pub fn try_recv_call(&self, edge: Edge, from: u32, seq: u64) -> Result<Option<Message>> {
        let job = self.group.job_rank(from)?;
        let call = seq as u32;
        if let Some(message) = self.take(edge, |m| m.from == job && (m.tag >> 32) as u32 == call)? {
            return Ok(Some(message));
        }
        let core = self.core.borrow();
        match core.engine.first_tag(edge.0, job).map(|tag| tag >> 32) {
            Some(other) if self.group.is_over(other as u32) => Err(core.sick(NetError::Mismatch {
                rank: core.rank,
                ours: format!("collective #{seq}"),
                peer: job,
                theirs: format!("collective #{other}, of which this rank never took a message"),
            })),
            _ => Ok(None),
        }
    }

    fn take(&self, edge: Edge, wanted: impl Fn(&Message) -> bool) -> Result<Option<Message>> {
        let mut core = self.core.borrow_mut();
        match core.engine.take(edge.0, wanted) {
            Ok(message) => Ok(message.map(|m| Message { from: self.group.member(m.from), ..m })),
            Err(e) => Err(core.sick(e)),
        }
    }

    /// Waits for a message of an edge.
    pub fn recv(&mut self, edge: Edge) -> Result<Message> {
        self.wait_until(|world| match world.try_recv(edge)? {
            None if world.size() == 1 => Err(world.only_from_itself()),
            message => Ok(message),
        })
    }

    /// Waits for a message of an edge from one rank.
    pub fn recv_from(&mut self, edge: Edge, from: u32) -> Result<Message> {
        self.wait_until(|world| match world.try_recv_from(edge, from)? {
            None if from == world.rank() => Err(world.only_from_itself()),
            message => Ok(message),
        })
    }

    /// A rank's messages to itself have arrived when they are sent: one that is not there will never be.
    fn only_from_itself(&self) -> NetError {
        let rank = self.rank();
        NetError::Usage(format!(
            "rank {rank} waits for a message that only itself could send\n  help: send it before, or use World::try_recv"
        ))
    }

    /// Moves messages and what was [spawned](World::spawn); true if anything moved. An error once the job has failed.
    pub fn progress(&self) -> Result<bool> {
        let moved = self.core.borrow_mut().progress()?;
        Ok(pending::poll_all(&self.core) || moved)
    }

    /// Whether something was [spawned](World::spawn) that has not ended.
    pub fn has_tasks(&self) -> bool {
        !self.core.borrow().tasks.is_empty()
    }

    /// Calls `ready` and moves messages, in turn, until `ready` returns a value. Idle waiting costs no processor time.
    ///
    /// Ranks that all wait and to which nothing more can come are a deadlock, which the job master (of [`World::local`], its
    /// own watch) finds and names. Of a process that is alone nobody knows what it waits for: after ten seconds it says so on
    /// standard error, once.
    pub fn wait_until<T>(&mut self, mut ready: impl FnMut(&mut World) -> Result<Option<T>>) -> Result<T> {
        let result = self.wait_loop(&mut ready, None);
        self.core.borrow_mut().stop_waiting();
        // (Without an end it does not give up.)
        result?.ok_or_else(|| NetError::Internal("a wait without an end has ended".into()))
    }

    /// The same, until `end` at the latest: then `None`. A rank that waits so is not one that waits for others in vain.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let mut world = aeolian_net::World::alone();
    /// let edge = world.open_edge()?;
    /// let end = Instant::now() + Duration::from_millis(3);
    /// assert!(world.wait_until_or(end, |world| world.try_recv(edge))?.is_none());
    /// assert!(Instant::now() >= end);
    /// # Ok::<(), aeolian_net::NetError>(())
    /// ```
    pub fn wait_until_or<T>(
        &mut self,
        end: Instant,
        mut ready: impl FnMut(&mut World) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let result = self.wait_loop(&mut ready, Some(end));
        self.core.borrow_mut().stop_waiting();
        result
    }

    fn wait_loop<T>(
        &mut self,
        ready: &mut impl FnMut(&mut World) -> Result<Option<T>>,
        end: Option<Instant>,
    ) -> Result<Option<T>> {
        let mut idle = 0u32;
        // Others wake this rank, and it has looked once more since they do.
        let mut armed = false;
        loop {
            if let Some(value) = ready(self)? {
                return Ok(Some(value));
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            if self.progress()? {
                // What has come may be much work for `ready`.
                self.core.borrow_mut().asleep(false);
                idle = 0;
                continue;
            }
            let mut core = self.core.borrow_mut();
            match core.policy.step(idle) {
                Step::Spin => std::hint::spin_loop(),
                Step::Yield => std::thread::yield_now(),
                Step::Sleep(_) if !armed => {
                    core.engine.arm();
                    armed = true;
                    continue;
                }
                Step::Sleep(limit) => {
                    armed = false;
                    if core.sleep(limit, left, idle)? {
                        idle = 0;
                        continue;
                    }
                }
            }
            idle = idle.saturating_add(1);
        }
    }

    /// Tells whoever watches that this rank is now in the `seq`th operation of that name.
    pub fn enter(&self, op: &'static OpName, seq: u64) {
        self.core.borrow_mut().enter(op, seq);
    }

    /// Tells whoever watches that this rank is out of it again.
    pub fn leave(&self) {
        self.core.borrow_mut().leave();
    }

    /// True once somebody asked the job to end in good order (Ctrl-C, SIGTERM, SIGUSR1, the end of the wall time). A
    /// program that calls this promises to look again from time to time and to end soon after; one that never calls it
    /// is ended at once. Ranks may see it at different moments: agree (say, in an allreduce) before acting on it.
    pub fn stop_requested(&self) -> bool {
        self.core.borrow().supervisor.stop_requested()
    }

    /// Tells the job that this rank has failed, before it ends: all others end too, with this cause and code.
    pub fn fail(&self, code: u8, cause: impl Into<String>, remedy: impl Into<String>) {
        self.core.borrow().fail(code, cause.into(), remedy.into());
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

    /// This rank is done: ends what was [spawned](World::spawn), sends what is still under way, says FINISHED, and waits until all ranks
    /// have said so.
    ///
    /// A world that is dropped without this ends the job with an error: success is never an accident.
    ///
    /// # Errors
    /// [`NetError::Usage`] if this is not the world that `init` made; otherwise what went wrong in the job or in a spawned operation
    /// for which nobody waits any more.
    pub fn finish(mut self) -> Result<()> {
        if !self.owner {
            return Err(NetError::Usage(
                "only the world that init made can finish; a part of it, or a handle, just goes".into(),
            ));
        }
        self.wait_until(|world| {
            let core = world.core.borrow();
            Ok((core.tasks.is_empty() && core.engine.idle()).then_some(()))
        })?;
        {
            let mut core = self.core.borrow_mut();
            if let Some(e) = core.unheard.take() {
                // The job hears the cause, not only that this rank left.
                core.fail(e.exit_code(), e.to_string(), String::new());
                return Err(e);
            }
            core.finished = true;
            core.supervisor.say_finished()?;
        }
        self.wait_until(|world| Ok(world.core.borrow().supervisor.all_finished().then_some(())))?;
        self.core.borrow_mut().close()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !self.owner {
            return;
        }
        // A spawned operation holds a handle, and so the core: it must not be in the core when that goes.
        let tasks = std::mem::take(&mut self.core.borrow_mut().tasks);
        drop(tasks);
        let mut core = self.core.borrow_mut();
        if !core.finished && core.size > 1 {
            if std::thread::panicking() {
                drop(core);
                self.fail_by_panic();
                core = self.core.borrow_mut();
            } else {
                core.fail(
                    exit::LEFT_EARLY,
                    "left without having said FINISHED".into(),
                    "end the program with world.finish(), also when it has nothing more to do".into(),
                );
            }
        }
        core.left = true;
        if let Some(master) = core.master.take() {
            // Rank 0 must not take the job master away before all have heard its verdict; it hangs up itself first.
            core.supervisor = Box::new(Alone::default());
            master.drain(LAST_VERDICT);
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World(rank {} of {}, {})", self.rank(), self.size(), self.transport())
    }
}
