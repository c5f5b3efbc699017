//! What runs leave: part files, JSON objects, texts.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

use std::path::Path;

use program::{TERAGEN, TERASORT, TERAVALIDATE, run};

mod program;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn without_arguments_a_demonstration_that_can_be_run_again() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let (code, text, said) = run(TERASORT, dir.path(), "");
        assert_eq!(code, 0, "{said}");
        assert!(text.contains("100000 records of 100 bytes, 1 rank on 1 node, wires: self"), "{text}");
        assert!(
            text.contains("nothing spilled") && text.contains("written: 1 part file in terasort-demo"),
            "{text}"
        );
        assert_eq!(
            (names(dir.path()), names(&dir.path().join("terasort-demo"))),
            (vec!["terasort-demo".into()], vec!["part-00000".into()])
        );
    }
    let (code, text, said) = run(TERAVALIDATE, dir.path(), "--input terasort-demo --records 100000");
    assert!(
        code == 0 && text.contains("all records are in order") && text.contains("duplicate keys 0"),
        "{text} {said}"
    );
}

#[test]
fn three_programs_one_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let (code, made, said) =
        run(TERAGEN, dir.path(), "--records 20000 --format ascii --output in --json --quiet");
    assert!(code == 0 && said.is_empty(), "{code} {said}");
    let made = json(&made);
    assert_eq!(
        (&made["records"], &made["bytes"], &made["format"]),
        (&20000.into(), &2_000_000.into(), &"ascii".into())
    );
    assert_eq!(run(TERAVALIDATE, dir.path(), "--input in --quiet").0, 65, "it was not in order");
    let (code, sorted, said) =
        run(TERASORT, dir.path(), "--input in --output out --memory 1MiB --json --quiet");
    assert!(code == 0 && said.is_empty(), "{code} {said}");
    let sorted = json(&sorted);
    assert_eq!(
        (&sorted["records"], &sorted["largest_part"], &sorted["ranks"]),
        (&20000.into(), &20000.into(), &1.into())
    );
    assert!(
        sorted["spilled"]["files"].as_u64().unwrap() > 0
            && sorted["spilled"]["bytes"].as_u64() >= Some(2_000_000)
    );
    assert_eq!(sorted["memory_limit_bytes"], 3 << 18);
    assert!(
        sorted["memory_peak_bytes"].as_u64() > Some(0) && sorted["peak_rss_bytes"].as_u64() > Some(1 << 20)
    );
    let seconds = &sorted["seconds"];
    let sum: f64 = ["read", "exchange", "write", "flush"].iter().map(|s| seconds[s].as_f64().unwrap()).sum();
    assert!((seconds["total"].as_f64().unwrap() - sum).abs() < 1e-6, "{seconds}");
    let words = format!("--input out --json --checksum {}", made["checksum"].as_str().unwrap());
    let (code, checked, said) = run(TERAVALIDATE, dir.path(), &words);
    assert_eq!(code, 0, "{said}");
    let checked = json(&checked);
    assert_eq!(
        (&checked["sorted"], &checked["records"], &checked["checksum"]),
        (&true.into(), &20000.into(), &made["checksum"])
    );
    assert_eq!(names(dir.path()), ["in", "out"], "nothing else is left");
}

#[test]
fn an_empty_directory_is_used_and_a_full_one_replaced_if_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("out")).unwrap();
    assert_eq!(run(TERAGEN, dir.path(), "--records 3 --output out --quiet").0, 0);
    std::fs::write(dir.path().join("out/part-00001"), "of a larger run").unwrap();
    assert_eq!(run(TERAGEN, dir.path(), "--records 4 --output out --overwrite --quiet").0, 0);
    assert_eq!(
        (names(dir.path()), names(&dir.path().join("out"))),
        (vec!["out".into()], vec!["part-00000".into()])
    );
    assert_eq!(std::fs::metadata(dir.path().join("out/part-00000")).unwrap().len(), 400);
    assert_eq!(run(TERAGEN, dir.path(), "--records 0 --output none --quiet").0, 0);
    assert_eq!(run(TERASORT, dir.path(), "--input none --output none-sorted --quiet").0, 0);
    assert_eq!(run(TERAVALIDATE, dir.path(), "--input none-sorted --records 0 --checksum 0 --quiet").0, 0);
}

#[test]
fn help_begins_with_examples() {
    for (program, name) in [(TERAGEN, "teragen"), (TERASORT, "terasort"), (TERAVALIDATE, "teravalidate")] {
        let (code, help, _) = run(program, Path::new("/"), "--help");
        assert!(code == 0 && help.starts_with(&format!("Examples:\n  {name} ")), "{code} {help}");
    }
}
