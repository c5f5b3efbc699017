//! Inputs that say what happens.

/// What is left of a script: single bytes, and pieces behind their length.
pub(crate) struct Script<'s>(&'s [u8]);

impl<'s> Script<'s> {
    pub(crate) fn new(bytes: &'s [u8]) -> Script<'s> {
        Script(bytes)
    }

    /// The next byte; `None` at the end.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// The next number, little-endian; zero at the end.
    pub(crate) fn number<const N: usize>(&mut self) -> u64 {
        (0..N).fold(0, |sum, at| sum | u64::from(self.byte().unwrap_or(0)) << (8 * at))
    }

    /// The next piece, as far as it is there.
    pub(crate) fn piece(&mut self) -> &'s [u8] {
        let len = self.number::<2>() as usize;
        let (piece, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        piece
    }
}

/// A piece as scripts have it.
pub(crate) fn piece(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat()
}
