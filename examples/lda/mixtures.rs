//! Topic counts of a block of documents: of each a list of the topics that it has.
//!
//! A count and its topic share 32 bits, because these lists are what sampling waits for: with K topics, log2 K bits are the topic.

/// How the bits are shared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packing {
    bits: u32,
}

impl Packing {
    /// For so many topics.
    pub(crate) fn new(topics: u32) -> Packing {
        Packing { bits: 32 - (topics - 1).leading_zeros() }
    }

    /// The longest document that fits.
    pub(crate) fn longest(self) -> usize {
        (1 << (32 - self.bits)) - 1
    }

    /// Topic and count of an element.
    #[inline]
    pub(crate) fn unpack(self, element: u32) -> (usize, u32) {
        ((element & ((1 << self.bits) - 1)) as usize, element >> self.bits)
    }

    #[inline]
    fn one(self) -> u32 {
        1 << self.bits
    }
}

/// The lists of all documents of a block.
#[derive(Debug)]
pub(crate) struct Mixtures {
    pub(crate) packing: Packing,
    /// Where the list of each document begins, and at last the number of all elements.
    starts: Vec<usize>,
    /// Topics that it has.
    used: Vec<u32>,
    elements: Vec<u32>,
}

impl Mixtures {
    /// Without tokens yet, for documents of so many each.
    pub(crate) fn new(packing: Packing, topics: usize, lengths: impl Iterator<Item = usize>) -> Mixtures {
        let mut starts = vec![0];
        let mut sum = 0;
        for length in lengths {
            sum += length.min(topics);
            starts.push(sum);
        }
        Mixtures { packing, used: vec![0; starts.len() - 1], elements: vec![0; sum], starts }
    }

    /// How many documents.
    pub(crate) fn len(&self) -> usize {
        self.used.len()
    }

    /// The list of a document.
    #[inline]
    pub(crate) fn of(&self, document: usize) -> &[u32] {
        let start = self.starts[document];
        &self.elements[start..start + self.used[document] as usize]
    }

    /// One token more of a topic.
    pub(crate) fn add(&mut self, document: usize, topic: usize) {
        let packing = self.packing;
        match self.of(document).iter().position(|e| packing.unpack(*e).0 == topic) {
            Some(at) => self.elements[self.starts[document] + at] += packing.one(),
            None => self.append(document, topic),
        }
    }

    fn append(&mut self, document: usize, topic: usize) {
        let at = self.starts[document] + self.used[document] as usize;
        self.elements[at] = self.packing.one() | topic as u32;
        self.used[document] += 1;
    }

    /// Moves a token from the topic at place `from` of the list to topic `to`, at place `at` if it is known to be there.
    #[inline]
    pub(crate) fn shift(&mut self, document: usize, from: usize, to: usize, at: Option<usize>) {
        let packing = self.packing;
        let at = at.or_else(|| self.of(document).iter().position(|e| packing.unpack(*e).0 == to));
        let (start, last) = (self.starts[document], self.used[document] as usize - 1);
        let list = &mut self.elements[start..];
        let gone = list[from] >> packing.bits == 1;
        match at {
            Some(at) => {
                list[at] += packing.one();
                if gone {
                    list[from] = list[last];
                    self.used[document] -= 1;
                } else {
                    list[from] -= packing.one();
                }
            }
            None if gone => list[from] = packing.one() | to as u32,
            None => {
                list[from] -= packing.one();
                self.append(document, to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aeolian_examples::random::below;

    #[test]
    fn lists_are_counts() {
        for topics in [1, 2, 3, 17, 65536] {
            let packing = Packing::new(topics);
            let mut mixtures = Mixtures::new(packing, topics as usize, [0, 5, 40].into_iter());
            let mut tokens: Vec<u64> = (0..40).map(|i| below(1, 0, i, u64::from(topics))).collect();
            tokens.iter().for_each(|t| mixtures.add(2, *t as usize));
            for step in 0..500 {
                let (i, to) = (below(2, 0, step, 40) as usize, below(3, 0, step, u64::from(topics)));
                let from = tokens[i] as usize;
                if from as u64 == to {
                    continue;
                }
                let place = |t: usize| mixtures.of(2).iter().position(|e| packing.unpack(*e).0 == t);
                let (at, hint) = (place(from).unwrap(), place(to as usize).filter(|_| step % 2 == 0));
                mixtures.shift(2, at, to as usize, hint);
                tokens[i] = to;
                let mut got: Vec<_> = mixtures.of(2).iter().map(|e| packing.unpack(*e)).collect();
                got.sort_unstable();
                let mut want = std::collections::BTreeMap::new();
                tokens.iter().for_each(|t| *want.entry(*t as usize).or_insert(0) += 1);
                assert_eq!(got, want.into_iter().collect::<Vec<_>>());
            }
            assert!(mixtures.of(0).is_empty() && mixtures.of(1).is_empty() && mixtures.len() == 3);
        }
        assert_eq!(Packing::new(1024).longest(), (1 << 22) - 1);
    }
}
