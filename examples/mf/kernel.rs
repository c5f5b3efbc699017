//! The work on a block: an update for each of its ratings, or only the error.

use pulp::{Arch, Simd, WithSimd};

use crate::blocks::Entry;
use crate::model::Shape;

/// The factors of one split of users or of items, and their biases.
pub(crate) struct Rows<'a> {
    pub(crate) factors: &'a mut [f32],
    pub(crate) biases: &'a mut [f32],
}

impl<'a> Rows<'a> {
    pub(crate) fn new(shape: Shape, numbers: &'a mut [f32]) -> Rows<'a> {
        let (factors, biases) = shape.parts(numbers);
        Rows { factors, biases }
    }
}

/// How updates go. With the error `e` of a rating, factors `p` of its user and `q` of its item become `keep p + rate e q` and
/// `keep q + rate e p` (both of the old ones); biases likewise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    rate: f32,
    keep: f32,
    bias_rate: f32,
    bias_keep: f32,
}

impl Steps {
    /// With a learning rate and regularisation; without `biases` these stay 0.
    pub(crate) fn new(rate: f32, regularisation: f32, biases: bool) -> Steps {
        let keep = 1.0 - rate * regularisation;
        let (bias_rate, bias_keep) = if biases { (rate, keep) } else { (0.0, 1.0) };
        Steps { rate, keep, bias_rate, bias_keep }
    }
}

/// Updates for all ratings of a block, one after the other. Returns the sum of the squares of their errors, each as it was before its
/// update.
pub(crate) fn train(shape: Shape, steps: Steps, users: Rows<'_>, items: Rows<'_>, block: &[Entry]) -> f64 {
    dispatch(Block::<true> { shape, steps, users, items, entries: block })
}

/// The sum of the squares of the errors of all ratings of a block.
pub(crate) fn squares(shape: Shape, users: Rows<'_>, items: Rows<'_>, block: &[Entry]) -> f64 {
    let steps = Steps::new(0.0, 0.0, false);
    dispatch(Block::<false> { shape, steps, users, items, entries: block })
}

fn dispatch<const UPDATE: bool>(block: Block<'_, UPDATE>) -> f64 {
    #[cfg(target_arch = "x86_64")]
    match Arch::new() {
        // A row is a whole number of AVX2's registers, not of twice as wide ones; so sums are the same on both, too.
        Arch::V4(simd) => Arch::V3(*simd).dispatch(block),
        arch => arch.dispatch(block),
    }
    #[cfg(not(target_arch = "x86_64"))]
    Arch::new().dispatch(block)
}

struct Block<'a, const UPDATE: bool> {
    shape: Shape,
    steps: Steps,
    users: Rows<'a>,
    items: Rows<'a>,
    entries: &'a [Entry],
}

impl<const UPDATE: bool> WithSimd for Block<'_, UPDATE> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        // Rows of a length that is known are unrolled, and stay in registers between the product and the update.
        match self.shape.width / S::F32_LANES {
            1 => self.known::<S, 1>(simd),
            2 => self.known::<S, 2>(simd),
            3 => self.known::<S, 3>(simd),
            4 => self.known::<S, 4>(simd),
            6 => self.known::<S, 6>(simd),
            8 => self.known::<S, 8>(simd),
            n => self.any(simd, n),
        }
    }
}

impl<const UPDATE: bool> Block<'_, UPDATE> {
    #[inline(always)]
    fn known<S: Simd, const N: usize>(self, simd: S) -> f64 {
        let users = S::as_mut_simd_f32s(self.users.factors).0.as_chunks_mut::<N>().0;
        let items = S::as_mut_simd_f32s(self.items.factors).0.as_chunks_mut::<N>().0;
        let mut squares = 0.0;
        for e in self.entries {
            let (user, item) = (e.user as usize, e.item as usize);
            let biases = (&mut self.users.biases[user], &mut self.items.biases[item]);
            let rows = (&mut users[user][..], &mut items[item][..]);
            squares += one::<S, UPDATE>(simd, self.steps, rows, biases, e.value);
        }
        squares
    }

    #[inline(always)]
    fn any<S: Simd>(self, simd: S, n: usize) -> f64 {
        let users = S::as_mut_simd_f32s(self.users.factors).0;
        let items = S::as_mut_simd_f32s(self.items.factors).0;
        let mut squares = 0.0;
        for e in self.entries {
            let (user, item) = (e.user as usize, e.item as usize);
            let biases = (&mut self.users.biases[user], &mut self.items.biases[item]);
            let rows = (&mut users[user * n..][..n], &mut items[item * n..][..n]);
            squares += one::<S, UPDATE>(simd, self.steps, rows, biases, e.value);
        }
        squares
    }
}

/// One rating: the square of its error, and its update.
#[inline(always)]
fn one<S: Simd, const UPDATE: bool>(
    simd: S,
    steps: Steps,
    (p, q): (&mut [S::f32s], &mut [S::f32s]),
    (b, c): (&mut f32, &mut f32),
    value: f32,
) -> f64 {
    // Two sums, so that one addition need not wait for the other.
    let mut sums = [simd.splat_f32s(0.0); 2];
    for (i, (p, q)) in p.iter().zip(&*q).enumerate() {
        sums[i % 2] = simd.mul_add_e_f32s(*p, *q, sums[i % 2]);
    }
    let error = value - *b - *c - simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1]));
    if UPDATE {
        let (step, keep) = (simd.splat_f32s(steps.rate * error), simd.splat_f32s(steps.keep));
        for (p, q) in p.iter_mut().zip(q) {
            let (old_p, old_q) = (*p, *q);
            *p = simd.mul_add_e_f32s(step, old_q, simd.mul_f32s(keep, old_p));
            *q = simd.mul_add_e_f32s(step, old_p, simd.mul_f32s(keep, old_q));
        }
        *b = steps.bias_keep * *b + steps.bias_rate * error;
        *c = steps.bias_keep * *c + steps.bias_rate * error;
    }
    f64::from(error) * f64::from(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aeolian_examples::random::{at, below};

    /// As the textbook says, in f64.
    fn plain(
        k: usize,
        rate: f64,
        decay: f64,
        model: &mut [Vec<f64>; 4],
        block: &[Entry],
        update: bool,
    ) -> f64 {
        let [p, q, b, c] = model;
        let mut squares = 0.0;
        for e in block {
            let (u, i) = (e.user as usize, e.item as usize);
            let dot: f64 = (0..k).map(|f| p[u * k + f] * q[i * k + f]).sum();
            let error = f64::from(e.value) - b[u] - c[i] - dot;
            squares += error * error;
            if update {
                for f in 0..k {
                    let (old_p, old_q) = (p[u * k + f], q[i * k + f]);
                    p[u * k + f] += rate * (error * old_q - decay * old_p);
                    q[i * k + f] += rate * (error * old_p - decay * old_q);
                }
                b[u] += rate * (error - decay * b[u]);
                c[i] += rate * (error - decay * c[i]);
            }
        }
        squares
    }

    #[test]
    fn any_number_of_factors_is_as_the_textbook_says() {
        for factors in (1..=9).chain([16, 20, 24, 31, 32, 40, 48, 64, 100]) {
            let shape = Shape::new(factors);
            let (users, items) = (5, 7);
            let number = |i: usize| (at(1, 0, i as u64) as f64 / 2f64.powi(64) - 0.5) as f32;
            let fill = |rows: usize, from: usize| {
                let mut numbers = shape.zeroed(rows);
                for row in 0..rows {
                    shape.row(row).for_each(|i| numbers[i] = number(from + i));
                    let at = shape.bias(numbers.len(), row);
                    numbers[at] = number(from + at);
                }
                numbers
            };
            let (mut user_rows, mut item_rows) = (fill(users, 0), fill(items, 10_000));
            let wide = |numbers: &[f32], rows: usize| {
                let of = |row| numbers[shape.row(row)].iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
                let bias = |row| f64::from(numbers[shape.bias(numbers.len(), row)]);
                ((0..rows).flat_map(of).collect::<Vec<f64>>(), (0..rows).map(bias).collect::<Vec<f64>>())
            };
            let ((p, b), (q, c)) = (wide(&user_rows, users), wide(&item_rows, items));
            let mut model = [p, q, b, c];
            let entry = |i: u64| Entry {
                user: below(2, 0, i, users as u64) as u32,
                item: below(2, 1, i, items as u64) as u32,
                value: number(i as usize) * 4.0,
            };
            let block: Vec<Entry> = (0..300).map(entry).collect();

            let (u, i) = (Rows::new(shape, &mut user_rows), Rows::new(shape, &mut item_rows));
            let before = squares(shape, u, i, &block);
            let (u, i) = (Rows::new(shape, &mut user_rows), Rows::new(shape, &mut item_rows));
            let during = train(shape, Steps::new(0.02, 0.1, true), u, i, &block);
            let want = plain(factors, 0.02, 0.1, &mut model.clone(), &block, false);
            assert!((before / want - 1.0).abs() < 1e-5, "{factors}: {before} {want}");
            let want = plain(factors, 0.02, 0.1, &mut model, &block, true);
            assert!((during / want - 1.0).abs() < 1e-5, "{factors}: {during} {want}");

            let ((p, b), (q, c)) = (wide(&user_rows, users), wide(&item_rows, items));
            let got = [p, q, b, c];
            let off = got.iter().flatten().zip(model.iter().flatten()).map(|(a, b)| (a - b).abs());
            assert!(off.fold(0.0, f64::max) < 1e-5, "{factors}");
            let padding = user_rows.chunks(shape.width).take(users).flat_map(|row| &row[factors..]);
            assert!(padding.into_iter().all(|x| *x == 0.0), "{factors}: padding stays 0");
        }
    }

    #[test]
    fn without_biases_these_stay_0() {
        let shape = Shape::new(3);
        let (mut users, mut items) = (shape.zeroed(1), shape.zeroed(1));
        users[0] = 1.0;
        items[0] = 1.0;
        let (u, i) = (Rows::new(shape, &mut users), Rows::new(shape, &mut items));
        train(shape, Steps::new(0.1, 0.5, false), u, i, &[Entry { user: 0, item: 0, value: 3.0 }]);
        assert_eq!((users[shape.width], items[shape.width]), (0.0, 0.0));
        assert!((users[0] - (0.95 + 0.2)).abs() < 1e-6 && users[0] == items[0]);
    }
}
