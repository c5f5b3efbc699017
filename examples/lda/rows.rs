//! Topic counts of a word, as they lie in a partition and travel: how many topics it has, then each with its count, the most
//! frequent first.

/// Bits of an element that are the topic; above them is the count.
const TOPIC: u32 = 16;

/// An element of a row.
#[inline]
pub(crate) fn pack(topic: u32, count: u32) -> u64 {
    u64::from(count) << TOPIC | u64::from(topic)
}

/// Topic and count.
#[inline]
pub(crate) fn unpack(element: u64) -> (u32, u32) {
    (element as u32 & ((1 << TOPIC) - 1), (element >> TOPIC) as u32)
}

/// The elements in use.
#[inline]
pub(crate) fn used(row: &[u64]) -> &[u64] {
    match row.split_first() {
        Some((n, rest)) => &rest[..(*n as usize).min(rest.len())],
        None => &[],
    }
}

/// Puts topics and counts in a row, in order.
#[inline]
pub(crate) fn refill(row: &mut [u64], counts: impl Iterator<Item = (u32, u32)>) {
    let Some((n, rest)) = row.split_first_mut() else { return };
    *n = 0;
    for (slot, (topic, count)) in rest.iter_mut().zip(counts) {
        *slot = pack(topic, count);
        *n += 1;
    }
    let used = &mut rest[..*n as usize];
    if !used.is_sorted_by(|a, b| a >= b) {
        used.sort_unstable_by(|a, b| b.cmp(a));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_first() {
        let mut row = [9; 5];
        refill(&mut row, [(3, 1), (65535, u32::MAX), (0, 7)].into_iter());
        assert_eq!(
            used(&row).iter().map(|e| unpack(*e)).collect::<Vec<_>>(),
            [(65535, u32::MAX), (0, 7), (3, 1)]
        );
        refill(&mut row, std::iter::empty());
        assert!(used(&row).is_empty() && used(&[]).is_empty());
    }
}
