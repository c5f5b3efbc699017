//! The rows of all ranks in one order, a stretch of them at a time.
//!
//! Samples of what each rank has cut the whole order into stretches of a bounded size. In a round each rank gets one stretch from all others,
//! merges it and makes its lines; rank 0 writes them one after another. Nobody holds more than a round.

use std::cell::Cell;

use aeolian::World;
use aeolian::harp::{Array, Custom, Serde, Table, allgather};
use aeolian::net::bytes::Bytes;
use aeolian::ops::record::Reader;
use aeolian_examples::output::Target;
use aeolian_examples::progress::Progress;
use aeolian_examples::stop::listen;
use aeolian_examples::wires::{exchange, take};
use aeolian_examples::{Error, Result, gathered};

use crate::sorter::{Row, SAMPLED, Sorted};
use crate::word::Word;

/// Bytes of a round on all ranks together, at most.
const ROUND: u64 = 16 << 20;

/// Writes `word TAB count`, one a line, in the order of rows. Collective; only rank 0 has a target.
pub(crate) fn write(
    world: &mut World,
    target: Option<&Target>,
    samples: Vec<Row>,
    mut rows: Sorted,
    memory: u64,
    progress: &Progress,
) -> Result<()> {
    let size = world.size() as usize;
    let borders = borders(world, samples, memory)?;
    let rounds = (borders.len() + 1).div_ceil(size);
    let made = Cell::new(0);
    gathered::in_rounds(world, target, "", rounds, |world, round| {
        listen(world)?;
        let mine = world.rank() as usize;
        let mut outgoing = Vec::with_capacity(size);
        let mut merged = Vec::new();
        for to in 0..size {
            let stretch = round * size + to;
            let border = borders.get(stretch);
            let mut bytes = Vec::new();
            // Behind the last one there is nothing.
            while stretch <= borders.len()
                && let Some(row) = rows.next_before(border)?
            {
                match to == mine {
                    true => merged.push(row),
                    false => row.put(&mut bytes),
                }
            }
            outgoing.push(vec![Array::from(bytes)]);
        }
        if size > 1 {
            for came in exchange::<u8>(world, outgoing)? {
                let [bytes] = take(came);
                let mut input = Reader::new(&bytes);
                while !input.is_empty() {
                    merged.push(Row::get(&mut input).ok_or_else(damaged)?);
                }
            }
            // Some that are sorted, one behind another: this sort finds them.
            merged.sort();
        }
        let mut lines = Vec::with_capacity(merged.len() * 20);
        merged.iter().for_each(|row| line(&mut lines, row));
        made.set(made.get() + lines.len() as u64);
        progress.tick(round as u64 + 1, rounds as u64, || format!("{} on rank {mine}", Bytes(made.get())));
        Ok(lines)
    })
}

fn damaged() -> Error {
    Error::Os { what: "a rank sent rows that are none".into(), help: "please report this".into() }
}

fn line(out: &mut Vec<u8>, row: &Row) {
    out.extend_from_slice(row.word.bytes());
    out.push(b'\t');
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut count = row.count;
    loop {
        at -= 1;
        digits[at] = b'0' + (count % 10) as u8;
        count /= 10;
        if count == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.push(b'\n');
}

/// The first rows of all stretches but the first, the same on all ranks. Collective.
fn borders(world: &mut World, samples: Vec<Row>, memory: u64) -> Result<Vec<Row>> {
    let mut all = all_rows(world, samples)?;
    all.sort();
    // A rank holds a round about three times: as rows, as bytes and as lines.
    let round = ROUND.min(memory / 16).max(SAMPLED as u64);
    let each = (round / u64::from(world.size()) / SAMPLED as u64).max(1) as usize;
    Ok(all.into_iter().skip(each - 1).step_by(each).collect())
}

/// The rows of all ranks, in no order, on all of them. Collective.
pub(crate) fn all_rows(world: &mut World, mine: Vec<Row>) -> Result<Vec<Row>> {
    type Plain = Vec<(Vec<u8>, u64)>;
    let append = Custom::new("append", |a: &mut Plain, b: &Plain| a.extend_from_slice(b));
    let mut table = Table::<Serde<Plain>, _>::new(append);
    table.add(0, mine.into_iter().map(|row| (row.word.bytes().to_vec(), row.count)).collect::<Plain>())?;
    allgather(world, &mut table)?;
    let all = table.remove(0).unwrap_or_default();
    Ok(all.into_iter().map(|(word, count)| Row { count, word: Word::new(&word) }).collect())
}
