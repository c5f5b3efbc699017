//! The whole program on ranks as threads of this process, against a sequential implementation.

use std::collections::{BTreeMap, BTreeSet};

use aeolian::World;
use aeolian::net::exit;
use proptest::prelude::*;

use crate::cli::{Options, parse};
use crate::job;
use crate::rmat::Rmat;

#[path = "../common/testing.rs"]
mod testing;
use testing::Dir;

const RANKS: [u32; 5] = [1, 2, 3, 4, 7];

fn options(args: &[&str]) -> Options {
    parse(["pagerank", "--quiet"].iter().chain(args).map(Into::into)).unwrap()
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
    /// Ranks by name from a file, in its order.
    fn ranks(&self, name: &str) -> Vec<(String, f64)> {
        let text = self.read(name);
        let of = |l: &str| l.rsplit_once('\t').map(|(v, r)| (v.to_owned(), r.parse().unwrap()));
        text.lines().map(|l| of(l).unwrap()).collect()
    }
}

/// As the textbook says, one vertex after the other.
fn sequential(edges: &[(String, String)], damping: f64, iterations: usize) -> BTreeMap<String, f64> {
    let mut targets: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (a, b) in edges {
        targets.entry(a).or_default().insert(b);
        targets.entry(b).or_default();
    }
    let n = targets.len() as f64;
    let mut ranks: BTreeMap<&str, f64> = targets.keys().map(|v| (*v, 1.0 / n)).collect();
    for _ in 0..iterations {
        let dangling: f64 = targets.iter().filter(|(_, t)| t.is_empty()).map(|(v, _)| ranks[v]).sum();
        let base = (1.0 - damping) / n + damping * dangling / n;
        let mut next: BTreeMap<&str, f64> = targets.keys().map(|v| (*v, base)).collect();
        for (v, to) in &targets {
            for t in to {
                *next.entry(t).or_default() += damping * ranks[v] / to.len() as f64;
            }
        }
        ranks = next;
    }
    ranks.into_iter().map(|(v, r)| (v.to_owned(), r)).collect()
}

/// What the program says of edges, on some ranks, against the sequential answer.
fn check(dir: &Dir, edges: &[(String, String)], n: u32, exchange: &str, threads: &str) {
    let text: String = edges.iter().map(|(a, b)| format!("{a}\t{b}\n")).collect();
    let (input, out) = (dir.write("edges.tsv", &text), dir.text("ranks.tsv"));
    let args = ["--input", &input, "--output", &out, "--iterations", "17", "--tolerance", "0"];
    let more = ["--damping", "0.8", "--exchange", exchange, "--threads", threads];
    run(n, &[&args[..], &more].concat()).unwrap();
    let got = dir.ranks("ranks.tsv");
    let want = sequential(edges, 0.8, 17);
    assert_eq!(got.len(), want.len(), "{n} ranks");
    for (name, rank) in &got {
        assert!(
            (rank - want[name]).abs() < 1e-14,
            "{name}: {rank}, not {} ({n} ranks, {exchange})",
            want[name]
        );
    }
    let sum: f64 = got.iter().map(|(_, r)| r).sum();
    assert!((sum - 1.0).abs() < 1e-12, "{sum}");
    assert!(
        got.is_sorted_by(|a, b| aeolian_examples::names::order(a.0.as_bytes(), b.0.as_bytes()).is_lt()),
        "sorted"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Few vertices, so that there are dangling ones, self loops, duplicates and separate parts.
    #[test]
    fn any_small_graph(pairs in prop::collection::vec((0u32..12, 0u32..12), 1..40), words in any::<bool>()) {
        let name = |v: u32| if words { format!("v {}", v * 7919 % 13) } else { v.to_string() };
        let edges: Vec<(String, String)> = pairs.iter().map(|(a, b)| (name(*a), name(*b))).collect();
        let dir = Dir::new();
        for n in RANKS {
            check(&dir, &edges, n, "needed", "1");
            check(&dir, &edges, n, "whole", "1");
        }
    }
}

fn edges(text: &[(&str, &str)]) -> Vec<(String, String)> {
    text.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn graphs_with_a_peculiarity() {
    let dir = Dir::new();
    for graph in [
        edges(&[("a", "a")]),                                     // a single vertex
        edges(&[("a", "b")]),                                     // one edge, its end dangling
        edges(&[("a", "b"), ("a", "b"), ("a", "c"), ("b", "a")]), // a duplicate
        edges(&[("a", "a"), ("a", "b"), ("b", "b")]),             // self loops
        edges(&[("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")]), // two parts
        edges(&[("hub", "1"), ("hub", "2"), ("hub", "10")]),      // nearly all dangling
    ] {
        for n in RANKS {
            check(&dir, &graph, n, "auto", "2");
        }
    }
    check(&dir, &edges(&[("a", "b"), ("b", "a")]), 16, "auto", "1");
}

#[test]
fn known_answers() {
    let dir = Dir::new();
    let out = dir.text("r.tsv");
    for (text, want) in [
        ("x x\n", vec![("x", 1.0)]),
        ("a b\nb c\nc a\n", vec![("a", 1.0 / 3.0), ("b", 1.0 / 3.0), ("c", 1.0 / 3.0)]),
        // b = (1 - d) / 2 + d (a + b / 2), and a + b = 1.
        ("a b\n", vec![("a", 0.5 / 1.425), ("b", 0.925 / 1.425)]),
    ] {
        let input = dir.write("x.tsv", text);
        for n in RANKS {
            run(n, &["--input", &input, "--output", &out, "--tolerance", "1e-14"]).unwrap();
            let got = dir.ranks("r.tsv");
            assert!(got.iter().zip(&want).all(|(g, w)| g.0 == w.0 && (g.1 - w.1).abs() < 1e-13), "{got:?}");
        }
    }
}

#[test]
fn the_same_bits_whatever_the_threads_and_the_exchange() {
    let dir = Dir::new();
    let out = dir.text("r.tsv");
    for n in [1, 3] {
        let mut all = BTreeSet::new();
        for (threads, exchange) in [("1", "needed"), ("3", "needed"), ("3", "needed"), ("4", "auto")] {
            let args = ["--generate", "rmat", "--scale", "12", "--edges", "40000", "--output", &out];
            run(n, &[&args[..], &["--threads", threads, "--exchange", exchange]].concat()).unwrap();
            all.insert(dir.read("r.tsv"));
        }
        assert_eq!(all.len(), 1, "{n} ranks");
    }
}

#[test]
fn generated_graphs_are_those_of_their_edges() {
    let dir = Dir::new();
    let out = dir.text("r.tsv");
    let rmat = Rmat::new(6, 9);
    let text: Vec<(String, String)> =
        (0..300).map(|i| rmat.edge(i)).map(|(a, b)| (a.to_string(), b.to_string())).collect();
    // All numbers are vertices, also those without edges: these lines, which count once, give them none.
    let isolated: Vec<u64> = (0..rmat.vertices())
        .filter(|v| text.iter().all(|(a, b)| [a, b].iter().all(|x| **x != v.to_string())))
        .collect();
    let n = text.iter().flat_map(|(a, b)| [a, b]).collect::<BTreeSet<_>>().len();
    assert_eq!(n + isolated.len(), 64);
    for ranks in RANKS {
        let args = ["--generate", "rmat", "--scale", "6", "--edges", "300", "--seed", "9", "--output", &out];
        run(ranks, &args).unwrap();
        let got = dir.ranks("r.tsv");
        assert!(got.iter().map(|(v, _)| v.parse::<u64>().unwrap()).eq(0..64), "{got:?}");
        let lowest = got.iter().map(|(_, r)| *r).fold(1.0, f64::min);
        assert!(isolated.iter().all(|v| got[*v as usize].1 == lowest), "{isolated:?} {got:?}");
    }
}

#[test]
fn one_bad_line_ends_all_ranks_with_one_error() {
    let dir = Dir::new();
    let mut lines: Vec<String> = (0..400).map(|i| format!("v{i}\tv{}", i / 2)).collect();
    lines[350] = "alone".into();
    let input = dir.write("bad.tsv", &(lines.join("\n") + "\n"));
    for (n, rank) in [(2, "rank: 1 of 2"), (4, "rank: 3 of 4"), (7, "rank: 6 of 7")] {
        let (text, code) = run(n, &["--input", &input]).unwrap_err();
        assert!(text.contains("bad.tsv:351: the line has 1 field, not 2: \"alone\""), "{text}");
        assert!(text.ends_with(rank) && code == 65, "{code} {text}");
    }
}

#[test]
fn errors_of_all_ranks_or_of_rank_0_are_one_too() {
    let dir = Dir::new();
    let input = dir.write("x.tsv", "1 2\n");
    let (none, empty, blank) = (dir.text("none"), dir.write("e", ""), dir.write("b", "# x\n\n"));
    for (args, code, want) in [
        (vec!["--input", &none], 66, "none: cannot be read: no such file"),
        (vec!["--input", &empty], 65, "the file is empty"),
        (vec!["--input", &blank], 65, "there are no edges in it"),
        (vec!["--input", &input, "--output", "/nonexistent/r"], 73, "make its directory first"),
        (vec!["--input", &input, "--output", &input], 64, "this file is an input"),
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
    let inputs = [dir.write("before", "1 2\n3 4\n"), dir.write("after", "1 2\n3 4\n5 6\n")];
    let ends = World::local(2, |mut world| {
        let options = options(&["--input", &inputs[world.rank() as usize]]);
        let end = job::run(&mut world, &options).unwrap_err();
        world.finish()?;
        Ok((end.to_string(), end.exit_code()))
    });
    for (text, code) in ends.unwrap() {
        assert!(text.contains("rank 1 sees a file of 12 bytes, but rank 0 one of 8"), "{text}");
        assert_eq!(code, exit::DATA);
    }
}

#[test]
fn no_arguments_are_the_bundled_graph() {
    let options = options(&[]);
    assert!(options.bundled() && crate::outputs::wanted(&options));
    assert!(options.input_name().contains("Debian"));
}
