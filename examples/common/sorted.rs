//! Names with their values in the order of the names, spread over the ranks: a sample sort. Who owns a name depends on the number of
//! ranks; the order of a file must not.

use aeolian::World;
use aeolian::harp::{Array, Custom, Serde, Table, allgather};
use bytemuck::{NoUninit, Pod};

use crate::Result;
use crate::names::{Names, order};
use crate::wires::{exchange, take};

/// Names that a rank offers as borders, for each rank.
const SAMPLES: usize = 32;

/// Some names and their values, in order.
pub struct Sorted<T> {
    bytes: Vec<u8>,
    /// Begin and end of the name, and where its values begin.
    rows: Vec<(usize, usize, usize)>,
    values: Vec<T>,
    width: usize,
}

impl<T> Sorted<T> {
    /// How many names.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A name and its values (panics as slices do if there is none).
    pub fn get(&self, row: usize) -> (&[u8], &[T]) {
        let (begin, end, at) = self.rows[row];
        (&self.bytes[begin..end], &self.values[at..at + self.width])
    }
}

/// Sends each name with its `width` values to the rank to whose stretch of all names it belongs. Collective.
pub fn sort<T: Pod>(world: &mut World, names: &Names, width: usize, values: &[T]) -> Result<Sorted<T>> {
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
        let (mut lengths, mut bytes) = (Vec::new(), Vec::new());
        let mut rows = Array::<u8>::zeroed(part.len() * width * size_of::<T>());
        for (row, i) in part.iter().enumerate() {
            lengths.extend((name(*i).len() as u32).to_le_bytes());
            bytes.extend(name(*i));
            let from = cast(&values[*i as usize * width..][..width]);
            rows[row * from.len()..][..from.len()].copy_from_slice(from);
        }
        outgoing.push(vec![lengths.into(), bytes.into(), rows]);
        from = end.max(from);
    }
    let mut sorted = Sorted { bytes: Vec::new(), rows: Vec::new(), values: Vec::new(), width };
    for came in exchange::<u8>(world, outgoing)? {
        let [lengths, bytes, values] = take(came);
        let mut at = sorted.bytes.len();
        sorted.bytes.extend_from_slice(&bytes);
        let lengths = lengths.as_chunks().0.iter().map(|l| u32::from_le_bytes(*l));
        let first = sorted.values.len();
        sorted.values.resize(first + values.len() / size_of::<T>().max(1), T::zeroed());
        bytemuck::cast_slice_mut(&mut sorted.values[first..]).copy_from_slice(&values);
        sorted.rows.extend(lengths.zip((first..).step_by(width.max(1))).map(|(length, row)| {
            let begin = at;
            at += length as usize;
            (begin, at, row)
        }));
    }
    let bytes = &sorted.bytes;
    sorted.rows.sort_by(|a, b| order(&bytes[a.0..a.1], &bytes[b.0..b.1]));
    Ok(sorted)
}

fn cast<T: NoUninit>(values: &[T]) -> &[u8] {
    bytemuck::cast_slice(values)
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
