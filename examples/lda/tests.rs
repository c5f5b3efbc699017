//! The whole program on ranks as threads of this process; sampling against the textbook.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::cells::{Cell, Token};
use crate::cli::{Options, Sampler, parse};
use crate::job;
use crate::layout::Layout;
use crate::mixtures::{Mixtures, Packing};
use crate::rows::{refill, unpack, used};
use crate::sampler::{Draws, Priors, Scratch, sample};

#[path = "../common/testing.rs"]
mod testing;
use testing::Dir;

const RANKS: [u32; 5] = [1, 2, 3, 4, 7];

fn options(args: &[&str]) -> Options {
    parse(["lda", "--quiet"].iter().chain(args).map(Into::into)).unwrap()
}

/// Runs on `n` ranks; every rank must end alike. Returns the error's text and code, if there is one.
fn run(n: u32, args: &[&str]) -> Result<(), (String, u8)> {
    let options = options(args);
    testing::run(n, |world| job::run(world, &options))
}

/// The rows of a table, without its head.
fn rows(dir: &Dir, name: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(dir.path("out").join(name)).unwrap();
    text.lines().skip(1).map(|l| l.split('\t').map(str::to_owned).collect()).collect()
}

fn sum_by(rows: &[Vec<String>], column: usize) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    rows.iter().for_each(|r| *sums.entry(r[column].clone()).or_default() += r[2].parse::<u64>().unwrap());
    sums
}

/// Tokens by document and by word of lines, counted here.
fn counted(lines: &[String], path: &str, min: u64) -> [BTreeMap<String, u64>; 2] {
    let (mut documents, mut words) = (BTreeMap::new(), BTreeMap::<String, u64>::new());
    let split = |l: &str| l.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    lines.iter().flat_map(|l| split(l)).for_each(|w| *words.entry(w).or_default() += 1);
    words.retain(|_, n| *n >= min);
    for (line, i) in lines.iter().zip(1..) {
        let n = split(line).iter().filter(|w| words.contains_key(*w)).count() as u64;
        if n > 0 {
            documents.insert(format!("{path}:{i}"), n);
        }
    }
    [documents, words]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    /// Whatever the texts and the ranks: no token is lost, and every file says the same.
    #[test]
    fn all_tokens_have_a_topic(
        texts in prop::collection::vec(prop::collection::vec(0u8..12, 0..9), 1..30),
        topics in 1u32..9, blocks in 1usize..4, min in 1u64..3, dense in any::<bool>(),
    ) {
        let word = |w: &u8| char::from(b'a' + w).to_string().repeat(2);
        let lines: Vec<String> = texts.iter().map(|t| t.iter().map(word).collect::<Vec<_>>().join(" ")).collect();
        let dir = Dir::new();
        let (input, out) = (dir.write("x.txt", &(lines.join("\n") + "\n")), dir.text("out"));
        let [documents, words] = counted(&lines, &input, min);
        let (topics, blocks, least) = (topics.to_string(), blocks.to_string(), min.to_string());
        for n in RANKS {
            let args = ["--input", &input, "--documents", "lines", "--topics", &topics, "--iterations", "3"];
            let more = ["--min-count", &least, "--no-stop-words", "--blocks", &blocks, "--threads", "1"];
            let kind = if dense { "dense" } else { "sparse" };
            let end = run(n, &[&args[..], &more, &["--output", &out, "--sampler", kind]].concat());
            if words.is_empty() {
                prop_assert!(end.is_err());
                continue;
            }
            prop_assert_eq!(end, Ok(()), "{} ranks", n);
            let (by_topic, by_document) = (rows(&dir, "topics.tsv"), rows(&dir, "documents.tsv"));
            prop_assert_eq!(&sum_by(&by_topic, 1), &words, "{} ranks", n);
            prop_assert_eq!(&sum_by(&by_document, 0), &documents, "{} ranks", n);
            prop_assert_eq!(sum_by(&by_topic, 0), sum_by(&by_document, 1), "{} ranks", n);
            let listed = rows(&dir, "vocabulary.tsv");
            let listed: BTreeMap<String, u64> = listed.iter().map(|r| (r[0].clone(), r[1].parse().unwrap())).collect();
            prop_assert_eq!(&listed, &words);
        }
    }
}

/// Counts of a state and the weights of each topic for its token 0, as the textbook says.
fn textbook(tokens: &[(u32, u32, u32)], priors: Priors) -> Vec<f64> {
    let (document, word, _) = tokens[0];
    let weight = |t: usize| {
        let n = |keep: &dyn Fn(&(u32, u32, u32)) -> bool| {
            tokens[1..].iter().filter(|x| x.2 as usize == t && keep(x)).count() as f64
        };
        (n(&|x| x.0 == document) + priors.alpha) * (n(&|x| x.1 == word) + priors.beta)
            / (n(&|_| true) + priors.beta_sum)
    };
    let weights: Vec<f64> = (0..priors.topics).map(weight).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| w / sum).collect()
}

#[test]
fn topics_are_drawn_as_often_as_the_textbook_says() {
    // (document, word, topic); the first one is drawn again and again from the same state.
    let mut tokens = vec![(0u32, 0u32, 3u32)];
    tokens.extend((0..60u32).map(|i| (i % 3, (i * i) % 5, i * 7 % 11 % 6)));
    let priors = Priors { topics: 6, alpha: 0.7, beta: 0.4, beta_sum: 2.0 };
    let want = textbook(&tokens, priors);
    let layout = Layout::new(&[100; 1], priors.topics, 1, 1);
    let group = layout.groups.iter().find(|g| g.words == [0]).unwrap();
    const DRAWS: u64 = 40_000;
    for kind in [Sampler::Sparse, Sampler::Dense] {
        let mut seen = vec![0u32; priors.topics];
        let mut scratch = Scratch::default();
        for draw in 0..DRAWS {
            let mut mixtures = Mixtures::new(Packing::new(6), 6, std::iter::once(100));
            let (mut totals, mut row) = ([0i64; 6], [0u64; 7]);
            let mut counts = [0u32; 6];
            for (document, word, topic) in &tokens {
                totals[*topic as usize] += 1;
                if *document == 0 {
                    mixtures.add(0, *topic as usize);
                }
                counts[*topic as usize] += u32::from(*word == 0);
            }
            refill(&mut row, (0..).zip(counts).filter(|(_, n)| *n > 0));
            let mut cell = Cell { runs: vec![(0, 1)], tokens: vec![Token { document: 0, topic: 3 }] };
            let mut delta = [0; 6];
            let (words, mut draws) = ((group, &mut row[..]), Draws::new(draw));
            sample(
                priors,
                kind,
                &totals,
                words,
                &mut cell,
                &mut mixtures,
                &mut scratch,
                &mut draws,
                &mut delta,
            );
            let new = cell.tokens[0].topic as usize;
            seen[new] += 1;
            // The counts have followed.
            counts[3] -= 1;
            counts[new] += 1;
            let mut got = [0; 6];
            used(&row).iter().map(|e| unpack(*e)).for_each(|(t, n)| got[t as usize] = n);
            assert_eq!(got, counts);
            assert_eq!(delta.iter().sum::<i64>(), 0);
            assert_eq!(delta[new], i64::from(new != 3));
        }
        for (seen, want) in seen.iter().zip(&want) {
            let (got, deviation) =
                (f64::from(*seen) / DRAWS as f64, (want * (1.0 - want) / DRAWS as f64).sqrt());
            // Five standard deviations; the sequence is fixed, so this either always holds or never.
            assert!((got - want).abs() < 5.0 * deviation, "{kind:?}: {got}, not {want}");
        }
    }
}

/// The log-likelihoods that the program says.
fn fit(n: u32, args: &[&str]) -> Vec<f64> {
    let base =
        ["--generate", "planted", "--docs", "120", "--vocabulary", "300", "--length", "40", "--topics", "5"];
    let options = options(&[&base[..], args].concat());
    let all = aeolian::World::local(n, |mut world| {
        let found = job::find(&mut world, &options).map_err(|e| match e {
            aeolian_examples::Error::Net(e) => e,
            other => panic!("{other}"),
        })?;
        world.finish()?;
        Ok(found.summary.fit.iter().map(|f| f.log_likelihood).collect::<Vec<_>>())
    })
    .unwrap();
    assert!(all.windows(2).all(|w| w[0] == w[1]), "all ranks say the same");
    all.into_iter().next().unwrap()
}

#[test]
fn the_likelihood_rises_to_the_same_level_everywhere() {
    let mut levels = Vec::new();
    for n in RANKS {
        for kind in if n == 3 { &["sparse", "dense"][..] } else { &["sparse"] } {
            let fit = fit(n, &["--iterations", "40", "--sampler", kind]);
            assert_eq!(fit.len(), 40);
            let end = fit[30..].iter().sum::<f64>() / 10.0;
            assert!(fit[0] < fit[9] && fit[9] < end, "{n} ranks, {kind}: {fit:?}");
            levels.push(end);
        }
    }
    let lowest = levels.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = levels.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    assert!(highest - lowest < 0.03 * highest.abs(), "{levels:?}");
}

#[test]
fn the_same_bits_whatever_the_threads() {
    let dir = Dir::new();
    let out = dir.text("out");
    for n in [1, 3] {
        let mut all = BTreeSet::new();
        for threads in ["1", "2", "2", "5"] {
            let args = ["--generate", "planted", "--docs", "90", "--vocabulary", "200", "--length", "30"];
            let more =
                ["--topics", "7", "--iterations", "8", "--output", &out, "--threads", threads, "--seed", "4"];
            run(n, &[&args[..], &more].concat()).unwrap();
            let read = |name: &str| std::fs::read_to_string(dir.path("out").join(name)).unwrap();
            all.insert(["topics.tsv", "documents.tsv", "vocabulary.tsv"].map(read));
        }
        assert_eq!(all.len(), 1, "{n} ranks");
    }
}

#[test]
fn one_bad_line_ends_all_ranks_with_one_error() {
    let dir = Dir::new();
    let mut text: Vec<u8> = (0..400).flat_map(|i| format!("wind harp {i}\n").into_bytes()).collect();
    let at = text.len() - 100;
    text[at] = 0xff;
    std::fs::write(dir.path("bad.txt"), &text).unwrap();
    let line = text[..at].iter().filter(|b| **b == b'\n').count() + 1;
    let input = dir.text("bad.txt");
    for n in [2, 4, 7] {
        let (said, code) = run(n, &["--input", &input, "--documents", "lines"]).unwrap_err();
        assert!(said.contains(&format!("bad.txt:{line}: this is not UTF-8")), "{said}");
        assert!(said.ends_with(&format!("rank: {} of {n}", n - 1)) && code == 65, "{code} {said}");
    }
}

#[test]
fn errors_of_all_ranks_or_of_rank_0_are_one_too() {
    let dir = Dir::new();
    let input = dir.write("x.txt", "wind wind");
    let long = dir.write("long.txt", &"wind harp ".repeat(40_000));
    let none = dir.text("none");
    for (args, code, want) in [
        (vec!["--input", &none], 66, "none: cannot be read: no such file"),
        (vec!["--input", &input, "--min-count", "3"], 64, "there are 0 words"),
        (vec!["--input", &input, "--output", "/nonexistent/r"], 73, "make the directory that it is in"),
        (vec!["--input", &long, "--topics", "65536"], 65, "with 65536 topics at most 65535 fit"),
    ] {
        for n in [1, 3] {
            let (text, got) = run(n, &args).unwrap_err();
            assert!(got == code && text.contains(want), "{got} {text}");
        }
    }
}

#[test]
fn no_arguments_are_the_bundled_book() {
    let options = options(&[]);
    assert!(options.bundled() && crate::outputs::wanted(&options));
    assert!(options.input_name().contains("book"));
}
