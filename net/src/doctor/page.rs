//! Text in sections: a label at the left, wrapped text beside it, nothing wider than [`WIDTH`].

/// Columns of the page.
pub(super) const WIDTH: usize = 80;
/// Where the text beside a label begins.
const LEFT: usize = 14;

/// A page that is being written.
#[derive(Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    /// A line of its own, wrapped, with further lines indented by two.
    pub(super) fn line(&mut self, text: &str) {
        self.wrapped("", text, 2);
    }

    /// The title of a section, after an empty line.
    pub(super) fn section(&mut self, title: &str) {
        self.text.push('\n');
        self.line(title);
    }

    /// A label and what belongs to it.
    pub(super) fn entry(&mut self, label: &str, text: &str) {
        let label = clean(label);
        if label.chars().count() + 3 > LEFT {
            self.wrapped("  ", &label, LEFT);
            self.wrapped(&" ".repeat(LEFT), text, LEFT);
        } else {
            self.wrapped(&format!("  {label:<0$}", LEFT - 2), text, LEFT);
        }
    }

    /// Rows in columns: all but the last column as wide as their widest cell, the last wrapped. A first column that would
    /// leave too little for the others stands on a line of its own.
    pub(super) fn table(&mut self, rows: &[Vec<String>]) {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..columns.saturating_sub(1)).map(width).collect();
        const MOST: usize = 36;
        if let Some(first) = widths.first_mut() {
            *first = (*first).min(MOST);
        }
        for row in &rows {
            let mut start = String::from("  ");
            let (last, cells) = match row.split_last() {
                Some((last, cells)) => (last, cells),
                None => continue,
            };
            for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                if column == 0 && cell.chars().count() > *width {
                    self.wrapped("  ", cell, 4);
                    start.push_str(&" ".repeat(width + 2));
                } else {
                    start.push_str(&format!("{cell:<width$}  "));
                }
            }
            let indent = start.chars().count().min(WIDTH / 2);
            self.wrapped(&start, last, indent);
        }
    }

    /// The page.
    pub(super) fn finish(self) -> String {
        self.text
    }

    /// `start` and then `text`, wrapped at the page's width; further lines begin at column `indent`.
    fn wrapped(&mut self, start: &str, text: &str, indent: usize) {
        let mut line = start.to_owned();
        let mut column = start.chars().count();
        let mut fresh = true; // nothing of the text on this line yet
        for word in clean(text).split(' ').filter(|w| !w.is_empty()) {
            let mut pieces = vec![];
            let room = WIDTH - indent;
            let mut rest = word;
            // Longer than any line: break it, best behind a separator.
            while rest.chars().count() > room {
                let end = rest.char_indices().nth(room).map_or(rest.len(), |(at, _)| at);
                let head = &rest[..end];
                let at = head.rfind(['/', ',', ':', ';']).map_or(end, |at| at + 1);
                let at = if at < end / 2 { end } else { at };
                pieces.push(&rest[..at]);
                rest = &rest[at..];
            }
            pieces.push(rest);
            for (number, piece) in pieces.into_iter().enumerate() {
                let gap = usize::from(!fresh && number == 0);
                let length = piece.chars().count();
                if number > 0 || column + gap + length > WIDTH {
                    self.push(&line);
                    line = " ".repeat(indent);
                    column = indent;
                } else if gap == 1 {
                    line.push(' ');
                    column += 1;
                }
                line.push_str(piece);
                column += length;
                fresh = false;
            }
        }
        self.push(&line);
    }

    fn push(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }
}

/// Line breaks become blanks; what could command a terminal is shown, not sent.
fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => clean.push(' '),
            c if c.is_control() => clean.extend(c.escape_default()),
            c => clean.push(c),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_wrap_beside_their_label() {
        let mut page = Page::default();
        page.entry("label", &"word ".repeat(20));
        page.entry("a label too long", "text");
        let text = page.finish();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], format!("  label       {}word", "word ".repeat(12)));
        assert_eq!(lines[1], format!("{}{}word", " ".repeat(14), "word ".repeat(6)));
        assert_eq!(lines[2..], ["  a label too long", "              text"]);
    }

    #[test]
    fn long_paths_break_behind_a_slash() {
        let mut page = Page::default();
        page.entry("path", &"/directory".repeat(12));
        let text = page.finish();
        assert!(text.lines().next().unwrap().ends_with('/'), "{text}");
        assert_eq!(text.split_whitespace().skip(1).collect::<String>(), "/directory".repeat(12));
    }

    #[test]
    fn columns_are_aligned() {
        let mut page = Page::default();
        let row = |cells: [&str; 3]| cells.map(String::from).to_vec();
        page.table(&[row(["a", "bbb", "c"]), row(["aa", "b", "c d"]), row([&"x".repeat(50), "b", "c"])]);
        let text = page.finish();
        let lines: Vec<_> = text.lines().collect();
        let at = |line: &str| line.find('c').unwrap();
        assert_eq!(at(lines[0]), at(lines[1]));
        assert_eq!((lines.len(), at(lines[0])), (4, at(lines[3])), "{text}");
    }

    #[test]
    fn terminals_are_not_commanded() {
        let mut page = Page::default();
        page.line("a\x1b[2Jb\nc");
        assert_eq!(page.finish(), "a\\u{1b}[2Jb c\n");
    }

    proptest! {
        #[test]
        fn never_too_wide_and_nothing_lost(label in "\\PC{0,90}", cells in prop::collection::vec("\\PC{0,200}", 1..4)) {
            let mut page = Page::default();
            page.section(&label);
            page.entry(&label, &cells[0]);
            page.table(&[vec![label.clone(), cells[0].clone()]]);
            let text = page.finish();
            for line in text.lines() {
                prop_assert!(line.chars().count() <= WIDTH, "{line:?}");
            }
            let only = |t: &str| t.chars().filter(|c| !c.is_whitespace()).count();
            prop_assert_eq!(only(&text), 3 * only(&label) + 2 * only(&cells[0]));
        }
    }
}
