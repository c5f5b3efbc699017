//! Radix sort of 64-bit prefixes, with or without their places.

use crate::prefetch;

/// What is sorted.
pub(super) trait Item: Copy {
    type All: Ord;

    /// What parts go by.
    fn prefix(&self) -> u64;

    /// What they are sorted by as a whole.
    fn all(&self) -> Self::All;
}

/// A prefix, and the place of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Entry {
    pub(super) prefix: u64,
    pub(super) at: u64,
}

impl Item for Entry {
    type All = u128;

    #[inline]
    fn prefix(&self) -> u64 {
        self.prefix
    }

    #[inline]
    fn all(&self) -> u128 {
        u128::from(self.prefix) << 64 | u128::from(self.at)
    }
}

impl Item for u64 {
    type All = u64;

    #[inline]
    fn prefix(&self) -> u64 {
        *self
    }

    #[inline]
    fn all(&self) -> u64 {
        *self
    }
}

/// Fewer are sorted by comparison.
const FEW: usize = 200;
/// So many, twice, stay in the second-level cache; more are cut first, by their first bits.
const MANY: usize = 1 << 14;
/// Bits that a cut goes by at most: so many lines of memory stay in the first-level cache.
const CUT: u32 = 8;

/// Sorts by prefix, then place; true if the result is in `other`, which has the same length, and anything in it.
pub(super) fn sort<I: Item>(items: &mut [I], other: &mut [I]) -> bool {
    // One cut and two passes, or only these: so nothing is moved just to be where it began.
    let to_other = items.len() > MANY;
    into(items, other, to_other, None);
    to_other
}

/// Sorts `from`, into `other` or in place. All have the same bits above the lowest `bits`, if that is known.
fn into<I: Item>(from: &mut [I], other: &mut [I], to_other: bool, bits: Option<u32>) {
    let place = |from: &mut [I], other: &mut [I]| {
        if to_other {
            other.copy_from_slice(from);
        }
    };
    if from.len() <= FEW {
        from.sort_unstable_by_key(I::all);
        return place(from, other);
    }
    // Only bits in which they differ tell anything.
    let bits = bits.unwrap_or_else(|| {
        let (or, and) = from.iter().fold((0, u64::MAX), |(or, and), e| (or | e.prefix(), and & e.prefix()));
        64 - (or ^ and).leading_zeros()
    });
    if bits == 0 {
        // Places may be in any order by now only if they were so before.
        from.sort_unstable_by_key(I::all);
        return place(from, other);
    }
    if from.len() > MANY {
        let wide = (from.len() / (MANY / 2)).ilog2().clamp(1, CUT).min(bits);
        let shift = bits - wide;
        let mut start = 0;
        for end in cut(from, other, shift, wide) {
            // (Of many it pays to look which bits they differ in.)
            let bits = (end - start <= MANY).then_some(shift);
            into(&mut other[start..end], &mut from[start..end], !to_other, bits);
            start = end;
        }
        return;
    }
    // Two passes from the last of as many bits as tell most of them apart; what is still the same then is little.
    let wide = (from.len().ilog2() + 3).div_ceil(2).min(bits.div_ceil(2)).max(1);
    let shift = bits.saturating_sub(2 * wide);
    two_passes(from, other, shift, wide);
    if shift > 0 {
        let mut start = 0;
        while start < from.len() {
            let first = from[start].prefix() >> shift;
            let same = from[start + 1..].iter().take_while(|e| e.prefix() >> shift == first).count() + 1;
            if same > FEW {
                into(&mut from[start..start + same], &mut other[start..start + same], false, None);
            } else if same > 1 {
                from[start..start + same].sort_unstable_by_key(I::all);
            }
            start += same;
        }
    }
    place(from, other);
}

/// From how many there are of each to where each begins.
fn begins<N: Copy + Default + std::ops::AddAssign>(counts: &mut [N]) {
    let mut sum = N::default();
    for count in counts {
        let before = sum;
        sum += *count;
        *count = before;
    }
}

/// Moves all to `to`, by so many bits from `shift` on; the order of those that have them the same stays. Returns the end of each part.
fn cut<I: Item>(from: &[I], to: &mut [I], shift: u32, wide: u32) -> Vec<usize> {
    let mask = (1u64 << wide) - 1;
    let part = |e: &I| (e.prefix() >> shift & mask) as usize;
    let mut next = vec![0usize; 1 << wide];
    from.iter().for_each(|e| next[part(e)] += 1);
    begins(&mut next);
    for e in from {
        let next = &mut next[part(e)];
        to[*next] = *e;
        *next += 1;
        prefetch::to_write(to.as_ptr().wrapping_add(*next).cast::<u8>().wrapping_add(2 * prefetch::LINE));
    }
    next
}

/// The values of one digit of a pass.
const DIGITS: usize = 1 << (MANY.ilog2() + 3).div_ceil(2);

/// Sorts by two digits of so many bits from `shift` on, to `other` and back.
fn two_passes<I: Item>(from: &mut [I], other: &mut [I], shift: u32, wide: u32) {
    let mask = (1usize << wide) - 1;
    let low = |e: &I| (e.prefix() >> shift) as usize & mask;
    let high = |e: &I| (e.prefix() >> shift >> wide) as usize & mask;
    let mut next = [[0u32; DIGITS]; 2];
    let [lows, highs] = &mut next;
    for e in &*from {
        lows[low(e)] += 1;
        highs[high(e)] += 1;
    }
    begins(&mut lows[..=mask]);
    begins(&mut highs[..=mask]);
    for e in &*from {
        let next = &mut lows[low(e)];
        other[*next as usize] = *e;
        *next += 1;
    }
    for e in &*other {
        let next = &mut highs[high(e)];
        from[*next as usize] = *e;
        *next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(prefixes: impl IntoIterator<Item = u64>) {
        let mut entries: Vec<Entry> =
            prefixes.into_iter().zip(0..).map(|(prefix, at)| Entry { prefix, at }).collect();
        let mut want = entries.clone();
        want.sort_by_key(|e| e.prefix);
        let mut other = entries.clone();
        let sorted = if sort(&mut entries, &mut other) { other } else { entries };
        assert!(sorted == want);
        let mut alone: Vec<u64> = want.iter().map(|e| e.prefix.reverse_bits() | 1).collect();
        let mut want = alone.clone();
        want.sort_unstable();
        let mut other = vec![0; want.len()];
        let sorted = if sort(&mut alone, &mut other) { other } else { alone };
        assert!(sorted == want);
    }

    #[test]
    fn as_a_stable_sort() {
        let mix = |i: u64| (i ^ i >> 7).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        for n in [0, 1, FEW as u64, FEW as u64 + 1, 3000, MANY as u64 + 1, 200_000] {
            check((0..n).map(mix));
            check((0..n).map(|i| mix(i) % 7));
            check((0..n).map(|i| mix(i) >> 60 << 60 | 5));
            check((0..n).rev());
            check((0..n).map(|i| i << 40));
            check((0..n).map(|_| 3));
            check((0..n).map(|i| if i == n / 2 { u64::MAX } else { mix(i) % 1000 }));
            check((0..n).map(|i| 1 << (mix(i) % 64)));
        }
    }

    proptest! {
        #[test]
        fn as_a_stable_sort_of_anything(
            some in prop::collection::vec(any::<u64>(), 1..40),
            n in 0usize..5000,
            seed in any::<u64>(),
        ) {
            let pick = |i: usize| (i as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            check((0..n).map(|i| some[pick(i) as usize % some.len()]));
        }
    }
}
