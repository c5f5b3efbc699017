//! What the vertices of a rank are called.

use std::borrow::Cow;

use aeolian_examples::names::Names;

/// What the vertices of a rank are called.
pub(crate) enum Labels {
    /// As the input says.
    Text(Names),
    /// By numbers, from this one on.
    Numbers(u64),
}

impl Labels {
    /// The name of a vertex.
    pub(crate) fn get(&self, vertex: usize) -> Cow<'_, [u8]> {
        match self {
            Labels::Text(names) => Cow::Borrowed(names.get(vertex)),
            Labels::Numbers(first) => Cow::Owned((first + vertex as u64).to_string().into_bytes()),
        }
    }
}
