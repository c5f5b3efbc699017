//! What a run leaves: the files, the JSON object, the table.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

use std::path::Path;

use program::lda;

mod program;

#[test]
fn without_arguments_the_bundled_book_from_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let (code, table, said) = lda(dir.path(), &[]);
    assert_eq!(code, 0, "{said}");
    assert!(
        table.contains("1 rank on 1 node") && table.contains("20 topics, alpha 0.1, beta 0.01"),
        "{table}"
    );
    assert!(
        table.contains("log-likelihood -") && table.contains("written: book-topics/topics.tsv"),
        "{table}"
    );
    let text = std::fs::read_to_string(dir.path().join("book-topics/vocabulary.tsv")).unwrap();
    assert!(
        text.starts_with("word\tcount\n") && text.contains("\nrank\t") && !text.contains("\nthe\t"),
        "{text}"
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(dir.path().join("book-topics")).unwrap().count(), 3, "no temporary files");
}

#[test]
fn json_is_one_object_and_quiet_is_quiet() {
    let dir = tempfile::tempdir().unwrap();
    let args =
        ["--generate", "planted", "--docs", "50", "--vocabulary", "200", "--length", "30", "--topics", "4"];
    let more =
        ["--json", "--quiet", "--iterations", "6", "--likelihood", "2", "--top", "3", "--threads", "1"];
    let (code, json, said) = lda(dir.path(), &[&args[..], &more].concat());
    assert!(code == 0 && said.is_empty(), "{code} {said}");
    let all: serde_json::Value = serde_json::from_str(&json).unwrap();
    let numbers =
        [("ranks", 1), ("nodes", 1), ("documents", 50), ("topics", 4), ("iterations", 6), ("blocks", 4)];
    for (key, want) in
        numbers.into_iter().chain([("threads", 1), ("empty_documents", 0), ("rotated_bytes", 0)])
    {
        assert_eq!(all[key], want, "{key}");
    }
    let tokens = all["tokens"].as_u64().unwrap();
    assert_eq!(tokens + all["dropped"].as_u64().unwrap(), 1500);
    let fit = all["fit"].as_array().unwrap();
    assert!(fit.iter().map(|f| f["iteration"].as_u64().unwrap()).eq([2, 4, 6]), "{json}");
    assert_eq!(fit[2]["log_likelihood"], all["log_likelihood"]);
    let top = all["top"].as_array().unwrap();
    assert!(top.len() == 4 && top.iter().all(|t| t["words"].as_array().unwrap().len() == 3), "{json}");
    assert_eq!(top.iter().map(|t| t["tokens"].as_u64().unwrap()).sum::<u64>(), tokens);
    assert!(
        all["peak_rss_bytes"].as_u64().unwrap() > 1 << 20 && all["tokens_per_second"].as_f64() > Some(0.0)
    );
    let seconds = &all["seconds"];
    let sum: f64 = ["read", "place", "sample"].iter().map(|s| seconds[s].as_f64().unwrap()).sum();
    assert!(seconds["total"].as_f64().unwrap() >= sum * (1.0 - 1e-12));
    assert_eq!((&all["transport"], &all["version"]), (&"self".into(), &env!("CARGO_PKG_VERSION").into()));
    assert_eq!((&all["sampler"], &all["seed"]), (&"sparse".into(), &1.into()));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no files were asked for");
}

#[test]
fn a_log_has_a_line_every_tenth() {
    let dir = tempfile::tempdir().unwrap();
    let (_, _, log) = lda(dir.path(), &["--iterations", "10"]);
    for percent in (10..=100).step_by(10) {
        let start = format!("lda: {percent:3} %");
        assert_eq!(log.lines().filter(|l| l.starts_with(&start)).count(), 1, "{log}");
    }
    assert!(log.contains("log-likelihood -") && log.contains("ETA") && !log.contains('\r'), "{log}");
}

#[test]
fn help_begins_with_examples() {
    let (code, help, _) = lda(Path::new("/"), &["--help"]);
    assert!(code == 0 && help.starts_with("Examples:\n  lda "), "{code} {help}");
}

#[test]
fn documents_are_files_or_lines() {
    let dir = tempfile::tempdir().unwrap();
    let texts = dir.path().join("texts");
    std::fs::create_dir_all(texts.join("deep")).unwrap();
    std::fs::create_dir_all(texts.join(".hidden")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(texts.join(name), text).unwrap();
    write("b.txt", "harp harp\n\nwind the wind\r\n42\nharp");
    write("a.txt", "wind wind\n");
    write("deep/c.txt", "harp");
    write("deep/d.md", "reed reed");
    write(".hidden/e.txt", "reed reed");
    let run = |more: &[&str]| -> Vec<(String, u32)> {
        let args =
            ["--input", "texts", "--suffix", ".txt", "--topics", "1", "--iterations", "1", "--output", "out"];
        let (code, _, said) = lda(dir.path(), &[&args[..], &["--quiet"], more].concat());
        assert_eq!(code, 0, "{said}");
        let text = std::fs::read_to_string(dir.path().join("out/documents.tsv")).unwrap();
        let mut lines = text.lines().map(|l| l.split('\t').collect::<Vec<_>>());
        assert_eq!(lines.next().unwrap(), ["document", "topic", "count", "probability"]);
        lines.map(|l| (l[0].to_owned(), l[2].parse().unwrap())).collect()
    };
    let want = |l: &[(&str, u32)]| l.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect::<Vec<_>>();
    assert_eq!(run(&[]), want(&[("texts/a.txt", 2), ("texts/b.txt", 5), ("texts/deep/c.txt", 1)]));
    assert_eq!(
        run(&["--documents", "lines"]),
        want(&[
            ("texts/a.txt:1", 2),
            ("texts/b.txt:1", 2),
            ("texts/b.txt:3", 2),
            ("texts/b.txt:5", 1),
            ("texts/deep/c.txt:1", 1)
        ])
    );
    std::fs::write(dir.path().join("stop"), "# mine\nHarp\n").unwrap();
    let mine = run(&["--stop-words", "stop", "--min-count", "1"]);
    assert_eq!(mine, want(&[("texts/a.txt", 2), ("texts/b.txt", 3)]));
    assert_eq!(run(&["--no-stop-words", "--min-count", "1"])[1], ("texts/b.txt".into(), 6));
    assert_eq!(run(&["--suffix", ".md"]).len(), 4);
}
