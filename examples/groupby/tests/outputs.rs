//! What a run leaves: the file, the JSON object, the table.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

use std::path::Path;

use program::groupby;

mod program;

/// What DuckDB says of the bundled flights.
const GROUPS: &str = include_str!("flights-groups.csv");

#[test]
fn without_arguments_the_bundled_flights_from_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let (code, table, said) = groupby(dir.path(), &[]);
    assert_eq!(code, 0, "{said}");
    assert!(table.starts_with("flights.csv (bundled): 684 rows, 13 groups, 1 rank on 1 node"), "{table}");
    assert!(table.contains("written: groupby-demo.csv"), "{table}");
    let told = "groupby: no --input: reads the bundled flights from New York on 9 February 2013, writes groupby-demo.csv (and replaces it)\n";
    assert!(said.starts_with(told), "{said}");
    assert_eq!(std::fs::read_to_string(dir.path().join("groupby-demo.csv")).unwrap(), GROUPS);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary files");
    assert!(include_str!("../../../docs/src/tables.md").contains(GROUPS), "the book shows them");
}

#[test]
fn json_is_one_object_and_quiet_is_quiet() {
    let dir = tempfile::tempdir().unwrap();
    let (code, json, said) = groupby(dir.path(), &["--json", "--quiet"]);
    assert!(code == 0 && said.is_empty(), "{code} {said}");
    let all: serde_json::Value = serde_json::from_str(&json).unwrap();
    for (key, want) in [("ranks", 1), ("nodes", 1), ("rows", 684), ("groups", 13), ("spilled_bytes", 0)] {
        assert_eq!(all[key], want, "{key}");
    }
    assert_eq!(
        all["columns"],
        serde_json::json!([
            {"name": "carrier", "type": "text"},
            {"name": "count", "type": "int"},
            {"name": "count_dep_time", "type": "int"},
            {"name": "mean_dep_delay", "type": "float"},
            {"name": "max_dep_delay", "type": "int"},
            {"name": "sum_distance", "type": "int"},
        ])
    );
    assert_eq!(
        (&all["input"], &all["output"]),
        (&"flights.csv (bundled)".into(), &"groupby-demo.csv".into())
    );
    assert_eq!((&all["transport"], &all["version"]), (&"self".into(), &env!("CARGO_PKG_VERSION").into()));
    assert!(all["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
    let seconds = &all["seconds"];
    let sum: f64 = ["types", "groups"].iter().map(|s| seconds[s].as_f64().unwrap()).sum();
    assert!(seconds["total"].as_f64().unwrap() >= sum * (1.0 - 1e-12), "{json}");
}

#[test]
fn help_begins_with_examples() {
    let (code, help, _) = groupby(Path::new("/"), &["--help"]);
    assert!(code == 0 && help.starts_with("Examples:\n  groupby "), "{code} {help}");
}
