//! The numbers of a [tuning file](crate::tuning) that hold in a job.

use super::World;
use crate::control::Protection;
use crate::transport::TransportKind;
use crate::tuning::{Shape, Values};

impl World {
    /// What the whole job is like, of which tuning files know something; the same on all ranks.
    pub fn shape(&self) -> Shape {
        let core = self.core.borrow();
        let (layout, rank) = (&core.layout, core.rank);
        let node = layout.node_of[rank as usize];
        let far = |peer: &u32| layout.hosts.len() == 1 || layout.node_of[*peer as usize] != node;
        let peer = (0..core.size).filter(|&peer| peer != rank).find(far).unwrap_or(rank);
        let wire = match (core.engine.kind_to(peer), core.protection) {
            (TransportKind::Tcp, Protection::Encrypted) => "tcp+encrypted".into(),
            (TransportKind::Tcp, Protection::Authenticated) => "tcp+authenticated".into(),
            (kind, _) => kind.to_string(),
        };
        Shape { wire, nodes: layout.hosts.len() as u32, ranks: core.size }
    }

    /// The number of this name that was measured in a job like this one, if one was. The same on all ranks.
    pub fn tuned(&self, name: &str) -> Option<u64> {
        self.core.borrow().tuned.get(name).copied()
    }

    /// All such numbers.
    pub fn tuning(&self) -> Values {
        self.core.borrow().tuned.clone()
    }

    /// Takes other numbers than those of the job's tuning file, in all worlds of the job: to measure, and to compare. All ranks must set the same,
    /// while no collective is under way.
    pub fn set_tuned(&self, values: Values) {
        self.core.borrow_mut().tuned = values;
    }

    pub(crate) fn keep_protection(&self, protection: Protection) {
        self.core.borrow_mut().protection = protection;
    }
}
