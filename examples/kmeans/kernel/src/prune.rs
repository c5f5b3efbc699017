//! Leaving out centroids that cannot be the nearest.
//!
//! Say that a point lies at distance `u` from the centroid `a` that we guess for it (the last label, or that of a grid
//! cell). By the triangle inequality a centroid farther than `2 u` from `a` is farther than `u` from the point. So
//! - the guess is right if no other centroid is within `2 u` of it: one distance, and no score at all;
//! - so it is if the point's floor, kept from the pass before, is more than `u` (see `known.rs`);
//! - else the points with the same guess are collected, and scored only against the centroids within twice the
//!   largest of their distances, by the same code and in the same order as a full pass.
//!
//! A full pass compares scores that are rounded. Every bound here leaves room for that, so a label is the one that a full
//! pass would find, equal scores included: to be left out, a centroid's score must be larger by more than both errors.
use super::Real;
use super::add::distance2;
use super::aligned::Aligned;
use super::assign::{Assign, Row, assign};
use super::grid::Grid;
use super::known::{Floor, Moves};
use super::prepared::{GROUP, Prepared, Scored};
use super::tile::{gather, norms2, shift};
use pulp::{Simd, WithSimd};

/// What pruning with the centroids of one pass needs.
pub(super) struct Pruner<'a, T> {
    p: &'a Prepared<T>,
    /// `k`: the norms of the shifted centroids, and the largest of them.
    norms: Vec<f64>,
    largest: f64,
    /// `k`: a guess at no more than this squared distance is right.
    sure: Vec<f64>,
    /// Rows whose guess may be wrong, with the squared distance to it.
    doubtful: Vec<(u32, f64)>,
    /// The same rows by guess, and where those of each guess begin.
    sorted: Vec<u32>,
    starts: Vec<u32>,
    /// `k`: the largest squared distance of them.
    reach: Vec<f64>,
    /// Squared distances from one centroid to all others, as packed.
    between: Aligned<[T; GROUP]>,
    /// `k`: what is kept of them, and the centroids themselves, in ascending order for each.
    near: Vec<Near<T>>,
    kept: Vec<(u32, T)>,
    /// Room for the neighbours of one.
    found: Vec<(u32, T)>,
    /// The centroids that are left, in ascending order, and packed.
    list: Vec<u32>,
    packed: Aligned<[T; GROUP]>,
    packed_norms: Aligned<[T; GROUP]>,
}

/// The centroids in the neighbourhood of one.
#[derive(Clone, Copy)]
struct Near<T> {
    /// All whose squared distance is not surely more than this are in the list.
    limit: T,
    /// Where the list stands in `kept`.
    from: usize,
    to: usize,
}

impl<T: Real> Near<T> {
    fn unknown() -> Self {
        Self { limit: T::from_f64(f64::NEG_INFINITY), from: 0, to: 0 }
    }
}

/// The smaller one, or `b` if there is none. (Not a closure: that would not be compiled for the instruction set.)
#[inline(always)]
fn less(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

/// The squared distance of each centroid to the nearest other one.
#[inline(always)]
fn nearest2<T: Real>(p: &Prepared<T>) -> Vec<f64> {
    let (k, d, width) = (p.k(), p.d(), p.width());
    // Packed like those that are scored, so that a centroid meets many others at once; the last are infinitely far from all.
    let groups = k.div_ceil(GROUP);
    let mut packed = vec![[f64::INFINITY; GROUP]; groups * d];
    for (j, row) in p.rows.chunks_exact(width).enumerate() {
        for (packed, x) in packed[j / GROUP * d..][..d].iter_mut().zip(row.as_flattened()) {
            packed[j % GROUP] = *x;
        }
    }
    let mut nearest = vec![f64::INFINITY; groups * GROUP];
    for a in 0..k {
        let own = &p.rows[a * width..][..width].as_flattened()[..d];
        // From its own group on: with those before it, it has met already.
        let first = a / GROUP;
        let mut least = [f64::INFINITY; GROUP];
        let (met, _) = nearest[first * GROUP..].as_chunks_mut::<GROUP>();
        for (g, (met, others)) in met.iter_mut().zip(packed[first * d..].chunks_exact(d)).enumerate() {
            let mut dist2 = [0.0; GROUP];
            for (other, own) in others.iter().zip(own) {
                for (sum, other) in dist2.iter_mut().zip(other) {
                    *sum += (other - own) * (other - own);
                }
            }
            if g == 0 {
                dist2[a % GROUP] = f64::INFINITY;
            }
            for ((met, least), dist2) in met.iter_mut().zip(&mut least).zip(dist2) {
                *met = less(dist2, *met);
                *least = less(dist2, *least);
            }
        }
        nearest[a] = least.into_iter().fold(nearest[a], less);
    }
    nearest.truncate(k);
    nearest
}

/// So many neighbours for each centroid are kept at most, on average, and in not more bytes than this.
const KEPT: usize = 64;
const KEPT_BYTES: usize = 4 << 20;

/// Neighbours are kept up to so many times the squared distance that is asked for, because the next chunk may ask for more.
const ROOM: f64 = 1.4;

/// More than the rounding of our own sums in f64, relative.
const SLACK: f64 = 1e-9;

/// [`Pruner::new`] for an instruction set: whatever the number of dimensions, it is compiled once.
pub(super) struct New<'a, T>(pub(super) &'a Prepared<T>);

impl<'a, T: Real> WithSimd for New<'a, T> {
    type Output = Pruner<'a, T>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> Pruner<'a, T> {
        Pruner::new(self.0)
    }
}

/// The same of [`Pruner::near`].
struct NearOf<'p, 'a, T> {
    pruner: &'p mut Pruner<'a, T>,
    a: usize,
    d: usize,
}

impl<T: Real> WithSimd for NearOf<'_, '_, T> {
    type Output = (usize, f64);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (usize, f64) {
        self.pruner.near::<S>(simd, self.a, self.d)
    }
}

impl<'a, T: Real> Pruner<'a, T> {
    #[inline(always)]
    fn new(p: &'a Prepared<T>) -> Self {
        let k = p.k();
        let norms: Vec<f64> = (0..k).map(|j| p.norm(j)).collect();
        let largest = p.largest_norm();
        let nearest = nearest2(p);
        let mut pruner = Self {
            p,
            norms,
            largest,
            sure: nearest,
            doubtful: Vec::new(),
            sorted: Vec::new(),
            starts: vec![0; k + 1],
            reach: vec![0.0; k],
            between: Aligned::zeroed(p.norms.len()),
            near: vec![Near::unknown(); k],
            kept: Vec::new(),
            found: vec![(0, T::ZERO); k.next_multiple_of(GROUP)],
            list: vec![0; k.next_multiple_of(GROUP)],
            packed: Aligned::zeroed(p.packed.len()),
            packed_norms: Aligned::zeroed(p.norms.len()),
        };
        for a in 0..k {
            // Unrounded centroids to those that are scored: each moved by half a unit in the last place at most.
            let apart = pruner.sure[a].sqrt() * (1.0 - SLACK) - 2.0 * T::EPSILON * largest;
            // Largest u with u + sqrt(u^2 + 2 error) < apart; u is less than half of apart.
            let u = (apart * apart - 2.0 * pruner.error(a, apart)) / (2.0 * apart);
            let u = (u * (1.0 - SLACK) - 2.0 * T::EPSILON * pruner.norms[a]) / (1.0 + 2.0 * T::EPSILON);
            // Not a number, too: nothing is sure.
            pruner.sure[a] = if apart > 0.0 && u > 0.0 { u * u * (1.0 - SLACK) } else { -1.0 };
        }
        pruner
    }

    /// How wrong the score of any centroid may be for a point within `u` of centroid `a`.
    #[inline(always)]
    fn error(&self, a: usize, u: f64) -> f64 {
        // A rounding of the norm and two for each dimension (one if fused) of half an epsilon; the partial sums are at
        // most |c|^2 + 2 |x| |c|. Twice that, for what is of second order.
        let size = self.largest * (self.largest + 2.0 * (self.norms[a] + u));
        (2 * self.p.d() + 2) as f64 * (T::EPSILON * size + T::TINY)
    }

    /// Upper bound of the distance between the shifted and rounded point and centroid `a`, for one that was computed
    /// without shift and rounding.
    #[inline(always)]
    fn rounded(&self, a: usize, distance: f64) -> f64 {
        distance * (1.0 + SLACK + 2.0 * T::EPSILON) + 2.0 * T::EPSILON * self.norms[a]
    }

    /// Turns guesses into labels, and returns how much was scored as a share of a full pass.
    ///
    /// `labels` holds a centroid for each of `rows`; `floors` has their floors before the centroids made `moves`, or is
    /// empty; `tile` is room for one.
    #[inline(always)]
    pub(super) fn label<S: Simd, E: Simd, const D: usize>(
        &mut self,
        simd: S,
        narrow: E,
        rows: &[T],
        tile: &mut [Row<T, S>],
        labels: &mut [u32],
        (floors, moves): (&mut [f32], &Moves),
    ) -> f64 {
        let p = self.p;
        let d = if D == 0 { p.d() } else { D };
        let (k, width, lanes) = (p.k(), d.div_ceil(GROUP), size_of::<Row<T, S>>() / size_of::<T>());
        self.doubtful.resize(labels.len(), (0, 0.0));
        let mut n = 0;
        for (r, &a) in labels.iter().enumerate() {
            let a = a as usize;
            let dist2 = distance2::<T, E>(narrow, &rows[r * d..], d, &p.rows[a * width..][..width]);
            // Written in any case: whether it counts is hard to predict.
            self.doubtful[n] = (r as u32, dist2);
            let mut doubt = dist2.partial_cmp(&self.sure[a]).is_none_or(|o| o.is_gt());
            if let Some(kept) = floors.get_mut(r) {
                let u = self.rounded(a, dist2.sqrt());
                let floor = moves.lower(f64::from(*kept), a, u);
                *kept = Floor::kept(floor);
                // Not a number, too: there is doubt.
                let right = (floor > 0.0) & (u * u + 2.0 * self.error(a, u) < floor * floor * (1.0 - SLACK));
                doubt &= !right;
            }
            n += usize::from(doubt);
        }
        self.sort(n, labels);
        let mut scored = 0;
        let mut found = [0_u32; 64 * 2];
        let mut seconds = [T::INFINITY; 64 * 2];
        let wanted = if floors.is_empty() { 0 } else { lanes };
        let floor = Floor::new(p);
        // What is left to score is little then. (To compile it for each number of dimensions took a third of the time of this crate.)
        let shared = D == 0 || D > Grid::MAX_D;
        for a in 0..k {
            let (from, to) = (self.starts[a] as usize, self.starts[a + 1] as usize);
            if from == to {
                continue;
            }
            let (near, beyond) = match shared {
                true => narrow.vectorize(NearOf { pruner: &mut *self, a, d }),
                false => self.near::<E>(narrow, a, d),
            };
            scored += near * (to - from).next_multiple_of(lanes);
            if near <= 1 {
                if !floors.is_empty() {
                    let kept = Floor::kept(beyond);
                    self.sorted[from..to].iter().for_each(|r| floors[*r as usize] = kept);
                }
                continue;
            }
            let groups = near.div_ceil(GROUP);
            let choice = match near == k {
                true => p.scored(),
                false => Scored {
                    k: near,
                    packed: &self.packed[..groups * d],
                    norms: &self.packed_norms[..groups],
                },
            };
            for chosen in self.sorted[from..to].chunks(lanes) {
                gather(rows, chosen, d, lanes, bytemuck::cast_slice_mut(tile));
                shift(simd, p, tile);
                let (labels_of, seconds_of) = (&mut found[..lanes], &mut seconds[..wanted]);
                if shared {
                    let tile = bytemuck::cast_slice(tile);
                    simd.vectorize(Assign {
                        narrow,
                        p: choice,
                        tile,
                        labels: labels_of,
                        seconds: seconds_of,
                    });
                } else {
                    assign::<T, S, E>(simd, narrow, choice, tile, labels_of, seconds_of);
                }
                for (&r, &f) in chosen.iter().zip(&found) {
                    labels[r as usize] = self.list[f as usize];
                }
                if wanted > 0 {
                    let norms2 = norms2::<T, S>(simd, tile);
                    let lanes = seconds.iter().zip(bytemuck::cast_slice::<_, T>(&norms2));
                    for (&r, (&second, &norm2)) in chosen.iter().zip(lanes) {
                        floors[r as usize] = Floor::kept(floor.of(second, norm2).min(beyond));
                    }
                }
            }
        }
        scored as f64 / (labels.len() * k) as f64
    }

    /// Sorts the first `n` doubtful rows by guess.
    fn sort(&mut self, n: usize, guesses: &[u32]) {
        let doubtful = &self.doubtful[..n];
        self.starts.fill(0);
        self.reach.fill(0.0);
        for &(r, dist2) in doubtful {
            let a = guesses[r as usize] as usize;
            self.starts[a] += 1;
            self.reach[a] = if dist2 <= self.reach[a] { self.reach[a] } else { dist2 };
        }
        // Ends first; filling from the back turns them into starts.
        let mut end = 0;
        for start in &mut self.starts {
            end += *start;
            *start = end;
        }
        self.sorted.resize(n, 0);
        for &(r, _) in doubtful.iter().rev() {
            let start = &mut self.starts[guesses[r as usize] as usize];
            *start -= 1;
            self.sorted[*start as usize] = r;
        }
    }

    /// Lists and packs the centroids that may be the nearest of a point with guess `a`; returns how many, and how far all
    /// others are at least from every such point.
    #[inline(always)]
    fn near<E: Simd>(&mut self, simd: E, a: usize, d: usize) -> (usize, f64) {
        let p = self.p;
        let k = p.k();
        let u = self.rounded(a, self.reach[a].sqrt());
        let beyond = (u * u + 2.0 * self.error(a, u)).sqrt();
        let radius = (u + beyond) * (1.0 + SLACK);
        // Packed centroids are twice as large, and their distances in `T` are rounded; so is this.
        let limit =
            4.0 * radius * radius * (1.0 + (2 * d + 12) as f64 * T::EPSILON) + (d + 4) as f64 * T::TINY;
        let limit = T::from_f64(limit);
        // Not a number, too: all are near then.
        if self.near[a].limit.partial_cmp(&limit).is_none_or(|o| o.is_lt()) {
            self.measure::<E>(simd, a, d, T::from_f64(ROOM * limit.to_f64()));
        }
        let mut n = 0;
        let Near { from, to, .. } = self.near[a];
        for &(j, dist2) in &self.kept[from..to] {
            // Whatever is not surely farther stays.
            self.list[n] = j;
            n += usize::from(dist2.partial_cmp(&limit).is_none_or(|o| o.is_le()));
        }
        if n * 4 > k * 3 {
            // To pack nearly all costs more than to score all.
            self.list.iter_mut().zip(0..).for_each(|(j, all)| *j = all);
            return (k, f64::INFINITY);
        }
        for (to, &j) in self.list[..n].iter().enumerate() {
            let (from, lane) = (j as usize / GROUP, j as usize % GROUP);
            self.packed_norms[to / GROUP][to % GROUP] = p.norms[from][lane];
            let from = &p.packed[from * d..][..d];
            for (to_row, row) in self.packed[to / GROUP * d..][..d].iter_mut().zip(from) {
                to_row[to % GROUP] = row[lane];
            }
        }
        for to in n..n.next_multiple_of(GROUP) {
            self.packed_norms[to / GROUP][to % GROUP] = T::INFINITY;
        }
        (n, if n < k { beyond } else { f64::INFINITY })
    }

    /// Keeps the centroids that are not surely farther from centroid `a` than `limit` (squared).
    #[inline(always)]
    fn measure<E: Simd>(&mut self, simd: E, a: usize, d: usize, limit: T) {
        let (p, k) = (self.p, self.p.k());
        let own = &p.packed[a / GROUP * d..][..d];
        for (dist2, packed) in self.between.iter_mut().zip(p.packed.chunks_exact(d)) {
            let mut sums = [T::ZERO; GROUP];
            let sum: &mut [T::Reals<E>] = bytemuck::cast_slice_mut(&mut sums);
            for (c, own) in packed.iter().zip(own) {
                let own = T::splat(simd, own[a % GROUP]);
                let c: &[T::Reals<E>] = bytemuck::cast_slice(c);
                for (sum, &c) in sum.iter_mut().zip(c) {
                    let e = T::sub(simd, c, own);
                    *sum = T::fma(simd, e, e, *sum);
                }
            }
            *dist2 = sums;
        }
        let mut n = 0;
        for (g, dist2) in self.between.iter().enumerate() {
            if dist2.iter().fold(true, |far, x| far & (*x > limit)) {
                continue;
            }
            for (m, &x) in dist2.iter().enumerate().take(k - g * GROUP) {
                // Written in any case: whether it counts is hard to predict.
                self.found[n] = ((g * GROUP + m) as u32, x);
                n += usize::from(x.partial_cmp(&limit).is_none_or(|o| o.is_le()));
            }
        }
        if self.kept.len() + n > (KEPT * k).min(KEPT_BYTES / size_of::<(u32, T)>()) {
            self.kept.clear();
            self.near.fill(Near::unknown());
        }
        let from = self.kept.len();
        self.kept.extend_from_slice(&self.found[..n]);
        self.near[a] = Near { limit, from, to: self.kept.len() };
    }
}
