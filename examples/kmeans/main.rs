//! k-means.
fn main() {}
