//! Centroids laid out for the kernel.
use super::Real;
use super::aligned::Aligned;

/// Centroids are scored in groups of this many.
pub(super) const GROUP: usize = 8;

/// Centroids to choose from, in groups.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scored<'a, T> {
    /// How many there are.
    pub(super) k: usize,
    /// As in [`Prepared`].
    pub(super) packed: &'a [[T; GROUP]],
    /// As in [`Prepared`], one entry a group.
    pub(super) norms: &'a [[T; GROUP]],
}

/// The centroids of one iteration, packed for [`pass()`](super::pass()).
///
/// Distances are compared as `|c|^2 - 2 x.c`, which loses digits when the data lies far from the origin. So points and
/// centroids are shifted by the same vector first, best the column means, as scikit-learn does.
#[derive(Debug, Clone)]
pub struct Prepared<T> {
    k: usize,
    d: usize,
    /// `d`: taken from every point before it is scored.
    pub(super) shift: Vec<T>,
    /// One block of `d` rows for each group; a row holds `-2 (c - shift)` of its centroids in one dimension.
    pub(super) packed: Aligned<[T; GROUP]>,
    /// `|c - shift|^2`, and infinity where the last group has no centroid.
    pub(super) norms: Aligned<[T; GROUP]>,
    /// `k x width`: the centroids as they are, each padded with zeros.
    pub(super) rows: Aligned<[f64; GROUP]>,
}

impl<T: Real> Prepared<T> {
    /// Room for `k` centroids in `d` dimensions, scored around `shift` (length `d`). Call [`Prepared::update`] next.
    pub fn new(k: usize, d: usize, shift: &[f64]) -> Self {
        debug_assert_eq!(shift.len(), d);
        let groups = k.div_ceil(GROUP);
        let mut norms = Aligned::zeroed(groups);
        norms.fill([T::INFINITY; GROUP]);
        Self {
            k,
            d,
            shift: shift.iter().map(|&x| T::from_f64(x)).collect(),
            packed: Aligned::zeroed(groups * d),
            norms,
            rows: Aligned::zeroed(k * d.div_ceil(GROUP)),
        }
    }

    /// Takes in new centroids (`k x d`, row-major); nothing is allocated.
    pub fn update(&mut self, centroids: &[f64]) {
        debug_assert_eq!(centroids.len(), self.k * self.d);
        let width = self.width();
        for (j, centroid) in centroids.chunks_exact(self.d.max(1)).enumerate() {
            let (group, lane) = (j / GROUP, j % GROUP);
            let packed = &mut self.packed[group * self.d..][..self.d];
            let row = &mut self.rows[j * width..][..width];
            let mut norm = 0.0;
            for (i, (&c, shift)) in centroid.iter().zip(&self.shift).enumerate() {
                // Rounded first, so that the norm belongs to the very numbers that are multiplied with.
                let c_shifted = T::from_f64(c - shift.to_f64()).to_f64();
                norm += c_shifted * c_shifted;
                packed[i][lane] = T::from_f64(-2.0 * c_shifted);
                row[i / GROUP][i % GROUP] = c;
            }
            self.norms[group][lane] = T::from_f64(norm);
        }
    }

    /// All centroids.
    #[inline(always)]
    pub(super) fn scored(&self) -> Scored<'_, T> {
        Scored { k: self.k, packed: &self.packed, norms: &self.norms }
    }

    /// No less than the norm of the shifted and rounded centroid `j`.
    pub(super) fn norm(&self, j: usize) -> f64 {
        self.norms[j / GROUP][j % GROUP].to_f64().sqrt() * (1.0 + T::EPSILON) + T::TINY.sqrt()
    }

    /// The largest [`Prepared::norm`].
    pub(super) fn largest_norm(&self) -> f64 {
        (0..self.k).map(|j| self.norm(j)).fold(0.0, f64::max)
    }

    /// Number of centroids.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Number of dimensions.
    pub fn d(&self) -> usize {
        self.d
    }

    /// Blocks of [`GROUP`] numbers in a padded row.
    pub(super) fn width(&self) -> usize {
        self.d.div_ceil(GROUP)
    }
}
