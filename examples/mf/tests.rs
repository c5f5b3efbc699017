//! The whole program on ranks as threads of this process.

use std::collections::BTreeSet;

use aeolian::World;
use aeolian::net::exit;

use crate::cli::{Options, parse};
use crate::job;
use crate::synthetic::rating;

#[path = "../common/testing.rs"]
mod testing;
use testing::Dir;

const RANKS: [u32; 5] = [1, 2, 3, 4, 7];

fn options(args: &[&str]) -> Options {
    parse(["mf", "--quiet"].iter().chain(args).map(Into::into)).unwrap()
}

/// Runs on `n` ranks; every rank must end alike. Returns the error's text and code, if there is one.
fn run(n: u32, args: &[&str]) -> Result<(), (String, u8)> {
    let options = options(args);
    testing::run(n, |world| job::run(world, &options))
}

impl Dir {
    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn summary(&self) -> serde_json::Value {
        serde_json::from_str(&self.read("model/model.json")).unwrap()
    }
}

#[test]
fn any_number_of_ranks_learns_as_well() {
    let dir = Dir::new();
    let out = dir.text("model");
    let args = ["--users", "300", "--items", "200", "--ratings", "20000", "--rank", "6", "--output", &out];
    let mut names = BTreeSet::new();
    let mut errors = Vec::new();
    for n in RANKS {
        run(n, &[&args[..], &["--threads", "1", "--regularisation", "0.1"]].concat()).unwrap();
        let summary = dir.summary();
        let count = |key: &str| summary[key].as_u64().unwrap();
        assert_eq!(count("ratings") + count("held_out"), 20_000);
        errors.push(summary["test_rmse"].as_f64().unwrap());
        let lines = |name: &str| {
            let text = dir.read(name);
            text.lines().map(|l| l.split(',').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (users, items) = (lines("model/users.csv"), lines("model/items.csv"));
        assert_eq!((users.len() as u64, items.len() as u64), (count("users") + 1, count("items") + 1));
        assert!(users[1..].is_sorted_by_key(|u| u.parse::<u32>().unwrap()));
        names.insert((users, items, count("held_out"), count("cold")));
    }
    assert_eq!(names.len(), 1, "the same users, items and ratings held out");
    // Noise of deviation 0.5 cannot be predicted; the mean alone is off by about 1.
    assert!(
        errors.iter().all(|e| (0.5..0.8).contains(e) && (e / errors[0] - 1.0).abs() < 0.02),
        "{errors:?}"
    );
}

#[test]
fn the_same_bits_whatever_the_threads() {
    let dir = Dir::new();
    let out = dir.text("model");
    for n in [1, 3] {
        let mut all = BTreeSet::new();
        for threads in ["1", "2", "3", "3"] {
            let args = ["--ratings", "60000", "--rank", "5", "--epochs", "3", "--output", &out];
            run(n, &[&args[..], &["--threads", threads]].concat()).unwrap();
            let summary = dir.summary();
            assert!(n > 1 || summary["blocks"][0].as_u64().unwrap() > 2, "work for threads: {summary}");
            let errors = format!("{} {}", summary["history"], summary["test_rmse"]);
            all.insert((dir.read("model/users.csv"), dir.read("model/items.csv"), errors));
        }
        assert_eq!(all.len(), 1, "{n} ranks");
    }
}

#[test]
fn another_seed_is_another_model() {
    let dir = Dir::new();
    let out = dir.text("model");
    let text: String = (0..200u32).map(|i| format!("{},{},{}\n", i % 20, i / 20, i % 5)).collect();
    let input = dir.write("r.csv", &text);
    let models: BTreeSet<String> = ["1", "2"]
        .iter()
        .map(|seed| {
            run(2, &["--input", &input, "--seed", seed, "--test", "0", "--output", &out]).unwrap();
            assert!(dir.summary()["test_rmse"].is_null());
            dir.read("model/users.csv")
        })
        .collect();
    assert_eq!(models.len(), 2);
}

/// What ranks have nothing of, and what has no ratings to learn from.
#[test]
fn small_and_odd_inputs() {
    let dir = Dir::new();
    let out = dir.text("model");
    for (train, test, cold) in [
        ("a,x,3\n", "a,x,3\n", 0),
        ("a,x,3\n", "b,x,3\na,y,3\nc,z,3\n", 3),
        ("a,x,3\na,x,4\na,x,5\n", "a,x,4\n", 0),
        ("a,x,-3\nb,x,0\n", "a,x,-3\n", 0),
        ("a,a,1\n", "b,b,1\n", 1),
    ] {
        let (train, test) = (dir.write("train.csv", train), dir.write("test.csv", test));
        for n in [1, 2, 5] {
            for more in [&["--rank", "1"][..], &["--rank", "9", "--no-bias"]] {
                let args = ["--input", &train, "--test-file", &test, "--output", &out, "--epochs", "2"];
                run(n, &[&args[..], more].concat()).unwrap();
                let summary = dir.summary();
                assert_eq!(summary["cold"], cold, "{n} ranks");
                assert!(summary["test_rmse"].as_f64().unwrap() < 4.0, "{summary}");
            }
        }
    }
}

#[test]
fn what_nothing_is_known_of_is_the_mean_and_the_other_bias() {
    let dir = Dir::new();
    let (train, test) = (dir.write("train.csv", "a,x,3\nb,y,5\n"), dir.write("test.csv", "new,none,4.5\n"));
    run(2, &["--input", &train, "--test-file", &test, "--output", &dir.text("model"), "--rank", "2"])
        .unwrap();
    assert!((dir.summary()["test_rmse"].as_f64().unwrap() - 0.5).abs() < 1e-6);
    assert!(
        dir.read("model/users.csv").contains("\nnew,0,0,0\n")
            && dir.read("model/items.csv").contains("\nnone,0,0,0\n")
    );
}

#[test]
fn generated_ratings_are_those_of_their_numbers() {
    let dir = Dir::new();
    let out = dir.text("model");
    let shape = ["--users", "40", "--items", "50", "--ratings", "900", "--seed", "9"];
    let made = options(&shape);
    let text: String = (0..900).map(|i| rating(&made, i)).map(|(u, i, r)| format!("{u},{i},{r}\n")).collect();
    let input = dir.write("r.csv", &text);
    for n in [1, 4] {
        run(n, &[&shape[..], &["--output", &out]].concat()).unwrap();
        let generated = dir.summary();
        run(n, &["--input", &input, "--seed", "9", "--output", &out]).unwrap();
        let read = dir.summary();
        for key in ["users", "items", "ratings", "held_out", "cold"] {
            assert_eq!(generated[key], read[key], "{key}");
        }
        // A line may belong to another rank than its number.
        let error = |s: &serde_json::Value| s["test_rmse"].as_f64().unwrap();
        assert!((error(&generated) / error(&read) - 1.0).abs() < 0.05, "{generated} {read}");
    }
}

#[test]
fn one_bad_line_ends_all_ranks_with_one_error() {
    let dir = Dir::new();
    let mut lines: Vec<String> = (0..400).map(|i| format!("{i},{},3", i / 2)).collect();
    lines[350] = "1,2,good".into();
    let input = dir.write("bad.csv", &(lines.join("\n") + "\n"));
    for (n, rank) in [(2, "rank: 1 of 2"), (4, "rank: 3 of 4"), (7, "rank: 6 of 7")] {
        let (text, code) = run(n, &["--input", &input, "--output", &dir.text("model")]).unwrap_err();
        assert!(text.contains("bad.csv:351: column 3: the rating \"good\" is not a number"), "{text}");
        assert!(text.ends_with(rank) && code == 65, "{code} {text}");
        assert!(!dir.path("model").exists(), "the directory has gone again");
    }
}

#[test]
fn errors_of_all_ranks_or_of_rank_0_are_one_too() {
    let dir = Dir::new();
    let input = dir.write("x.csv", "1,2,3\n1,3,4\n");
    let huge = dir.write("huge.csv", "1,1,1e30\n1,2,-1e30\n2,1,1e30\n");
    let none = dir.text("none");
    for (args, code, want) in [
        (vec!["--input", &none], 66, "none: cannot be read: no such file"),
        (vec!["--input", &input, "--test", "0.999999"], 65, "all 2 ratings are held out"),
        (vec!["--input", &huge, "--test", "0"], 65, "grown beyond all bounds"),
        (vec!["--input", &input, "--output", "/nonexistent/model"], 73, "cannot be made"),
        (vec!["--input", &input, "--output", &input], 73, "is not a directory"),
    ] {
        for n in [1, 3] {
            let (text, got) = run(n, &args).unwrap_err();
            assert!(got == code && text.contains(want), "{got} {text}");
        }
    }
}

#[test]
fn a_file_that_grows_between_the_ranks_is_an_error() {
    let dir = Dir::new();
    let inputs = [dir.write("before.csv", "1,2,3\n"), dir.write("after.csv", "1,2,3\n5,6,1\n")];
    let ends = World::local(2, |mut world| {
        let options = options(&["--input", &inputs[world.rank() as usize]]);
        let end = job::run(&mut world, &options).unwrap_err();
        world.finish()?;
        Ok((end.to_string(), end.exit_code()))
    });
    for (text, code) in ends.unwrap() {
        assert!(text.contains("rank 1 sees a file of 12 bytes, but rank 0 one of 6"), "{text}");
        assert_eq!(code, exit::DATA);
    }
}
