//! Files of records, of which every rank reads its part.

use std::ops::Range;
use std::path::{Path, PathBuf};

use aeolian::World;

use super::directory::is_part;
use super::record::SIZE;
use crate::agree::{agree, all};
use crate::readat::ReadAt;
use crate::{Error, Result};

/// Records that are read at once: so many that a disk or a file system far away is kept busy.
const PIECE: u64 = 10_000;

/// Files one behind another.
#[derive(Debug)]
pub struct Input {
    /// Each with the number of its first record.
    files: Vec<(u64, File)>,
    records: u64,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    records: u64,
}

impl Input {
    /// Looks at files, and at the part files of directories in the order of their names.
    ///
    /// # Errors
    /// What is not there; a directory without part files; a file that is not of whole records.
    pub fn look(paths: &[PathBuf]) -> Result<Input> {
        let mut input = Input { files: Vec::new(), records: 0 };
        for path in paths {
            if !path.is_dir() {
                input.add(path)?;
                continue;
            }
            let parts = parts(path)?;
            if parts.is_empty() {
                return Err(Error::NoInput {
                    place: path.display().to_string(),
                    what: "there are no files part-00000, part-00001, ... in it".into(),
                    help: "name the directory that teragen or terasort has written, or name the files one by one".into(),
                });
            }
            parts.iter().try_for_each(|part| input.add(part))?;
        }
        Ok(input)
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        // Closed again at once: there may be more of them than descriptors.
        let bytes = ReadAt::open(path)?.len();
        if bytes % SIZE as u64 != 0 {
            return Err(Error::data(
                path.display().to_string(),
                format!("{bytes} bytes are not a whole number of records of {SIZE} bytes"),
                "records have 100 bytes without anything between them; see whether the file was cut off",
            ));
        }
        let records = bytes / SIZE as u64;
        self.files.push((self.records, File { path: path.to_owned(), records }));
        self.records += records;
        Ok(())
    }

    /// How many records there are in all files.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// How many files.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Where a record is: `part-00001: record 17`, counted from 0 in its file.
    pub fn place(&self, record: u64) -> String {
        match self.files.iter().rev().find(|(first, _)| *first <= record) {
            Some((first, file)) => format!("{}: record {}", file.path.display(), record - first),
            None => format!("record {record}"),
        }
    }

    /// Reads these records, counted over all files, and gives them to `take` some at a time, in order.
    ///
    /// # Errors
    /// Of reading, and those of `take`.
    pub fn read(&self, range: Range<u64>, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut buffer = Vec::new();
        for (first, file) in &self.files {
            let from = range.start.max(*first) - first;
            let end = range.end.min(first + file.records).saturating_sub(*first);
            if from >= end {
                continue;
            }
            let source = ReadAt::open(&file.path)?;
            for at in (from..end).step_by(PIECE as usize) {
                let n = PIECE.min(end - at);
                buffer.resize(n as usize * SIZE, 0);
                source.read_exact(at * SIZE as u64, &mut buffer)?;
                take(&buffer)?;
            }
        }
        Ok(())
    }
}

/// [Looks](Input::look) on all ranks, and sees to it that they see the same. Collective.
///
/// # Errors
/// As of [`Input::look`]; ranks see files of different sizes.
pub fn look(world: &mut World, paths: &[PathBuf]) -> Result<Input> {
    let input = agree(world, Input::look(paths))?;
    for (what, mine) in [("files", input.files() as u64), ("records", input.records())] {
        let numbers = all(world, mine)?;
        if let Some((rank, odd)) = numbers.iter().enumerate().find(|(_, n)| **n != numbers[0]) {
            return Err(Error::data(
                shown(paths),
                format!("rank {rank} sees {odd} {what}, but rank 0 {}", numbers[0]),
                "every host must see the same files under this path, and nobody may write to them meanwhile",
            ));
        }
    }
    Ok(input)
}

/// Paths in one line.
pub fn shown(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

/// The part files of a directory in order.
fn parts(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| Error::no_input(dir, &e))? {
        let path = entry.map_err(|e| Error::no_input(dir, &e))?.path();
        if is_part(&path) {
            parts.push(path);
        }
    }
    // As numbers: there may be more than 100000.
    parts.sort_by(|a, b| (a.as_os_str().len(), a).cmp(&(b.as_os_str().len(), b)));
    Ok(parts)
}
