//! What a run leaves: the file, the JSON object, the table.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

use std::path::Path;

use program::wordcount;

mod program;

#[test]
fn without_arguments_the_bundled_text_from_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let (code, table, said) = wordcount(dir.path(), &["--ignore-case"]);
    assert_eq!(code, 0, "{said}");
    assert!(table.contains("1 file, 272 words, 138 distinct, 1 rank on 1 node"), "{table}");
    let told = "wordcount: no --input: counts the Gettysburg Address (bundled), writes wordcount-demo.tsv (and replaces it)\n";
    assert!(said.starts_with(told), "{said}");
    assert!(table.contains("nothing spilled"), "{table}");
    assert!(table.contains(" 1  that     13") && table.contains("written: wordcount-demo.tsv"), "{table}");
    let text = std::fs::read_to_string(dir.path().join("wordcount-demo.tsv")).unwrap();
    let rows: Vec<(u64, &str)> = text
        .lines()
        .map(|line| line.split_once('\t').map(|(word, n)| (n.parse().unwrap(), word)).unwrap())
        .collect();
    assert_eq!((rows.len(), rows.iter().map(|r| r.0).sum()), (138, 272));
    assert!(rows.is_sorted_by(|a, b| a.0 > b.0 || a.0 == b.0 && a.1 < b.1), "{text}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary files");
}

#[test]
fn json_is_one_object_and_quiet_is_quiet() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x"), "b a a C c\tc\n").unwrap();
    let (code, json, said) = wordcount(dir.path(), &["--input", "x", "--json", "--quiet", "--top", "2"]);
    assert!(code == 0 && said.is_empty(), "{code} {said}");
    let all: serde_json::Value = serde_json::from_str(&json).unwrap();
    for (key, want) in [
        ("ranks", 1),
        ("nodes", 1),
        ("files", 1),
        ("bytes", 12),
        ("words", 6),
        ("distinct", 4),
        ("spilled_bytes", 0),
    ] {
        assert_eq!(all[key], want, "{key}");
    }
    assert_eq!(all["top"], serde_json::json!([{"word": "a", "count": 2}, {"word": "c", "count": 2}]));
    assert_eq!((&all["word_is"], &all["ignore_case"]), (&"alnum".into(), &false.into()));
    assert_eq!((&all["transport"], &all["version"]), (&"self".into(), &env!("CARGO_PKG_VERSION").into()));
    assert!(all["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
    let seconds = &all["seconds"];
    let sum: f64 = ["count", "reduce", "write"].iter().map(|s| seconds[s].as_f64().unwrap()).sum();
    assert!((seconds["total"].as_f64().unwrap() - sum).abs() < 1e-6, "{json}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no file that nobody asked for");
}

#[test]
fn help_begins_with_examples() {
    let (code, help, _) = wordcount(Path::new("/"), &["--help"]);
    assert!(code == 0 && help.starts_with("Examples:\n  wordcount "), "{code} {help}");
}

#[test]
fn any_bytes_go_to_the_file_and_only_text_to_terminals() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x"), b"\x1b[31mred \xff\xfe \x1b[31mred\n").unwrap();
    let (code, table, said) = wordcount(dir.path(), &["--input", "x", "--words", "space", "--output", "w"]);
    assert!(code == 0 && !table.contains('\x1b') && table.contains(" [31mred"), "{table} {said}");
    assert_eq!(std::fs::read(dir.path().join("w")).unwrap(), b"\x1b[31mred\t2\n\xff\xfe\t1\n");
}

#[test]
fn no_words_are_an_empty_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x"), "").unwrap();
    std::fs::write(dir.path().join("y"), " .\n").unwrap();
    for input in ["x", "y"] {
        let (code, table, said) = wordcount(dir.path(), &["--input", input, "--output", "w"]);
        assert!(code == 0 && table.contains("0 words, 0 distinct"), "{code} {table} {said}");
        assert_eq!(std::fs::read(dir.path().join("w")).unwrap(), b"");
    }
}
