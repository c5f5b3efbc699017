//! The whole program on ranks as threads of this process, against a plain loop over characters.

use std::collections::HashMap;

use aeolian::World;
use aeolian::net::exit;
use aeolian_examples::progress::Mode;
use proptest::prelude::*;

use crate::cli::{Options, parse};
use crate::job;
use crate::unicode::is_word;

#[path = "../common/testing.rs"]
mod testing;
use testing::Dir;

const RANKS: [u32; 4] = [1, 2, 3, 7];

fn options(args: &[&str]) -> Options {
    parse(["wordcount", "--quiet"].iter().chain(args).map(Into::into)).unwrap()
}

/// Runs on `n` ranks; every rank must end alike. Returns the error's text and code, if there is one.
fn run(n: u32, args: &[&str]) -> Result<(), (String, u8)> {
    let options = options(args);
    testing::run(n, |world| job::run(world, &options))
}

/// The output, as a loop over characters makes it.
fn plainly(files: &[Vec<u8>], space: bool, ignore_case: bool) -> Vec<u8> {
    let mut counts: HashMap<Vec<u8>, u64> = HashMap::new();
    for file in files {
        let mut words: Vec<Vec<u8>> = vec![Vec::new()];
        for chunk in file.utf8_chunks() {
            if space {
                for byte in [chunk.valid().as_bytes(), chunk.invalid()].concat() {
                    match byte {
                        9..=13 | 32 => words.push(Vec::new()),
                        byte => words.last_mut().unwrap().push(byte),
                    }
                }
                continue;
            }
            for c in chunk.valid().chars() {
                match is_word(c) {
                    true => words.last_mut().unwrap().extend(c.to_string().bytes()),
                    false => words.push(Vec::new()),
                }
            }
            if !chunk.invalid().is_empty() {
                words.push(Vec::new());
            }
        }
        for word in words.into_iter().filter(|w| !w.is_empty()) {
            let word = match (ignore_case, String::from_utf8(word)) {
                (true, Ok(word)) => word.to_lowercase().into_bytes(),
                (true, Err(e)) => crate::unicode::lower(e.as_bytes()).into_owned(),
                (false, word) => word.map_or_else(|e| e.into_bytes(), String::into_bytes),
            };
            *counts.entry(word).or_default() += 1;
        }
    }
    let mut rows: Vec<_> = counts.into_iter().collect();
    rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    rows.into_iter().flat_map(|(word, count)| [word, format!("\t{count}\n").into_bytes()].concat()).collect()
}

fn check(files: &[Vec<u8>], more: &[&str]) {
    let dir = Dir::new();
    std::fs::create_dir(dir.path("in")).unwrap();
    for (i, file) in files.iter().enumerate() {
        std::fs::write(dir.path(&format!("in/{i:04}")), file).unwrap();
    }
    let (input, output) = (dir.text("in"), dir.text("out"));
    for (words, space) in [("alnum", false), ("space", true)] {
        for ignore_case in [false, true] {
            let want = plainly(files, space, ignore_case);
            for n in RANKS {
                let mut args = vec!["--input", &input, "--output", &output, "--words", words];
                args.extend(ignore_case.then_some("--ignore-case"));
                run(n, &[&args[..], more].concat()).unwrap();
                let got = std::fs::read(dir.path("out")).unwrap();
                assert!(
                    got == want,
                    "{words}, ignore case {ignore_case}, {n} ranks:\n{}\nnot\n{}",
                    String::from_utf8_lossy(&got[..got.len().min(2000)]),
                    String::from_utf8_lossy(&want[..want.len().min(2000)])
                );
            }
        }
    }
}

/// Text of the kinds that matter at the borders of ranks: all lengths of characters, and what is none.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[a-cA-C0-9]{1,20}".prop_map(String::into_bytes),
        4 => "[ \n\r\t_.,]{1,2}".prop_map(String::into_bytes),
        3 => "[äÉßΣσİ語。🙂\u{301}\u{94d}ह०\u{a0}]{1,6}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 1..4),
        1 => prop::collection::vec(prop::sample::select(&b"\x80\xbf\xc3\xe4\xb8\xf0\x9f\x99"[..]), 1..6),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_small_files(files in prop::collection::vec(bytes(), 1..4)) {
        check(&files, &[]);
    }
}

#[test]
fn files_with_a_peculiarity() {
    let text = |text: &str| text.as_bytes().to_vec();
    for files in [
        vec![text("")],
        vec![text(""), text("one"), text(""), text("one"), text("")],
        vec![text("a\r\nb\r\na\r\n\r\n")],
        vec![text(" ")],
        vec![b"a\0b a\0b a".to_vec()],
        // Longer than a piece, and than all ranks' parts; with and without an end.
        vec![[&[b' '; 100][..], &[b'x'; 300_000], b" tail"].concat()],
        vec![vec![b'y'; 700_000], vec![b'y'; 700_000]],
        // Runs without any ASCII between their words, and one that is no UTF-8 at all.
        vec!["語。漢字、".repeat(40_000).into_bytes()],
        vec!["é".repeat(150_000).into_bytes()],
        vec![vec![0xff; 500_000], vec![0x80; 300_000]],
    ] {
        check(&files, &[]);
    }
}

#[test]
fn little_memory_spills_and_changes_nothing() {
    let words = |from: u64| -> Vec<u8> {
        let word = |i| {
            let word = format!("{:x}", aeolian_examples::random::mix(i)).repeat(1 + i as usize % 4);
            let more = if i % 3 == 0 { " Often" } else { "" };
            format!("{word}{more}\n")
        };
        (from..from + 25_000).flat_map(|i| word(i).into_bytes()).collect()
    };
    check(&[words(0), words(20_000), words(100_000)], &["--memory", "1MiB"]);
}

#[test]
fn errors_of_all_ranks_or_of_one_are_one() {
    let dir = Dir::new();
    let input = dir.write("x", "a b");
    let none = dir.text("none");
    for (args, code, want) in [
        (vec!["--input", &none], 66, "none: cannot be read: no such file"),
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
    let inputs = [dir.write("before", "one two three"), dir.text("after")];
    let list = World::local(2, |mut world| {
        let options = options(&["--input", &inputs[0]]);
        let files = crate::files::Files::list(&mut world, &options).unwrap();
        if world.rank() == 0 {
            std::fs::write(&inputs[0], "one two three four").unwrap();
        }
        aeolian::harp::barrier(&mut world).unwrap();
        let e = files.open(0).unwrap_err();
        world.finish()?;
        Ok((e.to_string(), e.exit_code()))
    });
    for (text, code) in list.unwrap() {
        assert!(text.contains("this rank sees a file of 18 bytes, but rank 0 saw one of 13"), "{text}");
        assert_eq!(code, exit::DATA);
    }
}

/// Ranks do not begin at the same time.
#[test]
fn stretches_are_times_whoever_began_first() {
    let options = options(&[]);
    let options = Options { output: Some("/dev/null".into()), ..options };
    let all = World::local(4, |mut world| {
        if world.rank() == 0 {
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        let (summary, _) = job::work(&mut world, &options, Mode::Silent).unwrap();
        world.finish()?;
        Ok(summary.seconds)
    });
    for s in all.unwrap() {
        let parts = [s.count, s.reduce, s.write];
        assert!(parts.iter().all(|part| *part >= 0.0) && parts.iter().sum::<f64>() <= s.total, "{s:?}");
    }
}
