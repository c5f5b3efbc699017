//! What is kept of each row from one pass to the next.
//!
//! The last label is a good guess at the next. And where every pass is over the same rows, a *floor* for each row: no other
//! centroid is nearer than that. Centroids move little once the clusters have formed, so the floor, lowered by how far
//! they have moved since, proves most labels right without a look at any other centroid (Hamerly: *Making k-means even
//! faster*, SDM 2010; his upper bounds are not needed, the distance to the own centroid is computed anyway).
//!
//! One centroid that moves far, as that of an empty cluster does, must not lower all floors: the few that moved farthest
//! are looked at one by one, by where they are now instead of how far they have come.
use super::Real;
use super::prepared::{GROUP, Prepared};

/// Rows of this many bytes have floors: they cost a twentieth of the data at most.
const LONG: usize = 96;

/// At most so many centroids count as having moved far.
const FAR: usize = 8;

#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// `n`: the labels of the last pass.
    pub(super) labels: Vec<u16>,
    /// `n`, or empty: the floors as of the last pass.
    pub(super) floors: Vec<f32>,
    /// How the centroids have moved since.
    pub(super) moves: Moves,
    /// The centroids of the last pass, as in [`Prepared`], and the shift.
    centroids: Vec<[f64; GROUP]>,
    shift: Vec<f64>,
}

impl Known {
    /// Prepares for a pass of `n` rows. True if there are labels of a pass before; `same_rows` promises that it was over
    /// these very rows.
    pub(super) fn begin<T: Real>(&mut self, p: &Prepared<T>, n: usize, same_rows: bool) -> bool {
        let (k, d) = (p.k(), p.d());
        let labels = self.labels.len() == n && self.labels.iter().all(|j| usize::from(*j) < k);
        if !labels {
            self.labels = vec![0; n];
        }
        if !same_rows || d * size_of::<T>() < LONG {
            self.floors = Vec::new();
            return labels;
        }
        let floors = self.floors.len() == n
            && self.centroids.len() == p.rows.len()
            && self.shift.iter().copied().eq(p.shift.iter().map(|x| x.to_f64()));
        if labels && floors {
            self.moves = Moves::between(&self.centroids, p);
            self.centroids.copy_from_slice(&p.rows);
        } else {
            self.floors = vec![0.0; n];
            self.moves = Moves::none(k);
            self.shift = p.shift.iter().map(|x| x.to_f64()).collect();
            self.centroids.clear();
            self.centroids.extend_from_slice(&p.rows);
        }
        labels
    }
}

/// How the centroids, as they are scored (shifted and rounded), have moved from one pass to the next.
#[derive(Debug, Clone, Default)]
pub(super) struct Moves {
    /// `k`: no centroid but this one, and those that moved far, has moved farther than this.
    others: Vec<f64>,
    /// How far those have moved that moved far.
    far: Vec<f64>,
    /// `k x far`: no more than the distance between a centroid and one that moved far; infinity to itself.
    apart: Vec<f64>,
}

impl Moves {
    fn none(k: usize) -> Self {
        Self { others: vec![0.0; k], far: Vec::new(), apart: Vec::new() }
    }

    /// From the centroids `old`, padded as those of `new` are.
    fn between<T: Real>(old: &[[f64; GROUP]], new: &Prepared<T>) -> Self {
        let width = new.width();
        let rounding = 4.0 * T::EPSILON * new.largest_norm();
        let distance = |a: &[[f64; GROUP]], b: &[[f64; GROUP]]| {
            let pairs = a.as_flattened().iter().zip(b.as_flattened());
            pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
        };
        let mut steps: Vec<(usize, f64)> = Vec::with_capacity(new.k());
        for (old, row) in old.chunks_exact(width).zip(new.rows.chunks_exact(width)) {
            let step = distance(old, row) * (1.0 + 1e-9 + 2.0 * T::EPSILON) + rounding;
            // Not a number, too: it has moved, nobody knows how far.
            let step = if old == row { 0.0 } else { step };
            steps.push((steps.len(), if step.is_nan() { f64::INFINITY } else { step }));
        }
        steps.sort_by(|a, b| b.1.total_cmp(&a.1));
        let usual = steps.get(FAR).map_or(0.0, |s| s.1);
        let far = steps.iter().take(FAR).take_while(|s| s.1 > 2.0 * usual).count();
        let (far, rest) = steps.split_at(far);
        let largest = [0, 1].map(|i| rest.get(i).copied().unwrap_or((usize::MAX, 0.0)));
        let others = |j| if j == largest[0].0 { largest[1].1 } else { largest[0].1 };
        let row = |j: usize| &new.rows[j * width..][..width];
        let apart = |a: usize, b: usize| match a == b {
            true => f64::INFINITY,
            false => distance(row(a), row(b)) * (1.0 - 1e-9 - 2.0 * T::EPSILON) - rounding,
        };
        Self {
            others: (0..new.k()).map(others).collect(),
            apart: (0..new.k()).flat_map(|a| far.iter().map(move |b| apart(a, b.0))).collect(),
            far: far.iter().map(|b| b.1).collect(),
        }
    }

    /// The floor of a row with label `a` now, at most `u` from that centroid.
    #[inline(always)]
    pub(super) fn lower(&self, floor: f64, a: usize, u: f64) -> f64 {
        let mut now = floor - self.others[a];
        let far = self.far.len();
        for (step, apart) in self.far.iter().zip(&self.apart[a * far..][..far]) {
            now = now.min((floor - step).max(apart - u));
        }
        now
    }
}

/// From the second smallest score of a row to its floor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floor {
    /// Error of a score that does not depend on the row.
    error: f64,
    /// Of the squared norm of the row, what is left after all errors in proportion to it.
    part: f64,
}

impl Floor {
    pub(super) fn new<T: Real>(p: &Prepared<T>) -> Self {
        let (d, largest) = (p.d() as f64, p.largest_norm());
        let size = 2.0 * largest * largest;
        // As for the pruner's `error`, with 2 |x| |c| <= |x|^2 + |c|^2. Scores that may overflow prove nothing.
        let error =
            if size < T::HUGE { (2.0 * d + 4.0) * (T::EPSILON * size + T::TINY) } else { f64::INFINITY };
        Self { error, part: 1.0 - (4.0 * d + 16.0) * T::EPSILON }
    }

    /// No centroid but the nearest is nearer than this to the row with squared norm `norm2`.
    #[inline(always)]
    pub(super) fn of<T: Real>(self, second: T, norm2: T) -> f64 {
        let norm2 = norm2.to_f64();
        let dist2 = second.to_f64() + norm2 * self.part - self.error;
        // Not a number, too: nothing is proved.
        if norm2 < T::HUGE && dist2 > 0.0 { dist2.sqrt() * (1.0 - 1e-9) } else { 0.0 }
    }

    /// The form in which it is kept.
    #[inline(always)]
    pub(super) fn kept(floor: f64) -> f32 {
        // Rounded down, and no infinity made of a large number.
        let kept = (floor * (1.0 - f64::from(f32::EPSILON))).min(f64::from(f32::MAX));
        if kept > f64::from(f32::MIN_POSITIVE) { kept as f32 } else { 0.0 }
    }
}
