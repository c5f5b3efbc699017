//! Radix sort of 64-bit prefixes, with or without their places.

/// What is sorted.
pub(super) trait Item: Copy {
    type All: Ord;

    /// What parts go by.
    fn prefix(&self) -> u64;

    /// What they are sorted by as a whole.
    fn all(&self) -> Self::All;
}

/// A prefix, and the place of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Sorts by prefix, then place. `other` has the same length, and anything in it.
pub(super) fn sort<I: Item>(entries: &mut [I], other: &mut [I]) {
    into(entries, other, false);
}

/// Sorts `from`, into `other` or in place.
fn into<I: Item>(from: &mut [I], other: &mut [I], to_other: bool) {
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
    let (or, and) = from.iter().fold((0, u64::MAX), |(or, and), e| (or | e.prefix(), and & e.prefix()));
    let differ = or ^ and;
    if differ == 0 {
        // Places may be in any order by now only if they were so before.
        from.sort_unstable_by_key(I::all);
        return place(from, other);
    }
    let bits = 64 - differ.leading_zeros();
    if from.len() > MANY {
        let wide = (from.len() / (MANY / 2)).ilog2().clamp(1, CUT).min(bits);
        let shift = bits - wide;
        let ends = scatter(from, other, shift, wide);
        let mut start = 0;
        for end in ends {
            into(&mut other[start..end], &mut from[start..end], !to_other);
            start = end;
        }
        return;
    }
    // Two passes from the last of as many bits as tell most of them apart; what is still the same then is little.
    let wide = (from.len().ilog2() + 3).div_ceil(2).min(bits.div_ceil(2)).max(1);
    let shift = bits.saturating_sub(2 * wide);
    scatter(from, other, shift, wide);
    scatter(other, from, shift + wide, wide);
    if shift > 0 {
        let mut start = 0;
        while start < from.len() {
            let first = from[start].prefix() >> shift;
            let same = from[start + 1..].iter().take_while(|e| e.prefix() >> shift == first).count() + 1;
            if same > FEW {
                into(&mut from[start..start + same], &mut other[start..start + same], false);
            } else if same > 1 {
                from[start..start + same].sort_unstable_by_key(I::all);
            }
            start += same;
        }
    }
    place(from, other);
}

/// Moves all to `to`, by so many bits from `shift` on; the order of those that have them the same stays. Returns the end of each part.
fn scatter<I: Item>(from: &[I], to: &mut [I], shift: u32, wide: u32) -> Vec<usize> {
    let mask = (1u64 << wide) - 1;
    let part = |e: &I| (e.prefix() >> shift & mask) as usize;
    let mut next = vec![0usize; 1 << wide];
    from.iter().for_each(|e| next[part(e)] += 1);
    let mut sum = 0;
    for count in &mut next {
        sum += std::mem::replace(count, sum);
    }
    for e in from {
        let next = &mut next[part(e)];
        to[*next] = *e;
        *next += 1;
    }
    next
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
        sort(&mut entries, &mut other);
        assert!(entries == want);
        let mut alone: Vec<u64> = want.iter().map(|e| e.prefix.reverse_bits() | 1).collect();
        let mut want = alone.clone();
        want.sort_unstable();
        sort(&mut alone, &mut vec![0; want.len()]);
        assert!(alone == want);
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
