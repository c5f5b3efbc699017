//! How the ranks of a world lie on its nodes: what collectives need that go inside the nodes first.

use super::World;
use super::core::Core;
use super::group::{Calls, Edge, Group};
use crate::error::Result;
use std::rc::Rc;

/// The ranks of a world on its nodes, and the world of those on this rank's node, which is made once and kept.
///
/// It takes no context of its own: all its ranks know it without a word. It is for the collectives of the world that it is a part of,
/// which it counts by the numbers that they have there.
pub struct Nodes {
    /// Node -> its ranks, ascending.
    ranks: Vec<Vec<u32>>,
    mine: usize,
    in_order: bool,
    group: Rc<Group>,
}

impl Nodes {
    /// The ranks of each node, ascending; nodes by their lowest rank.
    pub fn ranks(&self) -> &[Vec<u32>] {
        &self.ranks
    }

    /// The number of this rank's node.
    pub fn mine(&self) -> usize {
        self.mine
    }

    /// Whether each node has consecutive ranks.
    pub fn in_order(&self) -> bool {
        self.in_order
    }
}

impl World {
    /// How the ranks of this world lie on its nodes; `None` if they are on one, if no node has two, or if collectives are not
    /// to use [shared memory](World::use_shared_memory).
    pub fn nodes(&self) -> Option<Rc<Nodes>> {
        if self.group.apart.get() {
            return None;
        }
        self.group.nodes.get_or_init(|| nodes_of(&self.group).ok().flatten().map(Rc::new)).clone()
    }

    /// The world of the ranks on this rank's node, in their order here.
    pub fn on_node(&self, nodes: &Nodes) -> World {
        World { core: self.core.clone(), group: nodes.group.clone(), owner: false }
    }

    /// As [`World::next_collective`], in a world that [`World::on_node`] gave: the stream of its part of collective `seq` of the whole.
    pub fn join_collective(&self, seq: u64) -> Edge {
        self.group.begin_call_at(seq);
        Core::call_edge(self.group.context, self.group.calls_on)
    }
}

fn nodes_of(group: &Group) -> Result<Option<Nodes>> {
    let layout = &group.layout;
    let count = layout.hosts.len();
    if count < 2 || count == layout.node_of.len() {
        return Ok(None);
    }
    let mut ranks = vec![Vec::new(); count];
    for (&node, rank) in layout.node_of.iter().zip(0..) {
        ranks[node as usize].push(rank);
    }
    let mine = layout.node_of[group.rank as usize] as usize;
    let in_order = layout.node_of.is_sorted();
    let mut part = Group::part(group, &ranks[mine], group.context)?;
    part.calls_on = Calls::OfNode;
    Ok(Some(Nodes { ranks, mine, in_order, group: Rc::new(part) }))
}

impl std::fmt::Debug for Nodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Nodes({:?}, this is {})", self.ranks, self.mine)
    }
}
