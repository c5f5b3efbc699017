//! Which values a rank needs for its edges, and how they come in every iteration.
//!
//! An edge needs the value of its source. Made once: for each owner the list of its vertices that edges of this rank start
//! from. The owner keeps the list and sends the values in its order, and nothing else. Lists have the sources of many edges
//! first, so that what is read most lies together in the caches. Where the lists together are nearly all of all vertices,
//! every rank gets the whole vector instead, which needs no packing.

use std::cmp::Reverse;

use aeolian::World;
use aeolian::harp::{Array, Sum, allreduce_slice};
use aeolian_examples::Result;
use aeolian_examples::wires::{exchange, take};
use aeolian_examples::workers::Workers;

use crate::cli::Exchange;
use crate::graph::InEdges;

/// How values come, and where they lie.
pub(crate) struct Plan {
    /// Whether all ranks get all values.
    pub(crate) whole: bool,
    /// For each rank: places of the values, among those of this rank's vertices, that it needs. (`whole`: empty.)
    pub(crate) send: Vec<Vec<u32>>,
    /// Where the values of each rank begin in the vector of those that are here, and where the last one's end.
    pub(crate) begin: Vec<usize>,
    /// Edges from each of this rank's vertices.
    pub(crate) out_degree: Vec<u32>,
    /// Values that travel between ranks in an iteration, of all ranks.
    pub(crate) moved: u64,
    /// Those that would if everybody got all.
    pub(crate) all: u64,
}

/// The distinct ones of many numbers below `n`: a bit for each, and how many lie before each word.
struct Marks {
    words: Vec<u64>,
    before: Vec<u32>,
}

impl Marks {
    fn new(n: u64, numbers: &[u32]) -> Marks {
        let mut words = vec![0u64; (n / 64 + 1) as usize];
        numbers.iter().for_each(|x| words[(x / 64) as usize] |= 1 << (x % 64));
        let mut sum = 0;
        let before = words.iter().map(|w| {
            sum += w.count_ones();
            sum - w.count_ones()
        });
        Marks { before: before.collect(), words }
    }

    /// How many marked numbers are less than `x`.
    #[inline]
    fn place(&self, x: u64) -> usize {
        let (word, bit) = ((x / 64) as usize, x % 64);
        self.before[word] as usize + (self.words[word] & ((1 << bit) - 1)).count_ones() as usize
    }

    fn iter(&self) -> impl Iterator<Item = u32> {
        let of = |(i, word): (usize, &u64)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros())?;
                word &= word - 1;
                Some(i as u32 * 64 + bit)
            })
        };
        self.words.iter().enumerate().flat_map(of)
    }
}

/// Makes the plan, and replaces the sources of `edges` by the places of their values. Collective.
pub(crate) fn plan(
    world: &mut World,
    workers: &Workers,
    first: &[u64],
    edges: &mut InEdges,
    wanted: Exchange,
) -> Result<Plan> {
    let (me, size) = (world.rank() as usize, world.size() as usize);
    let total = first[size];
    let marks = Marks::new(total, &edges.sources);
    let distinct: Vec<u32> = marks.iter().collect();
    let mut uses = vec![0u32; distinct.len()];
    edges.sources.iter().for_each(|s| uses[marks.place(u64::from(*s))] += 1);

    // Places of the distinct sources in their new order; owners stay in theirs.
    let begin: Vec<usize> = first.iter().map(|f| marks.place(*f)).collect();
    let mut order: Vec<u32> = (0..distinct.len() as u32).collect();
    for owner in 0..size {
        order[begin[owner]..begin[owner + 1]].sort_by_key(|i| Reverse(uses[*i as usize].ilog2()));
    }
    let ask = |owner: usize| {
        let mine = &order[begin[owner]..begin[owner + 1]];
        let places: Vec<u32> = mine.iter().map(|i| distinct[*i as usize] - first[owner] as u32).collect();
        let counts: Vec<u32> = mine.iter().map(|i| uses[*i as usize]).collect();
        vec![places.into(), counts.into()]
    };
    let asked: Vec<[Array<u32>; 2]> =
        exchange(world, (0..size).map(ask).collect())?.into_iter().map(take).collect();
    let mut out_degree = vec![0; edges.len()];
    for [places, counts] in &asked {
        places.iter().zip(counts.iter()).for_each(|(v, n)| out_degree[*v as usize] += n);
    }

    let mut moved = [(distinct.len() - (begin[me + 1] - begin[me])) as u64];
    allreduce_slice(world, &mut moved, Sum)?;
    let all = total * (size as u64 - 1);
    let whole = match wanted {
        Exchange::Whole => true,
        Exchange::Needed => false,
        // Packing and its list cost about as much as a tenth of the bytes.
        Exchange::Auto => size > 1 && moved[0] * 10 >= all * 9,
    };
    if whole {
        let begin = first.iter().map(|f| *f as usize).collect();
        return Ok(Plan { whole, send: Vec::new(), begin, out_degree, moved: all, all });
    }
    let mut place = vec![0u32; order.len()];
    order.iter().zip(0..).for_each(|(i, at)| place[*i as usize] = at);
    workers.split_mut(&mut edges.sources, 1, |_, sources| {
        sources.iter_mut().for_each(|s| *s = place[marks.place(u64::from(*s))]);
    });
    let send = asked.into_iter().map(|[places, _]| places.to_vec()).collect();
    Ok(Plan { whole, send, begin, out_degree, moved: moved[0], all })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_count_distinct_numbers() {
        let numbers = [5, 64, 5, 0, 63, 200, 64];
        let marks = Marks::new(201, &numbers);
        assert_eq!(marks.iter().collect::<Vec<_>>(), [0, 5, 63, 64, 200]);
        let places = [0, 1, 5, 6, 63, 64, 65, 200, 201].map(|x| marks.place(x));
        assert_eq!(places, [0, 1, 1, 2, 2, 3, 4, 4, 5]);
    }
}
