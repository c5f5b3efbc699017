//! Where runs begin and end.

use crate::classify::{BLOCK, Level};
use crate::cli::Words;

/// Finds the borders of runs in text that comes piece by piece.
pub(crate) struct Borders {
    level: Level,
    words: Words,
    masks: Vec<u64>,
    /// Begin of a run, its end, begin of the next, ...
    at: Vec<u32>,
}

impl Borders {
    pub(crate) fn new(level: Level, words: Words) -> Borders {
        Borders { level, words, masks: Vec::new(), at: Vec::new() }
    }

    /// The runs in `text[..len]`, of which the first `held` bytes belong to one (0: to none). An odd number: the last run is open.
    /// `text` goes on for at least [`BLOCK`] bytes, whatever they are.
    pub(crate) fn find(&mut self, text: &[u8], held: usize, len: usize) -> &[u32] {
        // The block of which a part is known already is looked at again.
        let from = held / BLOCK * BLOCK;
        let blocks = text[from..].as_chunks::<BLOCK>().0;
        let blocks = &blocks[..(len - from).div_ceil(BLOCK)];
        self.masks.resize(blocks.len(), 0);
        self.level.masks(self.words, blocks, &mut self.masks);
        // Room for a border at each byte, and for the ones that are written at once below.
        self.at.resize(1 + blocks.len() * BLOCK + AT_ONCE, 0);
        let mut found = 0;
        let mut open = u64::from(held > 0);
        if held > 0 {
            self.at[0] = 0;
            found = 1;
        }
        for (i, mask) in self.masks.iter().enumerate() {
            let mut border = mask ^ (mask << 1 | open);
            open = mask >> (BLOCK - 1);
            let base = from + i * BLOCK;
            if base + BLOCK > len {
                border &= !(!0 << (len - base));
            }
            let many = border.count_ones() as usize;
            // Several at once, mostly too many: that is faster than a branch for each.
            let mut to = found;
            while border != 0 {
                for place in &mut self.at[to..to + AT_ONCE] {
                    *place = (base as u32).wrapping_add(border.trailing_zeros());
                    border &= border.wrapping_sub(1);
                }
                to += AT_ONCE;
            }
            found += many;
        }
        &self.at[..found]
    }
}

const AT_ONCE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::is_in_run;
    use proptest::prelude::*;

    proptest! {
        /// As a loop over bytes finds them, on every instruction set, with any number of bytes held.
        #[test]
        fn as_byte_by_byte(
            text in prop::collection::vec(prop::sample::select(&b"aZ09 \n_\xc3\xa9\xff"[..]), 0..300),
            held in 0usize..200,
            space in any::<bool>(),
        ) {
            let words = if space { Words::Space } else { Words::Alnum };
            let text = [vec![b'x'; held], text].concat();
            let mut want = Vec::new();
            for i in 0..text.len() {
                if is_in_run(words, text[i]) != (i > 0 && is_in_run(words, text[i - 1])) {
                    want.push(i as u32);
                }
            }
            let mut padded = text.clone();
            padded.extend([b'y'; 2 * BLOCK]);
            for level in Level::all() {
                let mut borders = Borders::new(level, words);
                prop_assert_eq!(borders.find(&padded, held, text.len()), &want[..]);
                prop_assert_eq!(borders.find(&padded, 0, text.len()), &want[..]);
            }
        }
    }
}
