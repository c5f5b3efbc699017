//! Options that all programs with dataflow operators have, and what their operators share.

use std::path::PathBuf;

use aeolian::World;
use aeolian::net::bytes::{self, Bytes};
use aeolian::ops::{Dataflow, Options};

use crate::Result;
use crate::progress::{Mode, Progress};

/// With less of the node's memory a rank can hardly work: its batches alone take more.
const LEAST: u64 = 1 << 20;

/// How much memory operators may use, and where the rest goes.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct FlowArgs {
    /// Memory for operators of all ranks of a node, like 4GiB: beyond it they spill to disk [default: what the node, its cgroup or
    /// Slurm allow, which is also the most]
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
    /// What this rank's operators share. A `--memory` that is too small to work with is told of, as `mode` says.
    pub fn dataflow(&self, world: &World, program: &str, mode: Mode) -> Result<Dataflow> {
        let mut options = Options::detect(world.layout(), world.rank())?;
        if let Some(bytes) = self.memory {
            let layout = world.layout();
            let node = layout.node_of.get(world.rank() as usize);
            let ranks = node.map_or(1, |node| layout.ranks_on(*node).count()).max(1) as u64;
            if let Some(warning) = too_little(bytes, ranks) {
                Progress::new(program, mode).finish(&warning);
            }
            options = options.within(bytes, world.layout(), world.rank());
        }
        if !self.scratch.is_empty() {
            options.spill.directories =
                self.scratch.iter().map(|dir| ("--scratch".into(), dir.clone())).collect();
        }
        Ok(Dataflow::with(world, options))
    }
}

/// What is wrong with so many bytes for so many ranks.
fn too_little(bytes: u64, ranks: u64) -> Option<String> {
    (bytes / ranks < LEAST).then(|| {
        format!(
            "warning: --memory {} leaves a rank less than {}: operators will be slow, and take more than that",
            Bytes(bytes),
            Bytes(LEAST)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mib_for_each_rank_is_enough() {
        for (bytes, ranks, is_enough) in [
            (1 << 20, 1, true),
            ((1 << 20) - 1, 1, false),
            (3 << 20, 3, true),
            (3 << 20, 4, false),
            (1, 1, false),
        ] {
            assert_eq!(too_little(bytes, ranks).is_none(), is_enough, "{bytes} {ranks}");
        }
    }
}
