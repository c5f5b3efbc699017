//! The record of the sort benchmark (<http://sortbenchmark.org>).

use aeolian::ops::Keyed;

/// Bytes of a record.
pub const SIZE: usize = 100;
/// Bytes of its key, which are its first: they are compared as numbers without a sign, one after another.
pub const KEY: usize = 10;

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Record {
    /// What it is sorted by.
    pub key: [u8; KEY],
    /// What comes along.
    pub rest: [u8; SIZE - KEY],
}
aeolian::ops::plain!(Record);

impl Keyed for Record {
    type Key = [u8; KEY];

    #[inline]
    fn key(&self) -> &[u8; KEY] {
        &self.key
    }
}

/// A key for messages: `0x4a696d47726179524950`.
pub fn shown(key: &[u8; KEY]) -> String {
    key.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
