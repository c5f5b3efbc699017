//! What a word is where there is more than ASCII.

use std::borrow::Cow;

use crate::marks::is_mark;

/// Whether a character belongs to words: letters and digits, and the marks that stand on or between them (accents that are characters of
/// their own, the vowel signs and viramas of Indic scripts).
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || !c.is_ascii() && is_mark(c)
}

/// Calls `take` with where each word of `text` begins and with its bytes, but for a word that goes up to the end: where that begins
/// is returned, since more of it may come. Bytes that are not UTF-8 separate words.
pub(crate) fn words<'a>(text: &'a [u8], mut take: impl FnMut(usize, &'a [u8])) -> Option<usize> {
    let (mut at, mut open) = (0, None);
    for chunk in text.utf8_chunks() {
        for (here, c) in chunk.valid().char_indices() {
            match (is_word(c), open) {
                (true, None) => open = Some(at + here),
                (false, Some(begin)) => {
                    take(begin, &text[begin..at + here]);
                    open = None;
                }
                _ => {}
            }
        }
        at += chunk.valid().len();
        if !chunk.invalid().is_empty() {
            if let Some(begin) = open.take() {
                take(begin, &text[begin..at]);
            }
            at += chunk.invalid().len();
        }
    }
    open
}

/// Bytes at the end that may be the beginning of a character of which the rest is still to come.
pub(crate) fn unfinished(text: &[u8]) -> usize {
    let tail = text.len() - text.len().min(3);
    // A lead byte, and how many bytes its character has.
    let lead = (tail..text.len()).rev().find(|i| text[*i] & 0xc0 != 0x80);
    match lead {
        Some(i) if text[i] >= 0xc0 => {
            let wanted = text[i].leading_ones().clamp(2, 4) as usize;
            let there = text.len() - i;
            if there < wanted { there } else { 0 }
        }
        _ => 0,
    }
}

/// Lower case; what is not UTF-8 stays.
pub(crate) fn lower(word: &[u8]) -> Cow<'_, [u8]> {
    if word.is_ascii() {
        return match word.iter().any(u8::is_ascii_uppercase) {
            true => Cow::Owned(word.to_ascii_lowercase()),
            false => Cow::Borrowed(word),
        };
    }
    let mut out = Vec::with_capacity(word.len() + 4);
    for chunk in word.utf8_chunks() {
        out.extend_from_slice(chunk.valid().to_lowercase().as_bytes());
        out.extend_from_slice(chunk.invalid());
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &[u8]) -> Vec<&[u8]> {
        let mut all = Vec::new();
        let open = words(text, |at, word| {
            assert_eq!(&text[at..at + word.len()], word);
            all.push(word);
        });
        all.extend(open.map(|at| &text[at..]));
        all
    }

    #[test]
    fn letters_digits_and_marks() {
        let split = |text: &'static str| all(text.as_bytes()).join(&b'|');
        for (text, want) in [
            ("Straße, naïve-x_1", "Straße|naïve|x|1"),
            ("e\u{301}te\u{301}", "e\u{301}te\u{301}"),
            ("हिन्दी शब्द", "हिन्दी|शब्द"),
            ("語。漢字！", "語|漢字"),
            ("½ x² Ⅳ ④", "½|x²|Ⅳ|④"),
            ("don’t «a» 🙂 b", "don|t|a|b"),
        ] {
            assert_eq!(String::from_utf8(split(text)).unwrap(), want);
        }
    }

    #[test]
    fn what_is_not_utf8_separates() {
        assert_eq!(all(b"a\xffb\xc3"), [b"a", b"b"]);
        // A character that is cut by another's lead byte; a surrogate; one longer than it should be.
        assert_eq!(all(b"\xe4\xb8\xc3\xa9x \xed\xa0\x80y \xc1\xa1z"), ["éx".as_bytes(), b"y", b"z"]);
    }

    #[test]
    fn lower_case() {
        let low = |text: &str| String::from_utf8(lower(text.as_bytes()).into_owned()).unwrap();
        for (text, want) in [("STRASSE", "strasse"), ("É", "é"), ("ΟΔΟΣ", "οδος"), ("\u{212a}", "k")]
        {
            assert_eq!(low(text), want);
        }
        assert_eq!(&*lower(b"A\xff\xc3\x89"), b"a\xff\xc3\xa9");
    }

    proptest! {
        /// What is held back is all that later bytes can change.
        #[test]
        fn only_unfinished_characters_are_held_back(text in "[aé語🙂 ]{0,6}", cut in 0usize..24, bad in prop::collection::vec(any::<u8>(), 0..3)) {
            let text = [&bad[..], text.as_bytes(), &bad].concat();
            let cut = cut.min(text.len());
            let held = unfinished(&text[..cut]);
            let known = |part: &[u8]| {
                let mut all = Vec::new();
                let open = words(part, |at, word| all.push((at, word.len())));
                (all, open)
            };
            let (done, open) = known(&text[..cut - held]);
            let (whole, rest) = known(&text);
            prop_assert!(whole.starts_with(&done));
            if let Some(at) = open {
                prop_assert!(whole[done.len()..].iter().any(|w| w.0 == at) || rest == Some(at));
            }
        }
    }
}
