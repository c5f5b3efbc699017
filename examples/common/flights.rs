//! The bundled tables: flights from New York on one day, and their planes (see data/README.md).

use crate::readat::ReadAt;

/// What they are, for messages.
pub const DAY: &str = "flights from New York on 9 February 2013";

/// The flights.
pub fn flights() -> ReadAt {
    ReadAt::Static { bytes: include_bytes!("data/flights.csv"), name: "flights.csv (bundled)" }
}

/// The planes that are known of them, by `tailnum`.
pub fn planes() -> ReadAt {
    ReadAt::Static { bytes: include_bytes!("data/planes.csv"), name: "planes.csv (bundled)" }
}
