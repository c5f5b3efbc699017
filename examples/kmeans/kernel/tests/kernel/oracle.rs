//! The kernel against a naive oracle in f64.
use crate::data::{exact, spread};
use aeolian_kmeans_kernel::{Accum, Prepared, Real, farthest, pass, pass_parallel};
use proptest::prelude::*;

struct Oracle {
    labels: Vec<u32>,
    dist2: Vec<f64>,
    /// Distance to the second nearest, to tell near ties.
    second: Vec<f64>,
}

fn oracle(points: &[f64], centroids: &[f64], d: usize) -> Oracle {
    let mut o = Oracle { labels: vec![], dist2: vec![], second: vec![] };
    for x in points.chunks(d) {
        let dist = |c: &[f64]| x.iter().zip(c).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        let all: Vec<f64> = centroids.chunks(d).map(dist).collect();
        let best = (0..all.len()).fold(0, |b, j| if all[j] < all[b] { j } else { b });
        o.labels.push(best as u32);
        o.dist2.push(all[best]);
        o.second.push(
            all.iter().enumerate().filter(|(j, _)| *j != best).fold(f64::INFINITY, |m, (_, &v)| m.min(v)),
        );
    }
    o
}

/// Runs the kernel and checks everything it returns. `slack`: how much farther than the nearest a chosen centroid may
/// be, relative to the squared size of the numbers that are compared.
fn check<T: Real>(points: &[f64], centroids: &[f64], k: usize, d: usize, threads: usize, slack: f64) {
    let data: Vec<T> = points.iter().map(|&x| T::from_f64(x)).collect();
    let points: Vec<f64> = data.iter().map(|x| x.to_f64()).collect();
    let n = points.len() / d;
    let mut shift = vec![0.0; d];
    for row in points.chunks(d) {
        shift.iter_mut().zip(row).for_each(|(m, x)| *m += x / n as f64);
    }
    if slack == 0.0 {
        shift.iter_mut().for_each(|m| *m = m.round());
    }
    let mut prepared = Prepared::<T>::new(k, d, &shift);
    prepared.update(centroids);
    let mut labels = vec![u32::MAX; n];
    let mut accs = vec![Accum::new(k, d); threads];
    pass_parallel(&data, &prepared, &mut accs, Some(&mut labels));
    let acc = &accs[0];

    let want = oracle(&points, centroids, d);
    let (mut sums, mut counts, mut inertia) = (vec![0.0; k * d], vec![0; k], 0.0);
    for (r, row) in points.chunks(d).enumerate() {
        let j = labels[r] as usize;
        let chosen: f64 = row.iter().zip(&centroids[j * d..]).map(|(a, b)| (a - b) * (a - b)).sum();
        let size: f64 = row.iter().zip(&shift).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() + chosen + 1.0;
        if slack == 0.0 {
            assert_eq!(labels[r], want.labels[r], "row {r} of n={n} d={d} k={k}");
        } else {
            assert!(
                chosen - want.dist2[r] <= slack * size,
                "row {r} of n={n} d={d} k={k}: {chosen} > {}, second {}",
                want.dist2[r],
                want.second[r]
            );
        }
        counts[j] += 1;
        inertia += chosen;
        sums[j * d..][..d].iter_mut().zip(row).for_each(|(s, x)| *s += x);
    }
    assert_eq!(acc.counts, counts);
    assert!((acc.inertia - inertia).abs() <= 1e-12 * inertia, "inertia {} for {inertia}", acc.inertia);
    for (got, want) in acc.sums.iter().zip(&sums) {
        assert!((got - want).abs() <= 1e-12 * (1.0 + n as f64 * 10.0 + want.abs()), "sum {got} for {want}");
    }

    // Without labels, and once more on the same accumulators, it must be the same bits.
    let before = (acc.sums.clone(), acc.counts.clone(), acc.inertia);
    pass_parallel(&data, &prepared, &mut accs, None);
    assert_eq!(before, (accs[0].sums.clone(), accs[0].counts.clone(), accs[0].inertia));

    let m = 5.min(n);
    let kept: Vec<u16> = labels.iter().map(|l| *l as u16).collect();
    let far = farthest(&data, &prepared, Some(&kept), m);
    assert_eq!(far, farthest(&data, &prepared, None, m));
    let mut all: Vec<(f64, usize)> = (0..n)
        .map(|r| {
            let c = &centroids[labels[r] as usize * d..];
            (points[r * d..][..d].iter().zip(c).map(|(a, b)| (a - b) * (a - b)).sum(), r)
        })
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    all.truncate(m);
    assert_eq!(far.len(), all.len());
    for (got, want) in far.iter().zip(&all) {
        // Sums in another order: the same rows, but for those as far up to rounding.
        let close = (got.0 - want.0).abs() <= 1e-12 * want.0;
        assert!(close && (got.1 == want.1 || slack > 0.0), "{far:?} for {all:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whole_numbers_are_exact(n in 0_usize..200, d in 1_usize..70, k in 1_usize..150, threads in 1_usize..4, seed: u64) {
        let (points, centroids) = (exact(n * d, seed), exact(k * d, !seed));
        check::<f64>(&points, &centroids, k, d, threads, 0.0);
        check::<f32>(&points, &centroids, k, d, threads, 0.0);
    }

    #[test]
    fn small_d_has_many_ties(n in 0_usize..200, d in 1_usize..5, k in 1_usize..150, seed: u64) {
        let (points, centroids) = (exact(n * d, seed), exact(k * d, !seed));
        check::<f64>(&points, &centroids, k, d, 1, 0.0);
        check::<f32>(&points, &centroids, k, d, 1, 0.0);
    }

    #[test]
    fn fractions_up_to_rounding(n in 1_usize..200, d in 1_usize..70, k in 1_usize..150, far in prop::bool::ANY, seed: u64) {
        let offset = if far { 1000.0 } else { 0.0 };
        let (points, centroids) = (spread(n * d, seed, offset), spread(k * d, !seed, offset));
        check::<f64>(&points, &centroids, k, d, 2, 1e-13);
        check::<f32>(&points, &centroids, k, d, 2, 1e-4);
    }
}

#[test]
fn shapes_of_the_benchmark() {
    for (n, d, k) in [(5_000, 10, 100), (3_000, 100, 100), (4_000, 2, 1000), (700, 1, 2000), (100, 1500, 9)] {
        let (points, centroids) = (spread(n * d, 7, 0.0), spread(k * d, 8, 0.0));
        check::<f64>(&points, &centroids, k, d, 2, 1e-13);
        check::<f32>(&points, &centroids, k, d, 2, 1e-4);
    }
}

#[test]
fn duplicate_centroids_go_to_the_first() {
    for (d, k) in [(2, 40), (3, 8), (20, 40)] {
        let one = spread(d, 3, 0.0);
        let points = spread(d * 50, 4, 0.0);
        let centroids = one.repeat(k);
        let mut prepared = Prepared::<f64>::new(k, d, &vec![0.0; d]);
        prepared.update(&centroids);
        let mut labels = vec![9; 50];
        let mut acc = Accum::new(k, d);
        pass(&points, &prepared, &mut acc, Some(&mut labels));
        assert_eq!(labels, vec![0; 50]);
        assert_eq!(acc.counts[0], 50);
    }
}

#[test]
fn more_threads_than_rows_and_no_rows() {
    check::<f64>(&exact(6, 1), &exact(4, 2), 2, 2, 8, 0.0);
    check::<f32>(&[], &exact(4, 2), 2, 2, 3, 0.0);
}
