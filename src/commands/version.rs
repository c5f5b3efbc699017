//! `aeolian version`.

use std::io::Write;

/// Prints the version and what this build contains.
pub(crate) fn main() -> u8 {
    let feature = |name: &'static str, on: bool| on.then_some(name);
    let features: Vec<_> = [feature("mpi", cfg!(feature = "mpi")), feature("hwloc", cfg!(feature = "hwloc"))]
        .into_iter()
        .flatten()
        .collect();
    let text = format!(
        "aeolian {}\nfeatures: {}\nsystem: {}-{}\n",
        env!("CARGO_PKG_VERSION"),
        if features.is_empty() {
            "none (MPI is found at run time all the same)".into()
        } else {
            features.join(", ")
        },
        std::env::consts::ARCH,
        std::env::consts::OS,
    );
    std::io::stdout().write_all(text.as_bytes()).unwrap_or_default();
    aeolian_net::exit::OK
}
