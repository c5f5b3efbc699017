//! What the Renoir and the timely programs share: the file formats of perf/ops, words, checksums and the JSON line (see ../README.md).
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::ops::Range;
use std::sync::OnceLock;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// A pair of the group-by (then `value` is the bits of an f64), or a row of one side of a join.
#[repr(C)]
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Row {
    pub key: u64,
    pub value: u64,
}

/// A row of a join's result.
#[repr(C)]
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Joined {
    pub key: u64,
    pub left: u64,
    pub right: u64,
}

/// What a joined row has where a side is missing.
pub const NONE: u64 = u64::MAX;

/// gensort's record, as serde's longest arrays have 32 elements.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Record(pub [[u8; 20]; 5]);

impl Record {
    /// The key's first 8 bytes, and its last 2.
    pub fn key(&self) -> (u64, u16) {
        let k = &self.0[0];
        (u64::from_be_bytes(k[..8].try_into().unwrap()), u16::from_be_bytes([k[8], k[9]]))
    }
}

/// Types whose every bit pattern is a value and that have no padding.
///
/// # Safety
/// They must be so.
pub unsafe trait Pod: Copy + 'static {}
unsafe impl Pod for u8 {}
unsafe impl Pod for u64 {}
unsafe impl Pod for Row {}
unsafe impl Pod for Joined {}
unsafe impl Pod for Record {}

/// Maps a file for the rest of the program's life.
pub fn map<T: Pod>(path: &str) -> &'static [T] {
    let file = File::open(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    if file.metadata().unwrap().len() == 0 {
        return &[];
    }
    let map = unsafe { memmap2::MmapOptions::new().populate().map(&file) }
        .unwrap_or_else(|e| panic!("{path}: {e}"));
    let bytes: &'static [u8] = Box::leak(Box::new(map));
    assert!(bytes.len() % size_of::<T>() == 0, "{path}: no whole number of records");
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<T>()) }
}

/// The `i`th of `n` equal shares.
pub fn share(len: usize, i: usize, n: usize) -> Range<usize> {
    len * i / n..len * (i + 1) / n
}

/// Removes what an earlier run has left, which may have had more parts.
pub fn remove_parts(out: &str) {
    let mut part = 0;
    while std::fs::remove_file(format!("{out}.{part:04}")).is_ok() || part < 16 {
        part += 1;
    }
}

/// Writes `OUT.PART`.
pub fn write_part<T: Pod>(out: &str, part: usize, rows: &[T]) {
    let bytes = unsafe { std::slice::from_raw_parts(rows.as_ptr().cast::<u8>(), size_of_val(rows)) };
    let path = format!("{out}.{part:04}");
    let _ = std::fs::remove_file(&path);
    File::create(&path).unwrap_or_else(|e| panic!("{path}: {e}")).write_all(bytes).unwrap();
}

pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// One multiplication, folded.
#[inline]
pub fn hash64(key: u64) -> u64 {
    let p = u128::from(key ^ 0x2545_f491_4f6c_dd1d) * 0x9e37_79b9_7f4a_7c15;
    p as u64 ^ (p >> 64) as u64
}

/// Splitters of a sort into `n` ranges, from a sample of the file.
pub fn splitters(records: &[Record], n: usize) -> Vec<(u64, u16)> {
    let m = 1024 * n as u64;
    let mut sample: Vec<_> = (0..if records.is_empty() { 0 } else { m })
        .map(|i| records[(u128::from(mix(i)) * records.len() as u128 >> 64) as usize].key())
        .collect();
    sample.sort_unstable();
    (1..n).map(|i| sample.get(sample.len() * i / n).copied().unwrap_or_default()).collect()
}

/// The records in the order of their keys: the lower 48 bits of the second are their numbers.
pub fn sort_records(records: &[Record]) -> Vec<(u64, u64)> {
    assert!((records.len() as u64) < 1 << 48);
    let mut order: Vec<(u64, u64)> =
        records.iter().enumerate().map(|(i, r)| (r.key().0, u64::from(r.key().1) << 48 | i as u64)).collect();
    order.sort_unstable();
    order
}

/// Gathers records in order and writes them in pieces.
pub fn write_sorted(out: &str, part: usize, records: &[Record], order: &[(u64, u64)]) {
    let path = format!("{out}.{part:04}");
    let _ = std::fs::remove_file(&path);
    let mut file = File::create(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut piece: Vec<Record> = Vec::with_capacity(10_000);
    for some in order.chunks(10_000) {
        piece.clear();
        piece.extend(some.iter().map(|o| records[(o.1 & 0xffff_ffff_ffff) as usize]));
        let bytes =
            unsafe { std::slice::from_raw_parts(piece.as_ptr().cast::<u8>(), size_of_val(&piece[..])) };
        file.write_all(bytes).unwrap();
    }
}

static TEXT: OnceLock<&'static [u8]> = OnceLock::new();

/// Sets the text that words refer to.
pub fn set_text(text: &'static [u8]) {
    TEXT.set(text).unwrap();
}

/// A word of the text. One of up to 16 bytes is compared and hashed as two integers, without a look at the text; a longer one by its place.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Word {
    /// The first 16 bytes, then zeros.
    head: [u64; 2],
    at: u64,
    length: u32,
}
impl Word {
    #[inline]
    pub fn new(text: &'static [u8], at: usize, length: usize) -> Self {
        let head = if at + 16 <= text.len() {
            let all = u128::from_le_bytes(text[at..at + 16].try_into().unwrap());
            if length < 16 { all & ((1 << (8 * length)) - 1) } else { all }
        } else {
            let (mut some, n) = ([0; 16], length.min(16));
            some[..n].copy_from_slice(&text[at..at + n]);
            u128::from_le_bytes(some)
        };
        Word { head: [head as u64, (head >> 64) as u64], at: at as u64, length: length as u32 }
    }
    #[inline]
    pub fn bytes(&self) -> &'static [u8] {
        &TEXT.get().unwrap()[self.at as usize..][..self.length as usize]
    }
}
impl PartialEq for Word {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.head == other.head
            && self.length == other.length
            && (self.length <= 16 || self.bytes() == other.bytes())
    }
}
impl Eq for Word {}
impl Hash for Word {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.head[0]);
        state.write_u64(self.head[1] ^ u64::from(self.length) << 56);
        if self.length > 16 {
            state.write(&self.bytes()[16..]);
        }
    }
}

/// Which bytes belong to words: `alnum` or `space`, as in wordcount_mpi.cpp.
pub fn kinds(words: &str) -> [bool; 256] {
    std::array::from_fn(|c| {
        let c = c as u8;
        match words {
            "alnum" => c >= 0x80 || c.is_ascii_alphanumeric(),
            "space" => !(matches!(c, 9..=13 | 32)),
            _ => panic!("words are alnum or space"),
        }
    })
}

/// The words that begin in `range`.
pub struct Words {
    text: &'static [u8],
    kind: [bool; 256],
    at: usize,
    end: usize,
}
impl Words {
    pub fn new(text: &'static [u8], kind: [bool; 256], range: Range<usize>) -> Self {
        let mut at = range.start;
        if at > 0 && kind[text[at - 1] as usize] {
            while at < text.len() && kind[text[at] as usize] {
                at += 1;
            }
        }
        Words { text, kind, at, end: range.end }
    }
}
impl Iterator for Words {
    type Item = Word;
    #[inline]
    fn next(&mut self) -> Option<Word> {
        let mut at = self.at;
        while at < self.end && !self.kind[self.text[at] as usize] {
            at += 1;
        }
        if at >= self.end {
            self.at = at;
            return None;
        }
        let mut end = at + 1;
        while end < self.text.len() && self.kind[self.text[end] as usize] {
            end += 1;
        }
        self.at = end;
        Some(Word::new(self.text, at, end - at))
    }
}

/// Lines `word TAB count`.
pub fn write_words(out: &str, part: usize, words: impl Iterator<Item = (Word, u64)>) {
    let path = format!("{out}.{part:04}");
    let _ = std::fs::remove_file(&path);
    let file = File::create(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut to = std::io::BufWriter::with_capacity(1 << 20, file);
    for (word, count) in words {
        to.write_all(word.bytes()).unwrap();
        writeln!(to, "\t{count}").unwrap();
    }
    to.flush().unwrap();
}

/// What a result file consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Rows,
    Joined,
    Records,
    Words,
}

/// Takes the checksum from the parts that were written, and prints the line.
pub fn report(what: &str, who: &str, workers: usize, of: Of, out: &str, seconds: &[(&str, f64)]) {
    let (mut rows, mut sum) = (0u64, 0u64);
    let mut add = |x: u64| sum = sum.wrapping_add(x);
    let mut before: Option<(u64, u16)> = None;
    for part in 0..workers {
        let path = format!("{out}.{part:04}");
        if !std::fs::exists(&path).unwrap() {
            continue; // a worker without a result
        }
        match of {
            Of::Rows => {
                let all = map::<Row>(&path);
                all.iter().for_each(|r| add(mix(r.key ^ mix(r.value))));
                rows += all.len() as u64;
            }
            Of::Joined => {
                let all = map::<Joined>(&path);
                all.iter().for_each(|r| add(mix(r.key ^ mix(r.left ^ mix(r.right)))));
                rows += all.len() as u64;
            }
            Of::Records => {
                for r in map::<Record>(&path) {
                    assert!(before <= Some(r.key()), "the result is not sorted");
                    before = Some(r.key());
                    let flat = r.0.as_flattened();
                    let words = flat[..96].chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().unwrap()));
                    let last = u32::from_le_bytes(flat[96..].try_into().unwrap());
                    add(mix(words.fold(mix(rows), |h, w| mix(h ^ w)) ^ u64::from(last)));
                    rows += 1;
                }
            }
            Of::Words => {
                for line in map::<u8>(&path).split(|&c| c == b'\n').filter(|l| !l.is_empty()) {
                    let tab = line.iter().rposition(|&c| c == b'\t').unwrap();
                    let count: u64 = std::str::from_utf8(&line[tab + 1..]).unwrap().parse().unwrap();
                    add(mix(u64::from(crc32fast::hash(&line[..tab])) ^ count << 32));
                    rows += 1;
                }
            }
        }
    }
    let seconds: Vec<String> = seconds.iter().map(|(name, s)| format!("\"{name}\": {s:.6}")).collect();
    println!(
        "{{\"what\": \"{what}\", \"who\": \"{who}\", \"workers\": {workers}, \"rows\": {rows}, \"checksum\": \"{sum:016x}\", \"seconds\": {{{}}}}}",
        seconds.join(", ")
    );
}

/// Where a program's time went: the slowest worker's moments.
pub struct Times {
    pub start: Instant,
    pub read: Instant,
    pub computed: Instant,
    pub written: Instant,
}
impl Times {
    pub fn seconds(&self) -> [(&'static str, f64); 4] {
        [
            ("read", (self.read - self.start).as_secs_f64()),
            ("compute", (self.computed - self.read).as_secs_f64()),
            ("write", (self.written - self.computed).as_secs_f64()),
            ("total", (self.written - self.start).as_secs_f64()),
        ]
    }
}

/// `PROGRAM -w WORKERS WORKLOAD ARGUMENTS...`
pub fn arguments() -> (usize, Vec<String>) {
    let all: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: -w WORKERS groupby IN OUT [MODE] | join LEFT RIGHT OUT inner|full [MODE] | wordcount IN OUT alnum|space | terasort IN OUT";
    assert!(all.len() >= 5 && all[0] == "-w", "{usage}");
    (all[1].parse().expect(usage), all[2..].to_vec())
}
