//! What a run leaves: the file, the JSON object, the table.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

use std::path::Path;

use program::pagerank;

mod program;

#[test]
fn without_arguments_the_bundled_graph_from_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let (code, table, said) = pagerank(dir.path(), &[]);
    assert_eq!(code, 0, "{said}");
    assert!(table.contains("7361 vertices, 38331 edges, 1 rank on 1 node"), "{table}");
    assert!(table.contains(" 1  libc6 ") && table.contains("converged after"), "{table}");
    assert!(table.contains("exchange: none") && table.contains("written: debian-ranks.tsv"), "{table}");
    let text = std::fs::read_to_string(dir.path().join("debian-ranks.tsv")).unwrap();
    let ranks: Vec<f64> = text.lines().map(|l| l.rsplit_once('\t').unwrap().1.parse().unwrap()).collect();
    assert!(ranks.len() == 7361 && (ranks.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary files");
}

#[test]
fn json_is_one_object_and_quiet_is_quiet() {
    let dir = tempfile::tempdir().unwrap();
    let (code, json, said) =
        pagerank(dir.path(), &["--json", "--quiet", "--iterations", "3", "--top", "4", "--threads", "1"]);
    assert!(code == 0 && said.is_empty(), "{code} {said}");
    let all: serde_json::Value = serde_json::from_str(&json).unwrap();
    let numbers = [("ranks", 1), ("nodes", 1), ("vertices", 7361), ("edges", 38331), ("iterations", 3)];
    for (key, want) in numbers.into_iter().chain([("duplicates", 0), ("dangling", 938), ("threads", 1)]) {
        assert_eq!(all[key], want, "{key}");
    }
    assert_eq!((&all["converged"], &all["exchange"]["way"]), (&false.into(), &"none".into()));
    let top = all["top"].as_array().unwrap();
    assert!(top.len() == 4 && top[0]["name"] == "libc6" && top[0]["edges_in"] == 6132, "{json}");
    assert!(top.windows(2).all(|w| w[0]["rank"].as_f64() >= w[1]["rank"].as_f64()));
    assert!((all["sum"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    assert!(all["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
    let seconds = &all["seconds"];
    let sum: f64 = ["read", "build", "iterate"].iter().map(|s| seconds[s].as_f64().unwrap()).sum();
    assert!(seconds["total"].as_f64().unwrap() >= sum * (1.0 - 1e-12));
    assert_eq!((&all["transport"], &all["version"]), (&"self".into(), &env!("CARGO_PKG_VERSION").into()));
}

#[test]
fn a_log_has_a_line_every_tenth() {
    let dir = tempfile::tempdir().unwrap();
    let (_, _, log) = pagerank(dir.path(), &["--iterations", "10", "--tolerance", "0"]);
    for percent in (10..=100).step_by(10) {
        let start = format!("pagerank: {percent:3} %");
        assert_eq!(log.lines().filter(|l| l.starts_with(&start)).count(), 1, "{log}");
    }
    assert!(log.contains("change") && log.contains("ETA") && !log.contains('\r'), "{log}");
}

#[test]
fn help_begins_with_examples() {
    let (code, help, _) = pagerank(Path::new("/"), &["--help"]);
    assert!(code == 0 && help.starts_with("Examples:\n  pagerank "), "{code} {help}");
}

#[test]
fn the_same_graph_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let edges: Vec<[u32; 2]> = (0..500u32).map(|i| [i * i % 97, (i * 31 + 5) % 101]).collect();
    let text = |sep: &str| edges.iter().map(|[a, b]| format!("{a}{sep}{b}\n")).collect::<String>();
    let binary: Vec<u8> = edges.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("x.tsv", text("\t").as_bytes());
    write("x.txt", format!("# SNAP likes comments\n{}", text(" ")).as_bytes());
    write("x.csv", format!("\u{feff}{}", text(",")).as_bytes());
    write("x.bin", &binary);
    write("y", &binary);
    write("z", text(" , ").replace('\n', "\r\n").trim_end().as_bytes());
    let mut wanted = None;
    for args in [
        &["--input", "x.tsv"][..],
        &["--input", "x.txt"],
        &["--input", "x.csv"],
        &["--input", "x.bin"],
        &["--input", "y", "--format", "bin"],
        &["--input", "z", "--format", "csv"],
    ] {
        let (code, _, said) = pagerank(dir.path(), &[args, &["--output", "r", "--quiet"]].concat());
        assert_eq!(code, 0, "{args:?}: {said}");
        let got = std::fs::read_to_string(dir.path().join("r")).unwrap();
        assert!(got.starts_with("0\t") && got.ends_with('\n'), "numbers in their order: {got}");
        assert_eq!(wanted.get_or_insert_with(|| got.clone()), &got, "{args:?}");
    }
}

#[test]
fn names_go_to_terminals_without_control_characters() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x"), b"\x1b[31mred\t\xff\xfe\n").unwrap();
    let (code, table, said) = pagerank(dir.path(), &["--input", "x", "--output", "r"]);
    assert!(code == 0 && !table.contains('\x1b') && table.contains(" [31mred"), "{table} {said}");
    let ranks = std::fs::read(dir.path().join("r")).unwrap();
    assert!(
        ranks.starts_with(b"\x1b[31mred\t") && ranks.windows(3).any(|w| w == b"\xff\xfe\t"),
        "as they are"
    );
}
