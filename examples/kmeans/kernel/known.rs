//! What is kept of each row from one pass to the next.
//!
//! The last label is a good guess at the next. And where every pass is over the same rows, a *floor* for each row: no other
//! centroid is nearer than that. Centroids move little once the clusters have formed, so the floor, lowered by how far
//! they have moved since, proves most labels right without a look at any other centroid (Hamerly: *Making k-means even
//! faster*, SDM 2010; his upper bounds are not needed, the distance to the own centroid is computed anyway).
//!
//! A floor is kept together with the movement up to then, so a row that is not scored again needs no update.
use super::Real;
use super::prepared::{GROUP, Prepared};

/// Rows of this many bytes have floors: they cost a twentieth of the data at most.
const LONG: usize = 96;

#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// `n`: the labels of the last pass.
    pub(super) labels: Vec<u16>,
    /// `n`, or empty: floor of each row plus `moved` of its label, at the time of its last scoring.
    pub(super) floors: Vec<f32>,
    /// `k`: how far any centroid but this one has moved, in sum over the passes.
    pub(super) moved: Vec<f64>,
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
        let floors = same_rows
            && d * size_of::<T>() >= LONG
            && self.floors.len() == n
            && self.centroids.len() == p.rows.len()
            && self.moved.len() == k
            && self.shift.iter().copied().eq(p.shift.iter().map(|x| x.to_f64()));
        if !labels {
            self.labels = vec![0; n];
        }
        if !same_rows || d * size_of::<T>() < LONG {
            self.floors = Vec::new();
            return labels;
        }
        if labels && floors {
            self.follow(p);
        } else {
            self.floors = vec![0.0; n];
            self.moved = vec![0.0; k];
            self.shift = p.shift.iter().map(|x| x.to_f64()).collect();
            self.centroids.clear();
            self.centroids.extend_from_slice(&p.rows);
        }
        labels
    }

    /// Takes in where the centroids are now.
    fn follow<T: Real>(&mut self, p: &Prepared<T>) {
        let width = p.width();
        // What has moved are the centroids as they are scored: shifted and rounded, before and after.
        let rounding = 4.0 * T::EPSILON * p.largest_norm();
        let mut largest = [(0, 0.0), (0, 0.0)];
        let pairs = self.centroids.chunks_exact_mut(width).zip(p.rows.chunks_exact(width)).enumerate();
        for (j, (old, new)) in pairs {
            let pairs = old.as_flattened().iter().zip(new.as_flattened());
            let step2: f64 = pairs.map(|(a, b)| (a - b) * (a - b)).sum();
            let step = if step2 > 0.0 || old != new {
                step2.sqrt() * (1.0 + 1e-9 + 2.0 * T::EPSILON) + rounding
            } else {
                0.0
            };
            if step > largest[0].1 {
                largest = [(j, step), largest[0]];
            } else if step > largest[1].1 {
                largest[1] = (j, step);
            }
            old.copy_from_slice(new);
        }
        for (j, moved) in self.moved.iter_mut().enumerate() {
            *moved += if j == largest[0].0 { largest[1].1 } else { largest[0].1 };
        }
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
    pub(super) fn kept(floor: f64, moved: f64) -> f32 {
        // Rounded down, and no infinity made of a large number.
        let kept = ((floor + moved) * (1.0 - f64::from(f32::EPSILON))).min(f64::from(f32::MAX));
        if kept < f64::from(f32::MIN_POSITIVE) { 0.0 } else { kept as f32 }
    }
}
