//! Documents, of which each rank reads its part.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use aeolian::World;
use aeolian::harp::{Array, Sum, Table, allgather};
use aeolian_examples::agree::{agree, all};
use aeolian_examples::lines::{PIECE, starting_in};
use aeolian_examples::matrix::block;
use aeolian_examples::readat::ReadAt;
use aeolian_examples::workers::Workers;
use aeolian_examples::{Error, Result};

use crate::bundled;
use crate::cli::{Options, Unit};
use crate::planted::Planted;
use crate::sources::{Source, list, text};
use crate::words::{Dropped, each};

/// Random documents that a thread makes at once.
const AT_ONCE: u64 = 256;

/// A rank's documents: all words in them, one behind the other, by number.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    pub(crate) names: Vec<String>,
    /// Where the words of each document end.
    pub(crate) ends: Vec<usize>,
    pub(crate) tokens: Vec<u32>,
    /// The words that the numbers mean: those of this rank.
    pub(crate) words: Vec<String>,
    /// How many words were dropped.
    pub(crate) dropped: u64,
    numbers: HashMap<String, u32>,
    /// Where lines are documents: the file of each, and the number of its line among those that were read here.
    places: Vec<(usize, u64)>,
    /// And how many lines of which files that were, blank ones too.
    lines: Vec<(usize, u64)>,
}

impl Documents {
    fn add(&mut self, name: String, text: &str, dropped: &Dropped) {
        each(text, |word| match dropped.has(word) {
            true => self.dropped += 1,
            false => self.push(word),
        });
        self.end(name);
    }

    fn push(&mut self, word: &str) {
        let number = self.number(word);
        self.tokens.push(number);
    }

    fn end(&mut self, name: String) {
        self.names.push(name);
        self.ends.push(self.tokens.len());
    }

    fn number(&mut self, word: &str) -> u32 {
        if let Some(number) = self.numbers.get(word) {
            return *number;
        }
        let number = self.words.len() as u32;
        self.words.push(word.to_owned());
        self.numbers.insert(word.to_owned(), number);
        number
    }

    /// Adds what a thread has read, which has numbers of its own.
    fn append(&mut self, piece: Documents) {
        let numbers: Vec<u32> = piece.words.iter().map(|word| self.number(word)).collect();
        let before = self.tokens.len();
        self.tokens.extend(piece.tokens.iter().map(|t| numbers[*t as usize]));
        self.ends.extend(piece.ends.iter().map(|end| before + end));
        self.names.extend(piece.names);
        self.dropped += piece.dropped;
        let before = |file: usize| self.lines.last().filter(|(last, _)| *last == file).map_or(0, |(_, n)| *n);
        self.places.extend(piece.places.iter().map(|(file, line)| (*file, before(*file) + line)));
        for (file, lines) in piece.lines {
            match self.lines.last_mut() {
                Some((last, n)) if *last == file => *n += lines,
                _ => self.lines.push((file, lines)),
            }
        }
    }

    /// The tokens of a document.
    pub(crate) fn range(&self, document: usize) -> std::ops::Range<usize> {
        (if document == 0 { 0 } else { self.ends[document - 1] })..self.ends[document]
    }
}

/// What a thread reads at once.
enum Piece {
    /// Whole files, by number.
    Files(std::ops::Range<usize>),
    /// The lines of a file that begin in a range of its bytes.
    Lines(usize, u64, u64),
    /// Random documents, or sections of the book.
    Documents(u64, u64),
}

/// Reads this rank's part; all files come back, too. `progress` is told how much is done. Collective.
pub(crate) fn read(
    world: &mut World,
    workers: &Workers,
    options: &Options,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<(Documents, Vec<Source>)> {
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    let dropped = agree(world, Dropped::new(options))?;
    let sources = if options.input.is_empty() { Vec::new() } else { list(world, options)? };
    let book: Vec<(String, &str)> =
        if options.bundled() { bundled::sections().collect() } else { Vec::new() };
    let planted = Planted::new(options);
    let pieces = match options.documents {
        _ if sources.is_empty() => {
            let n = if options.bundled() { book.len() as u64 } else { options.docs };
            let mine = block(n, rank, size);
            let piece = |from: u64| Piece::Documents(from, mine.end.min(from + AT_ONCE));
            (mine.start..mine.end).step_by(AT_ONCE as usize).map(piece).collect()
        }
        Unit::Files => files(&sources, rank, size),
        Unit::Lines => lines(&sources, rank, size),
    };
    let (done, total) = (AtomicU64::new(0), pieces.len() as u64);
    let mut documents = Documents::default();
    let mut result = Ok(());
    let mut pieces = pieces.into_iter();
    loop {
        // As many pieces as there are threads, then append them in order: what is in flight stays small.
        let some: Vec<Piece> = pieces.by_ref().take(workers.threads()).collect();
        if some.is_empty() || result.is_err() {
            break;
        }
        let parsed = workers.each(some, |piece| {
            let mut part = Documents::default();
            match piece {
                Piece::Files(range) => whole(&sources[range], &dropped, &mut part)?,
                Piece::Lines(file, from, to) => some_lines(&sources, file, from..to, &dropped, &mut part)?,
                Piece::Documents(from, to) if options.bundled() => {
                    for (name, text) in &book[from as usize..to as usize] {
                        part.add(name.clone(), text, &dropped);
                    }
                }
                Piece::Documents(from, to) => {
                    for document in from..to {
                        planted.words(document).for_each(|word| part.push(&format!("w{word}")));
                        part.end(document.to_string());
                    }
                }
            }
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
            Ok(part)
        });
        for part in parsed {
            match part {
                Ok(part) => documents.append(part),
                Err(e) => result = result.and(Err(e)),
            }
        }
    }
    agree(world, result)?;
    documents.numbers = HashMap::new();
    if options.documents == Unit::Lines {
        name_lines(world, &sources, &mut documents)?;
    }
    let tokens: u64 = all(world, documents.tokens.len() as u64)?.iter().sum();
    if tokens == 0 {
        return Err(Error::data(
            options.input_name(),
            "there are no words in it, or only stop words",
            "give a text of more words; see --stop-words and --min-letters",
        ));
    }
    Ok((documents, sources))
}

/// The share of all files' bytes that is a rank's.
fn share(sources: &[Source], rank: usize, size: usize) -> std::ops::Range<u64> {
    block(sources.iter().map(|s| s.len).sum(), rank, size)
}

/// The files that begin in this rank's share; some of them together.
fn files(sources: &[Source], rank: usize, size: usize) -> Vec<Piece> {
    let share = share(sources, rank, size);
    let total: u64 = sources.iter().map(|s| s.len).sum();
    let (mut at, mut bytes) = (0, 0);
    let mut pieces: Vec<Piece> = Vec::new();
    for (i, source) in sources.iter().enumerate() {
        // An empty one at the very end belongs to the last rank, too.
        if share.contains(&at.min(total - 1)) {
            match pieces.last_mut() {
                Some(Piece::Files(range)) if bytes + source.len <= PIECE => range.end = i + 1,
                _ => {
                    pieces.push(Piece::Files(i..i + 1));
                    bytes = 0;
                }
            }
            bytes += source.len;
        }
        at += source.len;
    }
    pieces
}

/// The ranges of files that are in this rank's share.
fn lines(sources: &[Source], rank: usize, size: usize) -> Vec<Piece> {
    let share = share(sources, rank, size);
    let mut pieces = Vec::new();
    let mut at = 0;
    for (i, source) in sources.iter().enumerate() {
        let (begin, end) = (share.start.clamp(at, at + source.len), share.end.clamp(at, at + source.len));
        for from in (begin - at..end - at).step_by(PIECE as usize) {
            pieces.push(Piece::Lines(i, from, (end - at).min(from + PIECE)));
        }
        at += source.len;
    }
    pieces
}

fn open(source: &Source) -> Result<ReadAt> {
    let file = ReadAt::open(Path::new(&source.path))?;
    if file.len() != source.len {
        return Err(Error::data(
            &source.path,
            format!("it has {} bytes here, but rank 0 has seen {}", file.len(), source.len),
            "every host must see the same files under these paths, and nobody may write to them meanwhile",
        ));
    }
    Ok(file)
}

fn whole(sources: &[Source], dropped: &Dropped, part: &mut Documents) -> Result<()> {
    for source in sources {
        let file = open(source)?;
        let bytes = file.bytes(0, source.len)?;
        part.add(source.path.clone(), text(&file, 0, &bytes)?, dropped);
    }
    Ok(())
}

fn some_lines(
    sources: &[Source],
    file: usize,
    range: std::ops::Range<u64>,
    dropped: &Dropped,
    part: &mut Documents,
) -> Result<()> {
    let source = open(&sources[file])?;
    let lines = starting_in(&source, 0, range.start, range.end)?;
    let mut count = 0;
    for line in text(&source, lines.offset, &lines.text)?.lines() {
        if !line.trim().is_empty() {
            part.add(String::new(), line, dropped);
            part.places.push((file, count));
        }
        count += 1;
    }
    part.lines.push((file, count));
    Ok(())
}

/// Names documents by file and line, for which the ranks tell each other how many lines they have seen. Collective.
fn name_lines(world: &mut World, sources: &[Source], documents: &mut Documents) -> Result<()> {
    let flat: Vec<u64> = documents.lines.iter().flat_map(|(file, lines)| [*file as u64, *lines]).collect();
    let mut table = Table::<u64, Sum>::new(Sum);
    table.add(u64::from(world.rank()), Array::from(flat))?;
    allgather(world, &mut table)?;
    let mut first: HashMap<u64, u64> = HashMap::new();
    for (_, flat) in table.iter().take_while(|(rank, _)| *rank < u64::from(world.rank())) {
        for [file, lines] in flat.as_chunks::<2>().0 {
            *first.entry(*file).or_insert(1) += lines;
        }
    }
    for (name, (file, line)) in documents.names.iter_mut().zip(&documents.places) {
        let line = first.get(&(*file as u64)).unwrap_or(&1) + line;
        *name = format!("{}:{line}", sources[*file].path);
    }
    Ok(())
}
