//! The book and the README say what the program does: pages, links, options, subcommands, exit codes, dependencies.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The book's pages, by file name.
fn pages() -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("docs/src")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "md") {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            pages.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
    assert!(pages.len() > 10, "the book has pages");
    pages
}

/// All documents that a reader sees, by path from the root.
fn documents() -> BTreeMap<String, String> {
    let mut all: BTreeMap<_, _> =
        pages().into_iter().map(|(name, text)| (format!("docs/src/{name}"), text)).collect();
    for name in ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "examples/README.md"] {
        all.insert(name.into(), read(name));
    }
    all
}

/// A text without its fenced blocks, and the blocks with their language.
fn split(text: &str) -> (String, Vec<(String, String)>) {
    let (mut prose, mut blocks) = (String::new(), Vec::new());
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(language), None) => open = Some((language.trim().into(), String::new())),
            (None, Some((_, block))) => *block += &format!("{line}\n"),
            (None, None) => prose += &format!("{line}\n"),
        }
    }
    assert!(open.is_none(), "a block is not closed");
    (prose, blocks)
}

/// The targets of Markdown links and pictures.
fn links(prose: &str) -> Vec<String> {
    let inline =
        prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(to, _)| to.to_owned());
    let defined = prose
        .lines()
        .filter(|l| l.starts_with('['))
        .filter_map(|l| l.split_once("]: "))
        .map(|(_, to)| to.into());
    inline.chain(defined).collect()
}

/// The anchors of a page's headings, as mdBook and GitHub make them.
fn anchors(prose: &str) -> BTreeSet<String> {
    let heading = |line: &str| -> Option<String> {
        let title = line.strip_prefix('#')?.trim_start_matches('#').trim();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
    };
    prose.lines().filter_map(heading).collect()
}

fn aeolian(args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_aeolian")).args(args).output().unwrap();
    assert!(out.status.success(), "aeolian {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn every_page_is_in_the_summary_once() {
    let summary = read("docs/src/SUMMARY.md");
    let mut listed = links(&summary);
    listed.sort();
    let there: Vec<String> = pages().into_keys().filter(|name| name != "SUMMARY.md").collect();
    assert_eq!(listed, there);
}

#[test]
fn relative_links_lead_somewhere() {
    let mut checked = 0;
    for (name, text) in documents() {
        let here = root().join(&name);
        let (prose, _) = split(&text);
        for link in links(&prose) {
            let own = "https://github.com/aeolian-hpc/aeolian/blob/main/";
            let (link, base) = match link.strip_prefix(own) {
                Some(path) => (path.to_owned(), root()),
                None => (link, here.parent().unwrap().to_path_buf()),
            };
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').map_or((link.as_str(), None), |(p, a)| (p, Some(a)));
            let target = if path.is_empty() { here.clone() } else { base.join(path) };
            assert!(target.exists(), "{name}: {link} leads nowhere");
            if let Some(anchor) = anchor {
                let (prose, _) = split(&std::fs::read_to_string(&target).unwrap());
                assert!(anchors(&prose).contains(anchor), "{name}: {link}: no such heading");
            }
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked} links");
}

#[test]
fn exit_codes_are_those_of_the_program() {
    let page = read("docs/src/exit-codes.md");
    let rows: Vec<(u8, String, String)> = page
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
            Some((cells.first()?.parse().ok()?, cells.get(1)?.to_string(), cells.get(2)?.to_string()))
        })
        .collect();
    let table: Vec<_> = aeolian::net::exit::TABLE
        .iter()
        .map(|(code, name, what)| (*code, name.to_string(), what.to_string()))
        .collect();
    assert_eq!(rows, table);
}

#[test]
fn codes_named_elsewhere_are_right() {
    // "LEFT_EARLY (82)", "(MASTER_LOST, 86)", "exit code: 80 (RANK_LOST)"
    for (name, text) in documents() {
        let words: Vec<&str> =
            text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| !w.is_empty()).collect();
        for pair in words.windows(2) {
            for (code, word) in [(pair[0], pair[1]), (pair[1], pair[0])] {
                let known = aeolian::net::exit::TABLE.iter().find(|row| row.1 == word && row.1.contains('_'));
                if let (Some(row), Ok(code)) = (known, code.parse::<u8>()) {
                    assert_eq!(code, row.0, "{name}: {word}");
                }
            }
        }
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = read("Cargo.toml");
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let page = read("docs/src/dependencies.md");
    let mut seen = 0;
    for line in section.lines().filter(|l| !l.starts_with('#') && l.contains('=')) {
        let name = line.split(['=', '.', ' ']).next().unwrap();
        let row = if name.starts_with("aeolian") { format!("`{name}`") } else { format!("| `{name}` | ") };
        assert!(page.contains(&row), "docs/src/dependencies.md does not say why there is {name}");
        seen += 1;
    }
    assert!(seen > 20, "{seen} dependencies");
}

/// Options in a command line of `aeolian run`, up to the program.
fn run_options(line: &str) -> Vec<String> {
    let mut options = Vec::new();
    let mut words = line.split_whitespace().skip_while(|w| *w != "run").skip(1);
    while let Some(word) = words.next() {
        if !word.starts_with('-') {
            break;
        }
        options.push(word.split('=').next().unwrap_or(word).to_owned());
        // The options of which the documents show the value as a word of its own.
        let valued =
            ["-n", "-np", "-x", "--host", "--hostfile", "--bind", "--transport", "--encrypt", "--timeout"];
        if valued.contains(&word) {
            words.next();
        }
    }
    options
}

#[test]
fn options_of_aeolian_run_exist() {
    let help = aeolian(&["run", "--help"]);
    let known: BTreeSet<&str> = help
        .split(|c: char| c.is_whitespace() || ",[]=()`".contains(c))
        .filter(|w| w.starts_with('-'))
        .collect();
    assert!(known.contains("--host") && known.contains("-n"), "{known:?}");
    let mut checked = 0;
    // On its own page every option in the text is one of `aeolian run`, unless it stands in another command.
    let page = read("docs/src/run.md");
    let (prose, _) = split(&page);
    let spans = prose.split('`').skip(1).step_by(2).filter(|span| span.starts_with('-'));
    for span in spans {
        let option = span.split([' ', '=', '|']).next().unwrap();
        assert!(known.contains(option), "docs/src/run.md: aeolian run has no {option}");
        checked += 1;
    }
    // Everywhere: what stands in a command.
    for (name, text) in documents() {
        for line in text.lines().filter(|l| l.contains("aeolian run ") && !l.starts_with("//")) {
            let command = &line[line.find("aeolian run ").unwrap()..];
            for option in run_options(command.split(['`', '#']).next().unwrap()) {
                assert!(known.contains(option.as_str()) || option == "-np", "{name}: {line}: no {option}");
                checked += 1;
            }
        }
    }
    // The last column of the table of variables.
    for line in read("docs/src/environment.md").lines().filter(|l| l.starts_with("| `AEOLIAN")) {
        for option in line.split('`').filter(|w| w.starts_with("--")) {
            assert!(known.contains(option), "docs/src/environment.md: aeolian run has no {option}");
            checked += 1;
        }
    }
    assert!(checked > 25, "{checked} options");
}

#[test]
fn commands_in_the_documents_exist() {
    let help = aeolian(&["--help"]);
    let list = help.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap();
    let known: BTreeSet<&str> = list.lines().filter_map(|l| l.split_whitespace().next()).collect();
    assert!(known.contains("run") && known.contains("selftest"), "{known:?}");
    let mut checked = 0;
    for (name, text) in documents() {
        for (_, block) in
            split(&text).1.iter().filter(|(language, _)| ["sh", "console"].contains(&language.as_str()))
        {
            for line in block.lines().map(|l| l.trim_start_matches("$ ").trim()) {
                let words: Vec<&str> = line.split_whitespace().collect();
                match words.first() {
                    Some(&"aeolian") => {
                        assert!(known.contains(words[1]), "{name}: {line}: no such command");
                        checked += 1;
                    }
                    Some(script) if script.starts_with("./quick") => {
                        assert!(root().join(script).exists(), "{name}: {line}: no such file");
                        checked += 1;
                    }
                    _ => {}
                }
            }
        }
    }
    assert!(checked > 8, "{checked} commands");
}

#[test]
fn variables_in_the_table_are_read_by_the_code_and_the_other_way_round() {
    fn sources(dir: &Path, out: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let names = |text: &str| -> BTreeSet<String> {
        let word = |c: char| c.is_ascii_uppercase() || c == '_';
        text.split("AEOLIAN_")
            .skip(1)
            .map(|rest| rest.split(|c| !word(c)).next().unwrap().to_owned())
            .collect()
    };
    let mut code = String::new();
    sources(&root().join("src"), &mut code);
    sources(&root().join("net/src"), &mut code);
    // In quotes: read or set, not only mentioned.
    let quoted: String =
        code.split('"').filter(|s| s.starts_with("AEOLIAN_")).map(|s| format!("{s}\n")).collect();
    let mut used = names(&quoted);
    used.retain(|name| !name.is_empty());
    let table: String = read("docs/src/environment.md")
        .lines()
        .filter(|l| l.starts_with("| `AEOLIAN"))
        .map(|l| l.split("| ").nth(1).unwrap().to_owned() + "\n")
        .collect();
    assert_eq!(names(&table), used, "left: docs/src/environment.md, right: the code");
}

#[test]
fn pages_with_rust_code_are_compiled() {
    let compiled = read("src/book.rs");
    let mut pages_with_code = 0;
    for (name, text) in pages() {
        let rust =
            split(&text).1.iter().any(|(language, _)| language.is_empty() || language.starts_with("rust"));
        assert_eq!(
            rust,
            compiled.contains(&format!("docs/src/{name}\"")),
            "{name}: in src/book.rs if it has Rust code"
        );
        pages_with_code += usize::from(rust);
    }
    assert!(pages_with_code > 1);
}
