//! One pass of Lloyd's algorithm over rows: assign, then add up.
use super::Real;
use super::assign::{Row, VECTORS, assign};
use super::prepared::{GROUP, Prepared};
use pulp::{Arch, Simd, WithSimd};

/// What a pass adds up. Keep one for each thread and reuse it: its memory stays.
#[derive(Debug, Clone, Default)]
pub(crate) struct Accum {
    /// `k x d`, row-major: the sum of the points of each cluster.
    pub(crate) sums: Vec<f64>,
    /// `k`: how many points each cluster has.
    pub(crate) counts: Vec<u64>,
    /// Sum of squared distances of the points to the centroids of their clusters.
    pub(crate) inertia: f64,
    /// The sums while a pass runs, each row padded to whole registers.
    padded: Vec<[f64; GROUP]>,
}

impl Accum {
    /// Zeros for `k` clusters in `d` dimensions.
    pub(crate) fn new(k: usize, d: usize) -> Self {
        Self {
            sums: vec![0.0; k * d],
            counts: vec![0; k],
            inertia: 0.0,
            padded: vec![[0.0; GROUP]; k * d.div_ceil(GROUP)],
        }
    }

    /// Back to zeros, for the next iteration.
    pub(crate) fn clear(&mut self) {
        self.sums.fill(0.0);
        self.counts.fill(0);
        self.inertia = 0.0;
    }

    /// Adds what another thread found.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.sums.iter_mut().zip(&other.sums).for_each(|(a, b)| *a += b);
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        self.inertia += other.inertia;
    }
}

/// One pass on this thread: every row of `points` (`n x d`, row-major) joins the nearest of `centroids`; sums, counts and
/// inertia are added to `acc`, and labels written if `labels` (length `n`) are wanted.
///
/// Of equally near centroids the first wins. NaN is not allowed in the data. The instruction set (AVX-512, AVX2, NEON or
/// none) is chosen at run time.
pub(crate) fn pass<T: Real>(
    points: &[T],
    centroids: &Prepared<T>,
    acc: &mut Accum,
    labels: Option<&mut [u32]>,
) {
    let d = centroids.d();
    if d == 0 || centroids.k() == 0 {
        return;
    }
    debug_assert_eq!(points.len() % d, 0);
    debug_assert!(labels.as_ref().is_none_or(|l| l.len() == points.len() / d));
    acc.padded.fill([0.0; GROUP]);
    acc.inertia += dispatch(points, centroids, &mut acc.padded, &mut acc.counts, labels);
    let width = centroids.width();
    for (sum, padded) in acc.sums.chunks_exact_mut(d).zip(acc.padded.chunks_exact(width)) {
        sum.iter_mut().zip(padded.as_flattened()).for_each(|(a, b)| *a += b);
    }
}

/// [`pass`] with the rows split over `accs.len()` threads of the current rayon pool; the result is merged into `accs[0]`.
///
/// Which thread adds which rows does not depend on timing, nor does the order of the merge: the same input and number of
/// threads give the same bits. All of `accs` are cleared first.
pub(crate) fn pass_parallel<T: Real>(
    points: &[T],
    centroids: &Prepared<T>,
    accs: &mut [Accum],
    labels: Option<&mut [u32]>,
) {
    accs.iter_mut().for_each(Accum::clear);
    let (threads, d) = (accs.len(), centroids.d().max(1));
    let n = points.len() / d;
    if let [acc] = accs {
        return pass(points, centroids, acc, labels);
    }
    rayon::scope(|scope| {
        let (mut points, mut labels) = (points, labels);
        for (t, acc) in accs.iter_mut().enumerate() {
            let rows = n * (t + 1) / threads - n * t / threads;
            let (mine, rest) = points.split_at(rows * d);
            points = rest;
            let mine_labels = labels.take().map(|all| {
                let (mine, rest) = all.split_at_mut(rows);
                labels = Some(rest);
                mine
            });
            scope.spawn(move |_| pass(mine, centroids, acc, mine_labels));
        }
    });
    if let [first, rest @ ..] = accs {
        rest.iter().for_each(|acc| first.merge(acc));
    }
}

/// The common small dimensions get code of their own, with every loop over `d` unrolled.
fn dispatch<T: Real>(
    points: &[T],
    p: &Prepared<T>,
    sums: &mut [[f64; GROUP]],
    counts: &mut [u64],
    labels: Option<&mut [u32]>,
) -> f64 {
    macro_rules! by_d {
        ($($d:literal)*) => {
            match p.d() {
                $($d => Arch::new().dispatch(Pass::<T, $d> { points, p, sums, counts, labels }),)*
                _ => Arch::new().dispatch(Pass::<T, 0> { points, p, sums, counts, labels }),
            }
        };
    }
    by_d!(1 2 3 4 5 6 7 8 9 10)
}

/// `D` is the number of dimensions, or 0 if only known at run time.
struct Pass<'a, T, const D: usize> {
    points: &'a [T],
    p: &'a Prepared<T>,
    sums: &'a mut [[f64; GROUP]],
    counts: &'a mut [u64],
    labels: Option<&'a mut [u32]>,
}

/// Bytes of points that are transposed at once: they must leave room in L1 for centroids.
const BLOCK_BYTES: usize = 12 * 1024;
/// Most points in a block.
const BLOCK_ROWS: usize = 512;

impl<T: Real, const D: usize> WithSimd for Pass<'_, T, D> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let Self { points, p, sums, counts, mut labels } = self;
        let d = if D == 0 { p.d() } else { D };
        let width = d.div_ceil(GROUP);
        let lanes = size_of::<Row<T, S>>() / size_of::<T>();
        let tiles = (BLOCK_BYTES / (size_of::<Row<T, S>>() * d)).clamp(1, BLOCK_ROWS / lanes);
        let mut block: Vec<Row<T, S>> = vec![[T::splat(simd, T::ZERO); VECTORS]; tiles * d];
        let mut found = [0_u32; BLOCK_ROWS];
        let mut inertia = 0.0;
        let mut done = 0;
        for rows in points.chunks(tiles * lanes * d) {
            let n = rows.len() / d;
            for (tile, rows) in block.chunks_exact_mut(d).zip(rows.chunks(lanes * d)) {
                let lanes_of: &mut [T] = bytemuck::cast_slice_mut(tile);
                transpose(rows, d, lanes, lanes_of);
            }
            for (tile, found) in
                block.chunks_exact_mut(d).zip(found[..n.next_multiple_of(lanes)].chunks_exact_mut(lanes))
            {
                for (row, &shift) in tile.iter_mut().zip(&p.shift) {
                    let shift = T::splat(simd, shift);
                    for x in row {
                        *x = T::sub(simd, *x, shift);
                    }
                }
                assign::<T, S>(simd, p, tile, found);
            }
            let mut part = [0.0; GROUP];
            for (row, &label) in rows.chunks_exact(d).zip(&found[..n]) {
                let j = label as usize;
                counts[j] += 1;
                let (sum, c) = (&mut sums[j * width..][..width], &p.rows[j * width..][..width]);
                add_row::<T, S>(row, c, sum, &mut part);
            }
            inertia += part.iter().sum::<f64>();
            if let Some(labels) = labels.as_deref_mut() {
                labels[done..done + n].copy_from_slice(&found[..n]);
            }
            done += n;
        }
        inertia
    }
}

/// Rows of `d` coordinates to columns of `lanes`; lanes without a row keep what they had.
#[inline(always)]
fn transpose<T: Real>(rows: &[T], d: usize, lanes: usize, tile: &mut [T]) {
    for (lane, row) in rows.chunks_exact(d).enumerate() {
        for (column, &x) in tile.chunks_exact_mut(lanes).zip(row) {
            column[lane] = x;
        }
    }
}

/// Adds a point to the sum of its cluster, and its squared distance to `inertia`.
#[inline(always)]
fn add_row<T: Real, S: Simd>(
    row: &[T],
    centroid: &[[f64; GROUP]],
    sum: &mut [[f64; GROUP]],
    inertia: &mut [f64; GROUP],
) {
    let (whole, rest) = row.as_chunks::<GROUP>();
    for ((x, c), sum) in whole.iter().zip(centroid).zip(&mut *sum) {
        for m in 0..GROUP {
            let x = x[m].to_f64();
            let e = x - c[m];
            inertia[m] = if S::IS_SCALAR { e * e + inertia[m] } else { e.fused(e, inertia[m]) };
            sum[m] += x;
        }
    }
    if let (false, Some(c), Some(sum)) = (rest.is_empty(), centroid.last(), sum.last_mut()) {
        for (m, x) in rest.iter().enumerate() {
            let x = x.to_f64();
            let e = x - c[m];
            inertia[m] = if S::IS_SCALAR { e * e + inertia[m] } else { e.fused(e, inertia[m]) };
            sum[m] += x;
        }
    }
}
