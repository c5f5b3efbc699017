//! The edges that end at a rank's vertices.

use aeolian_examples::workers::Workers;
use rayon::prelude::*;

/// In-edges by target (compressed sparse rows).
#[derive(Debug, Default)]
pub(crate) struct InEdges {
    /// Where the edges of each of this rank's vertices begin, and where the last one's end.
    pub(crate) starts: Vec<usize>,
    /// Their sources, ascending for each target.
    pub(crate) sources: Vec<u32>,
    /// How many came more than once and were dropped.
    pub(crate) duplicates: u64,
}

impl InEdges {
    /// Of packed edges (see [`pack`](crate::route::pack)) to `n` vertices.
    pub(crate) fn new(workers: &Workers, n: usize, mut edges: Vec<u64>) -> InEdges {
        if workers.threads() > 1 {
            workers.install(|| edges.par_sort_unstable());
        } else {
            edges.sort_unstable();
        }
        let all = edges.len();
        edges.dedup();
        let mut starts = Vec::with_capacity(n + 1);
        starts.push(0);
        for (edge, at) in edges.iter().zip(0..) {
            // The edges of all vertices before this one end here.
            starts.resize(starts.len().max((edge >> 32) as usize + 1), at);
        }
        starts.resize(n + 1, edges.len());
        let sources = edges.iter().map(|edge| *edge as u32).collect();
        InEdges { starts, sources, duplicates: (all - edges.len()) as u64 }
    }

    /// Vertices of this rank.
    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Edges to a vertex.
    pub(crate) fn degree(&self, vertex: usize) -> usize {
        self.starts[vertex + 1] - self.starts[vertex]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::pack;

    #[test]
    fn rows_with_and_without_edges() {
        for threads in [1, 2] {
            let workers = Workers::new(threads).unwrap();
            let edges = [(4, 9), (1, 5), (4, 2), (1, 5), (4, 9), (4, 9)].map(|(t, s)| pack(t, s));
            let graph = InEdges::new(&workers, 6, edges.to_vec());
            assert_eq!(graph.starts, [0, 0, 1, 1, 1, 3, 3]);
            assert_eq!((&graph.sources[..], graph.duplicates), (&[5, 2, 9][..], 3));
            assert_eq!((graph.len(), graph.degree(4), graph.degree(0)), (6, 2, 0));
            assert_eq!(InEdges::new(&workers, 2, Vec::new()).starts, [0, 0, 0]);
        }
    }
}
