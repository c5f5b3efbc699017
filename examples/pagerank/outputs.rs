//! The file that was asked for, and standard output.

use std::path::{Path, PathBuf};

use aeolian::World;
use aeolian_examples::output::Target;
use aeolian_examples::{Error, Result, gathered, sorted, summary};

use crate::cli::Options;
use crate::job::Summary;
use crate::labels::Labels;
use crate::top;

/// Where the ranks are written by default if the bundled graph is ranked.
const BUNDLED: &str = "debian-ranks.tsv";

/// Whether a file will be written: known on every rank.
pub(crate) fn wanted(options: &Options) -> bool {
    options.output.is_some() || options.bundled()
}

/// Checks that the file can be written, before anything is computed. For rank 0.
pub(crate) fn check(options: &Options) -> Result<Option<Target>> {
    let path = options.output.clone().or_else(|| options.bundled().then(|| PathBuf::from(BUNDLED)));
    let Some(path) = path else { return Ok(None) };
    let input = options.input.as_deref().map(|i| Path::new(i).canonicalize());
    if matches!((input, path.canonicalize()), (Some(Ok(a)), Ok(b)) if a == b) {
        let what = format!("--output {}: this file is an input", path.display());
        return Err(Error::usage(what, "name another file"));
    }
    Target::check(&path).map(Some)
}

/// Writes all vertices. Collective; only rank 0 has a target.
pub(crate) fn ranks(
    world: &mut World,
    target: Option<&Target>,
    labels: &Labels,
    ranks: &[f64],
) -> Result<()> {
    // Generated vertices are in order already.
    let sorted = match labels {
        Labels::Text(names) => Some(sorted::sort(world, names, 1, ranks)?),
        Labels::Numbers(_) => None,
    };
    let line = |out: &mut Vec<u8>, i: usize| {
        let rank = match &sorted {
            Some(sorted) => {
                let (name, rank) = sorted.get(i);
                out.extend_from_slice(name);
                rank[0]
            }
            None => {
                out.extend_from_slice(&labels.get(i));
                ranks[i]
            }
        };
        // As short as it can be and still read back as the same bits.
        out.extend(format!("\t{rank:e}\n").bytes());
    };
    let mine = sorted.as_ref().map_or(ranks.len(), sorted::Sorted::len);
    gathered::write(world, target, "", mine, line)
}

/// Prints. For rank 0.
pub(crate) fn print(summary: &Summary, target: Option<&Target>, options: &Options) -> Result<()> {
    summary::print(summary, options.json, options.quiet, || {
        top::text(summary, target.map(|t| t.path().display().to_string()))
    })
}
