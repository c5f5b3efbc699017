//! Slurm's host lists: `n[01-04,7],gpu[1-2]-ib[0-3],login`.
//!
//! A list is names separated by commas (or white space); empty ones are skipped. A name holds any number of bracket
//! groups, each a list of numbers and ranges; they multiply, the last one counting fastest. Leading zeros of a range's
//! first number give the width of all: `n[08-10]` is `n08 n09 n10`. All as `scontrol show hostnames` does it, except
//! that unclosed brackets and half ranges are errors here, where Slurm 22.05 makes odd names of them.

use crate::error::{SlurmError, shorten};

/// The most names a list may stand for.
pub const MAX_HOSTS: usize = 1 << 18;
/// The longest name, in bytes (as in DNS).
pub const MAX_NAME: usize = 255;

/// A part of a name: literal text, or a bracket group.
enum Part<'a> {
    Text(&'a str),
    Group(Vec<Range>),
}

/// `first..=last`, written with at least `width` digits.
#[derive(Clone, Copy)]
struct Range {
    first: u64,
    last: u64,
    width: usize,
}

/// All names of a list, in its order, repeated if the list repeats them.
///
/// ```
/// let names = aeolian_slurm::hostlist::expand("n[08-10],gpu[1-2]-ib[0-1]")?;
/// assert_eq!(names, ["n08", "n09", "n10", "gpu1-ib0", "gpu1-ib1", "gpu2-ib0", "gpu2-ib1"]);
/// # Ok::<(), aeolian_slurm::SlurmError>(())
/// ```
///
/// # Errors
/// If the list does not follow the grammar, or stands for more than [`MAX_HOSTS`] names.
pub fn expand(list: &str) -> Result<Vec<String>, SlurmError> {
    let mut names = Vec::new();
    for (start, item) in items(list) {
        let parts = parse(list, start, item)?;
        let count = parts.iter().try_fold(1usize, |n, part| match part {
            Part::Text(_) => Some(n),
            Part::Group(ranges) => n.checked_mul(group_len(ranges)?),
        });
        // Known before anything is made: a hostile list costs nothing.
        let count = count.and_then(|n| n.checked_add(names.len())).filter(|&n| n <= MAX_HOSTS);
        let count = count.ok_or_else(|| too_many(list))?;
        names.reserve(count - names.len());
        product(list, start, &parts, &mut names)?;
    }
    Ok(names)
}

/// The shortest list this crate knows for `names`, in their order: `expand(&compress(names)?)` gives `names` again.
///
/// ```
/// let list = aeolian_slurm::hostlist::compress(&["n08", "n09", "n10", "n12", "login"])?;
/// assert_eq!(list, "n[08-10,12],login");
/// # Ok::<(), aeolian_slurm::SlurmError>(())
/// ```
///
/// # Errors
/// If a name is empty, longer than [`MAX_NAME`], or holds a character that the grammar needs (comma, bracket, space).
pub fn compress<S: AsRef<str>>(names: &[S]) -> Result<String, SlurmError> {
    let mut out = String::new();
    let mut rest = names;
    while let Some(first) = rest.first() {
        check_name(first.as_ref())?;
        let prefix = split_number(first.as_ref()).0;
        // Neighbours with the same text before a number share one pair of brackets.
        let mut run: Vec<Range> = Vec::new();
        let mut taken = 0;
        for name in rest {
            let (text, number) = split_number(name.as_ref());
            let Some((value, width)) = number.filter(|_| text == prefix) else { break };
            check_name(name.as_ref())?;
            match run.last_mut() {
                Some(r) if r.last.checked_add(1) == Some(value) && width == digits(value).max(r.width) => {
                    r.last = value
                }
                _ => run.push(Range { first: value, last: value, width }),
            }
            taken += 1;
        }
        if !out.is_empty() {
            out.push(',');
        }
        if taken < 2 {
            out.push_str(first.as_ref());
            rest = rest.get(1..).unwrap_or_default();
            continue;
        }
        out.push_str(prefix);
        for (i, Range { first, last, width }) in run.iter().enumerate() {
            out.push(if i == 0 { '[' } else { ',' });
            out.push_str(&format!("{first:0width$}"));
            if last > first {
                out.push_str(&format!("-{last:0width$}"));
            }
        }
        out.push(']');
        rest = rest.get(taken..).unwrap_or_default();
    }
    Ok(out)
}

/// The list cut at commas and white space outside brackets, with the byte where each item starts.
fn items(list: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from;
        let tail = list.get(start..).filter(|t| !t.is_empty())?;
        let mut depth = 0usize;
        let end = tail.find(|c: char| {
            match c {
                '[' => depth += 1,
                ']' => depth = depth.saturating_sub(1),
                _ => return depth == 0 && (c == ',' || c.is_whitespace()),
            }
            false
        });
        let (item, behind) = tail.split_at(end.unwrap_or(tail.len()));
        // Some blanks have more than one byte.
        from = start + item.len() + behind.chars().next().map_or(0, char::len_utf8);
        Some((start, item))
    })
    .filter(|(_, item)| !item.is_empty())
}

fn parse<'a>(list: &str, start: usize, item: &'a str) -> Result<Vec<Part<'a>>, SlurmError> {
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(rest) = item.get(at..).filter(|r| !r.is_empty()) {
        match rest.find(['[', ']']) {
            Some(0) if rest.starts_with(']') => return Err(wrong(list, start + at, "']' without '['")),
            Some(0) => {
                let inside = &rest[1..];
                let len = inside.find(']').ok_or_else(|| wrong(list, start + at, "'[' without ']'"))?;
                parts.push(Part::Group(group(list, start + at + 1, &inside[..len])?));
                at += len + 2;
            }
            stop => {
                let text = &rest[..stop.unwrap_or(rest.len())];
                if let Some(i) = text.find(char::is_control) {
                    return Err(wrong(list, start + at + i, "a control character"));
                }
                parts.push(Part::Text(text));
                at += text.len();
            }
        }
    }
    Ok(parts)
}

fn group(list: &str, start: usize, inside: &str) -> Result<Vec<Range>, SlurmError> {
    let mut ranges = Vec::new();
    let mut at = start;
    for item in inside.split(',') {
        let number = |text: &str, at: usize| {
            if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
                return Err(wrong(
                    list,
                    at,
                    "no number (inside brackets only numbers and ranges such as 1-4)",
                ));
            }
            if text.len() > 32 {
                return Err(wrong(list, at, "too long a number"));
            }
            text.parse::<u64>().map_err(|_| wrong(list, at, "too large a number"))
        };
        let (low, high) = item.split_once('-').unwrap_or((item, item));
        let first = number(low, at)?;
        let last = number(high, at + item.len() - high.len())?;
        if last < first {
            return Err(wrong(list, at, "a range that runs backwards"));
        }
        ranges.push(Range { first, last, width: low.len() });
        at += item.len() + 1;
    }
    Ok(ranges)
}

fn group_len(ranges: &[Range]) -> Option<usize> {
    ranges.iter().try_fold(0usize, |n, r| {
        let len = usize::try_from(r.last - r.first).ok()?.checked_add(1)?;
        n.checked_add(len)
    })
}

/// Every combination of the parts, the last group counting fastest.
fn product(list: &str, start: usize, parts: &[Part<'_>], names: &mut Vec<String>) -> Result<(), SlurmError> {
    let mut stems = vec![String::new()];
    for part in parts {
        match part {
            Part::Text(text) => stems.iter_mut().for_each(|s| s.push_str(text)),
            Part::Group(ranges) => {
                let mut longer = Vec::new();
                for stem in &stems {
                    for r in ranges {
                        let width = r.width;
                        longer.extend((r.first..=r.last).map(|i| format!("{stem}{i:0width$}")));
                    }
                }
                stems = longer;
            }
        }
        // The longest decides; checked at each step, so that intermediate text stays bounded too.
        if stems.iter().any(|s| s.len() > MAX_NAME) {
            return Err(wrong(list, start, "a name longer than 255 bytes"));
        }
    }
    names.append(&mut stems);
    Ok(())
}

/// Text before the last digits, and these as (value, width); the width only counts if there are leading zeros.
fn split_number(name: &str) -> (&str, Option<(u64, usize)>) {
    let text = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let tail = &name[text.len()..];
    // More than 18 digits might not fit: such a name is left as it is.
    match tail.parse() {
        Ok(value) if tail.len() <= 18 => (text, Some((value, tail.len()))),
        _ => (name, None),
    }
}

fn digits(value: u64) -> usize {
    value.checked_ilog10().map_or(1, |d| d as usize + 1)
}

fn check_name(name: &str) -> Result<(), SlurmError> {
    let odd = |c: char| matches!(c, ',' | '[' | ']') || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(wrong(name, 0, "a name that is empty or longer than 255 bytes"));
    }
    name.find(odd).map_or(Ok(()), |at| Err(wrong(name, at, "a character that no host name has")))
}

fn wrong(list: &str, byte: usize, what: &'static str) -> SlurmError {
    let at = list.get(..byte).map_or(0, |t| t.chars().count()) + 1;
    SlurmError::Hostlist { list: shorten(list), at, what }
}

fn too_many(list: &str) -> SlurmError {
    SlurmError::TooMany { list: shorten(list), limit: MAX_HOSTS, unit: "hosts" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ok(list: &str) -> String {
        expand(list).unwrap().join(" ")
    }
    fn err(list: &str) -> String {
        expand(list).unwrap_err().to_string()
    }

    #[test]
    fn grammar() {
        assert_eq!(ok(""), "");
        assert_eq!(ok("a"), "a");
        assert_eq!(ok("a,,b c,"), "a b c");
        assert_eq!(ok("a\u{2003}b\u{a0}n[1-2]\u{3000}c\u{85}"), "a b n1 n2 c");
        assert_eq!(ok("n[1-3]"), "n1 n2 n3");
        assert_eq!(ok("n[01-04,7],a"), "n01 n02 n03 n04 n7 a");
        assert_eq!(ok("n[9-010]"), "n9 n10");
        assert_eq!(ok("n[098-101]"), "n098 n099 n100 n101");
        assert_eq!(ok("n[1-2][3-4]"), "n13 n14 n23 n24");
        assert_eq!(ok("r[1-2]x[0,5]y"), "r1x0y r1x5y r2x0y r2x5y");
        assert_eq!(ok("[1-2]"), "1 2");
        assert_eq!(ok("n[1,1]"), "n1 n1");
        assert_eq!(ok("knöten[1-2]"), "knöten1 knöten2");
    }

    #[test]
    fn errors_name_the_place() {
        assert_eq!(err("a,n[1"), "host list 'a,n[1': '[' without ']' at character 4");
        assert_eq!(err("n]"), "host list 'n]': ']' without '[' at character 2");
        assert!(err("n[3-1]").contains("backwards at character 3"));
        assert!(err("n[1-2x]").contains("at character 5"));
        for list in [
            "n[]", "n[1-]", "n[-1]", "n[1--2]", "n[a]", "n[[1]]", "n[ 1]", "n[1,]", "n[+1]", "a\u{7}b",
            "n[1]]",
        ] {
            assert!(matches!(expand(list), Err(SlurmError::Hostlist { .. })), "{list}");
        }
    }

    #[test]
    fn hostile_lists_cost_nothing() {
        for list in
            ["n[0-18446744073709551615]", "n[1-999999999]", "n[1-1000][1-1000][1-1000]", "n[1-262144],m"]
        {
            assert!(matches!(expand(list), Err(SlurmError::TooMany { .. })), "{list}");
        }
        assert!(expand(&"[0-9]".repeat(1000)).is_err());
        assert!(expand("n[1-99999999999999999999]").is_err());
        assert!(expand(&format!("{}[1-200000]", "x".repeat(300))).is_err());
        assert!(err(&format!("n[{}", "1,".repeat(100_000))).len() < 300);
        assert_eq!(expand(&format!("n[1-{MAX_HOSTS}]")).unwrap().len(), MAX_HOSTS);
    }

    #[test]
    fn compress_is_short() {
        let c = |names: &str| compress(&names.split(' ').collect::<Vec<_>>()).unwrap();
        assert_eq!(c("n1 n2 n3 n5"), "n[1-3,5]");
        assert_eq!(c("n09 n10 n11 n012"), "n[09-11,012]");
        assert_eq!(c("n9 n10 n010"), "n[9-10,010]");
        assert_eq!(c("a b1 b2 a"), "a,b[1-2],a");
        assert_eq!(c("n1 n1"), "n[1,1]");
        for bad in ["", "a,b", "a[1]", "a b", "\n"] {
            assert!(compress(&[bad]).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(names in prop::collection::vec("[a-c]{0,2}(-?[0-9]{1,3}){0,2}[a-b]?[0-9]{0,20}", 0..40)) {
            let names: Vec<String> = names.into_iter().filter(|n| !n.is_empty()).collect();
            prop_assert_eq!(expand(&compress(&names).unwrap()).unwrap(), names);
        }

        #[test]
        fn dense_round_trip(from in 0u64..1200, len in 1u64..200, width in 1usize..5) {
            let names: Vec<String> = (from..from + len).map(|i| format!("n{i:0width$}")).collect();
            let list = compress(&names).unwrap();
            prop_assert!(list.len() <= 20, "{}", list);
            prop_assert_eq!(expand(&list).unwrap(), names);
        }

        #[test]
        fn any_text_is_answered(list in "[n0-9,\\[\\]\\- xö\u{2003}]{0,40}") {
            if let Ok(names) = expand(&list) {
                prop_assert!(names.iter().all(|n| !n.is_empty() && !n.contains([',', '[', ']', ' ', '\u{2003}'])), "{:?}", names);
            }
        }
    }
}
