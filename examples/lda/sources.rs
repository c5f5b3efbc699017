//! Which texts there are: rank 0 looks, all ranks have the same list.

use std::path::{Path, PathBuf};

use aeolian::World;
use aeolian::harp::{Custom, Serde, Table, broadcast};
use aeolian_examples::agree::agree;
use aeolian_examples::lines::number_at;
use aeolian_examples::readat::ReadAt;
use aeolian_examples::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::cli::Options;

/// A file, and its length when rank 0 looked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) len: u64,
}

/// All files, in the order in which they were named; those of a directory by name. Collective.
pub(crate) fn list(world: &mut World, options: &Options) -> Result<Vec<Source>> {
    let mine = if world.rank() == 0 { find(options) } else { Ok(Vec::new()) };
    let mine = agree(world, mine)?;
    let first = Custom::new("first", |_: &mut Vec<Source>, _: &Vec<Source>| {});
    let mut table = Table::<Serde<Vec<Source>>, _>::new(first);
    if world.rank() == 0 {
        table.add(0, mine)?;
    }
    broadcast(world, &mut table, 0)?;
    Ok(table.remove(0).unwrap_or_default())
}

fn find(options: &Options) -> Result<Vec<Source>> {
    let mut all = Vec::new();
    for path in &options.input {
        let meta = std::fs::metadata(path).map_err(|e| Error::no_input(path, &e))?;
        let before = all.len();
        if meta.is_dir() {
            walk(path, options, &mut all)?;
        } else {
            all.push(Source { path: named(path)?, len: ReadAt::open(path)?.len() });
        }
        if all.len() == before {
            let what = match options.suffix.is_empty() {
                true => "there are no files in it".into(),
                false => format!("there are no files in it that end in {}", options.suffix.join(" or ")),
            };
            return Err(Error::data(path.display().to_string(), what, "name text files, or where they are"));
        }
    }
    if all.iter().all(|s| s.len == 0) {
        return Err(Error::data(options.input_name(), "there is no text in it", "give a file with words"));
    }
    Ok(all)
}

fn walk(dir: &Path, options: &Options, all: &mut Vec<Source>) -> Result<()> {
    let entries = std::fs::read_dir(dir).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut paths: Vec<PathBuf> =
        entries.map_err(|e| Error::no_input(dir, &e))?.iter().map(std::fs::DirEntry::path).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        // Links to directories are not followed: they may lead round in a circle.
        let meta = path.symlink_metadata().map_err(|e| Error::no_input(&path, &e))?;
        if meta.is_dir() {
            walk(&path, options, all)?;
            continue;
        }
        let wanted = options.suffix.is_empty() || options.suffix.iter().any(|s| name.ends_with(s.as_str()));
        // What a link leads to may be gone.
        let Ok(meta) = path.metadata() else { continue };
        if wanted && meta.is_file() {
            all.push(Source { path: named(&path)?, len: meta.len() });
        }
    }
    Ok(())
}

fn named(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Error::data(path.display().to_string(), "the file's name is not UTF-8", "give it another name")
    })
}

/// The bytes that begin at byte `offset` of a source, as text, or an error that names the line.
pub(crate) fn text<'b>(source: &ReadAt, offset: u64, bytes: &'b [u8]) -> Result<&'b str> {
    let (at, what, help) = match std::str::from_utf8(bytes) {
        Ok(text) => match bytes.iter().position(|b| *b == 0) {
            None => return Ok(text),
            Some(at) => {
                (at, "there are zero bytes in it: this is not a text file", "leave it out (--suffix .txt)")
            }
        },
        Err(e) => (
            e.valid_up_to(),
            "this is not UTF-8",
            "convert it (iconv -f latin1 -t utf-8), or leave it out (--suffix .txt)",
        ),
    };
    let number = number_at(source, offset + at as u64)?;
    Err(Error::data(format!("{}:{number}", source.name()), what, help))
}
