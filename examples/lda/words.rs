//! What a word is, and which words are dropped.

use std::collections::HashSet;
use std::path::Path;

use aeolian_examples::readat::ReadAt;
use aeolian_examples::{Error, Result};

use crate::cli::Options;
use crate::sources::text;

/// Calls `found` for each word of a text: a run of letters, each made lower case by itself.
pub(crate) fn each(text: &str, mut found: impl FnMut(&str)) {
    let mut word = String::new();
    for c in text.chars() {
        if c.is_ascii_lowercase() {
            word.push(c);
        } else if c.is_alphabetic() {
            word.extend(c.to_lowercase());
        } else if !word.is_empty() {
            found(&word);
            word.clear();
        }
    }
    if !word.is_empty() {
        found(&word);
    }
}

/// Which words are dropped at once.
pub(crate) struct Dropped {
    stop: HashSet<String>,
    min_letters: usize,
}

impl Dropped {
    /// As the options say.
    pub(crate) fn new(options: &Options) -> Result<Dropped> {
        let stop = match &options.stop_words {
            Some(path) => listed(path)?,
            None if options.no_stop_words || options.generate.is_some() => HashSet::new(),
            None => {
                let lines = include_str!("data/stop-words.txt").lines().filter(|l| !l.starts_with('#'));
                lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
            }
        };
        Ok(Dropped { stop, min_letters: options.min_letters })
    }

    /// Whether this one is.
    pub(crate) fn has(&self, word: &str) -> bool {
        word.chars().nth(self.min_letters.saturating_sub(1)).is_none() || self.stop.contains(word)
    }
}

/// The words in a file, one a line; `#` begins a comment.
fn listed(path: &Path) -> Result<HashSet<String>> {
    let source = ReadAt::open(path)?;
    let bytes = source.bytes(0, source.len())?;
    let mut all = HashSet::new();
    for (line, number) in text(&source, 0, &bytes)?.lines().zip(1..) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let mut words = Vec::new();
        each(line, |word| words.push(word.to_owned()));
        if words.len() != 1 || words[0].chars().count() != line.chars().count() {
            return Err(Error::data(
                format!("{}:{number}", source.name()),
                format!("{line:?} is not one word"),
                "write one word of letters in each line",
            ));
        }
        all.extend(words);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        let mut all = Vec::new();
        each(text, |w| all.push(w.to_owned()));
        all
    }

    #[test]
    fn words_are_runs_of_letters() {
        assert_eq!(of("The wind-harp's 12 strings, x2!"), ["the", "wind", "harp", "s", "strings", "x"]);
        assert_eq!(of("ÜBER Straße\u{2014}Ἀθῆναι 東京"), ["über", "straße", "ἀθῆναι", "東京"]);
        assert_eq!(of(" 1 2 ,"), [""; 0]);
    }
}
