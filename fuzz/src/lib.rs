//! Runs the decoders of `damaged` modules on whatever libFuzzer makes up. The first byte chooses among several of one target.
//!
//! The good inputs that tests damage are written into the corpus first.

#[doc(hidden)]
pub use libfuzzer_sys;

#[path = "../../net/tests/mutate/mod.rs"]
mod mutate;

/// Good inputs, and what becomes of any.
pub type Decoder = (fn() -> Vec<Vec<u8>>, fn(&[u8]) -> Result<bool, String>);

/// Writes the good inputs into the corpus: the first directory on the command line, if there is one.
pub fn seed(decoders: &[Decoder]) {
    let Some(corpus) = std::env::args_os().skip(1).map(std::path::PathBuf::from).find(|arg| arg.is_dir())
    else {
        return;
    };
    for ((good, decode), which) in decoders.iter().zip(0u8..) {
        for (input, number) in good().into_iter().zip(0..) {
            assert_eq!(decode(&input), Ok(true), "input {number} of decoder {which}, of its own making");
            let chosen = if decoders.len() > 1 { [&[which][..], &input].concat() } else { input };
            std::fs::write(corpus.join(format!("good-{which}-{number}")), chosen)
                .expect("the corpus can be written");
        }
    }
}

/// Panics if the decoder does, or comes to something that it must not, or takes memory by what was announced.
pub fn run(decoders: &[Decoder], input: &[u8]) {
    let (which, input) = match input.split_first() {
        Some((&first, rest)) if decoders.len() > 1 => (usize::from(first) % decoders.len(), rest),
        _ => (0, input),
    };
    if let Err(what) = mutate::within_memory(input, decoders[which].1) {
        panic!("decoder {which}: {what}");
    }
}

/// A target for the decoders of these modules.
#[macro_export]
macro_rules! target {
    ($($($name:ident)::+),+) => {
        const DECODERS: &[$crate::Decoder] = &[$(($($name)::+::good, $($name)::+::decode)),+];
        $crate::libfuzzer_sys::fuzz_target!(
            init: $crate::seed(DECODERS),
            |input: &[u8]| $crate::run(DECODERS, input)
        );
    };
}
