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

#[test]
fn files_under_dev_are_replaced_whole() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let names = ["c.csv", "l.txt", "p.svg", "r.html"].map(|f| dir.path().join(f).display().to_string());
    let [c, l, p, r] = names.each_ref().map(String::as_str);
    let args = ["--quiet", "--iterations", "1", "--output", c, "--labels", l, "--plot", p, "--report", r];
    let mut inodes = Vec::new();
    for run in ["new", "replaced"] {
        let (code, _, said) = kmeans(Path::new("/"), &args);
        assert_eq!(code, 0, "{run}: {said}");
        // Held open, so that no number is used again.
        inodes.extend(names.iter().map(|name| std::fs::File::open(name).unwrap()));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4, "no temporary files");
    let number = |f: &std::fs::File| std::os::unix::fs::MetadataExt::ino(&f.metadata().unwrap());
    for (old, new) in inodes[..4].iter().zip(&inodes[4..]) {
        assert_ne!(number(old), number(new), "not overwritten in place");
    }
}

#[test]
fn results_and_table_share_a_redirected_standard_output() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x.csv"), "1\n2\n10\n11\n100\n").unwrap();
    let base = ["--input", "x.csv", "--k", "3", "--init", "first", "--json"];
    let (code, json, said) =
        kmeans(dir.path(), &[&base[..], &["--output", "c.csv", "--labels", "l.txt"]].concat());
    assert_eq!(code, 0, "{said}");
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let (centroids, labels) = (read("c.csv"), read("l.txt"));
    // All but the times.
    let json = json.split("\"seconds\"").next().unwrap();
    for (redirect, outputs, want) in [
        ("> out", "--output /dev/stdout", format!("before\n{centroids}{json}")),
        (">> out", "--output /dev/stdout", format!("old\nbefore\n{centroids}{json}")),
        ("> out", "--labels /proc/self/fd/1", format!("before\n{labels}{json}")),
        (
            "> out 2>&1",
            "--labels /dev/stdout --output /dev/fd/2 --quiet",
            format!("before\n{labels}{centroids}{json}"),
        ),
        (
            ">> out 3>&1",
            "--labels /dev/fd/3 --output /dev/stdout",
            format!("old\nbefore\n{labels}{centroids}{json}"),
        ),
    ] {
        std::fs::write(dir.path().join("out"), "old\n").unwrap();
        let line = format!("{{ echo before; \"$@\" {outputs}; }} {redirect}");
        let status = std::process::Command::new("sh")
            .args(["-c", &line, "sh", env!("CARGO_BIN_EXE_kmeans")])
            .args(base)
            .current_dir(dir.path())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{outputs} {redirect}");
        let got = read("out");
        assert!(got.starts_with(&want), "{outputs} {redirect}: {got}\nwanted {want}");
        assert!(got.ends_with("}\n") && got.matches("before").count() == 1, "{got}");
    }
}

#[test]
fn two_outputs_of_one_file_are_refused_under_any_name() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x.csv"), "1\n2\n10\n").unwrap();
    std::fs::write(dir.path().join("a.csv"), "old").unwrap();
    std::os::unix::fs::symlink("a.csv", dir.path().join("link")).unwrap();
    for (output, labels) in
        [("a.csv", "link"), ("link", "a.csv"), ("link", "./link"), ("/dev/stdout", "/dev/fd/1")]
    {
        let args = ["--input", "x.csv", "--k", "2", "--output", output, "--labels", labels];
        let (code, _, said) = kmeans(dir.path(), &args);
        assert!(
            code == 64 && said.contains(&format!("--labels and --output both name {labels}")),
            "{code} {said}"
        );
    }
    assert_eq!(std::fs::read(dir.path().join("a.csv")).unwrap(), b"old");
}
