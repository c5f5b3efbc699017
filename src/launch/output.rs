//! What the ranks write, onto the launcher's own standard output and error.
//!
//! A line of one rank is never broken by another's. [`Lines`] cuts what a rank writes into whole lines (a line longer
//! than [`PIECE`] goes on in pieces, so memory stays bounded), [`Terminal`] puts them out. Bytes are bytes: nothing is
//! decoded or dropped, and what a single rank writes arrives unchanged. Only where another rank cuts into a line that
//! has no end yet (a last line without newline, a line longer than a piece) is a newline put in between.

use super::wire::Stream;
use std::io::{self, Write};
use std::os::fd::AsFd;

/// How much of a line without end is kept back.
pub(crate) const PIECE: usize = 64 << 10;

/// The unfinished line of one stream of one rank.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Takes what was read and gives `out` what can go: whole lines, and pieces of a line that is too long.
    pub(crate) fn push(
        &mut self,
        read: &[u8],
        out: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let whole = read.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        if whole > 0 {
            if self.rest.is_empty() {
                out(&read[..whole])?;
            } else {
                self.rest.extend_from_slice(&read[..whole]);
                out(&self.rest)?;
                self.rest.clear();
            }
        }
        self.rest.extend_from_slice(&read[whole..]);
        if self.rest.len() >= PIECE { self.flush(out) } else { Ok(()) }
    }

    /// True if a line has begun and not ended.
    pub(crate) fn pending(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Gives `out` what is left.
    pub(crate) fn flush(&mut self, out: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let done = out(&self.rest);
        self.rest.clear();
        done
    }
}

/// The launcher's standard output and error, or what stands for them.
pub(crate) struct Terminal<O: Write, E: Write> {
    out: Port<O>,
    err: Port<E>,
    /// Both are the same file or terminal, so a line open on one is in the way of the other.
    shared: bool,
    /// The tag of each rank, if lines are tagged: `[3] ` or `[3@n2] `.
    tags: Option<Vec<String>>,
    scratch: Vec<u8>,
}

struct Port<W> {
    to: W,
    /// The rank whose line has begun here and not ended.
    open: Option<u32>,
    /// The reader is gone.
    closed: bool,
}

impl<W> Port<W> {
    fn new(to: W) -> Self {
        Port { to, open: None, closed: false }
    }
}

impl Terminal<io::Stdout, io::Stderr> {
    /// On the process's own streams.
    pub(crate) fn own(tags: Option<Vec<String>>) -> Self {
        let same = match (rustix::fs::fstat(io::stdout().as_fd()), rustix::fs::fstat(io::stderr().as_fd())) {
            (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
            _ => false,
        };
        Terminal::new(io::stdout(), io::stderr(), same, tags)
    }
}

impl<O: Write, E: Write> Terminal<O, E> {
    pub(crate) fn new(out: O, err: E, shared: bool, tags: Option<Vec<String>>) -> Self {
        Terminal { out: Port::new(out), err: Port::new(err), shared, tags, scratch: Vec::new() }
    }

    /// Puts out what [`Lines`] gave for `rank`.
    ///
    /// # Errors
    /// Whatever the write says; after `BrokenPipe` the stream is closed, and so says every later call.
    pub(crate) fn write(&mut self, rank: u32, stream: Stream, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let open = match stream {
            Stream::Out if self.shared => self.out.open.or(self.err.open),
            Stream::Err if self.shared => self.err.open.or(self.out.open),
            Stream::Out => self.out.open,
            Stream::Err => self.err.open,
        };
        self.scratch.clear();
        if open.is_some_and(|other| other != rank) {
            self.scratch.push(b'\n');
        }
        match self.tags.as_ref().and_then(|tags| tags.get(rank as usize)) {
            None => self.scratch.extend_from_slice(data),
            Some(tag) => {
                let mut at_start = open != Some(rank);
                for line in data.split_inclusive(|b| *b == b'\n') {
                    if at_start {
                        self.scratch.extend_from_slice(tag.as_bytes());
                    }
                    self.scratch.extend_from_slice(line);
                    at_start = true;
                }
            }
        }
        let open = (!data.ends_with(b"\n")).then_some(rank);
        if self.shared {
            (self.out.open, self.err.open) = (open, open);
        }
        match stream {
            Stream::Out => put(&mut self.out, &self.scratch, open),
            Stream::Err => put(&mut self.err, &self.scratch, open),
        }
    }

    /// What a message of the launcher itself is written as, so that it gets a line of its own on standard error. The
    /// caller writes it there before anything else is.
    pub(crate) fn message(&mut self, text: &str) -> String {
        let open = self.err.open.or(if self.shared { self.out.open } else { None });
        (self.err.open, self.out.open) = (None, if self.shared { None } else { self.out.open });
        if open.is_some() { format!("\n{text}\n") } else { format!("{text}\n") }
    }
}

fn put<W: Write>(port: &mut Port<W>, data: &[u8], open: Option<u32>) -> io::Result<()> {
    if port.closed {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    port.open = open;
    let done = port.to.write_all(data).and_then(|()| port.to.flush());
    if done.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe) {
        port.closed = true;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(tags: Option<&[&str]>, shared: bool, writes: &[(u32, Stream, &str)]) -> (String, String) {
        let tags = tags.map(|t| t.iter().map(|s| s.to_string()).collect());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut terminal = Terminal::new(&mut out, &mut err, shared, tags);
        for (rank, stream, text) in writes {
            terminal.write(*rank, *stream, text.as_bytes()).unwrap();
        }
        drop(terminal);
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn whole_lines_only() {
        let mut lines = Lines::default();
        let mut got: Vec<Vec<u8>> = Vec::new();
        let mut out = |b: &[u8]| {
            got.push(b.to_vec());
            Ok(())
        };
        lines.push(b"one", &mut out).unwrap();
        lines.push(b" line\ntwo\nthr", &mut out).unwrap();
        lines.push(b"ee\n", &mut out).unwrap();
        lines.push(b"last", &mut out).unwrap();
        assert!(lines.pending());
        lines.flush(&mut out).unwrap();
        assert!(!lines.pending());
        assert_eq!(got, [&b"one line\ntwo\n"[..], b"three\n", b"last"]);
    }

    #[test]
    fn a_line_without_end_goes_in_pieces() {
        let mut lines = Lines::default();
        let (mut total, mut largest) = (0, 0);
        let mut out = |b: &[u8]| {
            total += b.len();
            largest = largest.max(b.len());
            Ok(())
        };
        for _ in 0..100 {
            lines.push(&[0xFFu8; 10_000], &mut out).unwrap();
        }
        lines.flush(&mut out).unwrap();
        assert_eq!(total, 1_000_000);
        assert!(largest < PIECE + 10_000);
    }

    #[test]
    fn one_rank_arrives_unchanged() {
        let writes = [(0, Stream::Out, "a\nb"), (0, Stream::Out, "c"), (0, Stream::Out, "\nd")];
        assert_eq!(run(None, false, &writes).0, "a\nbc\nd");
    }

    #[test]
    fn another_rank_starts_a_line_of_its_own() {
        let writes =
            [(0, Stream::Out, "a"), (1, Stream::Out, "b\n"), (0, Stream::Out, "c\n"), (1, Stream::Err, "e")];
        assert_eq!(run(None, false, &writes), ("a\nb\nc\n".into(), "e".into()));
        assert_eq!(run(Some(&["[0] ", "[1] "]), false, &writes).0, "[0] a\n[1] b\n[0] c\n");
    }

    #[test]
    fn tags_stand_at_line_starts_only() {
        let writes = [(0, Stream::Out, "a\nb\nlong"), (0, Stream::Out, "er\n"), (1, Stream::Out, "\n")];
        assert_eq!(
            run(Some(&["[0@n1] ", "[1@n2] "]), false, &writes).0,
            "[0@n1] a\n[0@n1] b\n[0@n1] longer\n[1@n2] \n"
        );
    }

    #[test]
    fn out_and_err_on_one_terminal_do_not_mix() {
        let (out, err) = run(None, true, &[(0, Stream::Out, "a"), (1, Stream::Err, "b\n")]);
        assert_eq!((out.as_str(), err.as_str()), ("a", "\nb\n"));
    }

    #[test]
    fn a_message_has_a_line_of_its_own() {
        for (shared, open_on, text) in [
            (false, Stream::Err, "\nm\n"),
            (false, Stream::Out, "m\n"),
            (true, Stream::Out, "\nm\n"),
            (true, Stream::Err, "\nm\n"),
        ] {
            let mut terminal = Terminal::new(Vec::new(), Vec::new(), shared, None);
            terminal.write(0, open_on, b"no end").unwrap();
            assert_eq!(terminal.message("m"), text, "{shared} {open_on:?}");
            assert_eq!(terminal.message("m"), "m\n");
        }
    }

    #[test]
    fn a_closed_stream_stays_closed() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut terminal = Terminal::new(Gone, Vec::new(), false, None);
        for _ in 0..2 {
            let e = terminal.write(0, Stream::Out, b"x\n").unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::BrokenPipe);
        }
        terminal.write(0, Stream::Err, b"still here\n").unwrap();
    }
}
