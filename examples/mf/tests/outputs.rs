//! What a run leaves: the model, the JSON object, the table.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

use std::collections::HashMap;
use std::path::Path;

use program::mf;

mod program;

#[test]
fn without_arguments_ratings_with_a_known_structure_are_learnt() {
    let dir = tempfile::tempdir().unwrap();
    let (code, table, said) = mf(dir.path(), &["--threads", "2"]);
    assert_eq!(code, 0, "{said}");
    assert!(table.contains("users, ") && table.contains("1 rank on 1 node, 2 threads each"), "{table}");
    assert!(table.contains("million updates/s") && table.contains("held out"), "{table}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is written");
}

/// Rows of a file of the model by name: the bias first.
fn rows(path: &Path) -> HashMap<String, Vec<f64>> {
    let text = std::fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let (name, numbers) = line.split_once(',').unwrap();
        (name.to_owned(), numbers.split(',').map(|x| x.parse().unwrap()).collect())
    };
    text.lines().skip(1).map(row).collect()
}

#[test]
fn the_files_predict_what_the_summary_says() {
    let dir = tempfile::tempdir().unwrap();
    let rating = |i: u32| (i * 7919 % 61, i * i % 83, f64::from((i * 31) % 9) * 0.5 + 1.0);
    let text: String = (0..1500).map(rating).map(|(u, i, r)| format!("u{u}\ti{i}\t{r}\n")).collect();
    let (train, test) = text.split_at(text.len() / 5 * 4);
    let (train, test) = match test.split_once('\n') {
        Some((cut, test)) => (format!("{train}{cut}\n"), test.to_owned()),
        None => (train.to_owned(), test.to_owned()),
    };
    std::fs::write(dir.path().join("train.tsv"), train).unwrap();
    std::fs::write(dir.path().join("test.tsv"), &test).unwrap();
    for more in [&["--rank", "5"][..], &["--rank", "8", "--no-bias"]] {
        let args =
            ["--input", "train.tsv", "--test-file", "test.tsv", "--output", "model", "--json", "--quiet"];
        let (code, json, said) = mf(dir.path(), &[&args[..], more].concat());
        assert!(code == 0 && said.is_empty(), "{code} {said}");
        let summary: serde_json::Value = serde_json::from_str(&json).unwrap();
        let mean = summary["mean"].as_f64().unwrap();
        let (users, items) =
            (rows(&dir.path().join("model/users.csv")), rows(&dir.path().join("model/items.csv")));
        let (mut squares, mut n) = (0.0, 0.0);
        for line in test.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let (p, q) = (&users[fields[0]], &items[fields[1]]);
            let dot: f64 = p[1..].iter().zip(&q[1..]).map(|(a, b)| a * b).sum();
            let error = fields[2].parse::<f64>().unwrap() - mean - p[0] - q[0] - dot;
            squares += error * error;
            n += 1.0;
        }
        let (got, want) = ((squares / n).sqrt(), summary["test_rmse"].as_f64().unwrap());
        assert!((got / want - 1.0).abs() < 1e-5, "{got} {want}");
        assert_eq!(summary["held_out"], n);
        if more.len() > 2 {
            assert!(mean == 0.0 && users.values().chain(items.values()).all(|row| row[0] == 0.0));
        }
        let model = std::fs::read_to_string(dir.path().join("model/model.json")).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&model).unwrap(), summary);
        assert_eq!(std::fs::read_dir(dir.path().join("model")).unwrap().count(), 3, "no temporary files");
    }
}

#[test]
fn json_is_one_object_and_quiet_is_quiet() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--json", "--quiet", "--epochs", "5", "--test-every", "2", "--threads", "1", "--rank", "7"];
    let (code, json, said) = mf(dir.path(), &args);
    assert!(code == 0 && said.is_empty(), "{code} {said}");
    let all: serde_json::Value = serde_json::from_str(&json).unwrap();
    for (key, want) in
        [("ranks", 1), ("nodes", 1), ("threads", 1), ("factors", 7), ("epochs", 5), ("cold", 0)]
    {
        assert_eq!(all[key], want, "{key}");
    }
    assert_eq!(all["ratings"].as_u64().unwrap() + all["held_out"].as_u64().unwrap(), 100_000);
    assert!(all["updates_per_second"].as_f64().unwrap() > 0.0);
    assert!(all["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
    let history = all["history"].as_array().unwrap();
    let looked: Vec<bool> = history.iter().map(|e| e["test_rmse"].is_number()).collect();
    assert_eq!(looked, [false, true, false, true, true]);
    assert_eq!(history[4]["test_rmse"], all["test_rmse"]);
    let errors: Vec<f64> = history.iter().map(|e| e["train_rmse"].as_f64().unwrap()).collect();
    assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
    assert_eq!((&all["transport"], &all["version"]), (&"self".into(), &env!("CARGO_PKG_VERSION").into()));
}

#[test]
fn a_log_has_a_line_every_tenth() {
    let dir = tempfile::tempdir().unwrap();
    let (_, _, log) = mf(dir.path(), &["--epochs", "10", "--ratings", "5000"]);
    for percent in (10..=100).step_by(10) {
        let start = format!("mf: {percent:3} %");
        assert_eq!(log.lines().filter(|l| l.starts_with(&start)).count(), 1, "{log}");
    }
    assert!(log.contains("RMSE") && log.contains("ETA") && !log.contains('\r'), "{log}");
}

#[test]
fn help_begins_with_examples() {
    let (code, help, _) = mf(Path::new("/"), &["--help"]);
    assert!(code == 0 && help.starts_with("Examples:\n  mf "), "{code} {help}");
}

#[test]
fn the_same_ratings_in_every_format_and_names_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let user = |i: u32| format!("user {}", i * i % 17);
    let item = |i: u32| if i.is_multiple_of(7) { "film, the".into() } else { format!("{}", i * 31 % 23) };
    let text = |sep: &str, quote: &str| -> String {
        (0..400).map(|i| format!("{}{sep}{quote}{}{quote}{sep}{}\n", user(i), item(i), i % 5)).collect()
    };
    let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
    write("a.csv", text(",", "\""));
    write("b.csv", format!("\u{feff}# from somewhere\nuserId,movieId,Rating\n\n{}", text(" , ", "\"")));
    write("c.tsv", text("\t", "").replace('\n', "\r\n").trim_end().into());
    write("d", format!("user\titem\trating\ttime\n{}", text("\t", "").replace('\n', "\t881250949\n")));
    write("e", text(",", "\""));
    let mut wanted = None;
    for args in [
        &["--input", "a.csv"][..],
        &["--input", "b.csv"],
        &["--input", "c.tsv"],
        &["--input", "d"],
        &["--input", "e", "--format", "csv"],
    ] {
        let more = ["--output", "model", "--quiet", "--rank", "3", "--epochs", "2", "--test", "0"];
        let (code, _, said) = mf(dir.path(), &[args, &more].concat());
        assert_eq!(code, 0, "{args:?}: {said}");
        let got = std::fs::read_to_string(dir.path().join("model/items.csv")).unwrap();
        assert!(
            got.starts_with("item,bias,f1,f2,f3\n0,")
                && got.contains("\n\"film, the\",")
                && got.ends_with('\n')
        );
        assert_eq!(wanted.get_or_insert_with(|| got.clone()), &got, "{args:?}");
    }
}
