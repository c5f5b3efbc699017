//! Options that all programs with dataflow operators have, and what their operators share.

use std::path::PathBuf;

use aeolian::World;
use aeolian::net::bytes;
use aeolian::ops::{Dataflow, Options};

use crate::Result;

/// How much memory operators may use, and where the rest goes.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct FlowArgs {
    /// Memory that the job may use on each node, like 4GiB: beyond it, operators spill to disk [default: what the node, its
    /// cgroup or Slurm allow]
    #[arg(long, value_name = "SIZE", value_parser = size, allow_hyphen_values = true)]
    pub memory: Option<u64>,
    /// Directory to spill to; several are used one after another [default: AEOLIAN_SCRATCH, SLURM_TMPDIR, TMPDIR, /tmp]
    #[arg(long, value_name = "DIR")]
    pub scratch: Vec<PathBuf>,
}

fn size(text: &str) -> std::result::Result<u64, String> {
    match bytes::parse(text) {
        Ok(0) => Err("no rank can work with 0 bytes".into()),
        Ok(bytes) => Ok(bytes),
        Err(_) if text.starts_with('-') => Err("it must not be negative, but a size like 4GiB".into()),
        Err(why) => Err(why.to_string()),
    }
}

impl FlowArgs {
    /// What this rank's operators share.
    pub fn dataflow(&self, world: &World) -> Result<Dataflow> {
        let mut options = Options::detect(world.layout(), world.rank())?;
        if let Some(bytes) = self.memory {
            options = options.within(bytes, world.layout(), world.rank());
        }
        if !self.scratch.is_empty() {
            options.spill.directories =
                self.scratch.iter().map(|dir| ("--scratch".into(), dir.clone())).collect();
        }
        Ok(Dataflow::with(world, options))
    }
}
