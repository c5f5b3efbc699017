//! [`Fields`]: the fields of a row.

/// The fields of one row, without their quotes. Rows after rows use the same memory.
#[derive(Debug, Default)]
pub struct Fields {
    text: Vec<u8>,
    /// Where each ends, and whether it was quoted.
    ends: Vec<(usize, bool)>,
}

impl Fields {
    /// Takes the fields of a row that is without its line end.
    ///
    /// # Errors
    /// What is wrong with a quote, and in which field (from 1).
    pub fn split(&mut self, row: &[u8], delimiter: u8) -> Result<(), (usize, &'static str)> {
        self.text.clear();
        self.ends.clear();
        let mut rest = row;
        loop {
            let quoted = rest.first() == Some(&b'"');
            let after = if quoted { self.quoted(&rest[1..]) } else { Some(self.plain(rest, delimiter)) };
            let column = self.ends.len() + 1;
            let Some(after) = after else {
                return Err((column, "the quote that opens it is not closed"));
            };
            self.ends.push((self.text.len(), quoted));
            match after {
                [] => return Ok(()),
                [first, more @ ..] if *first == delimiter => rest = more,
                [b'"', ..] if !quoted => {
                    return Err((column, "there is a quote inside of an unquoted field"));
                }
                // (Such a file would be its header and nothing else.)
                [b'\r', ..] if !quoted => {
                    return Err((
                        column,
                        "there is a carriage return in it, but lines end in \\n or \\r\\n; `tr '\\r' '\\n'` makes them do so",
                    ));
                }
                _ => return Err((column, "there is text after the quote that closes it")),
            }
        }
    }

    /// Takes an unquoted field; returns what is from its end on, which is a delimiter, or a quote or carriage return
    /// that should not be there.
    fn plain<'a>(&mut self, rest: &'a [u8], delimiter: u8) -> &'a [u8] {
        let end =
            rest.iter().position(|b| *b == delimiter || *b == b'"' || *b == b'\r').unwrap_or(rest.len());
        self.text.extend_from_slice(&rest[..end]);
        &rest[end..]
    }

    /// Takes a field after its first quote; returns what is after its last one.
    fn quoted<'a>(&mut self, mut rest: &'a [u8]) -> Option<&'a [u8]> {
        loop {
            let end = rest.iter().position(|b| *b == b'"')?;
            self.text.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            match rest {
                [b'"', more @ ..] => {
                    self.text.push(b'"');
                    rest = more;
                }
                _ => return Some(rest),
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none: only before the first row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// One of them, and whether it was quoted.
    pub fn get(&self, i: usize) -> (&[u8], bool) {
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before].0);
        (&self.text[start..self.ends[i].0], self.ends[i].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_taken_strictly() {
        let split = |row: &str| {
            let mut fields = Fields::default();
            fields.split(row.as_bytes(), b',')?;
            Ok((0..fields.len())
                .map(|i| String::from_utf8_lossy(fields.get(i).0).into_owned())
                .collect::<Vec<_>>())
        };
        let good = |row, want: &[&str]| assert_eq!(split(row).unwrap(), want, "{row}");
        good("", &[""]);
        good(",", &["", ""]);
        good("a,\"b,\"\"c\"\"\n\",", &["a", "b,\"c\"\n", ""]);
        good("\"\"", &[""]);
        let bad = |row, want: (usize, &'static str)| assert_eq!(split(row), Err(want), "{row}");
        bad("a,b\"c", (2, "there is a quote inside of an unquoted field"));
        bad("\"a\"b", (1, "there is text after the quote that closes it"));
        let bare = "there is a carriage return in it, but lines end in \\n or \\r\\n; `tr '\\r' '\\n'` makes them do so";
        bad("k,v\r1,2", (2, bare));
        good("\"a\rb\"", &["a\rb"]);
        bad("a,\"b", (2, "the quote that opens it is not closed"));
    }
}
