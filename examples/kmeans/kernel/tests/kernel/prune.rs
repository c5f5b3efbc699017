//! Pruning against full passes, on every instruction set of this machine: every bit must be the same.
use crate::data::{exact, spread};
use aeolian_kmeans_kernel::{Accum, Algorithm, Arch, Prepared, Real, pass, pass_on};
use proptest::prelude::*;

fn instruction_sets() -> Vec<Arch> {
    let mut all = vec![Arch::Scalar, Arch::new()];
    #[cfg(target_arch = "x86_64")]
    all.extend(aeolian_kmeans_kernel::V3::try_new().map(Arch::V3));
    all
}

/// Runs `iterations` of Lloyd's algorithm both ways from `centroids`.
fn compare<T: Real>(arch: Arch, points: &[f64], centroids: Vec<f64>, k: usize, d: usize, iterations: usize) {
    compare_with::<T>(Algorithm::Pruned, arch, points, centroids, k, d, iterations);
}

fn compare_with<T: Real>(
    algorithm: Algorithm,
    arch: Arch,
    points: &[f64],
    mut centroids: Vec<f64>,
    k: usize,
    d: usize,
    iterations: usize,
) {
    let points: Vec<T> = points.iter().map(|&x| T::from_f64(x)).collect();
    let n = points.len() / d;
    let mut prepared = Prepared::<T>::new(k, d, &vec![0.125; d]);
    let (mut full, mut pruned) =
        (Accum::new(k, d).with(Algorithm::Lloyd), Accum::new(k, d).with(algorithm).same_rows());
    let (mut labels, mut pruned_labels) = (vec![0; n], vec![1; n]);
    for i in 0..iterations {
        prepared.update(&centroids);
        full.clear();
        pass_on(arch, &points, &prepared, &mut full, Some(&mut labels));
        pruned.clear();
        pass_on(arch, &points, &prepared, &mut pruned, Some(&mut pruned_labels));
        assert_eq!(labels, pruned_labels, "{arch:?} n={n} d={d} k={k} iteration {i}");
        let bits =
            |a: &Accum| -> Vec<u64> { a.sums.iter().chain([&a.inertia]).map(|x| x.to_bits()).collect() };
        assert_eq!(
            (&full.counts, bits(&full)),
            (&pruned.counts, bits(&pruned)),
            "{arch:?} n={n} d={d} k={k}"
        );
        for j in (0..k).filter(|j| full.counts[*j] > 0) {
            for (c, sum) in centroids[j * d..][..d].iter_mut().zip(&full.sums[j * d..]) {
                *c = sum / full.counts[j] as f64;
            }
        }
    }
}

/// Points near `centres` of their own, as far apart as `apart` says.
fn blobs(n: usize, d: usize, centres: usize, apart: f64, offset: f64, seed: u64) -> Vec<f64> {
    let middles = spread(centres * d, seed, 0.0);
    let noise = spread(n * d, !seed, offset);
    (0..n * d).map(|i| apart * middles[(i / d * 7919 % centres) * d + i % d] + noise[i]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn blobs_have_the_same_bits(
        n in 1_usize..600, d in 1_usize..40, k in 1_usize..80, centres in 1_usize..50, apart in 0_u32..20,
        far in prop::bool::ANY, seed: u64,
    ) {
        let points = blobs(n, d, centres, f64::from(apart), if far { 1e4 } else { 0.0 }, seed);
        let centroids: Vec<f64> = points.iter().cycle().take(k * d).copied().collect();
        for arch in instruction_sets() {
            compare::<f64>(arch, &points, centroids.clone(), k, d, 4);
            compare::<f32>(arch, &points, centroids.clone(), k, d, 4);
        }
    }

    #[test]
    fn ties_have_the_same_bits(n in 1_usize..400, d in 1_usize..6, k in 1_usize..200, seed: u64) {
        let (points, centroids) = (exact(n * d, seed), exact(k * d, !seed));
        for arch in instruction_sets() {
            compare::<f64>(arch, &points, centroids.clone(), k, d, 3);
            compare::<f32>(arch, &points, centroids.clone(), k, d, 3);
        }
    }

    /// Distances at the limits of the type: bounds overflow or vanish, labels must not change.
    #[test]
    fn extremes_have_the_same_bits(power in -46_i32..37, d in 1_usize..30, k in 17_usize..60, seed: u64) {
        let size = 10_f64.powi(power) / 64.0;
        let points: Vec<f64> = spread(300 * d, seed, 0.0).iter().map(|x| x * size).collect();
        let centroids = points[..k * d].to_vec();
        compare::<f64>(Arch::new(), &points, centroids.clone(), k, d, 3);
        // Squares of larger ones are infinite: not data that k-means in f32 can be asked about.
        if power < 18 {
            compare::<f32>(Arch::new(), &points, centroids, k, d, 3);
        }
    }
}

#[test]
fn many_rows_choose_by_themselves() {
    for (n, d, k, apart) in [(20_000, 2, 200, 3.0), (20_000, 12, 60, 30.0), (9_000, 12, 60, 0.0)] {
        let points = blobs(n, d, k, apart, 0.0, 5);
        let centroids = points[..k * d].to_vec();
        compare_with::<f64>(Algorithm::Auto, Arch::new(), &points, centroids.clone(), k, d, 5);
        compare_with::<f32>(Algorithm::Auto, Arch::new(), &points, centroids, k, d, 5);
    }
}

#[test]
fn guesses_from_other_rows_do_no_harm() {
    let (n, d, k) = (500, 5, 40);
    let mut acc = Accum::new(k, d).with(Algorithm::Pruned);
    for seed in 0..4 {
        let points = spread(n * d, seed, 0.0);
        let mut prepared = Prepared::<f64>::new(k, d, &vec![0.0; d]);
        prepared.update(&points[..k * d]);
        let (mut labels, mut want) = (vec![0; n], vec![0; n]);
        pass(&points, &prepared, &mut acc, Some(&mut labels));
        pass(&points, &prepared, &mut Accum::new(k, d).with(Algorithm::Lloyd), Some(&mut want));
        assert_eq!(labels, want);
    }
}
