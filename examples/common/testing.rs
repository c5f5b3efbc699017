//! What the programs' own tests share; each includes this file.

use aeolian::World;
use aeolian_examples::{Error, Result};
use std::path::PathBuf;

/// Runs a job on `n` ranks; every rank must end alike. Returns the error's text and code, if there is one.
pub(crate) fn run(
    n: u32,
    job: impl Fn(&mut World) -> Result<()> + Sync,
) -> std::result::Result<(), (String, u8)> {
    let mut ends = World::local(n, |mut world| {
        let end = match job(&mut world) {
            Ok(()) => Ok(()),
            Err(Error::Net(e)) => return Err(e),
            Err(e) => Err((e.to_string(), e.exit_code())),
        };
        world.finish()?;
        Ok(end)
    })
    .unwrap();
    assert!(ends.windows(2).all(|w| w[0] == w[1]), "{ends:?}");
    ends.remove(0)
}

/// A directory that goes with the test.
pub(crate) struct Dir(tempfile::TempDir);

impl Dir {
    pub(crate) fn new() -> Dir {
        Dir(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.text(name)
    }
}
