//! Words by their counts: in memory while they fit, else as sorted runs on disk that are merged.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use aeolian::net::Buf;
use aeolian::ops::memory::Reservation;
use aeolian::ops::record::{Reader, Record, Writer};
use aeolian::ops::spill::{Run, RunReader, SpillFile};
use aeolian::ops::{Dataflow, OpsError};
use aeolian_examples::{Error, Result};

use crate::word::Word;

/// A word and how often it came, in the order of the output: the most frequent first, then by the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) count: u64,
    pub(crate) word: Word,
}

impl Ord for Row {
    #[inline]
    fn cmp(&self, other: &Row) -> Ordering {
        other.count.cmp(&self.count).then_with(|| self.word.cmp(&other.word))
    }
}

impl PartialOrd for Row {
    #[inline]
    fn partial_cmp(&self, other: &Row) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Row {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let from = out.len();
        out.resize(from + self.word.size() + 8, 0);
        let mut to = Writer::new(out, from);
        // There is room for it.
        let _ = self.word.put(&mut to).and_then(|()| self.count.put(&mut to));
    }

    pub(crate) fn get(input: &mut Reader<'_>) -> Option<Row> {
        let word = Word::get(input)?;
        Some(Row { count: u64::get(input)?, word })
    }
}

/// Rows that are kept before anything is spilled, however little memory there is.
const LEAST: usize = 1 << 12;
/// What a long word takes beside its bytes: of the allocator.
const ELSEWHERE: u64 = 16;
/// So many bytes of a run for each sample of it.
pub(crate) const SAMPLED: usize = 32 << 10;
/// Of a sample, these bytes of its word are enough.
const SAMPLE: usize = 64;

/// Takes rows in any order.
pub(crate) struct Sorter {
    file: SpillFile,
    block: usize,
    rows: Vec<Row>,
    room: Reservation,
    /// Bytes of `room` that are for long words.
    long: u64,
    /// Whether all rows are wanted, or only the first.
    all: bool,
    many: usize,
    runs: Vec<Run>,
    /// The first `many` of all that was spilled.
    top: Vec<Row>,
    samples: Vec<Row>,
    /// Rows taken.
    pub(crate) distinct: u64,
}

impl Sorter {
    /// Of whose rows the first `many` are wanted, and the others too with `all`.
    pub(crate) fn new(flow: &Dataflow, many: usize, all: bool) -> Sorter {
        let share = usize::try_from(flow.memory().limit() / 64).unwrap_or(usize::MAX);
        Sorter {
            file: flow.spill().file("wordcount"),
            block: flow.spill().block_bytes().min(share.max(4 << 10)),
            rows: Vec::new(),
            room: flow.memory().reserve(),
            long: 0,
            all,
            many,
            runs: Vec::new(),
            top: Vec::new(),
            samples: Vec::new(),
            distinct: 0,
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, row: Row) -> Result<()> {
        self.distinct += 1;
        if let Word::Long(bytes) = &row.word {
            let bytes = bytes.len() as u64 + ELSEWHERE;
            self.reserve(bytes)?;
            self.long += bytes;
        }
        if self.rows.len() == self.rows.capacity() {
            let more = self.rows.len().max(LEAST);
            let spilled = self.reserve((more * size_of::<Row>()) as u64)?;
            match spilled {
                // Its places are free again.
                true => self.room.shrink((more * size_of::<Row>()) as u64),
                false => self.rows.reserve_exact(more),
            }
        }
        self.rows.push(row);
        Ok(())
    }

    /// Takes room for so many bytes, of what is spilled if there is no other; whether it was.
    fn reserve(&mut self, bytes: u64) -> Result<bool> {
        if self.room.grow(bytes) {
            return Ok(false);
        }
        let spills = self.rows.len() >= LEAST;
        if spills {
            self.cut()?;
        }
        self.room.take(bytes);
        Ok(spills)
    }

    /// What is there becomes a run.
    fn cut(&mut self) -> Result<()> {
        self.sort();
        if self.all {
            let mut run = self.file.run();
            let mut block = Vec::with_capacity(self.block);
            for row in &self.rows {
                if !block.is_empty() && block.len() + row.word.size() + 8 > self.block {
                    run.write(Buf::from_slice(&block)).map_err(OpsError::from)?;
                    block.clear();
                }
                row.put(&mut block);
            }
            run.write(Buf::from_slice(&block)).map_err(OpsError::from)?;
            self.runs.push(run.finish().map_err(OpsError::from)?);
        }
        self.rows.clear();
        self.room.shrink(std::mem::take(&mut self.long));
        Ok(())
    }

    /// Sorts what is there, and notes what of it comes first and what lies where.
    fn sort(&mut self) {
        if !self.all && self.rows.len() > self.many {
            if self.many > 0 {
                self.rows.select_nth_unstable(self.many - 1);
            }
            self.rows.truncate(self.many);
        }
        self.rows.sort_unstable();
        self.top.extend(self.rows.iter().take(self.many).cloned());
        self.top.sort();
        self.top.truncate(self.many);
        let mut bytes = 0;
        for row in &self.rows {
            bytes += row.word.size() + 8;
            if bytes >= SAMPLED {
                bytes = 0;
                let word = row.word.bytes();
                let word = Word::new(&word[..word.len().min(SAMPLE)]);
                self.samples.push(Row { count: row.count, word });
            }
        }
    }

    /// The first rows, samples of all, and all in their order.
    pub(crate) fn finish(mut self) -> Result<(Vec<Row>, Vec<Row>, Sorted)> {
        self.sort();
        let top = std::mem::take(&mut self.top);
        let samples = std::mem::take(&mut self.samples);
        let mut sorted = Sorted {
            memory: std::mem::take(&mut self.rows).into_iter(),
            runs: Vec::with_capacity(self.runs.len()),
            first: BinaryHeap::new(),
            _room: self.room,
        };
        for run in self.runs {
            sorted.runs.push(Part { reader: run.read(), block: Buf::zeroed(0), at: 0 });
        }
        for i in 0..sorted.runs.len() {
            sorted.fetch(i)?;
        }
        Ok((top, samples, sorted))
    }
}

/// A run of which something is read already.
struct Part {
    reader: RunReader,
    block: Buf,
    at: usize,
}

impl Part {
    fn next(&mut self) -> Result<Option<Row>> {
        while self.at >= self.block.len() {
            match self.reader.next().map_err(OpsError::from)? {
                Some(block) => (self.block, self.at) = (block, 0),
                None => return Ok(None),
            }
        }
        let mut input = Reader::new(&self.block[self.at..]);
        let row = Row::get(&mut input);
        self.at = self.block.len() - input.rest().len();
        // The block's checksum was right.
        let damaged = || Error::Os {
            what: "a block of spilled words holds something else".into(),
            help: "please report this".into(),
        };
        row.map(Some).ok_or_else(damaged)
    }
}

/// All rows in their order.
pub(crate) struct Sorted {
    memory: std::vec::IntoIter<Row>,
    runs: Vec<Part>,
    /// The next row of each run.
    first: BinaryHeap<Reverse<(Row, usize)>>,
    /// Given back when they are gone.
    _room: Reservation,
}

impl Sorted {
    fn fetch(&mut self, i: usize) -> Result<()> {
        let row = self.runs[i].next()?;
        self.first.extend(row.map(|row| Reverse((row, i))));
        Ok(())
    }

    /// The next row, if it comes before `border` (or there is none).
    pub(crate) fn next_before(&mut self, border: Option<&Row>) -> Result<Option<Row>> {
        let is_ours = |row: &Row| border.is_none_or(|border| row < border);
        let memory = self.memory.as_slice().first();
        match self.first.peek() {
            Some(Reverse((row, i))) if memory.is_none_or(|memory| row < memory) => {
                if !is_ours(row) {
                    return Ok(None);
                }
                let i = *i;
                let row = self.first.pop().map(|Reverse((row, _))| row);
                self.fetch(i)?;
                Ok(row)
            }
            _ => Ok(if memory.is_some_and(is_ours) { self.memory.next() } else { None }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aeolian::World;
    use aeolian::ops::Options;
    use aeolian_examples::random::mix;

    #[test]
    fn sorted_whether_they_fit_or_not() {
        let mut rows: Vec<Row> = (0..50_000)
            .map(|i| {
                let word = format!("{:x}", mix(i)).repeat(1 + i as usize % 3);
                Row { count: 1 + mix(i) % 7, word: Word::new(word.as_bytes()) }
            })
            .collect();
        for (memory, spills) in [(1 << 30, false), (1 << 20, true), (1, true)] {
            let mut options = Options::detect(World::alone().layout(), 0).unwrap();
            options.memory = memory;
            let flow = Dataflow::with(&World::alone(), options);
            for all in [true, false] {
                let mut sorter = Sorter::new(&flow, 10, all);
                rows.iter().for_each(|row| sorter.push(row.clone()).unwrap());
                assert_eq!(sorter.distinct, rows.len() as u64);
                assert_eq!(!sorter.runs.is_empty(), spills && all, "{memory}");
                let (top, samples, mut sorted) = sorter.finish().unwrap();
                let mut want = rows.clone();
                want.sort();
                assert_eq!(top, want[..10]);
                if all {
                    assert!(samples.len() > 20, "{}", samples.len());
                    let mut got = Vec::new();
                    let border = &want[want.len() / 3];
                    while let Some(row) = sorted.next_before(Some(border)).unwrap() {
                        got.push(row);
                    }
                    assert_eq!(got.len(), want.len() / 3);
                    while let Some(row) = sorted.next_before(None).unwrap() {
                        got.push(row);
                    }
                    assert!(got == want, "{memory}");
                }
            }
            assert_eq!(flow.memory().used(), 0);
            rows.rotate_left(777);
        }
    }
}
