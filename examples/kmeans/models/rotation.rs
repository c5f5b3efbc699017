//! Rotation: the model is spread over the ranks and goes round them in slices; no rank ever has all of it.
//!
//! Each rank owns two slices of the centroids. An iteration is two rounds of the ring. In the first, every slice visits every rank, which keeps
//! for each of its points the best centroid seen so far; in the second, every slice collects from every rank the sums of the points
//! that are now its own, and comes home, where it is divided. One slice moves while the other is computed on ([`Rotator`],
//! [`overlap`]).
//!
//! `2 n` turns, in which a rank sends its slices on: `8 k d` bytes in the first round of the ring, `8 k (2 d + 1)` in the second; then an
//! allreduce of four numbers. A rank holds `1.5 k / n` centroids with their sums instead of `k`, and for each point a label and a score. So it is the
//! model for centroids that do not fit beside the points on every rank; otherwise it is the slowest, also because what
//! [kernel](aeolian_kmeans_kernel) remembers of a point from one pass to the next is of no use here.
//!
//! Labels have the bits of the other models. Sums are added in the order of the ring, from the owner on: for three ranks and more they
//! differ in their last digits.

use aeolian::World;
use aeolian::harp::schedule::{RingOrder, Rotator, TaskError, overlap};
use aeolian::harp::{Array, Sum, Table, allgather, allreduce_slice};
use aeolian_examples::{Element, Result};

use super::blocks::Blocks;
use super::whole::Whole;
use super::{Model, Own, Step, allreduce, moved, stop_vote};
use crate::Number;
use aeolian_kmeans_kernel::{Accum, Prepared, Real, pass, scores};

/// So that one can move while the other is computed on.
const SLICES: usize = 2;

/// Rows that are assigned at a time: enough for the kernel to leave out centroids.
const ROWS: usize = 1 << 16;

/// A slice: partition `2 b` has the centroids of block `b`; partition `2 b + 1`, in the second round, sums, counts and inertia.
type Slice = Table<f64, Sum>;

/// Centroids of which each rank has a part.
pub(super) struct Rotating<'a, T: Number> {
    own: Own<'a, T>,
    blocks: Blocks,
    rotator: Rotator<f64, Sum>,
    /// The slices, between iterations.
    home: Vec<Slice>,
    /// For each point the smallest score in this round, and whose.
    best: Vec<(T, u32)>,
}

impl<'a, T: Number> Rotating<'a, T> {
    /// Keeps this rank's part of `centroids`.
    pub(super) fn new(world: &mut World, own: Own<'a, T>, centroids: &[f64]) -> Result<Rotating<'a, T>> {
        let d = own.points.d();
        let blocks = Blocks { k: centroids.len() / d, d, count: SLICES * world.size() as usize };
        let mut slices = Vec::with_capacity(SLICES);
        for block in own_blocks(world) {
            let mut slice = Slice::new(Sum);
            slice.add(2 * block as u64, blocks.rows_of(block, centroids))?;
            slices.push(slice);
        }
        let mut rotator = Rotator::new(world, slices, RingOrder::Ranks)?;
        let home = (0..SLICES).map(|s| rotator.get(s)).collect::<aeolian::harp::Result<_>>()?;
        Ok(Rotating { own, blocks, rotator, home, best: vec![(<T as Real>::INFINITY, 0); own.points.rows()] })
    }

    /// Once round the ring: `visit` gets every slice of the model.
    fn round(
        &mut self,
        world: &mut World,
        mut visit: impl FnMut(Own<'_, T>, Blocks, &mut Slice, &mut [(T, u32)]) -> Result<(), TaskError> + Send,
    ) -> Result<()> {
        for _ in 0..world.size() {
            for s in 0..SLICES {
                let mut slice = match self.home.get_mut(s) {
                    Some(home) if !home.is_empty() => std::mem::replace(home, Slice::new(Sum)),
                    _ => self.rotator.get(s)?,
                };
                let (own, blocks, best) = (self.own, self.blocks, &mut self.best[..]);
                overlap(world, || visit(own, blocks, &mut slice, best))?;
                self.rotator.rotate(s, slice)?;
            }
        }
        Ok(())
    }

    /// All centroids, on every rank.
    fn gathered(&self, world: &mut World) -> Result<Vec<f64>> {
        let mut all = Slice::new(Sum);
        for (id, rows) in self.home.iter().flat_map(Table::iter) {
            all.insert(id, rows.clone());
        }
        allgather(world, &mut all)?;
        Ok(all.iter().flat_map(|(_, rows)| rows.iter().copied()).collect())
    }

    /// An iteration in which a cluster lost all its points: that needs all centroids and sums in one place.
    fn step_as_whole(&mut self, world: &mut World) -> Result<Step> {
        let centroids = self.gathered(world)?;
        let mut whole = Box::new(Whole::new(self.own, centroids, allreduce::exchange));
        let step = whole.step(world)?;
        let centroids = whole.centroids(world)?;
        for (slice, block) in self.home.iter_mut().zip(own_blocks(world)) {
            slice.insert(2 * block as u64, self.blocks.rows_of(block, &centroids));
        }
        Ok(step)
    }
}

impl<T: Number> Model for Rotating<'_, T> {
    fn step(&mut self, world: &mut World) -> Result<Step> {
        self.best.fill((<T as Real>::INFINITY, u32::MAX));
        self.round(world, |own, blocks, slice, best| {
            assign(own, blocks, slice, best);
            Ok(())
        })?;
        self.round(world, |own, blocks, slice, best| Ok(add_up(own, blocks, slice, best)?))?;
        // Inertia, movement, clusters without points, votes to stop.
        let mut scalars = [0.0, 0.0, 0.0, stop_vote(world)];
        let mut next = Vec::with_capacity(SLICES);
        for (s, block) in own_blocks(world).enumerate() {
            let mut slice = self.rotator.get(s)?;
            let found = slice.remove(2 * block as u64 + 1).unwrap_or_else(|| Array::zeroed(1));
            let count = self.blocks.range(block).len();
            let (mut means, rest) =
                (found[..count * self.blocks.d].to_vec(), &found[count * self.blocks.d..]);
            for (mean, points) in means.chunks_exact_mut(self.blocks.d).zip(&rest[..count]) {
                mean.iter_mut().for_each(|x| *x /= points);
            }
            scalars[0] += rest[count];
            scalars[1] += slice.get(2 * block as u64).map_or(0.0, |old| moved(&means, old));
            scalars[2] += rest[..count].iter().filter(|points| **points == 0.0).count() as f64;
            self.home[s] = slice;
            next.push((2 * block as u64, means));
        }
        allreduce_slice(world, &mut scalars, Sum)?;
        if scalars[2] > 0.0 {
            return self.step_as_whole(world);
        }
        for (slice, (id, means)) in self.home.iter_mut().zip(next) {
            slice.insert(id, means);
        }
        Ok(Step { inertia: scalars[0], moved: scalars[1], stop: scalars[3] > 0.0 })
    }

    fn centroids(self: Box<Self>, world: &mut World) -> Result<Vec<f64>> {
        self.gathered(world)
    }
}

/// The blocks whose home is this rank.
fn own_blocks(world: &World) -> std::ops::Range<usize> {
    let first = SLICES * world.rank() as usize;
    first..first + SLICES
}

/// The block that a slice is of, and its centroids.
fn content(slice: &Slice) -> Option<(usize, &[f64])> {
    let (id, rows) = slice.iter().next()?;
    Some((id as usize / 2, rows))
}

/// Compares the best centroid of the slice with the best so far, for all points.
fn assign<T: Number>(own: Own<'_, T>, blocks: Blocks, slice: &Slice, best: &mut [(T, u32)]) {
    let Some((block, centroids)) = content(slice).filter(|(_, rows)| !rows.is_empty()) else { return };
    let (d, range) = (blocks.d, blocks.range(block));
    let mut prepared = Prepared::<T>::new(range.len(), d, &own.moments.shift);
    prepared.update(centroids);
    own.workers.split_mut(best, 1, |rows, best| {
        let points = &own.points.as_slice()[rows.start * d..rows.end * d];
        let (mut labels, mut found) =
            (vec![0; ROWS.min(best.len())], vec![<T as Real>::INFINITY; ROWS.min(best.len())]);
        for (points, best) in points.chunks(ROWS * d).zip(best.chunks_mut(ROWS)) {
            let (labels, found) = (&mut labels[..best.len()], &mut found[..best.len()]);
            pass(points, &prepared, &mut Accum::new(range.len(), d), Some(labels));
            scores(points, &prepared, labels, found);
            for ((best, label), score) in best.iter_mut().zip(labels).zip(found) {
                let here = range.start as u32 + *label;
                // Of equally near ones the first, wherever the round began.
                if *score < best.0 || (*score == best.0 && here < best.1) {
                    *best = (*score, here);
                }
            }
        }
    });
}

/// Adds the points that belong to the slice to its sums.
fn add_up<T: Number>(
    own: Own<'_, T>,
    blocks: Blocks,
    slice: &mut Slice,
    best: &[(T, u32)],
) -> aeolian::harp::Result<()> {
    let Some((block, centroids)) = content(slice) else { return Ok(()) };
    let (d, range) = (blocks.d, blocks.range(block));
    let (first, last) = (range.start as u32, range.end as u32);
    // Each thread's sums, which are then added in the order of the threads: the bits of the kernel's.
    let parts = own.workers.split(best.len(), |rows| {
        let mut part = vec![0.0; range.len() * (d + 1) + 1];
        let (sums, rest) = part.split_at_mut(range.len() * d);
        for row in rows {
            let label = best[row].1;
            if !(first..last).contains(&label) {
                continue;
            }
            let j = (label - first) as usize;
            let (sum, centroid) = (&mut sums[j * d..][..d], &centroids[j * d..][..d]);
            let mut square = 0.0;
            for ((x, sum), c) in own.points.row(row).iter().zip(sum).zip(centroid) {
                let x = Element::to_f64(*x);
                *sum += x;
                square += (x - c) * (x - c);
            }
            rest[j] += 1.0;
            rest[range.len()] += square;
        }
        part
    });
    let mine = parts.into_iter().reduce(|mut all, part| {
        all.iter_mut().zip(part).for_each(|(a, b)| *a += b);
        all
    });
    slice.add(2 * block as u64 + 1, mine.unwrap_or_default()).map(drop)
}
