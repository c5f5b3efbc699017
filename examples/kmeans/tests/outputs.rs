//! What a run leaves: files, the JSON object, the table.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

use std::path::Path;

use program::kmeans;

mod program;

#[test]
fn without_arguments_the_digits_from_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let (code, table, said) = kmeans(dir.path(), &[]);
    assert_eq!(code, 0, "{said}");
    assert!(table.contains("1797 points x 64 columns (f64), 1 rank on 1 node"), "{table}");
    assert!(table.contains("written: digits-centroids.csv, digits-centroids.svg"), "{table}");
    let rows = std::fs::read_to_string(dir.path().join("digits-centroids.csv")).unwrap();
    assert_eq!((rows.lines().count(), rows.lines().next().map(|l| l.split(',').count())), (10, Some(64)));
    let svg = std::fs::read_to_string(dir.path().join("digits-centroids.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.matches("mostly ").count() == 10);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary files");
}

#[test]
fn json_is_one_object_and_quiet_is_quiet() {
    let dir = tempfile::tempdir().unwrap();
    let (code, json, said) = kmeans(dir.path(), &["--json", "--quiet", "--iterations", "3"]);
    assert!(code == 0 && said.is_empty(), "{code} {said}");
    let all: serde_json::Value = serde_json::from_str(&json).unwrap();
    for (key, want) in [("ranks", 1), ("nodes", 1), ("n", 1797), ("d", 64), ("k", 10), ("iterations", 3)] {
        assert_eq!(all[key], want, "{key}");
    }
    assert_eq!(all["converged"], false);
    assert!(all["inertia"].as_f64().unwrap() > 1.1e6 && all["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
    let seconds = &all["seconds"];
    let sum: f64 = ["read", "init", "iterate"].iter().map(|s| seconds[s].as_f64().unwrap()).sum();
    // Up to what a number loses on its way through text.
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs();
    assert!(seconds["total"].as_f64().unwrap() >= sum * (1.0 - 1e-12));
    assert!(near(seconds["per_iteration"].as_f64().unwrap(), seconds["iterate"].as_f64().unwrap() / 3.0));
    assert_eq!((&all["transport"], &all["version"]), (&"self".into(), &env!("CARGO_PKG_VERSION").into()));
}

#[test]
fn a_log_has_a_line_every_tenth() {
    let dir = tempfile::tempdir().unwrap();
    let (_, _, log) = kmeans(dir.path(), &["--iterations", "10", "--tolerance", "0"]);
    for percent in (10..=100).step_by(10) {
        assert_eq!(
            log.lines().filter(|l| l.starts_with(&format!("kmeans: {percent:3} %"))).count(),
            1,
            "{log}"
        );
    }
    assert!(log.contains("inertia") && log.contains("ETA") && !log.contains('\r'), "{log}");
}

#[test]
fn reports_and_pictures_of_every_width() {
    let dir = tempfile::tempdir().unwrap();
    for d in [1, 2, 3, 300] {
        let rows: Vec<String> = (0..50)
            .map(|i| (0..d).map(|j| (i % 4 * 10 + (i * j) % 7).to_string()).collect::<Vec<_>>().join(","))
            .collect();
        let head = (0..d).map(|j| format!("<c{j}>")).collect::<Vec<_>>().join(",");
        std::fs::write(dir.path().join("x.csv"), format!("{head}\n{}\n", rows.join("\n"))).unwrap();
        let (code, _, said) = kmeans(
            dir.path(),
            &["--input", "x.csv", "--k", "4", "--plot", "p.svg", "--report", "r.html", "--labels", "l.npy"],
        );
        assert_eq!(code, 0, "{said}");
        let page = std::fs::read_to_string(dir.path().join("r.html")).unwrap();
        let svg = std::fs::read_to_string(dir.path().join("p.svg")).unwrap();
        assert!(page.contains(&svg) && page.contains("Inertia by iteration"));
        assert!(
            !page.contains("<script") && !page.contains("<c0>") && !page.contains("NaN"),
            "escaped and whole"
        );
        assert_eq!(std::fs::read(dir.path().join("l.npy")).unwrap().len(), 128 + 50 * 4);
    }
}

#[test]
fn help_begins_with_examples() {
    let (code, help, _) = kmeans(Path::new("/"), &["--help"]);
    assert!(code == 0 && help.starts_with("Examples:\n  kmeans "), "{code} {help}");
}
