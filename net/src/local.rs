//! Worlds whose ranks are threads of one process.

use crate::error::{NetError, Result};
use crate::supervisor::{Board, Watched};
use crate::transport::local::Local;
use crate::world::{Layout, Parts, World};
use std::time::Duration;

impl World {
    /// Runs `f` on `n` ranks that are threads of this process and returns what each returned, by rank.
    ///
    /// For tests, examples and small work. A rank that panics or returns an error ends the others with
    /// [`NetError::JobFailed`]; the first error is returned. A deadlock is found within seconds and named.
    pub fn local<R: Send>(n: u32, f: impl Fn(World) -> Result<R> + Sync) -> Result<Vec<R>> {
        World::local_with(n, Duration::from_secs(5), f)
    }

    /// As [`World::local`], with the time after which ranks that all wait for one another are a deadlock.
    pub fn local_with<R: Send>(
        n: u32,
        hang: Duration,
        f: impl Fn(World) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        threads(Layout::single(n), hang, f)
    }

    /// As [`World::local`], with ranks that pretend to be on several nodes: rank `r` is on node `nodes[r]`. Ranks of different nodes
    /// share no memory in collectives; they send messages, and collectives take the ways that they have between nodes.
    ///
    /// ```
    /// use aeolian_net::World;
    /// let nodes = World::local_nodes(&[0, 0, 1], |world| {
    ///     let node = world.layout().node_of[world.rank() as usize];
    ///     world.finish()?;
    ///     Ok(node)
    /// })?;
    /// assert_eq!(nodes, [0, 0, 1]);
    /// # Ok::<(), aeolian_net::NetError>(())
    /// ```
    pub fn local_nodes<R: Send>(nodes: &[u32], f: impl Fn(World) -> Result<R> + Sync) -> Result<Vec<R>> {
        World::local_nodes_with(nodes, Duration::from_secs(5), f)
    }

    /// As [`World::local_nodes`], with the time after which ranks that all wait for one another are a deadlock.
    pub fn local_nodes_with<R: Send>(
        nodes: &[u32],
        hang: Duration,
        f: impl Fn(World) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        threads(Layout::pretended(nodes), hang, f)
    }
}

/// A rank on each place of the layout, as threads.
fn threads<R: Send>(layout: Layout, hang: Duration, f: impl Fn(World) -> Result<R> + Sync) -> Result<Vec<R>> {
    let n = layout.node_of.len() as u32;
    let mesh = Local::mesh(n)?;
    let board = Board::new(mesh.iter().map(Local::waker).collect(), hang);
    let cores = std::thread::available_parallelism().map_or(1, |c| c.get());
    let parts: Vec<Parts> = mesh
        .into_iter()
        .zip(0..)
        .map(|(wire, rank)| Parts {
            rank,
            size: n,
            wires: vec![(Box::new(wire), (0..n).filter(|&p| p != rank).collect())],
            supervisor: Box::new(Watched { rank, board: board.clone() }),
            wake: None,
            layout: layout.clone(),
            cores,
        })
        .collect();
    let results: Vec<std::thread::Result<Result<R>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = parts
            .into_iter()
            .zip(0..)
            .map(|(parts, rank)| {
                let (f, board) = (&f, &board);
                scope.spawn(move || {
                    let result =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f(World::assemble(parts))));
                    let panic = result.as_ref().err().map(|p| {
                        p.downcast_ref::<String>()
                            .cloned()
                            .or_else(|| p.downcast_ref::<&str>().map(|s| s.to_string()))
                            .unwrap_or_default()
                    });
                    board.left(rank, panic);
                    result
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().and_then(|r| r)).collect()
    });
    let (mut out, mut first) = (Vec::new(), None);
    for result in results {
        match result {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(Ok(value)) => out.push(value),
            // The rank's own error says more than "the job has failed" of the others.
            Ok(Err(e)) => match (&first, &e) {
                (None, _) => first = Some(e),
                (Some(NetError::JobFailed(_)), own) if !matches!(own, NetError::JobFailed(_)) => {
                    first = Some(e)
                }
                _ => {}
            },
        }
    }
    match first {
        Some(e) => Err(e),
        None => Ok(out),
    }
}
