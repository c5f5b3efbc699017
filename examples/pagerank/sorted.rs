//! All vertices in the order of their names, spread over the ranks: a sample sort. Who owns a name depends on the number of
//! ranks; the order of a file must not.

use aeolian::World;
use aeolian::harp::{Custom, Serde, Table, allgather};
use aeolian_examples::Result;

use crate::names::{Names, order};
use crate::wires::{exchange, take};

/// Names that a rank offers as borders, for each rank.
const SAMPLES: usize = 32;

/// Names and ranks of some vertices, in order.
pub(crate) struct Sorted {
    bytes: Vec<u8>,
    /// Begin and end of the name, and the rank.
    rows: Vec<(usize, usize, f64)>,
}

impl Sorted {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn get(&self, row: usize) -> (&[u8], f64) {
        let (begin, end, rank) = self.rows[row];
        (&self.bytes[begin..end], rank)
    }
}

/// Sends the vertices to the ranks to whose stretch of all names they belong. Collective.
pub(crate) fn sort(world: &mut World, names: &Names, ranks: &[f64]) -> Result<Sorted> {
    let size = world.size() as usize;
    let mut mine: Vec<u32> = (0..names.len() as u32).collect();
    mine.sort_unstable_by(|a, b| order(names.get(*a as usize), names.get(*b as usize)));
    let name = |i: u32| names.get(i as usize);

    let borders = borders(world, &mine.iter().map(|i| name(*i)).collect::<Vec<_>>())?;
    let mut outgoing = Vec::with_capacity(size);
    let mut from = 0;
    for to in 0..size {
        let end = match borders.get(to) {
            Some(border) => mine.partition_point(|i| order(name(*i), border).is_lt()),
            None => mine.len(),
        };
        let part = &mine[from..end.max(from)];
        let (mut lengths, mut bytes, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for i in part {
            lengths.extend((name(*i).len() as u32).to_le_bytes());
            bytes.extend(name(*i));
            values.extend(ranks[*i as usize].to_le_bytes());
        }
        outgoing.push(vec![lengths.into(), bytes.into(), values.into()]);
        from = end.max(from);
    }
    let mut sorted = Sorted { bytes: Vec::new(), rows: Vec::new() };
    for came in exchange::<u8>(world, outgoing)? {
        let [lengths, bytes, values] = take(came);
        let mut at = sorted.bytes.len();
        sorted.bytes.extend_from_slice(&bytes);
        let lengths = lengths.as_chunks().0.iter().map(|l| u32::from_le_bytes(*l));
        let values = values.as_chunks().0.iter().map(|v| f64::from_le_bytes(*v));
        sorted.rows.extend(lengths.zip(values).map(|(length, rank)| {
            let begin = at;
            at += length as usize;
            (begin, at, rank)
        }));
    }
    let bytes = &sorted.bytes;
    sorted.rows.sort_by(|a, b| order(&bytes[a.0..a.1], &bytes[b.0..b.1]));
    Ok(sorted)
}

/// The first names of all stretches but the first, the same on all ranks. Collective.
fn borders(world: &mut World, sorted: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
    let size = world.size() as usize;
    if size == 1 {
        return Ok(Vec::new());
    }
    let n = (SAMPLES * size).min(sorted.len());
    let sample: Vec<Vec<u8>> = (0..n).map(|i| sorted[i * sorted.len() / n].to_vec()).collect();
    let append = Custom::new("append", |a: &mut Vec<Vec<u8>>, b: &Vec<Vec<u8>>| a.extend_from_slice(b));
    let mut table = Table::<Serde<Vec<Vec<u8>>>, _>::new(append);
    table.add(0, sample)?;
    allgather(world, &mut table)?;
    let mut all = table.remove(0).unwrap_or_default();
    all.sort_by(|a, b| order(a, b));
    Ok((1..size).filter_map(|i| all.get(i * all.len() / size).cloned()).collect())
}
