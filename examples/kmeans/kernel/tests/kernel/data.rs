//! Made-up points.

/// Small whole numbers: every score is exact in both types, so ties are real ties and labels must be equal.
pub(crate) fn exact(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as f64
    };
    (0..len).map(|_| next() % 7.0 - 3.0).collect()
}

/// Fractions around `offset`.
pub(crate) fn spread(len: usize, seed: u64, offset: f64) -> Vec<f64> {
    exact(len * 4, seed).chunks(4).map(|c| offset + c[0] + c[1] / 7.0 + c[2] / 49.0 + c[3] / 343.0).collect()
}
