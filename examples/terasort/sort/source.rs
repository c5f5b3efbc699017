//! What is sorted: files of which each rank reads its part, or records that each rank makes.

use aeolian::World;
use aeolian_examples::Result;
use aeolian_examples::matrix::block;
use aeolian_examples::tera::gensort::{Format, Generator};
use aeolian_examples::tera::input::{self, Input};
use aeolian_examples::tera::record::SIZE;

use crate::cli::Options;

/// Records that are made at once.
const PIECE: u64 = 10_000;

pub(crate) enum Source {
    Files(Input),
    Made(u64),
}

impl Source {
    /// As `options` say. Collective.
    pub(crate) fn look(world: &mut World, options: &Options) -> Result<Source> {
        Ok(match options.made() {
            Some(records) => Source::Made(records),
            None => Source::Files(input::look(world, &options.input)?),
        })
    }

    /// Records of all ranks.
    pub(crate) fn records(&self) -> u64 {
        match self {
            Source::Files(input) => input.records(),
            Source::Made(records) => *records,
        }
    }

    /// Gives this rank's records to `take`, some at a time, in order.
    pub(crate) fn read(&self, world: &World, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let range = block(self.records(), world.rank() as usize, world.size() as usize);
        match self {
            Source::Files(input) => input.read(range, take),
            Source::Made(_) => {
                let mut generator = Generator::new(Format::Binary, 0, false, range.start);
                let mut buffer = Vec::new();
                for at in range.clone().step_by(PIECE as usize) {
                    buffer.resize(PIECE.min(range.end - at) as usize * SIZE, 0);
                    generator.fill(&mut buffer);
                    take(&buffer)?;
                }
                Ok(())
            }
        }
    }
}
