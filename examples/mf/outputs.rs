//! The directory that was asked for, and standard output.

use std::path::{Path, PathBuf};

use aeolian::World;
use aeolian::harp::Array;
use aeolian_examples::agree::agree;
use aeolian_examples::error::plain;
use aeolian_examples::names::Names;
use aeolian_examples::output::Target;
use aeolian_examples::sorted::sort;
use aeolian_examples::{Error, Result, gathered, summary};

use crate::cli::Options;
use crate::cut::Cut;
use crate::model::Shape;
use crate::place::{Owned, Placed, SLICES};
use crate::report::{Summary, text};
use crate::sgd::Trained;

/// Where the model goes, checked before anything is computed.
pub(crate) struct Directory {
    path: PathBuf,
    /// Whether it was made for this run. If nothing comes of it, it goes again.
    made: bool,
    users: Target,
    items: Target,
    model: Target,
}

impl Directory {
    /// Makes it if it is not there, and checks that files can be written in it. For rank 0.
    pub(crate) fn check(options: &Options) -> Result<Option<Directory>> {
        let Some(path) = &options.output else { return Ok(None) };
        let made = !path.exists();
        if made {
            std::fs::create_dir(path)
                .map_err(|e| refused(path, &format!("cannot be made: {}", plain(&e))))?;
        } else if !path.is_dir() {
            return Err(refused(path, "is not a directory"));
        }
        Directory::of(path, made, options)
            .inspect_err(|_| {
                if made {
                    let _ = std::fs::remove_dir(path);
                }
            })
            .map(Some)
    }

    fn of(path: &Path, made: bool, options: &Options) -> Result<Directory> {
        let target = |name: &str| {
            let file = path.join(name);
            for input in options.input.iter().chain(&options.test_file) {
                if matches!((Path::new(input).canonicalize(), file.canonicalize()), (Ok(a), Ok(b)) if a == b)
                {
                    let what = format!("--output {}: {name} in it is an input", path.display());
                    return Err(Error::usage(what, "name another directory"));
                }
            }
            Target::check(&file)
        };
        let (users, items, model) = (target("users.csv")?, target("items.csv")?, target("model.json")?);
        Ok(Directory { path: path.to_owned(), made, users, items, model })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.made {
            // It stays if there is something in it.
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

fn refused(path: &Path, what: &str) -> Error {
    Error::CannotWrite {
        place: path.display().to_string(),
        what: what.into(),
        help: "name a directory, there or in one that is there, that you may write to".into(),
    }
}

/// Writes the three files. Collective; only rank 0 has a directory.
pub(crate) fn write(
    world: &mut World,
    directory: Option<&Directory>,
    summary: &Summary,
    shape: Shape,
    placed: &Placed,
    trained: &Trained,
) -> Result<()> {
    let first_split = world.rank() * (SLICES * placed.grid.cols) as u32;
    let users = (&placed.users, &trained.users, 0);
    let items = (&placed.items, &trained.items, first_split);
    for (what, (owned, splits, first), target) in
        [("user", users, directory.map(|d| &d.users)), ("item", items, directory.map(|d| &d.items))]
    {
        let Owned { names, cut, .. } = owned;
        let written = rows(world, target, what, shape, names, &values(shape, cut, first, splits));
        agree(world, written)?;
    }
    let written = directory.map_or(Ok(()), |d| {
        d.model.write(|out| {
            serde_json::to_writer_pretty(&mut *out, summary)?;
            out.write_all(b"\n")
        })
    });
    agree(world, written)
}

/// Bias and factors of each row, in the order of the names' numbers.
fn values(shape: Shape, cut: &Cut, first_split: u32, splits: &[Array<f32>]) -> Vec<f32> {
    let mut values = Vec::with_capacity(cut.split.len() * (shape.factors + 1));
    for (split, place) in cut.split.iter().zip(&cut.place) {
        let numbers = &splits[(split - first_split) as usize];
        values.push(numbers[shape.bias(numbers.len(), *place as usize)]);
        values.extend_from_slice(&numbers[shape.row(*place as usize)]);
    }
    values
}

/// Writes one line for each name, sorted.
fn rows(
    world: &mut World,
    target: Option<&Target>,
    what: &str,
    shape: Shape,
    names: &Names,
    values: &[f32],
) -> Result<()> {
    let sorted = sort(world, names, shape.factors + 1, values)?;
    let columns: String = (1..=shape.factors).map(|f| format!(",f{f}")).collect();
    gathered::write(world, target, &format!("{what},bias{columns}\n"), sorted.len(), |out, i| {
        let (name, values) = sorted.get(i);
        quoted(out, name);
        // As short as they can be and still read back as the same bits.
        values.iter().for_each(|x| out.extend(format!(",{x}").bytes()));
        out.push(b'\n');
    })
}

/// Appends a name as a field of CSV.
fn quoted(out: &mut Vec<u8>, name: &[u8]) {
    let plain = !name.contains(&b',') && !name.starts_with(b"\"") && name.trim_ascii() == name;
    if plain {
        out.extend_from_slice(name);
        return;
    }
    out.push(b'"');
    for byte in name {
        out.extend(std::iter::repeat_n(*byte, if *byte == b'"' { 2 } else { 1 }));
    }
    out.push(b'"');
}

/// Prints. For rank 0.
pub(crate) fn print(summary: &Summary, options: &Options) -> Result<()> {
    summary::print(summary, options.json, options.quiet, || {
        text(summary, options.output.as_ref().map(|d| d.display().to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_they_must_be() {
        for (name, want) in [
            ("7", "7"),
            ("a b", "a b"),
            ("a, b", "\"a, b\""),
            ("\"x\"", "\"\"\"x\"\"\""),
            ("5\" nail", "5\" nail"),
        ] {
            let mut out = Vec::new();
            quoted(&mut out, name.as_bytes());
            assert_eq!(out, want.as_bytes());
        }
    }
}
