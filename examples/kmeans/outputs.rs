//! The files that were asked for, and standard output.

use std::cell::Cell;
use std::io::Write;
use std::path::{Path, PathBuf};

use aeolian::World;
use aeolian_examples::agree::{all, to_first};
use aeolian_examples::output::Target;
use aeolian_examples::{Element, Error, Matrix, Result, h5, npy, random, summary};

use crate::cli::Options;
use crate::job::Outcome;
use crate::{Number, picture, report, table};

/// Points in a picture of points.
const DOTS: u64 = 4000;
/// Labels that travel at once.
const LABELS: usize = 1 << 20;

/// Where results go. On ranks other than 0 there are no targets, but what is needed for them is known everywhere.
#[derive(Default)]
pub(crate) struct Outputs {
    centroids: Option<Target>,
    labels: Option<Target>,
    plot: Option<Target>,
    report: Option<Target>,
    digits: bool,
    picture: bool,
    want_labels: bool,
}

impl Outputs {
    /// Checks that everything can be written, before anything is computed. For rank 0.
    pub(crate) fn check(options: &Options) -> Result<Outputs> {
        let digits = options.input.is_none();
        let default =
            |path: &Option<PathBuf>, name: &str| path.clone().or(digits.then(|| PathBuf::from(name)));
        let paths = [
            ("--output", default(&options.output, "digits-centroids.csv")),
            ("--labels", options.labels.clone()),
            ("--plot", default(&options.plot, "digits-centroids.svg")),
            ("--report", options.report.clone()),
        ];
        let inputs =
            [options.input.as_deref().map(|i| h5::split(i).map_or(i, |s| s.0)), Some(options.init.as_str())];
        let same =
            |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
        let mut targets: Vec<Option<Target>> = Vec::new();
        for (option, path) in &paths {
            let Some(path) = path else {
                targets.push(None);
                continue;
            };
            if inputs.iter().flatten().any(|input| same(path, Path::new(input))) {
                return Err(Error::usage(
                    format!("{option} {}: this file is an input", path.display()),
                    "name another file",
                ));
            }
            let target = Target::check(path)?;
            let twin = targets.iter().position(|t| t.as_ref().is_some_and(|t| t.is_same(&target)));
            if let Some(twin) = twin {
                let what = format!("{option} and {} both name {}", paths[twin].0, path.display());
                return Err(Error::usage(what, "name different files"));
            }
            targets.push(Some(target));
        }
        let mut next = targets.into_iter();
        let mut take = || next.next().flatten();
        Ok(Outputs {
            centroids: take(),
            labels: take(),
            plot: take(),
            report: take(),
            ..Outputs::needs(options)
        })
    }

    /// What must be computed for them, on every rank.
    pub(crate) fn needs(options: &Options) -> Outputs {
        let digits = options.input.is_none();
        let picture = options.plot.is_some() || options.report.is_some();
        Outputs { digits, picture, want_labels: digits || options.labels.is_some(), ..Outputs::default() }
    }

    /// Whether the final labels of points with `d` columns must be kept: a picture shows points in a plane or on a line.
    pub(crate) fn need_labels(&self, d: usize) -> bool {
        self.want_labels || (self.picture && d <= 2)
    }

    /// Writes the labels of all ranks, which come to rank 0 a piece at a time. Collective.
    pub(crate) fn labels(&self, world: &mut World, wanted: bool, mine: &[u32]) -> Result<()> {
        if !wanted {
            return Ok(());
        }
        let rows = all(world, mine.len() as u64)?;
        let total: u64 = rows.iter().sum();
        let pulled = Cell::new(false);
        let mut pull = |out: &mut dyn Write, binary: bool| -> Result<std::io::Result<()>> {
            pulled.set(true);
            let mut failed = Ok(());
            for (rank, rows) in rows.iter().enumerate() {
                for at in (0..*rows as usize).step_by(LABELS) {
                    let here = rank == world.rank() as usize;
                    let piece = if here { &mine[at..mine.len().min(at + LABELS)] } else { &[] };
                    let piece = to_first(world, piece.to_vec())?;
                    // After a failed write the others' pieces must still be taken: they are on their way.
                    if failed.is_ok() {
                        failed = write_labels(out, &piece, binary);
                    }
                }
            }
            Ok(failed)
        };
        let Some(target) = &self.labels else {
            return pull(&mut std::io::sink(), true).map(|_| ());
        };
        let binary = is_npy(target.path());
        let mut wires = Ok(());
        let written = target.write(|out| {
            if binary {
                out.write_all(&npy::header_bytes("<i4", &[total]))?;
            }
            pull(out, binary).unwrap_or_else(|e| {
                wires = Err(e);
                Err(std::io::ErrorKind::ConnectionAborted.into())
            })
        });
        wires?;
        if !pulled.get() {
            // It failed before the first label; the others are on their way with theirs.
            let _ = pull(&mut std::io::sink(), true)?;
        }
        written
    }

    /// Writes everything but the labels, and prints. For rank 0.
    pub(crate) fn results(&self, outcome: &Outcome, options: &Options) -> Result<()> {
        if let Some(target) = &self.centroids {
            target.write(|out| write_centroids(out, outcome, is_npy(target.path())))?;
        }
        let drawn =
            (self.plot.is_some() || self.report.is_some()).then(|| picture::draw(outcome, self.digits));
        if let (Some(target), Some(svg)) = (&self.plot, &drawn) {
            target.write(|out| out.write_all(svg.as_bytes()))?;
        }
        if let (Some(target), Some(svg)) = (&self.report, &drawn) {
            let page = report::page(outcome, svg);
            target.write(|out| out.write_all(page.as_bytes()))?;
        }
        summary::print(&outcome.summary, options.json, options.quiet, || {
            let files = [&self.centroids, &self.labels, &self.plot, &self.report];
            let files: Vec<_> = files.into_iter().flatten().map(|t| t.path().display().to_string()).collect();
            table::text(outcome, &files)
        })
    }
}

fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy"))
}

fn write_labels(out: &mut dyn Write, labels: &[u32], binary: bool) -> std::io::Result<()> {
    if binary {
        labels.iter().try_for_each(|l| out.write_all(&l.to_le_bytes()))
    } else {
        labels.iter().try_for_each(|l| writeln!(out, "{l}"))
    }
}

/// Numbers are written so that they read back as the same bits.
fn write_centroids(out: &mut dyn Write, outcome: &Outcome, binary: bool) -> std::io::Result<()> {
    let (k, d) = (outcome.summary.k as u64, outcome.summary.d as u64);
    if binary {
        out.write_all(&npy::header_bytes("<f8", &[k, d]))?;
    } else if let Some(names) = &outcome.names {
        let quoted: Vec<String> = names.iter().map(|n| format!("\"{}\"", n.replace('"', ""))).collect();
        writeln!(out, "{}", quoted.join(","))?;
    }
    for cluster in &outcome.clusters {
        for (i, x) in cluster.centroid.iter().enumerate() {
            match binary {
                true => out.write_all(&x.to_le_bytes())?,
                false => write!(out, "{}{x}", if i > 0 { "," } else { "" })?,
            }
        }
        if !binary {
            writeln!(out)?;
        }
    }
    Ok(())
}

/// About [`DOTS`] rows with their labels (`d + 1` numbers each) on rank 0, for pictures of points in a plane or on a
/// line; the same rows on any number of ranks. Collective.
pub(crate) fn sample<T: Number>(
    world: &mut World,
    points: &Matrix<T>,
    labels: &[u32],
    wanted: bool,
) -> Result<Vec<f64>> {
    let d = points.d();
    if !wanted || d > 2 {
        return Ok(Vec::new());
    }
    let mut mine = Vec::new();
    for (i, label) in labels.iter().enumerate() {
        if random::below(0, 1, points.first_row + i as u64, points.n_total) < DOTS {
            mine.extend(points.row(i).iter().map(|x| Element::to_f64(*x)));
            mine.push(f64::from(*label));
        }
    }
    to_first(world, mine)
}
