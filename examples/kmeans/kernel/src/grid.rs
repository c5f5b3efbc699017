//! Guesses for points in few dimensions: the plane in cells, each with the centroid nearest to its middle.
use super::{Accum, Algorithm, Prepared, Real, pass};

/// A grid over the centroids' bounding box.
#[derive(Debug)]
pub(super) struct Grid {
    side: usize,
    low: [f64; Grid::MAX_D],
    /// Cells for each unit of length.
    scale: [f64; Grid::MAX_D],
    labels: Vec<u16>,
}

impl Grid {
    /// Beyond three dimensions a cell is no better a guess than the last label.
    pub(super) const MAX_D: usize = 3;

    /// About four cells for each centroid; `p` has at most `u16::MAX` centroids and 1 to `MAX_D` dimensions.
    pub(super) fn new<T: Real>(p: &Prepared<T>) -> Self {
        let d = p.d();
        let side = ((4.0 * p.k() as f64).powf(1.0 / d as f64).ceil() as usize).max(4);
        let (mut low, mut scale) = ([0.0; Self::MAX_D], [0.0; Self::MAX_D]);
        for i in 0..d {
            let column = || p.rows.iter().map(|row| row[i]);
            let (min, max) =
                (column().fold(f64::INFINITY, f64::min), column().fold(f64::NEG_INFINITY, f64::max));
            low[i] = min;
            scale[i] = if max > min { side as f64 / (max - min) } else { 0.0 };
        }
        let cells = side.pow(d as u32);
        let mut middles = Vec::with_capacity(cells * d);
        for mut cell in 0..cells {
            for i in 0..d {
                let step = if scale[i] > 0.0 { 1.0 / scale[i] } else { 0.0 };
                middles.push(T::from_f64(low[i] + ((cell % side) as f64 + 0.5) * step));
                cell /= side;
            }
        }
        let mut labels = vec![0; cells];
        let mut acc = Accum::new(p.k(), d).with(Algorithm::Lloyd);
        pass(&middles, p, &mut acc, Some(&mut labels));
        Self { side, low, scale, labels: labels.into_iter().map(|l| l as u16).collect() }
    }

    /// Writes a centroid that is likely the nearest of each of `rows` to `guesses`. `D` is their number of dimensions.
    #[inline(always)]
    pub(super) fn guess<T: Real, const D: usize>(&self, rows: &[T], guesses: &mut [u32]) {
        if D == 0 || D > Self::MAX_D {
            return;
        }
        let last = (self.side - 1) as f64;
        for (row, guess) in rows.chunks_exact(D).zip(guesses) {
            let mut cell = 0;
            for i in (0..D).rev() {
                let at = ((row[i].to_f64() - self.low[i]) * self.scale[i]).max(0.0).min(last);
                cell = cell * self.side + at as i32 as usize;
            }
            *guess = u32::from(self.labels[cell]);
        }
    }
}
