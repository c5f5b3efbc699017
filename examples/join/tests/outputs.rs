//! What a run leaves: the file, the JSON object, the table.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

use std::collections::HashSet;
use std::path::Path;

use program::join;

mod program;

const COLUMNS: &str = "tailnum,year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,\
carrier,flight,origin,dest,air_time,distance,hour,minute,time_hour,\
year_right,type,manufacturer,model,engines,seats,speed,engine";

#[test]
fn without_arguments_the_bundled_flights_from_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let (code, table, said) = join(dir.path(), &[]);
    assert_eq!(code, 0, "{said}");
    assert!(table.starts_with("inner join on tailnum: 445 rows, 1 rank on 1 node"), "{table}");
    assert!(table.contains("left: flights.csv (bundled), 684 rows of 19 columns"), "{table}");
    assert!(table.contains("right: planes.csv (bundled), 368 rows of 9 columns"), "{table}");
    assert!(table.contains("\nalgorithm: broadcast (right side to all ranks)\n"), "{table}");
    assert!(table.contains("nothing spilled") && table.contains("written: join-demo.csv"), "{table}");
    let told = "join: no --left and --right: reads the bundled flights from New York on 9 February 2013, and their planes, writes join-demo.csv (and replaces it)\n";
    assert!(said.starts_with(told), "{said}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary files");

    let text = std::fs::read_to_string(dir.path().join("join-demo.csv")).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0], COLUMNS.split(',').collect::<Vec<_>>());
    let column = |name: &str| {
        let at = rows[0].iter().position(|n| *n == name).unwrap();
        rows[1..].iter().map(|row| row[at]).collect::<Vec<_>>()
    };
    let sum = |name: &str| column(name).iter().filter_map(|x| x.parse::<u64>().ok()).sum::<u64>();
    // As DuckDB says: count(*), count(distinct tailnum), count(p.year), and sums of distance, seats, p.year.
    let known = column("year_right").iter().filter(|x| !x.is_empty()).count();
    assert_eq!(
        (rows.len() - 1, column("tailnum").iter().collect::<HashSet<_>>().len(), known),
        (445, 368, 438)
    );
    assert_eq!((sum("distance"), sum("seats"), sum("year_right")), (455_807, 59_809, 876_766));
}

#[test]
fn json_is_one_object_and_quiet_is_quiet() {
    let dir = tempfile::tempdir().unwrap();
    let (code, json, said) = join(dir.path(), &["--json", "--quiet", "--kind", "anti", "--sorted"]);
    assert!(code == 0 && said.is_empty(), "{code} {said}");
    let all: serde_json::Value = serde_json::from_str(&json).unwrap();
    for (key, want) in [("ranks", 1), ("nodes", 1), ("rows", 239), ("spilled_bytes", 0)] {
        assert_eq!(all[key], want, "{key}");
    }
    for (key, want) in [
        ("kind", "anti"),
        ("algorithm", "auto"),
        ("chosen", "broadcast"),
        ("output", "join-demo.csv"),
        ("transport", "self"),
        ("version", env!("CARGO_PKG_VERSION")),
    ] {
        assert_eq!(all[key], want, "{key}");
    }
    assert_eq!((&all["on"], &all["sorted"]), (&serde_json::json!(["tailnum"]), &true.into()));
    assert_eq!(all["left"], serde_json::json!({"file": "flights.csv (bundled)", "rows": 684, "columns": 19}));
    assert_eq!(all["right"], serde_json::json!({"file": "planes.csv (bundled)", "rows": 368, "columns": 9}));
    assert_eq!(all["columns"].as_array().map(Vec::len), Some(19), "{json}");
    assert!(all["way"].is_object() && all["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
    let seconds = &all["seconds"];
    let sum: f64 = ["types", "join"].iter().map(|s| seconds[s].as_f64().unwrap()).sum();
    assert!(seconds["total"].as_f64().unwrap() >= sum * (1.0 - 1e-12), "{json}");
}

#[test]
fn the_algorithm_is_named_as_on_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    for (args, algorithm, chosen, what) in [
        (&["--kind", "full"][..], "auto", "hash", "rows to the rank of their key"),
        (&["--algorithm", "hash"], "hash", "hash", "rows to the rank of their key"),
        (&["--algorithm", "sort"], "sort", "sort", "rows to the rank of their key, both sides sorted"),
        (&["--algorithm", "broadcast"], "broadcast", "broadcast", "right side to all ranks"),
    ] {
        let (_, json, _) = join(dir.path(), &[args, &["--json", "--quiet"]].concat());
        let all: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&all["algorithm"], &all["chosen"]), (&algorithm.into(), &chosen.into()), "{args:?}");
        let (_, text, _) = join(dir.path(), args);
        assert!(text.contains(&format!("\nalgorithm: {chosen} ({what})\n")), "{args:?}: {text}");
    }
}

/// As the book's table says.
#[test]
fn numbers_are_written_anew_and_texts_as_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("l.csv", "k,f,t\n+5,7,007\n-0,1e3,+5\n 7 ,.50,-0\n");
    write("r.csv", "k\n5\n");
    let args = ["--left", "l.csv", "--right", "r.csv", "--on", "k", "--kind", "left", "--sorted", "--quiet"];
    let (code, _, said) = join(dir.path(), &[&args[..], &["--output", "o.csv"]].concat());
    assert_eq!(code, 0, "{said}");
    let text = std::fs::read_to_string(dir.path().join("o.csv")).unwrap();
    assert_eq!(text, "k,f,t\n0,1000.0,+5\n5,7.0,007\n7,0.5,-0\n");
}

#[test]
fn help_begins_with_examples() {
    let (code, help, _) = join(Path::new("/"), &["--help"]);
    assert!(code == 0 && help.starts_with("Examples:\n  join "), "{code} {help}");
}
