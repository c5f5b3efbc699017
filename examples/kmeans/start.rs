//! The first centroids. None of the ways depends on how many ranks there are.

use aeolian::World;
use aeolian::harp::{Sum, allreduce_slice};
use aeolian_examples::agree::{agree, from_first};
use aeolian_examples::progress::Progress;
use aeolian_examples::workers::Workers;
use aeolian_examples::{Element, Error, Matrix, Result, input, random};

use crate::{Number, plus_plus};

/// `k x d` centroids by the method `how` (a keyword or a file). Collective.
pub(crate) fn centroids<T: Number>(
    world: &mut World,
    workers: &Workers,
    points: &Matrix<T>,
    (how, k, seed): (&str, usize, u64),
    progress: &Progress,
) -> Result<Vec<f64>> {
    let n = points.n_total;
    match how {
        "first" => rows(world, points, &(0..k as u64).collect::<Vec<_>>()),
        "random" => rows(world, points, &random::distinct(seed, 0, k, n)),
        _ => plus_plus::choose(world, workers, points, k, seed, progress),
    }
}

/// The rows with these global numbers, on every rank: each fills in those that it holds, the others are zero.
pub(crate) fn rows<T: Number>(world: &mut World, points: &Matrix<T>, numbers: &[u64]) -> Result<Vec<f64>> {
    let d = points.d();
    let mut all = vec![0.0; numbers.len() * d];
    for (number, out) in numbers.iter().zip(all.chunks_exact_mut(d)) {
        let local = number.checked_sub(points.first_row).map(|i| i as usize).filter(|i| *i < points.rows());
        if let Some(i) = local {
            out.iter_mut().zip(points.row(i)).for_each(|(o, x)| *o = Element::to_f64(*x));
        }
    }
    allreduce_slice(world, &mut all, Sum)?;
    Ok(all)
}

/// Centroids from a file, which only rank 0 reads. Returns them with their number; collective.
pub(crate) fn from_file(
    world: &mut World,
    workers: &Workers,
    file: &str,
    k: Option<usize>,
    d: usize,
) -> Result<(Vec<f64>, usize)> {
    let read = || {
        let matrix = input::read::<f64>(file, 0, 1, workers, &|_, _| ())?.matrix;
        if matrix.d() != d || k.is_some_and(|k| k != matrix.rows()) || matrix.rows() == 0 {
            let want = k.map_or("one centroid a row".to_owned(), |k| format!("{k} rows (--k {k})"));
            return Err(Error::data(
                file,
                format!("{} rows of {} numbers cannot be first centroids", matrix.rows(), matrix.d()),
                format!("give {want} of {d} numbers each, as the points have"),
            ));
        }
        Ok(matrix.as_slice().to_vec())
    };
    let mine = if world.rank() == 0 { read() } else { Ok(Vec::new()) };
    let mine = agree(world, mine)?;
    let all = from_first(world, mine)?;
    let k = all.len() / d;
    Ok((all, k))
}
