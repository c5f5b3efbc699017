//! The power iteration: every vertex pulls what its in-edges bring, until the ranks stand still.

use std::ops::Range;

use aeolian::World;
use aeolian::harp::{Array, Sum, Table, allgather, allreduce_slice};
use aeolian_examples::Result;
use aeolian_examples::progress::Progress;
use aeolian_examples::wires::{exchange, take};
use aeolian_examples::workers::Workers;

use crate::cli::Options;
use crate::graph::InEdges;
use crate::plan::Plan;

/// Vertices whose dangling mass and change are summed up together: always the same ones, so that sums do not depend on
/// the number of threads.
const BLOCK: usize = 1024;
/// Edges that a thread takes at once, at least.
const GRAIN: usize = 1 << 16;

/// What the iterations led to.
pub(crate) struct Ranking {
    /// Of each of this rank's vertices.
    pub(crate) ranks: Vec<f64>,
    pub(crate) iterations: usize,
    /// Whether the last iteration changed less than the tolerance.
    pub(crate) converged: bool,
    /// Whether somebody asked the job to stop.
    pub(crate) stopped: bool,
    /// What the last iteration changed: the sum of all differences.
    pub(crate) change: f64,
}

/// Sums over vertices: the mass of those without out-edges, the change, and whether somebody wants to stop.
type Sums = [f64; 3];

fn add(a: Sums, b: Sums) -> Sums {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

/// Iterates on `n` vertices in all. Collective.
pub(crate) fn iterate(
    world: &mut World,
    workers: &Workers,
    edges: &InEdges,
    plan: &Plan,
    n: u64,
    options: &Options,
    progress: &Progress,
) -> Result<Ranking> {
    let (n, damping) = (n as f64, options.damping);
    let shares: Vec<f64> =
        plan.out_degree.iter().map(|d| if *d == 0 { 0.0 } else { 1.0 / f64::from(*d) }).collect();
    let mut ranks = vec![1.0 / n; edges.len()];
    // What each vertex gives along every one of its edges.
    let mut given: Vec<f64> = shares.iter().map(|s| s / n).collect();
    let mut here = vec![0.0; plan.begin[plan.begin.len() - 1]];
    let mut mine = [shares.iter().filter(|s| **s == 0.0).count() as f64 / n, f64::INFINITY, 0.0];
    let pieces = pieces(edges, GRAIN.max(edges.sources.len() / workers.threads() / 8));
    let mut iterations = 0;
    loop {
        mine[2] = f64::from(u8::from(world.stop_requested()));
        let sums = if iterations == options.iterations {
            // Nobody needs the values any more.
            allreduce_slice(world, &mut mine, Sum)?;
            mine
        } else {
            share(world, workers, plan, &given, mine, &mut here)?
        };
        let change = sums[1];
        if iterations > 0 {
            progress.tick(iterations as u64, options.iterations as u64, || {
                format!("iteration {iterations} of at most {}  change {change:.2e}", options.iterations)
            });
        }
        // The sums are the same on all ranks, so all stop here together.
        let converged = change < options.tolerance;
        let stopped = !converged && iterations > 0 && sums[2] > 0.0;
        if converged || stopped || iterations == options.iterations {
            return Ok(Ranking { ranks, iterations, converged, stopped, change });
        }
        let base = (1.0 - damping) / n + damping * sums[0] / n;
        let parts = deal(&pieces, &mut ranks, &mut given);
        let sums = workers.each(parts, |(rows, ranks, given)| {
            let row = |v: usize| &edges.sources[edges.starts[v]..edges.starts[v + 1]];
            let block = |((b, ranks), given): ((usize, &mut [f64]), &mut [f64])| {
                let mut sums = [0.0; 3];
                for ((v, rank), given) in (rows.start + b * BLOCK..).zip(ranks).zip(given) {
                    let new = base + damping * sum_of(&here, row(v));
                    sums[0] += if shares[v] == 0.0 { new } else { 0.0 };
                    sums[1] += (new - *rank).abs();
                    (*rank, *given) = (new, new * shares[v]);
                }
                sums
            };
            ranks.chunks_mut(BLOCK).enumerate().zip(given.chunks_mut(BLOCK)).map(block).collect::<Vec<Sums>>()
        });
        mine = sums.into_iter().flatten().fold([0.0; 3], add);
        iterations += 1;
    }
}

/// Brings the values that the edges here need, and the sums of all ranks. Both travel together: an iteration is one
/// exchange. Collective.
fn share(
    world: &mut World,
    workers: &Workers,
    plan: &Plan,
    given: &[f64],
    mine: Sums,
    here: &mut [f64],
) -> Result<Sums> {
    let (me, size) = (world.rank() as usize, world.size() as usize);
    let pack = |list: &[u32], to: &mut [f64]| {
        workers.split_mut(to, 1, |range, to| {
            to.iter_mut().zip(&list[range]).for_each(|(to, v)| *to = given[*v as usize]);
        });
    };
    let own = &mut here[plan.begin[me]..plan.begin[me + 1]];
    if plan.whole {
        own.copy_from_slice(given);
    } else {
        pack(&plan.send[me], own);
    }
    if size == 1 {
        return Ok(mine);
    }
    let message = |len: usize, fill: &dyn Fn(&mut [f64])| {
        let mut array = Array::zeroed(len + mine.len());
        fill(&mut array[..len]);
        array[len..].copy_from_slice(&mine);
        array
    };
    let came: Vec<Array<f64>> = if plan.whole {
        let mut table = Table::<f64, Sum>::new(Sum);
        table.add(me as u64, message(given.len(), &|to| to.copy_from_slice(given)))?;
        allgather(world, &mut table)?;
        (0..size as u64).map(|r| table.remove(r).unwrap_or_else(|| Array::zeroed(0))).collect()
    } else {
        let to_rank = |r: usize| match r == me {
            true => vec![message(0, &|_| ())],
            false => vec![message(plan.send[r].len(), &|to| pack(&plan.send[r], to))],
        };
        let came = exchange(world, (0..size).map(to_rank).collect())?;
        came.into_iter().map(take::<_, 1>).map(|[array]| array).collect()
    };
    let mut sums = [0.0; 3];
    for (rank, array) in came.iter().enumerate() {
        let (values, theirs) = array.split_at(array.len().saturating_sub(mine.len()));
        sums = add(sums, std::array::from_fn(|i| theirs.get(i).copied().unwrap_or(f64::NAN)));
        if rank != me {
            here[plan.begin[rank]..plan.begin[rank + 1]].copy_from_slice(values);
        }
    }
    Ok(sums)
}

/// Four sums, so that one addition need not wait for the other; always the same four.
#[inline]
fn sum_of(values: &[f64], places: &[u32]) -> f64 {
    let mut sums = [0.0; 4];
    let (fours, rest) = places.as_chunks::<4>();
    for four in fours {
        for (sum, at) in sums.iter_mut().zip(four) {
            *sum += values[*at as usize];
        }
    }
    let rest: f64 = rest.iter().map(|at| values[*at as usize]).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

/// Ranges of whole blocks of vertices with about `grain` edges each.
fn pieces(edges: &InEdges, grain: usize) -> Vec<Range<usize>> {
    let n = edges.len();
    let mut pieces = Vec::new();
    let mut begin = 0;
    for end in (BLOCK..n + BLOCK).step_by(BLOCK).map(|end| end.min(n)) {
        // A vertex costs something too, even without edges.
        if end == n || edges.starts[end] - edges.starts[begin] + (end - begin) >= grain {
            pieces.push(begin..end);
            begin = end;
        }
    }
    pieces
}

type Piece<'a> = (Range<usize>, &'a mut [f64], &'a mut [f64]);

fn deal<'a>(pieces: &[Range<usize>], mut a: &'a mut [f64], mut b: &'a mut [f64]) -> Vec<Piece<'a>> {
    let mut parts = Vec::with_capacity(pieces.len());
    for range in pieces {
        let (first, rest) = a.split_at_mut(range.len());
        let (second, others) = b.split_at_mut(range.len());
        parts.push((range.clone(), first, second));
        (a, b) = (rest, others);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_all_vertices_in_whole_blocks() {
        for (n, degree) in [(0, 0), (1, 3), (BLOCK, 1), (5 * BLOCK + 7, 2), (3 * BLOCK, 0)] {
            let starts = (0..=n).map(|v| v * degree).collect();
            let edges = InEdges { starts, sources: vec![0; n * degree], duplicates: 0 };
            let pieces = pieces(&edges, 3 * BLOCK);
            assert_eq!(pieces.iter().map(Range::len).sum::<usize>(), n);
            assert!(pieces.windows(2).all(|w| w[0].end == w[1].start));
            assert!(pieces.iter().all(|p| p.start % BLOCK == 0 && !p.is_empty()), "{pieces:?}");
        }
    }

    #[test]
    fn sums_of_any_length() {
        let values: Vec<f64> = (0..20).map(f64::from).collect();
        for n in 0..20u32 {
            let places: Vec<u32> = (0..n).collect();
            assert_eq!(sum_of(&values, &places), f64::from(n * n.saturating_sub(1) / 2));
        }
    }
}
