//! The ranks of a [`World`](crate::World): all of the job, or some.

use super::nodes::Nodes;
use crate::error::{NetError, Result};
use crate::shared::Boards;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// One message stream: its number is the same on every rank of its world because all open its edges in the same order.
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

    /// The layout of ranks that are on these nodes, which may be any numbers.
    pub(crate) fn pretended(nodes: &[u32]) -> Layout {
        let mut seen: Vec<u32> = Vec::new();
        let place = |node: &u32| {
            let known = seen.iter().position(|n| n == node);
            known.unwrap_or_else(|| {
                seen.push(*node);
                seen.len() - 1
            }) as u32
        };
        let node_of: Vec<u32> = nodes.iter().map(place).collect();
        Layout { node_of, hosts: seen.iter().map(|node| format!("node{node}")).collect() }
    }

    /// The ranks of a node, ascending.
    pub fn ranks_on(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        self.node_of.iter().zip(0..).filter(move |(n, _)| **n == node).map(|(_, r)| r)
    }

    /// The layout of some of its ranks.
    fn of(&self, ranks: &[u32]) -> Layout {
        let mut nodes: Vec<u32> = Vec::new();
        let node_of = ranks
            .iter()
            .map(|&r| {
                let node = self.node_of[r as usize];
                nodes.iter().position(|&n| n == node).unwrap_or_else(|| {
                    nodes.push(node);
                    nodes.len() - 1
                }) as u32
            })
            .collect();
        Layout { node_of, hosts: nodes.iter().map(|&n| self.hosts[n as usize].clone()).collect() }
    }
}

/// The edge of a context on which a group's collectives are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Calls {
    /// Of the world that has the context.
    OfAll = 0,
    /// Of its ranks on one node, by themselves.
    OfNode = 2,
}

/// Which ranks, and what they count together.
pub(super) struct Group {
    /// Tells its messages from those of other groups.
    pub(super) context: u16,
    pub(super) calls_on: Calls,
    /// This rank's number in it.
    pub(super) rank: u32,
    pub(super) layout: Layout,
    /// For a part of the job's ranks: number here -> number in the job, and back.
    part: Option<(Vec<u32>, HashMap<u32, u32>)>,
    /// Number of the last collective that this rank began.
    calls: Cell<u64>,
    /// Those that it has not ended, ascending.
    open_calls: RefCell<Vec<u64>>,
    /// How many exposures were reserved.
    pub(super) exposures: Cell<u64>,
    pub(super) last_op: Cell<&'static str>,
    pub(super) boards: Rc<RefCell<Option<Boards>>>,
    /// Its collectives are not to use shared memory.
    pub(super) apart: Cell<bool>,
    /// Whether its ranks share memory, and if so, whether they are threads.
    pub(super) in_threads: OnceCell<Option<bool>>,
    /// How its ranks lie on several nodes, if they do.
    pub(super) nodes: OnceCell<Option<Rc<Nodes>>>,
}

impl Group {
    /// All ranks of the job.
    pub(super) fn whole(rank: u32, size: u32, layout: Layout) -> Group {
        debug_assert_eq!(layout.node_of.len(), size as usize);
        Group::new(0, rank, layout, None)
    }

    fn new(context: u16, rank: u32, layout: Layout, part: Option<(Vec<u32>, HashMap<u32, u32>)>) -> Group {
        Group {
            context,
            calls_on: Calls::OfAll,
            rank,
            layout,
            part,
            calls: Cell::new(0),
            open_calls: RefCell::default(),
            exposures: Cell::new(0),
            last_op: Cell::new(""),
            boards: Rc::default(),
            apart: Cell::new(false),
            in_threads: OnceCell::new(),
            nodes: OnceCell::new(),
        }
    }

    /// The `ranks` of `parent`, in this order.
    pub(super) fn part(parent: &Group, ranks: &[u32], context: u16) -> Result<Group> {
        let job = ranks.iter().map(|&r| parent.job_rank(r)).collect::<Result<Vec<_>>>()?;
        let back: HashMap<u32, u32> = job.iter().copied().zip(0..).collect();
        if back.len() != job.len() {
            return Err(NetError::Usage(format!("a rank is twice in a part of a world: {ranks:?}")));
        }
        let Some(&rank) = parent.job_rank(parent.rank).ok().and_then(|me| back.get(&me)) else {
            return Err(NetError::Usage(format!(
                "rank {} is not in the part of the world that it makes: {ranks:?}",
                parent.rank
            )));
        };
        let group = Group::new(context, rank, parent.layout.of(ranks), Some((job, back)));
        group.apart.set(parent.apart.get());
        Ok(group)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.part.is_none()
    }

    pub(super) fn size(&self) -> u32 {
        self.layout.node_of.len() as u32
    }

    pub(super) fn job_rank(&self, rank: u32) -> Result<u32> {
        if rank >= self.size() {
            return Err(NetError::Usage(format!("no rank {rank} in a world of {}", self.size())));
        }
        Ok(self.part.as_ref().map_or(rank, |(job, _)| job[rank as usize]))
    }

    /// The number here of a rank of the job; only members send on this group's edges.
    pub(super) fn member(&self, job: u32) -> u32 {
        self.part.as_ref().map_or(job, |(_, back)| back.get(&job).copied().unwrap_or(u32::MAX))
    }

    pub(super) fn begin_call(&self) -> u64 {
        let seq = self.calls.get() + 1;
        self.begin_call_at(seq);
        seq
    }

    /// Begins the collective of that number; those before it that were not begun never will be.
    pub(super) fn begin_call_at(&self, seq: u64) {
        self.calls.set(seq);
        self.open_calls.borrow_mut().push(seq);
    }

    /// The number of the last collective that this rank began.
    pub(super) fn last_call(&self) -> u64 {
        self.calls.get()
    }

    /// Whether this rank has ended all collectives before that one.
    pub(super) fn is_first_call(&self, seq: u64) -> bool {
        self.open_calls.borrow().first().is_none_or(|&first| first >= seq)
    }

    pub(super) fn end_call(&self, seq: u64) {
        self.open_calls.borrow_mut().retain(|&open| open != seq);
    }

    /// True for a collective (the lower half of its number) that this rank has begun and ended.
    pub(super) fn is_over(&self, call: u32) -> bool {
        let age = (self.calls.get() as u32).wrapping_sub(call) as i32;
        age >= 0 && !self.open_calls.borrow().iter().any(|&open| open as u32 == call)
    }
}
