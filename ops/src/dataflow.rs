//! [`Dataflow`]: what the operators of a rank share.

use crate::error::Result;
use crate::memory::Memory;
use crate::plan::LogicalPlan;
use crate::spill::{Spill, SpillOptions};
use aeolian_net::memory::Budget;
use aeolian_net::{Layout, World};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// How operators work. [`Options::detect`] suits what a rank has; tests and programs change single fields.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes that the operators of this rank may keep in memory together.
    pub memory: u64,
    /// Bytes of a batch. Where there are many targets, batches are smaller: those that an operator fills take an eighth of the memory, or 4 KiB
    /// for each target if that is more.
    pub batch: usize,
    /// Where what does not fit goes, and how. What it holds ([`SpillOptions::memory`]) comes on top of `memory`.
    pub spill: SpillOptions,
    /// How messages go between nodes. All ranks must have the same.
    pub ways: Ways,
}

/// How an operator's messages go between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ways {
    /// By node where one rank would otherwise send to many of other nodes, and what goes to all targets of a node goes there once.
    #[default]
    Suitable,
    /// From each rank to each rank that has something to get.
    Direct,
    /// To one rank of each other node, which passes it on inside the node: messages grow with the number of nodes, not of ranks.
    ByNode,
}

/// A batch that moves at the speed of memory, and stays in the cache on its way.
const BATCH: usize = 256 << 10;
/// A smaller batch costs more to send than to fill.
const LEAST: usize = 4 << 10;
/// The same where small batches go together in one message.
const LEAST_OF_FRAME: usize = 512;
/// A rank that would send to more ranks of other nodes sends by node. (Measured on four hosts: with this many, little that all say to all takes half as long
/// by node, and what fills batches takes a tenth longer.)
const MANY: usize = 16;
/// A share of the detected budget: the rest is for the program, for messages under way and for what the system needs.
const SHARE: (u64, u64) = (3, 4);

impl Options {
    /// Three quarters of the rank's [`Budget`].
    ///
    /// # Errors
    /// As [`Budget::detect`].
    pub fn detect(layout: &Layout, rank: u32) -> Result<Options> {
        let budget = Budget::detect(ranks_beside(layout, rank))?;
        // Blocks carry a number of their job: none that another one can have left is taken for ours.
        let job = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let job = job.map_or(0, |t| t.as_nanos() as u64) ^ u64::from(std::process::id()) << 40;
        let spill = SpillOptions::from_env(job, rank);
        Ok(Options { memory: share(budget.bytes), batch: BATCH, spill, ways: Ways::default() })
    }

    /// The same with no more than this for all ranks of the node together: what a program's `--memory` says.
    #[must_use]
    pub fn within(mut self, bytes: u64, layout: &Layout, rank: u32) -> Options {
        self.memory = self.memory.min(share(bytes / ranks_beside(layout, rank) as u64));
        self
    }
}

/// What operators get of a rank's budget.
fn share(bytes: u64) -> u64 {
    bytes / SHARE.1 * SHARE.0
}

/// Ranks on the node of this rank.
fn ranks_beside(layout: &Layout, rank: u32) -> usize {
    layout.node_of.get(rank as usize).map_or(1, |node| layout.ranks_on(*node).count()).max(1)
}

/// What the operators of one rank on one world share: its wires, the memory budget, how they work.
///
/// All ranks of the world make their operators in the same order.
#[derive(Clone)]
pub struct Dataflow {
    shared: Rc<Shared>,
    streaming: Option<Streaming>,
}

/// How streams go ([`Dataflow::streaming`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streaming {
    /// A record waits no longer than this for others that go to the same target, if its rank [progresses](crate::Operator::progress) the operator in time.
    /// What comes faster goes together; what comes slower goes at once.
    pub latency: Duration,
}

impl Default for Streaming {
    /// 50 microseconds: up to 20 000 messages a second to a target, each of which then has what has come meanwhile.
    fn default() -> Streaming {
        Streaming { latency: Duration::from_micros(50) }
    }
}

struct Shared {
    world: World,
    memory: Rc<Memory>,
    spill: Spill,
    options: Options,
    operators: Cell<u64>,
}

impl Dataflow {
    /// With the options that suit this rank.
    ///
    /// # Errors
    /// As [`Budget::detect`].
    pub fn new(world: &World) -> Result<Dataflow> {
        Ok(Dataflow::with(world, Options::detect(world.layout(), world.rank())?))
    }

    /// With other options. (Each rank may have others.)
    pub fn with(world: &World, options: Options) -> Dataflow {
        let memory = Memory::new(options.memory);
        let spill = Spill::new(options.spill.clone());
        let shared = Shared { world: world.handle(), memory, spill, options, operators: Cell::new(0) };
        Dataflow { shared: Rc::new(shared), streaming: None }
    }

    /// The same, for streams: operators that are made with it need no end. Their records go while they come, they have
    /// [watermarks](crate::Operator::watermark), and what a receiver does not take stays with the sources instead of on a disk.
    ///
    /// Those that give something only when all sources have finished are not to be had so.
    ///
    /// ```
    /// use aeolian_ops::{Batch, Dataflow, Direct, Insert, LogicalPlan, Operator, Streaming, drive, taking};
    /// let world = aeolian_net::World::alone();
    /// let flow = Dataflow::new(&world)?.streaming(Streaming::default());
    /// let sum = std::cell::Cell::new(0);
    /// let take = taking(|_target, batch: Batch<u64>| sum.set(sum.get() + batch.sum::<u64>()));
    /// let mut op = Direct::new(&flow, &LogicalPlan::each_rank(&world), take)?;
    /// op.insert_all(0, [1, 2])?;
    /// // It has come, though the source has not finished.
    /// drive(&mut op, |_| Ok((sum.get() == 3).then_some(())))?;
    /// op.finish(0)?;
    /// op.complete()?;
    /// # Ok::<(), aeolian_ops::OpsError>(())
    /// ```
    #[must_use]
    pub fn streaming(&self, streaming: Streaming) -> Dataflow {
        Dataflow { shared: self.shared.clone(), streaming: Some(streaming) }
    }

    /// How streams go, if it is for them.
    pub(crate) fn streams(&self) -> Option<Streaming> {
        self.streaming
    }

    /// The world that operators are on.
    pub fn world(&self) -> &World {
        &self.shared.world
    }

    /// What operators keep in memory.
    pub fn memory(&self) -> &Rc<Memory> {
        &self.shared.memory
    }

    /// What operators write to scratch files.
    pub fn spill(&self) -> &Spill {
        &self.shared.spill
    }

    /// Number of the next operator.
    pub(crate) fn number(&self) -> u64 {
        let number = self.shared.operators.get() + 1;
        self.shared.operators.set(number);
        number
    }

    /// Bytes of a batch where a rank fills one for each of so many targets.
    pub(crate) fn batch_bytes(&self, targets: usize) -> usize {
        self.share_of_batches(targets, LEAST)
    }

    /// The same where small batches go together in one message.
    pub(crate) fn frame_bytes(&self, targets: usize) -> usize {
        self.share_of_batches(targets, LEAST_OF_FRAME)
    }

    fn share_of_batches(&self, targets: usize, least: usize) -> usize {
        let Options { memory, batch, .. } = &self.shared.options;
        let share = usize::try_from(memory / 8).unwrap_or(usize::MAX) / targets.max(1);
        (*batch).min(share.max(least)).max(1)
    }

    /// Whether the messages of an operator go by node. All ranks answer alike.
    pub(crate) fn is_by_node(&self, plan: &LogicalPlan, is_to_all: bool) -> bool {
        let Layout { node_of, hosts } = self.world().layout();
        // node -> ranks there with targets
        let mut targets = vec![0usize; hosts.len()];
        plan.target_ranks().into_iter().for_each(|rank| targets[node_of[rank as usize] as usize] += 1);
        let all: usize = targets.iter().sum();
        let several = hosts.len() > 1 && targets.iter().any(|of_node| *of_node > 1);
        match self.shared.options.ways {
            Ways::Direct => false,
            Ways::ByNode => several,
            Ways::Suitable => several && (is_to_all || targets.iter().any(|of_node| all - of_node > MANY)),
        }
    }
}

impl std::fmt::Debug for Dataflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shared { world, options, operators, .. } = &*self.shared;
        let streaming = self.streaming;
        write!(f, "Dataflow({world:?}, {options:?}, {streaming:?}, {} operators so far)", operators.get())
    }
}
