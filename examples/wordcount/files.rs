//! Which texts there are: rank 0 looks, all ranks have the same list.

use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use aeolian::World;
use aeolian::harp::{Custom, Serde, Table, broadcast};
use aeolian_examples::agree::agree;
use aeolian_examples::matrix::block;
use aeolian_examples::readat::ReadAt;
use aeolian_examples::stop::not_stopped;
use aeolian_examples::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::bundled;
use crate::cli::Options;

/// A file, and its length when rank 0 looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct File {
    /// Any bytes but zero.
    path: Vec<u8>,
    pub(crate) len: u64,
}

/// All texts, one behind another.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// None: the bundled text.
    files: Vec<File>,
    bundled: bool,
    pub(crate) bytes: u64,
}

impl Files {
    /// Those that were named, in that order; in a directory by their paths' bytes. Collective.
    pub(crate) fn list(world: &mut World, options: &Options) -> Result<Files> {
        if options.input.is_empty() {
            return Ok(Files { files: Vec::new(), bundled: true, bytes: bundled::TEXT.len() as u64 });
        }
        let mine =
            if world.rank() == 0 { find(&options.input, &|| not_stopped(world)) } else { Ok(Vec::new()) };
        let mine = agree(world, mine)?;
        let first = Custom::new("first", |_: &mut Vec<File>, _: &Vec<File>| {});
        let mut table = Table::<Serde<Vec<File>>, _>::new(first);
        if world.rank() == 0 {
            table.add(0, mine)?;
        }
        broadcast(world, &mut table, 0)?;
        let files = table.remove(0).unwrap_or_default();
        let bytes = files.iter().map(|file| file.len).sum();
        Ok(Files { files, bundled: false, bytes })
    }

    /// How many.
    pub(crate) fn many(&self) -> u64 {
        self.files.len() as u64 + u64::from(self.bundled)
    }

    /// A rank's bytes: how many, and the files with the part of each that is its.
    pub(crate) fn part(&self, rank: u32, size: u32) -> (u64, Vec<(usize, Range<u64>)>) {
        let mine = block(self.bytes, rank as usize, size as usize);
        let mut begin = 0;
        let mut parts = Vec::new();
        for (i, len) in
            self.files.iter().map(|file| file.len).chain(self.bundled.then_some(self.bytes)).enumerate()
        {
            let part = mine.start.max(begin)..mine.end.min(begin + len);
            if part.start < part.end {
                parts.push((i, part.start - begin..part.end - begin));
            }
            begin += len;
        }
        (mine.end - mine.start, parts)
    }

    /// Opens one.
    pub(crate) fn open(&self, i: usize) -> Result<ReadAt> {
        let Some(file) = self.files.get(i) else {
            return Ok(ReadAt::Static { bytes: bundled::TEXT, name: bundled::NAME });
        };
        let path = PathBuf::from(OsString::from_vec(file.path.clone()));
        let source = ReadAt::open(&path)?;
        if source.len() != file.len {
            return Err(Error::data(
                path.display().to_string(),
                format!(
                    "this rank sees a file of {} bytes, but rank 0 saw one of {}",
                    source.len(),
                    file.len
                ),
                "every host must see the same file under this path, and nobody may write to it meanwhile",
            ));
        }
        Ok(source)
    }

    /// Whether this file is among them.
    pub(crate) fn contains(&self, path: &Path) -> bool {
        let Ok(wanted) = path.canonicalize() else { return false };
        // Comparing names first: to resolve thousands of paths takes longer than to count small files.
        let name = wanted.file_name();
        self.files.iter().any(|file| {
            let path = Path::new(std::ffi::OsStr::from_bytes(&file.path));
            (path.file_name() == name || path.is_symlink()) && path.canonicalize().is_ok_and(|p| p == wanted)
        })
    }
}

/// `look` is called now and then, and may end it.
fn find(input: &[PathBuf], look: &dyn Fn() -> Result<()>) -> Result<Vec<File>> {
    let mut all = Vec::new();
    for path in input {
        let meta = std::fs::metadata(path).map_err(|e| Error::no_input(path, &e))?;
        let before = all.len();
        if meta.is_dir() {
            walk(path, &mut all, look)?;
        } else {
            all.push(File { path: path.as_os_str().as_bytes().to_vec(), len: ReadAt::open(path)?.len() });
        }
        if all.len() == before {
            let what = "there are no regular files in this directory";
            return Err(Error::data(path.display().to_string(), what, "name text files, or where they are"));
        }
    }
    Ok(all)
}

/// Links are not followed: they may lead round in a circle, and what they lead to may be counted already.
fn walk(dir: &Path, all: &mut Vec<File>, look: &dyn Fn() -> Result<()>) -> Result<()> {
    look()?;
    let entries = std::fs::read_dir(dir).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut entries = entries.map_err(|e| Error::no_input(dir, &e))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let kind = entry.file_type().map_err(|e| Error::no_input(&path, &e))?;
        if kind.is_dir() {
            walk(&path, all, look)?;
        } else if kind.is_file() {
            let len = entry.metadata().map_err(|e| Error::no_input(&path, &e))?.len();
            all.push(File { path: path.into_os_string().into_vec(), len });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_one_ranks() {
        let lens = [0, 5, 0, 1, 9, 0];
        let files: Vec<File> = lens.iter().map(|len| File { path: Vec::new(), len: *len }).collect();
        let files = Files { files, bundled: false, bytes: 15 };
        for size in 1..20 {
            let mut seen = Vec::new();
            for rank in 0..size {
                let (bytes, parts) = files.part(rank, size);
                assert_eq!(parts.iter().map(|(_, part)| part.end - part.start).sum::<u64>(), bytes);
                seen.extend(parts.into_iter().flat_map(|(i, part)| part.map(move |at| (i, at))));
            }
            let want = lens.iter().enumerate().flat_map(|(i, len)| (0..*len).map(move |at| (i, at)));
            assert!(seen.into_iter().eq(want), "{size} ranks");
        }
    }

    #[test]
    fn directories_in_order_without_links() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for sub in ["b", "b/c", "empty"] {
            std::fs::create_dir(at(sub)).unwrap();
        }
        for name in ["a", "b/x", "b/c/y", "b.txt", ".hidden"] {
            std::fs::write(at(name), name).unwrap();
        }
        std::os::unix::fs::symlink("..", at("b/up")).unwrap();
        std::os::unix::fs::symlink("a", at("link")).unwrap();
        let names = |found: Vec<File>| -> Vec<String> {
            let prefix = dir.path().as_os_str().len() + 1;
            found.iter().map(|f| String::from_utf8(f.path[prefix..].to_vec()).unwrap()).collect()
        };
        let go = &|| Ok(());
        let found = find(&[dir.path().to_owned()], go).unwrap();
        assert_eq!(names(found), [".hidden", "a", "b/c/y", "b/x", "b.txt"]);
        assert_eq!(names(find(&[at("link"), at("a")], go).unwrap()), ["link", "a"], "what is named is read");
        assert!(find(&[at("empty")], go).unwrap_err().to_string().contains("no regular files"));
        assert_eq!(find(&[at("none")], go).unwrap_err().exit_code(), 66);
    }
}
