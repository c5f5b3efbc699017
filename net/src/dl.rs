//! What the dynamic linker says.

/// The linker's own words: the error's `Display` leaves them to its source.
pub(crate) fn says(error: &libloading::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}
