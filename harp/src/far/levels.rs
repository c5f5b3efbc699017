//! Node first: the ranks of a node come together by shared memory, and one of each node speaks for it between nodes.
//!
//! The part of a call inside a node is a call by itself, of the same ticket, in a world of the node's ranks which `net` keeps. It is begun with the
//! call, so that it has its place among the others of its world however many are under way.

use super::{gather, reduce, team::Team};
use crate::call::{Call, Op};
use crate::collective::broadcast;
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::{HarpError, Result};
use crate::node;
use crate::table::Table;
use aeolian_net::Nodes;
use std::rc::Rc;

/// How many times the part inside a node shows something, of a call of which a whole one does so `of(op)` times.
pub(crate) fn exposures(op: Op, of: impl Fn(Op) -> u64) -> u64 {
    let spread = of(Op::Gather).max(of(Op::Reduce)) + of(Op::Broadcast);
    let exchange = 2 * of(Op::Alltoall);
    match op {
        Op::Barrier => 2 * of(Op::Barrier),
        Op::Broadcast | Op::BroadcastKv | Op::BroadcastSlice => of(Op::Broadcast),
        Op::Reduce | Op::Gather | Op::ReduceKv | Op::ReduceSlice => of(Op::Gather).max(of(Op::Reduce)),
        Op::Allreduce
        | Op::Allgather
        | Op::AllreduceKv
        | Op::AllreduceSlice
        | Op::AllgatherSlice
        | Op::Split => spread,
        Op::Alltoall | Op::Regroup | Op::RegroupKv | Op::GroupByKey => exchange,
        Op::Aggregate | Op::Push | Op::Join => exchange + spread,
        Op::Pull => 2 * exchange + spread,
        // Every byte has one sender and one receiver, or follows the order of the ranks.
        Op::Scatter | Op::Rotate | Op::Scan | Op::Exscan => 0,
    }
}

/// The nodes of a call's world, and its part inside this rank's.
pub(crate) struct Level {
    nodes: Rc<Nodes>,
    node: Box<Call>,
}

impl Level {
    pub(crate) fn new(nodes: Rc<Nodes>, node: Call) -> Level {
        Level { nodes, node: Box::new(node) }
    }

    pub(crate) fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// The part inside the node: its ranks are the node's.
    pub(crate) fn node(&self) -> &Call {
        &self.node
    }

    /// Whether tables may be combined node by node: else it would be in another order than that of the ranks.
    pub(crate) fn orders<U: ?Sized>(&self, combiner: &impl Combiner<U>) -> bool {
        combiner.law().associative && (self.nodes.in_order() || combiner.law().commutative)
    }

    /// Whether all nodes have as many ranks.
    pub(crate) fn is_even(&self) -> bool {
        self.nodes.ranks().iter().all(|ranks| ranks.len() == self.node.size() as usize)
    }

    /// Node -> the rank that speaks for it: its lowest, or `root`.
    pub(crate) fn heads(&self, root: Option<u32>) -> Vec<u32> {
        let head = |ranks: &Vec<u32>| root.filter(|root| ranks.contains(root)).unwrap_or(ranks[0]);
        self.nodes.ranks().iter().map(head).collect()
    }

    /// The number inside the node of the rank that speaks for this one.
    pub(crate) fn head(&self, root: Option<u32>) -> u32 {
        let mates = &self.nodes.ranks()[self.nodes.mine()];
        root.and_then(|root| mates.iter().position(|&mate| mate == root)).unwrap_or(0) as u32
    }

    /// An outcome inside the node, whose error names ranks as the whole call numbers them.
    pub(crate) fn lift<T>(&self, outcome: Result<T>) -> Result<T> {
        let mates = &self.nodes.ranks()[self.nodes.mine()];
        outcome.map_err(|mut error| {
            if let HarpError::Lengths { from: Some(rank), .. } | HarpError::Decode { rank, .. } = &mut error {
                *rank = mates.get(*rank as usize).copied().unwrap_or(*rank);
            }
            error
        })
    }

    /// Inside the node, the table of `head` becomes the combination of all, the others become empty.
    pub(crate) async fn reduced<D: Data, C: Combiner<D::Unit>>(
        &self,
        table: &mut Table<D, C>,
        head: u32,
    ) -> Result<()> {
        let node = self.node();
        self.lift(match node.near() {
            true => node::reduced(node, table, Some(head)).await,
            false => reduce::binomial(&Team::all(node), table, head).await,
        })
    }

    /// Inside the node, the table of `head` becomes the union of all, the others become empty.
    pub(crate) async fn gathered<D: Data, C: Combiner<D::Unit>>(
        &self,
        table: &mut Table<D, C>,
        head: u32,
    ) -> Result<()> {
        let node = self.node();
        self.lift(match node.near() {
            true => node::gathered(node, table, 0..node.size(), Some(head)).await,
            false => gather::straight(&Team::all(node), table, head).await,
        })
    }

    /// Inside the node, all others add what `head` has in its table to theirs.
    pub(crate) async fn spread<D: Data, C: Combiner<D::Unit>>(
        &self,
        table: &mut Table<D, C>,
        head: u32,
    ) -> Result<()> {
        let node = self.node();
        self.lift(match node.near() {
            true => broadcast::near(node, table, head).await,
            false => super::broadcast::spread_table(&Team::all(node), table, head).await,
        })
    }
}
