//! One pass of Lloyd's algorithm over rows: assign, then add up.
use super::Real;
use super::add::add_row;
use super::aligned::Aligned;
use super::assign::{Row, assign};
use super::grid::Grid;
use super::known::{Floor, Known, Moves};
use super::prepared::{GROUP, Prepared};
use super::prune::New;
use super::tile::{norms2, shift, transpose};
use pulp::{Arch, Scalar, Simd, WithSimd};

/// How a pass finds the nearest centroids. The result has the same bits either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// [`Algorithm::Pruned`] where it pays.
    #[default]
    Auto,
    /// Every point is scored against every centroid.
    Lloyd,
    /// Centroids that provably cannot be the nearest are left out (see `prune.rs`), however few the rows.
    Pruned,
}

/// What a pass adds up. Keep one for each thread and reuse it: its memory stays.
#[derive(Debug, Clone, Default)]
pub struct Accum {
    /// `k x d`, row-major: the sum of the points of each cluster.
    pub sums: Vec<f64>,
    /// `k`: how many points each cluster has.
    pub counts: Vec<u64>,
    /// Sum of squared distances of the points to the centroids of their clusters.
    pub inertia: f64,
    /// The sums while a pass runs, each row padded to whole registers.
    padded: Aligned<[f64; GROUP]>,
    algorithm: Algorithm,
    same_rows: bool,
    /// What the next pass may use of this one. Without `same_rows` guesses only: it costs time but does no harm if the
    /// next pass is over other rows.
    known: Known,
}

impl Accum {
    /// Zeros for `k` clusters in `d` dimensions.
    pub fn new(k: usize, d: usize) -> Self {
        Self {
            sums: vec![0.0; k * d],
            counts: vec![0; k],
            inertia: 0.0,
            padded: Aligned::zeroed(k * d.div_ceil(GROUP)),
            algorithm: Algorithm::Auto,
            same_rows: false,
            known: Known::default(),
        }
    }

    /// The same with a promise: all passes are over the same, unchanged rows with the same shift. Then what one pass has
    /// proved about a row spares the next one work.
    pub fn same_rows(self) -> Self {
        Self { same_rows: true, ..self }
    }

    /// The same with another way to find the nearest centroids.
    pub fn with(self, algorithm: Algorithm) -> Self {
        Self { algorithm, ..self }
    }

    /// The label of each of the `n` rows of the last pass, if it has kept them.
    pub fn labels(&self, n: usize) -> Option<&[u16]> {
        (self.same_rows && self.known.labels.len() == n).then_some(&self.known.labels)
    }

    /// Back to zeros, for the next iteration.
    pub fn clear(&mut self) {
        self.sums.fill(0.0);
        self.counts.fill(0);
        self.inertia = 0.0;
    }

    /// Adds what another thread found.
    pub fn merge(&mut self, other: &Self) {
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
pub fn pass<T: Real>(points: &[T], centroids: &Prepared<T>, acc: &mut Accum, labels: Option<&mut [u32]>) {
    pass_on(Arch::new(), points, centroids, acc, labels);
}

/// [`pass`] with the instruction set `arch`, for tests.
#[doc(hidden)]
pub fn pass_on<T: Real>(
    arch: Arch,
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
    let n = points.len() / d;
    // Rows to earn back what is prepared for each pass.
    let prune = match acc.algorithm {
        Algorithm::Lloyd => false,
        Algorithm::Auto => n >= 8192 && n >= 64 * centroids.k() && centroids.k() > 2 * GROUP,
        Algorithm::Pruned => n > 0,
    } && centroids.k() <= usize::from(u16::MAX);
    let guess = match prune {
        false => Guess::None,
        true if d <= Grid::MAX_D => Guess::Grid(Grid::new(centroids)),
        true => {
            let labelled = acc.known.begin(centroids, n, acc.same_rows);
            Guess::Last { known: &mut acc.known, labelled }
        }
    };
    let (sums, counts) = (&mut acc.padded[..], &mut acc.counts[..]);
    acc.inertia += T::pass(arch, Pass { points, p: centroids, sums, counts, labels, guess });
    let width = centroids.width();
    for (sum, padded) in acc.sums.chunks_exact_mut(d).zip(acc.padded.chunks_exact(width)) {
        sum.iter_mut().zip(padded.as_flattened()).for_each(|(a, b)| *a += b);
    }
}

/// [`pass()`] with the rows split over `accs.len()` threads of the current rayon pool; the result is merged into `accs[0]`.
///
/// Which thread adds which rows does not depend on timing, nor does the order of the merge: the same input and number of
/// threads give the same bits. All of `accs` are cleared first.
pub fn pass_parallel<T: Real>(
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
            let rows = rows_of(t, threads, n).len();
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

/// The rows of [`pass_parallel`]'s thread `t` of `threads`.
pub fn rows_of(t: usize, threads: usize, n: usize) -> std::ops::Range<usize> {
    n * t / threads..n * (t + 1) / threads
}

/// The common small dimensions get code of their own, with every loop over `d` unrolled, where there are vectors at all.
#[inline(always)]
pub(super) fn dispatch<T: Real>(arch: Arch, pass: Pass<'_, T, 0>) -> f64 {
    macro_rules! by_d {
        ($($d:literal)*) => {
            match pass.p.d() {
                $($d => on_this_machine(arch, pass.with_d::<$d>()),)*
                _ => on_this_machine(arch, pass),
            }
        };
    }
    if let Arch::Scalar = arch {
        return Simd::vectorize(Scalar::new(), pass);
    }
    by_d!(1 2 3 4 5 6 7 8 9 10)
}

/// What `arch.dispatch(pass)` would do, but for registers of 512 bits. (It is not called, since it would be compiled for every
/// instruction set once more.)
#[cfg(target_arch = "x86_64")]
fn on_this_machine<T: Real, const D: usize>(arch: Arch, pass: Pass<'_, T, D>) -> f64 {
    match arch {
        // One point alone does not fill registers of 512 bits with f32: what is done point by point uses 256.
        Arch::V4(simd) => Simd::vectorize(simd, Narrowed { pass, narrow: *simd }),
        Arch::V3(simd) => Simd::vectorize(simd, pass),
        _ => dispatch(Arch::Scalar, pass.with_d()),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn on_this_machine<T: Real, const D: usize>(arch: Arch, pass: Pass<'_, T, D>) -> f64 {
    arch.dispatch(pass)
}

/// `D` is the number of dimensions, or 0 if only known at run time.
pub struct Pass<'a, T, const D: usize> {
    points: &'a [T],
    p: &'a Prepared<T>,
    sums: &'a mut [[f64; GROUP]],
    counts: &'a mut [u64],
    labels: Option<&'a mut [u32]>,
    guess: Guess<'a>,
}

impl<'a, T, const FROM: usize> Pass<'a, T, FROM> {
    fn with_d<const D: usize>(self) -> Pass<'a, T, D> {
        let Self { points, p, sums, counts, labels, guess } = self;
        Pass { points, p, sums, counts, labels, guess }
    }
}

/// Where the guesses come from that pruning needs.
enum Guess<'a> {
    /// There are none.
    None,
    /// From the place of a point.
    Grid(Grid),
    /// From the pass before, if its rows are `labelled`; what is found is written there.
    Last { known: &'a mut Known, labelled: bool },
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

/// Rows that are pruned together: enough that most clusters fill registers, few enough to stay in a cache.
const PRUNED_ROWS: usize = 65_536;
/// The same in bytes.
const PRUNED_BYTES: usize = 4 << 20;
/// After rows where pruning was no gain so many times as many are scored in full.
const REST: usize = 7;

impl<T: Real, const D: usize> Pass<'_, T, D> {
    /// Returns the inertia.
    #[inline(always)]
    fn run<S: Simd, E: Simd>(self, simd: S, narrow: E) -> f64 {
        let Self { points, p, sums, counts, mut labels, mut guess } = self;
        let d = if D == 0 { p.d() } else { D };
        let width = d.div_ceil(GROUP);
        let lanes = size_of::<Row<T, S>>() / size_of::<T>();
        let tiles = (BLOCK_BYTES / (size_of::<Row<T, S>>() * d)).clamp(1, BLOCK_ROWS / lanes);
        let mut block = Aligned::<Row<T, S>>::zeroed(tiles * d);
        let block_rows = tiles * lanes;
        let guessed = !matches!(guess, Guess::None | Guess::Last { labelled: false, .. });
        let mut pruner = guessed.then(|| narrow.vectorize(New(p)));
        let chunk_rows = match guessed {
            // About a hundred rows for each cluster.
            true => (128 * p.k()).min(PRUNED_ROWS).min(PRUNED_BYTES / (d * size_of::<T>())),
            false => block_rows,
        };
        let chunk_rows = chunk_rows.min(points.len() / d).next_multiple_of(block_rows).max(block_rows);
        let mut found = vec![0_u32; chunk_rows];
        let mut inertia = 0.0;
        let (mut done, mut rest) = (0, 0);
        let (floor, still) = (Floor::new(p), Moves::default());
        let mut seconds = Vec::new();
        for chunk in points.chunks(chunk_rows * d) {
            let n = chunk.len() / d;
            match &mut pruner {
                Some(pruner) if rest == 0 => {
                    let (mut floors, mut moves) = (&mut [][..], &still);
                    match &mut guess {
                        Guess::Grid(grid) => grid.guess::<T, D>(chunk, &mut found[..n]),
                        Guess::Last { known, .. } => {
                            let labels = &known.labels[done..done + n];
                            found.iter_mut().zip(labels).for_each(|(f, l)| *f = u32::from(*l));
                            floors = known.floors.get_mut(done..done + n).unwrap_or_default();
                            moves = &known.moves;
                        }
                        Guess::None => {}
                    }
                    let (tile, found) = (&mut block[..d], &mut found[..n]);
                    let work = pruner.label::<S, E, D>(simd, narrow, chunk, tile, found, (floors, moves));
                    if work > 0.5 {
                        rest = REST;
                    }
                }
                _ => {
                    rest = rest.saturating_sub(1);
                    let mut known = match &mut guess {
                        Guess::Last { known, .. } if !known.floors.is_empty() => Some(&mut **known),
                        _ => None,
                    };
                    seconds.resize(if known.is_some() { lanes } else { 0 }, T::INFINITY);
                    let found = found[..n.next_multiple_of(lanes)].chunks_mut(block_rows);
                    let mut first = done;
                    for (rows, found) in chunk.chunks(block_rows * d).zip(found) {
                        // All are transposed first: the stores are far from the loads then.
                        for (tile, rows) in block.chunks_exact_mut(d).zip(rows.chunks(lanes * d)) {
                            transpose(rows, d, lanes, bytemuck::cast_slice_mut(tile));
                        }
                        for (tile, found) in block.chunks_exact_mut(d).zip(found.chunks_exact_mut(lanes)) {
                            shift(simd, p, tile);
                            assign::<T, S, E>(simd, narrow, p.scored(), tile, found, &mut seconds);
                            if let Some(Known { floors, .. }) = &mut known {
                                let norms2 = norms2::<T, S>(simd, tile);
                                let scored = seconds.iter().zip(bytemuck::cast_slice::<_, T>(&norms2));
                                for (kept, (&second, &norm2)) in floors[first..].iter_mut().zip(scored) {
                                    *kept = Floor::kept(floor.of(second, norm2));
                                }
                                first = (first + lanes).min(floors.len());
                            }
                        }
                    }
                }
            }
            // The same blocks in the same order, however the labels were found: the sums have the same bits.
            for (rows, found) in chunk.chunks(block_rows * d).zip(found[..n].chunks(block_rows)) {
                let mut part = [narrow.splat_f64s(0.0); GROUP];
                // Up to the end of all rows, so that a whole register can be loaded.
                let from_here = &points[done * d..];
                for (r, &label) in found.iter().enumerate() {
                    let j = label as usize;
                    counts[j] += 1;
                    let (sum, c) = (&mut sums[j * width..][..width], &p.rows[j * width..][..width]);
                    part = add_row::<T, E>(narrow, &from_here[r * d..], d, c, sum, part);
                }
                inertia += bytemuck::cast_slice::<_, f64>(&part).iter().sum::<f64>();
                if let Some(labels) = labels.as_deref_mut() {
                    labels[done..done + found.len()].copy_from_slice(found);
                }
                if let Guess::Last { known, .. } = &mut guess {
                    known.labels[done..].iter_mut().zip(found).for_each(|(l, f)| *l = *f as u16);
                }
                done += rows.len() / d;
            }
        }
        inertia
    }
}
