//! The text that `lda` alone reads: this project's own book, under this project's licence. Its sections are the documents.

macro_rules! pages {
    ($($name:literal)*) => { &[$(($name, include_str!(concat!("../../docs/src/", $name)))),*] };
}

const PAGES: &[(&str, &str)] = pages!(
    "concepts.md" "doctor.md" "environment.md" "exit-codes.md" "from-harp.md" "from-mpi.md" "introduction.md" "kmeans.md"
    "limits.md" "measurements.md" "mpi.md" "pagerank.md" "programs.md" "quick-start.md" "run.md" "security.md" "slurm.md"
    "transports.md"
);

/// Name and text of every section.
pub(crate) fn sections() -> impl Iterator<Item = (String, &'static str)> {
    PAGES.iter().flat_map(|(name, text)| {
        let begins = std::iter::once(0).chain(text.match_indices("\n## ").map(|(at, _)| at + 1));
        let ends = text.match_indices("\n## ").map(|(at, _)| at + 1).chain([text.len()]);
        begins.zip(ends).map(move |(begin, end)| {
            let section = &text[begin..end];
            let title = section.lines().next().unwrap_or_default().trim_start_matches('#').trim();
            (format!("{name}: {title}"), section)
        })
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn sections_are_the_whole_book() {
        let all: Vec<_> = super::sections().collect();
        assert!(all.len() > 50, "{}", all.len());
        let whole: usize = super::PAGES.iter().map(|(_, text)| text.len()).sum();
        assert_eq!(all.iter().map(|(_, text)| text.len()).sum::<usize>(), whole);
        assert!(all.iter().any(|(name, _)| name == "pagerank.md: The algorithm"), "{all:?}");
    }
}
