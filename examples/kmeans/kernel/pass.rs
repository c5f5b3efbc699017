//! One pass of Lloyd's algorithm over rows: assign, then add up.
use super::Real;
use super::aligned::Aligned;
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
    padded: Aligned<[f64; GROUP]>,
}

impl Accum {
    /// Zeros for `k` clusters in `d` dimensions.
    pub(crate) fn new(k: usize, d: usize) -> Self {
        Self {
            sums: vec![0.0; k * d],
            counts: vec![0; k],
            inertia: 0.0,
            padded: Aligned::zeroed(k * d.div_ceil(GROUP)),
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

/// [`pass()`] with the rows split over `accs.len()` threads of the current rayon pool; the result is merged into `accs[0]`.
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
                $($d => on_this_machine(Pass::<T, $d> { points, p, sums, counts, labels }),)*
                _ => on_this_machine(Pass::<T, 0> { points, p, sums, counts, labels }),
            }
        };
    }
    by_d!(1 2 3 4 5 6 7 8 9 10)
}

fn on_this_machine<T: Real, const D: usize>(pass: Pass<'_, T, D>) -> f64 {
    match Arch::new() {
        // One point alone does not fill registers of 512 bits with f32: what is done point by point uses 256.
        #[cfg(target_arch = "x86_64")]
        Arch::V4(simd) => Arch::V4(simd).dispatch(Narrowed { pass, narrow: *simd }),
        arch => arch.dispatch(pass),
    }
}

/// `D` is the number of dimensions, or 0 if only known at run time.
struct Pass<'a, T, const D: usize> {
    points: &'a [T],
    p: &'a Prepared<T>,
    sums: &'a mut [[f64; GROUP]],
    counts: &'a mut [u64],
    labels: Option<&'a mut [u32]>,
}

/// A pass with another instruction set for what is done point by point.
struct Narrowed<'a, T, E, const D: usize> {
    pass: Pass<'a, T, D>,
    narrow: E,
}

impl<T: Real, const D: usize> WithSimd for Pass<'_, T, D> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        self.run(simd, simd)
    }
}

impl<T: Real, E: Simd, const D: usize> WithSimd for Narrowed<'_, T, E, D> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        self.pass.run(simd, self.narrow)
    }
}

/// Bytes of points that are transposed at once: they must leave room in L1 for centroids.
const BLOCK_BYTES: usize = 12 * 1024;
/// Most points in a block.
const BLOCK_ROWS: usize = 512;

impl<T: Real, const D: usize> Pass<'_, T, D> {
    /// Returns the inertia.
    #[inline(always)]
    fn run<S: Simd, E: Simd>(self, simd: S, narrow: E) -> f64 {
        let Self { points, p, sums, counts, mut labels } = self;
        let d = if D == 0 { p.d() } else { D };
        let width = d.div_ceil(GROUP);
        let lanes = size_of::<Row<T, S>>() / size_of::<T>();
        let tiles = (BLOCK_BYTES / (size_of::<Row<T, S>>() * d)).clamp(1, BLOCK_ROWS / lanes);
        let mut block = Aligned::<Row<T, S>>::zeroed(tiles * d);
        let mut found = [0_u32; BLOCK_ROWS];
        let mut inertia = 0.0;
        let mut done = 0;
        for rows in points.chunks(tiles * lanes * d) {
            let n = rows.len() / d;
            for (tile, rows) in block.chunks_exact_mut(d).zip(rows.chunks(lanes * d)) {
                transpose(rows, d, lanes, bytemuck::cast_slice_mut(tile));
            }
            let found_lanes = found[..n.next_multiple_of(lanes)].chunks_exact_mut(lanes);
            for (tile, found) in block.chunks_exact_mut(d).zip(found_lanes) {
                for (row, &shift) in tile.iter_mut().zip(&p.shift) {
                    let shift = T::splat(simd, shift);
                    for x in row {
                        *x = T::sub(simd, *x, shift);
                    }
                }
                assign::<T, S, E>(simd, narrow, p, tile, found);
            }
            let mut part = [narrow.splat_f64s(0.0); GROUP];
            let from_here = &points[done * d..];
            for (r, &label) in found[..n].iter().enumerate() {
                let j = label as usize;
                counts[j] += 1;
                let (sum, c) = (&mut sums[j * width..][..width], &p.rows[j * width..][..width]);
                part = add_row::<T, E>(narrow, &from_here[r * d..], d, c, sum, part);
            }
            inertia += bytemuck::cast_slice::<_, f64>(&part).iter().sum::<f64>();
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
    // As integers: of those a core stores two a cycle.
    let rows: &[T::Index] = bytemuck::cast_slice(rows);
    let tile: &mut [T::Index] = bytemuck::cast_slice_mut(tile);
    for (lane, row) in rows.chunks_exact(d).enumerate() {
        for (column, &x) in tile.chunks_exact_mut(lanes).zip(row) {
            column[lane] = x;
        }
    }
}

/// Adds the point of `d` coordinates at the start of `from` to the sum of its cluster, and its squared distance to
/// `inertia`, of which [`GROUP`] lanes are used.
#[inline(always)]
fn add_row<T: Real, E: Simd>(
    simd: E,
    from: &[T],
    d: usize,
    centroid: &[[f64; GROUP]],
    sum: &mut [[f64; GROUP]],
    mut inertia: [E::f64s; GROUP],
) -> [E::f64s; GROUP] {
    let lanes = E::F64_LANES;
    for (i, (c, sum)) in centroid.iter().zip(sum).enumerate() {
        let c: &[E::f64s] = bytemuck::cast_slice(c);
        let sum: &mut [E::f64s] = bytemuck::cast_slice_mut(sum);
        for v in 0..GROUP / lanes {
            let at = i * GROUP + v * lanes;
            if at < d {
                let x = widen(simd, &from[at..], d - at);
                let e = simd.sub_f64s(x, c[v]);
                inertia[v] = <f64 as Real>::fma(simd, e, e, inertia[v]);
                sum[v] = simd.add_f64s(sum[v], x);
            }
        }
    }
    inertia
}

/// The first `valid` numbers of `from` as a register, then zeros.
#[inline(always)]
fn widen<T: Real, E: Simd>(simd: E, from: &[T], valid: usize) -> E::f64s {
    let zero = simd.splat_f64s(0.0);
    let mut x = zero;
    let lanes: &mut [f64] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut x));
    let n = lanes.len();
    if let Some(from) = from.get(..n) {
        for (x, from) in lanes.iter_mut().zip(from) {
            *x = from.to_f64();
        }
        if valid < n {
            // What lies beyond belongs to the next row: read and masked, it costs less than a loop of unknown length.
            x = simd.select_f64s(simd.mask_between_m64s(0, valid as u64).mask(), x, zero);
        }
    } else {
        for (x, from) in lanes.iter_mut().zip(&from[..valid.min(from.len())]) {
            *x = from.to_f64();
        }
    }
    x
}
