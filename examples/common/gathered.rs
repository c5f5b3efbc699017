//! Files whose lines are spread over the ranks.

use std::cell::Cell;
use std::io::Write;

use aeolian::World;

use crate::Result;
use crate::agree::{all, to_first};
use crate::output::Target;

/// Lines that travel at once.
const LINES: usize = 1 << 16;

/// Writes `head` and then the `mine` lines of each rank, by rank: `line` appends line `i` of this rank. They come to rank 0 a piece at a
/// time. Collective; only rank 0 has a target.
///
/// # Errors
/// [`Error::CannotWrite`](crate::Error::CannotWrite), on rank 0 alone; otherwise what went wrong between ranks.
pub fn write(
    world: &mut World,
    target: Option<&Target>,
    head: &str,
    mine: usize,
    line: impl Fn(&mut Vec<u8>, usize),
) -> Result<()> {
    let rows = all(world, mine as u64)?;
    let pieces: Vec<(usize, usize)> = (0..)
        .zip(&rows)
        .flat_map(|(rank, rows)| (0..*rows as usize).step_by(LINES).map(move |at| (rank, at)))
        .collect();
    in_rounds(world, target, head, pieces.len(), |world, round| {
        let (rank, at) = pieces[round];
        let mut piece = Vec::new();
        if rank == world.rank() as usize {
            (at..mine.min(at + LINES)).for_each(|i| line(&mut piece, i));
        }
        Ok(piece)
    })
}

/// Writes `head` and then what the ranks have for each of some rounds: in each, what `piece` returns on rank 0, on rank 1, and so on. It is called
/// with the same rounds everywhere, so that it may be collective itself. Collective; only rank 0 has a target.
///
/// # Errors
/// As [`write()`], and what `piece` returns.
pub fn in_rounds(
    world: &mut World,
    target: Option<&Target>,
    head: &str,
    rounds: usize,
    mut piece: impl FnMut(&mut World, usize) -> Result<Vec<u8>>,
) -> Result<()> {
    let pulled = Cell::new(false);
    let mut pull = |out: &mut dyn Write| -> Result<std::io::Result<()>> {
        pulled.set(true);
        let mut failed = out.write_all(head.as_bytes());
        for round in 0..rounds {
            let piece = piece(world, round)?;
            let piece = to_first(world, piece)?;
            // After a failed write the others' pieces must still be taken: they are on their way.
            if failed.is_ok() {
                failed = out.write_all(&piece);
            }
        }
        Ok(failed)
    };
    let Some(target) = target else {
        return pull(&mut std::io::sink()).map(|_| ());
    };
    let mut wires = Ok(());
    let written = target.write(|out| {
        pull(out).unwrap_or_else(|e| {
            wires = Err(e);
            Err(std::io::ErrorKind::ConnectionAborted.into())
        })
    });
    wires?;
    if !pulled.get() {
        // It failed before the first line; the others are on their way with theirs.
        let _ = pull(&mut std::io::sink())?;
    }
    written
}
