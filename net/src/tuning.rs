//! Tuning files: numbers that were measured on a machine, by which upper layers choose between algorithms.
//!
//! `aeolian tune` writes one. When a job starts, its rank 0 reads it and tells the others in its registration, so all ranks have the same numbers and
//! no message more is sent. What the numbers mean is the business of the layer that asks for one ([`World::tuned`](crate::World::tuned)).

use crate::error::{NetError, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Version of the file's format, and of what its numbers mean.
pub const VERSION: u32 = 1;

/// Longer files are none.
const LONGEST: u64 = 64 << 10;

/// A file keeps so many rows, the newest.
const MOST: usize = 64;

/// Numbers by name.
pub type Values = BTreeMap<String, u64>;

/// What a job is like, as far as the speed of its messages goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The wire between its nodes, or between its ranks if they are on one: `tcp`, `tcp+encrypted`, `tcp+authenticated`, `mpi`, `shm`, `local`.
    pub wire: String,
    /// Number of nodes.
    pub nodes: u32,
    /// Number of ranks.
    pub ranks: u32,
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let many = |n: u32| if n == 1 { "" } else { "s" };
        let Shape { wire, nodes, ranks } = self;
        write!(f, "{ranks} rank{} on {nodes} node{} over {wire}", many(*ranks), many(*nodes))
    }
}

impl Shape {
    /// How unlike another it is; `None` if nothing can be concluded from one for the other: the wire is another one, only one of them is on
    /// one node, or one has more than twice as many nodes (ranks, if they are on one node).
    fn distance(&self, other: &Shape) -> Option<(u64, u64)> {
        let ratio = |a: u32, b: u32| u64::from(a.max(b)) * 1024 / u64::from(a.min(b).max(1));
        if self.wire != other.wire || (self.nodes == 1) != (other.nodes == 1) {
            return None;
        }
        let (nodes, ranks) = (ratio(self.nodes, other.nodes), ratio(self.ranks, other.ranks));
        let first = if self.nodes == 1 { ranks } else { nodes };
        (first <= 2 * 1024).then_some((first, ranks))
    }
}

/// What was measured in one shape of job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// In which.
    pub shape: Shape,
    /// The numbers.
    pub values: Values,
}

impl Row {
    /// From the words `name=value` of a line.
    fn parse(line: &str) -> Option<Row> {
        let mut words = BTreeMap::new();
        for word in line.split_whitespace() {
            let (name, value) = word.split_once('=')?;
            if words.insert(name, value).is_some() {
                return None;
            }
        }
        let wire = words.remove("wire")?.to_owned();
        let mut count = |name| words.remove(name)?.parse().ok().filter(|n| *n > 0);
        let (nodes, ranks) = (count("nodes")?, count("ranks")?);
        let number = |(name, value): (&str, &str)| Some((name.to_owned(), value.parse().ok()?));
        let values = words.into_iter().map(number).collect::<Option<Values>>()?;
        (nodes <= ranks).then_some(Row { shape: Shape { wire, nodes, ranks }, values })
    }
}

/// The row for a job of this shape: the nearest, if there is one near enough (the same wire, up to twice or half as many nodes).
pub fn pick<'r>(rows: &'r [Row], shape: &Shape) -> Option<&'r Row> {
    let near = rows.iter().filter_map(|row| Some((row.shape.distance(shape)?, row)));
    near.min_by_key(|(distance, _)| *distance).map(|(_, row)| row)
}

/// The contents of a file.
///
/// It is text: the line `version 1`, then a line for each row, then `end`. Lines that begin with `#` are comments.
///
/// ```text
/// version 1
/// row wire=tcp nodes=1 ranks=4 eager=32768 piece=1048576
/// end
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tuning {
    /// What was measured.
    pub rows: Vec<Row>,
}

impl Tuning {
    /// Reads a file; `None` if there is none.
    ///
    /// # Errors
    /// [`NetError::Config`], which names the file, if it cannot be read, is damaged, or is of another version.
    pub fn read(path: &Path) -> Result<Option<Tuning>> {
        let bad = |why: String| NetError::Config {
            what: format!("the tuning file {} {why}", path.display()),
            help: "run aeolian tune again, or delete the file".into(),
        };
        match read(path) {
            Ok(text) => Tuning::parse(&text).map(Some).map_err(bad),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(bad(format!("cannot be read: {e}"))),
        }
    }

    fn parse(text: &str) -> std::result::Result<Tuning, String> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        // Other versions may have anything below it.
        match lines.next().and_then(|line| line.strip_prefix("version ")).map(str::parse) {
            Some(Ok(VERSION)) => {}
            Some(Ok(other)) => {
                return Err(format!("is of version {other}, this program reads version {VERSION}"));
            }
            _ => return Err("is damaged: it does not begin with a version".into()),
        }
        let mut tuning = Tuning::default();
        for line in lines.by_ref() {
            if line == "end" {
                return match lines.next() {
                    None => Ok(tuning),
                    Some(_) => Err("is damaged: it goes on after its end".into()),
                };
            }
            let row = line.strip_prefix("row ").and_then(Row::parse);
            tuning.rows.push(row.ok_or_else(|| format!("is damaged: {line:?} is no row"))?);
        }
        Err("is damaged: it has no end".into())
    }

    fn text(&self) -> String {
        let mut text =
            String::from("# What aeolian tune measured: the bounds between the algorithms of collectives.\n");
        text += &format!("version {VERSION}\n");
        for Row { shape: Shape { wire, nodes, ranks }, values } in &self.rows {
            text += &format!("row wire={wire} nodes={nodes} ranks={ranks}");
            values.iter().for_each(|(name, value)| text += &format!(" {name}={value}"));
            text.push('\n');
        }
        text + "end\n"
    }

    /// Puts a row in, in the place of one of the same shape.
    pub fn put(&mut self, row: Row) {
        self.rows.retain(|known| known.shape != row.shape);
        self.rows.push(row);
        let over = self.rows.len().saturating_sub(MOST);
        self.rows.drain(..over);
    }

    /// Writes a file, all of it or nothing; makes its directory if need be.
    ///
    /// # Errors
    /// [`NetError::Os`], which names the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = path.with_file_name(format!(".{name}.{}", std::process::id()));
        let write = || -> std::io::Result<()> {
            if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
                fs::create_dir_all(dir)?;
            }
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o644).open(&aside)?;
            file.write_all(self.text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&aside, path)
        };
        write().map_err(|e| {
            let _ = fs::remove_file(&aside);
            NetError::os(format!("writing the tuning file {}", path.display()))(e)
        })
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    // Not to wait for the other end, should it be a pipe.
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    let mut text = String::new();
    let len = file.take(LONGEST + 1).read_to_string(&mut text)?;
    if len as u64 > LONGEST { Err(std::io::Error::other("it is too long")) } else { Ok(text) }
}

/// Where the file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// By the user, so that it should be there.
    pub named: bool,
}

impl Place {
    /// As this process's environment says: `AEOLIAN_TUNE`, else in the cache directory (`XDG_CACHE_HOME`, `~/.cache`). `None` if tuning is off, or
    /// there is no such directory.
    pub fn from_env() -> Option<Place> {
        Place::from(|name| std::env::var_os(name).map(PathBuf::from))
    }

    fn from(env: impl Fn(&str) -> Option<PathBuf>) -> Option<Place> {
        let set = |name: &str| env(name).filter(|value| !value.as_os_str().is_empty());
        match set("AEOLIAN_TUNE") {
            Some(word) if word.as_os_str() == "off" => None,
            Some(path) => Some(Place { path, named: true }),
            None => {
                let cache = set("XDG_CACHE_HOME").filter(|dir| dir.is_absolute());
                let cache = cache.or_else(|| Some(set("HOME")?.join(".cache")))?;
                Some(Place { path: cache.join("aeolian").join("tune.txt"), named: false })
            }
        }
    }
}

/// What rank 0 tells the others. A file that is no good is told in one warning and otherwise taken for none.
pub(crate) fn load() -> Vec<Row> {
    let Some(Place { path, named }) = Place::from_env() else { return Vec::new() };
    let trouble = match Tuning::read(&path) {
        Ok(Some(tuning)) => return tuning.rows,
        Ok(None) if !named => return Vec::new(),
        Ok(None) => NetError::Config {
            what: format!("AEOLIAN_TUNE names the tuning file {}, which is not there", path.display()),
            help: "make it with aeolian tune, or set AEOLIAN_TUNE=off".into(),
        },
        Err(e) => e,
    };
    let text = format!("aeolian: warning: not tuned, the defaults hold: {trouble}\n");
    let _ = std::io::stderr().write_all(text.as_bytes());
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(wire: &str, nodes: u32, ranks: u32, eager: u64) -> Row {
        let shape = Shape { wire: wire.into(), nodes, ranks };
        Row { shape, values: Values::from([("eager".into(), eager)]) }
    }

    #[test]
    fn the_nearest_row_of_the_same_wire_is_taken() {
        let rows = [row("tcp", 1, 4, 1), row("mpi", 1, 4, 2), row("tcp", 4, 4, 3), row("tcp", 4, 16, 4)];
        let picked = |wire: &str, nodes, ranks| {
            let row = pick(&rows, &Shape { wire: wire.into(), nodes, ranks })?;
            row.values.get("eager").copied()
        };
        assert_eq!((picked("tcp", 1, 4), picked("mpi", 1, 4), picked("shm", 1, 4)), (Some(1), Some(2), None));
        assert_eq!((picked("tcp", 1, 2), picked("tcp", 1, 8), picked("tcp", 1, 9)), (Some(1), Some(1), None));
        assert_eq!(
            (picked("tcp", 4, 5), picked("tcp", 4, 12), picked("tcp", 8, 99)),
            (Some(3), Some(4), Some(4))
        );
        assert_eq!(
            (picked("tcp", 9, 9), picked("tcp+encrypted", 4, 4), picked("tcp", 2, 4)),
            (None, None, Some(3))
        );
        assert_eq!(picked("tcp", 0, 0), None);
    }

    #[test]
    fn what_was_written_is_read_and_the_same_shape_is_there_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/tune.txt");
        assert_eq!(Tuning::read(&path).unwrap(), None);
        let mut tuning = Tuning::default();
        tuning.put(row("tcp", 1, 4, 1));
        tuning.put(row("mpi", 1, 4, 2));
        tuning.put(row("tcp", 1, 4, 3));
        assert_eq!(tuning.rows, [row("mpi", 1, 4, 2), row("tcp", 1, 4, 3)]);
        tuning.write(&path).unwrap();
        tuning.write(&path).unwrap();
        assert_eq!(Tuning::read(&path).unwrap(), Some(tuning.clone()));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        for ranks in 1..200 {
            tuning.put(row("tcp", 1, ranks, u64::MAX));
        }
        assert_eq!((tuning.rows.len(), tuning.rows.last().unwrap().shape.ranks), (MOST, 199));
        tuning.write(&path).unwrap();
        assert_eq!(Tuning::read(&path).unwrap(), Some(tuning), "so many are not too long");
    }

    #[test]
    fn a_file_that_is_no_good_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tune.txt");
        let good = Tuning { rows: vec![row("tcp", 1, 4, 1), row("mpi", 2, 4, 77)] }.text();
        let refused = |text: &[u8]| {
            fs::write(&path, text).unwrap();
            let said = Tuning::read(&path).unwrap_err().to_string();
            assert!(said.contains(&*path.to_string_lossy()) && said.contains("delete the file"), "{said}");
            said
        };
        // Without the last newline it is whole.
        for end in 0..good.len() - 1 {
            assert!(refused(&good.as_bytes()[..end]).contains("is damaged"), "{end}");
        }
        let changed = |from: &str, to: &str| refused(good.replacen(from, to, 1).as_bytes());
        for (from, to) in [
            ("wire=", "wire"),
            ("wire=tcp ", ""),
            ("nodes=1", "nodes=0"),
            ("nodes=1", "nodes=5"),
            ("ranks=4", "ranks=4294967296"),
            ("eager=1", "eager=-1"),
            ("eager=1", "eager="),
            ("eager=1", "eager=1 eager=1"),
            ("row ", "line "),
        ] {
            assert!(changed(from, to).contains("is no row"), "{from} {to}");
        }
        assert!(changed("version", "versions").contains("does not begin with a version"));
        assert!(changed("version 1", "version 2").contains("is of version 2"));
        assert!(changed("end\n", "end\nend\n").contains("after its end"));
        assert_eq!(Tuning::parse(&good.replace('\n', "\r\n\n# of mine\n")).map(|t| t.rows.len()), Ok(2));
        assert!(refused(b"\xff\xfe").contains("cannot be read"));
        assert!(refused(&vec![b' '; LONGEST as usize + 1]).contains("too long"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(Tuning::read(&path).unwrap_err().to_string().contains("it is no file"));
        assert!(Tuning::default().write(&path).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn the_environment_says_where_it_is() {
        let place = |env: &[(&str, &str)]| {
            Place::from(|name| env.iter().find(|(n, _)| *n == name).map(|(_, value)| PathBuf::from(value)))
                .map(|place| (place.path.to_string_lossy().into_owned(), place.named))
        };
        let home = ("HOME", "/home/a");
        assert_eq!(place(&[home]), Some(("/home/a/.cache/aeolian/tune.txt".into(), false)));
        assert_eq!(place(&[home, ("XDG_CACHE_HOME", "/c")]), Some(("/c/aeolian/tune.txt".into(), false)));
        let relative = place(&[home, ("XDG_CACHE_HOME", "c"), ("AEOLIAN_TUNE", "")]);
        assert_eq!(relative, Some(("/home/a/.cache/aeolian/tune.txt".into(), false)));
        assert_eq!(place(&[home, ("AEOLIAN_TUNE", "x/y")]), Some(("x/y".into(), true)));
        assert_eq!((place(&[home, ("AEOLIAN_TUNE", "off")]), place(&[])), (None, None));
    }
}
