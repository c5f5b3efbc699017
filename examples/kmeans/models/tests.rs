//! All models give the same answers, on any number of ranks.

use aeolian::World;
use aeolian_examples::progress::{Mode, Progress};
use aeolian_examples::workers::Workers;
use aeolian_examples::{Error, Matrix, random};
use clap::ValueEnum;

use super::{Kind, Own};
use crate::lloyd::{self, Limits};
use crate::{Number, moments};
use aeolian_kmeans_kernel::{Accum, Prepared, pass};

/// What a run ended with.
#[derive(Debug, Clone, PartialEq)]
struct End {
    centroids: Vec<f64>,
    labels: Vec<u32>,
    history: Vec<f64>,
}

/// `rows` points of `d` columns around `k` centres.
fn blobs(seed: u64, rows: usize, d: usize, k: usize) -> Vec<f64> {
    let unit = |stream, i| random::at(seed, stream, i) as f64 / u64::MAX as f64 - 0.5;
    let row = |i: u64| (0..d as u64).map(move |c| 20.0 * unit(c, i % k as u64) + unit(100 + c, i));
    (0..rows as u64).flat_map(row).collect()
}

/// Runs `kind` on `n` ranks of `threads` threads; every rank must end with the same bits.
fn run<T: Number>(
    kind: Kind,
    (n, threads): (u32, usize),
    all: &[f64],
    d: usize,
    first: &[f64],
    iterations: usize,
) -> End {
    let rows = all.len() / d;
    let ends = World::local(n, |mut world| {
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        let mine = rows * rank / size..rows * (rank + 1) / size;
        let part =
            all[mine.start * d..mine.end * d].iter().map(|x| <T as aeolian_examples::Element>::from_f64(*x));
        let mut points = Matrix::from_rows(part.collect::<Vec<T>>(), d);
        (points.first_row, points.n_total) = (mine.start as u64, rows as u64);
        let job = |world: &mut World| -> Result<End, Error> {
            let workers = Workers::new(threads)?;
            let moments = moments::of(world, &workers, &points, "the test", false)?;
            let own = Own { workers: &workers, points: &points, moments: &moments };
            let (limits, quiet) = (Limits { iterations, tolerance: 0.0 }, Mode::choose(rank, true));
            let progress = Progress::new("kmeans", quiet);
            let fit = lloyd::fit(world, own, first.to_vec(), kind, &limits, &progress)?;
            let k = first.len() / d;
            let mut prepared = Prepared::<T>::new(k, d, &moments.shift);
            prepared.update(&fit.centroids);
            let mut labels = vec![0; points.rows()];
            pass(points.as_slice(), &prepared, &mut Accum::new(k, d), Some(&mut labels));
            Ok(End { centroids: fit.centroids, labels, history: fit.history })
        };
        let end = job(&mut world).map_err(|e| e.to_string());
        world.finish()?;
        Ok(end)
    });
    let mut ends: Vec<End> = ends.unwrap().into_iter().map(Result::unwrap).collect();
    assert!(ends.windows(2).all(|w| w[0].centroids == w[1].centroids && w[0].history == w[1].history));
    let labels = ends.iter().flat_map(|end| end.labels.clone()).collect();
    End { labels, ..ends.remove(0) }
}

/// Ranks of one process share memory, where all collectives combine in the order of the ranks: these models then give equal bits.
fn same_bits(kind: Kind, n: u32) -> bool {
    kind != Kind::Rotation || n <= 2
}

fn compare<T: Number>(what: &str, all: &[f64], d: usize, first: &[f64], iterations: usize) {
    for n in [1, 2, 3, 5, 7] {
        for threads in if n == 3 { 1..3 } else { 1..2 } {
            let want = run::<T>(Kind::Allreduce, (n, threads), all, d, first, iterations);
            for &kind in Kind::value_variants() {
                let got = run::<T>(kind, (n, threads), all, d, first, iterations);
                let what = format!("{what}, {} on {n} ranks of {threads} threads", kind.name());
                assert_eq!(got.labels, want.labels, "{what}");
                if same_bits(kind, n) {
                    assert_eq!(got.centroids, want.centroids, "{what}");
                }
                let near = |a: &[f64], b: &[f64]| {
                    a.len() == b.len()
                        && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-12 * b.abs().max(1.0))
                };
                assert!(
                    near(&got.centroids, &want.centroids),
                    "{what}: {:?} {:?}",
                    got.centroids,
                    want.centroids
                );
                assert_eq!(got.history.len(), want.history.len(), "{what}");
                let pairs = got.history.iter().zip(&want.history);
                assert!(pairs.clone().all(|(a, b)| (a - b).abs() <= 1e-9 * b.abs()), "{what}: {pairs:?}");
            }
        }
    }
}

#[test]
fn the_same_answers() {
    // Fewer clusters than slices, as many as fit no number of ranks, and groups of the kernel in the middle of slices.
    for (seed, rows, d, k) in [(1, 301, 3, 2), (2, 501, 5, 5), (3, 900, 2, 37), (4, 700, 11, 19)] {
        let all = blobs(seed, rows, d, k);
        let first = &all[..k * d];
        compare::<f64>(&format!("seed {seed}"), &all, d, first, 5);
    }
}

#[test]
fn the_same_answers_in_single_precision() {
    let all = blobs(5, 600, 4, 9);
    compare::<f32>("f32", &all, 4, &all[..9 * 4], 5);
}

#[test]
fn equally_near_centroids_and_empty_clusters() {
    // Whole numbers with many ties; three clusters start on the same spot and one far away, so that some lose all their points.
    let all: Vec<f64> = (0..400u64).map(|i| (random::at(9, 0, i) % 7) as f64).collect();
    let first = [1.0, 1.0, 1.0, 1.0, 5.0, 5.0, 1.0, 1.0, -900.0, 40.0];
    compare::<f64>("ties", &all, 2, &first, 6);
}

#[test]
fn fewer_points_than_ranks() {
    compare::<f64>("two points", &[0.0, 1.0, 4.0, 5.0], 2, &[0.0, 1.0, 4.0, 5.0], 3);
}
