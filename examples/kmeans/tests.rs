//! The whole program on ranks as threads of this process.

use std::path::Path;

use aeolian::World;
use aeolian::net::exit;
#[cfg(feature = "hdf5")]
use aeolian_examples::npy;
use aeolian_examples::random;

use crate::cli::{Options, parse};
use crate::job;

#[path = "../common/testing.rs"]
mod testing;
use testing::Dir;

const RANKS: [u32; 6] = [1, 2, 3, 4, 7, 16];

fn options(args: &[&str]) -> Options {
    let args = ["kmeans", "--quiet", "--threads", "1"].iter().chain(args).map(Into::into);
    parse(args).unwrap()
}

/// Runs on `n` ranks; every rank must end alike. Returns the error's text and code, if there is one.
fn run(n: u32, args: &[&str]) -> Result<(), (String, u8)> {
    let options = options(args);
    testing::run(n, |world| job::run(world, &options))
}

fn numbers(path: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(path).unwrap();
    text.split([',', '\n']).filter(|f| !f.is_empty()).map(|f| f.parse().unwrap()).collect()
}

/// `n` points around five centres in the plane.
fn blobs(n: u64) -> String {
    let unit = |i, c| random::at(5, c, i) as f64 / u64::MAX as f64 - 0.5;
    let line = |i: u64| {
        let (x, y) = ((i % 5) as f64 * 3.0 + unit(i, 0), ((i * i) % 5) as f64 * 2.0 + unit(i, 1));
        format!("{x},{y}\n")
    };
    (0..n).map(line).collect()
}

#[test]
fn same_clusters_on_any_number_of_ranks() {
    let dir = Dir::new();
    let input = dir.write("points.csv", &blobs(501));
    for (init, dtype) in [("first", "f64"), ("random", "f64"), ("kmeans++", "f64"), ("kmeans++", "f32")] {
        let mut wanted: Option<(Vec<f64>, Vec<f64>)> = None;
        for n in RANKS {
            let (out, labels) = (dir.text("c.csv"), dir.text("l.txt"));
            let args = [
                "--input", &input, "--k", "5", "--init", init, "--dtype", dtype, "--output", &out,
                "--labels", &labels,
            ];
            run(n, &args).unwrap();
            let got = (numbers(Path::new(&out)), numbers(Path::new(&labels)));
            let (centroids, labels) = wanted.get_or_insert_with(|| got.clone());
            assert_eq!((got.1.len(), &got.1), (501, &*labels), "{init} {dtype} on {n} ranks");
            // Sums in another order: a few last bits, nothing more.
            let near = got.0.iter().zip(&*centroids).all(|(a, b)| (a - b).abs() <= 1e-12 * b.abs().max(1.0));
            assert!(near, "{init} {dtype} on {n} ranks: {:?} {centroids:?}", got.0);
        }
    }
}

#[test]
fn same_bits_on_any_number_of_ranks_and_threads() {
    let dir = Dir::new();
    let input = dir.write("points.csv", &blobs(501));
    for (dtype, tolerance) in [("f64", "0"), ("f32", "1e-4")] {
        let mut wanted = None;
        for (n, threads) in [(1, "1"), (2, "1"), (3, "2"), (7, "1"), (1, "3")] {
            let (out, report) = (dir.text("c.npy"), dir.text("r.html"));
            let args = [
                "--input",
                &input,
                "--k",
                "7",
                "--dtype",
                dtype,
                "--tolerance",
                tolerance,
                "--output",
                &out,
                "--plot",
                &report,
                "--reproducible",
                "--threads",
                threads,
            ];
            let args = ["kmeans", "--quiet"].iter().chain(&args).map(Into::into);
            let options = parse(args).unwrap();
            testing::run(n, |world| job::run(world, &options)).unwrap();
            // The picture tells the sizes of the clusters.
            let got = (std::fs::read(&out).unwrap(), std::fs::read(&report).unwrap());
            assert!(
                *wanted.get_or_insert_with(|| got.clone()) == got,
                "{dtype} on {n} ranks of {threads} threads"
            );
        }
    }
}

#[test]
fn empty_cluster_takes_the_farthest_point() {
    let dir = Dir::new();
    // Centroid 2 is far from everything: it must take 100, the point farthest from its centroid.
    let input = dir.write("x.csv", "0\n1\n10\n11\n100\n");
    let init = dir.write("init.csv", "0\n10\n-1000\n");
    for n in RANKS {
        let out = dir.text("c.csv");
        run(n, &["--input", &input, "--init", &init, "--output", &out]).unwrap();
        assert_eq!(numbers(Path::new(&out)), [0.5, 10.5, 100.0], "{n} ranks");
    }
}

#[test]
fn more_clusters_than_different_points_is_no_failure() {
    let dir = Dir::new();
    let input = dir.write("x.csv", "1,1\n1,1\n1,1\n2,2\n2,2\n");
    for init in ["first", "random", "kmeans++"] {
        for n in [1, 3] {
            let out = dir.text("c.csv");
            run(n, &["--input", &input, "--k", "4", "--init", init, "--output", &out]).unwrap();
            assert!(numbers(Path::new(&out)).iter().all(|x| [1.0, 2.0].contains(x)));
        }
    }
}

#[test]
fn fewer_rows_than_ranks_works() {
    let dir = Dir::new();
    let out = dir.text("c.csv");
    let input = dir.write("x.csv", "h\n1\n5\n");
    run(7, &["--input", &input, "--k", "2", "--init", "first", "--output", &out]).unwrap();
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "\"h\"\n1\n5\n");
}

#[test]
fn one_bad_line_ends_all_ranks_with_one_error() {
    let dir = Dir::new();
    let mut lines: Vec<String> = blobs(400).lines().map(str::to_owned).collect();
    lines[350] = "1.0,oops".into();
    let input = dir.write("bad.csv", &(lines.join("\n") + "\n"));
    for (n, rank) in [(2, "rank: 1 of 2"), (4, "rank: 3 of 4"), (7, "rank: 6 of 7")] {
        let (text, code) = run(n, &["--input", &input, "--k", "5"]).unwrap_err();
        assert!(text.contains("bad.csv:351: column 2: \"oops\" is not a number"), "{text}");
        assert!(text.ends_with(rank) && code == 65, "{code} {text}");
    }
}

#[test]
fn errors_of_all_ranks_or_of_rank_0_are_one_too() {
    let dir = Dir::new();
    let input = dir.write("x.csv", "1\n2\n3\n");
    let none = dir.text("none.csv");
    for (args, code, want) in [
        (vec!["--input", &none, "--k", "2"], 66, "none.csv: cannot be read: no such file"),
        (vec!["--input", &input, "--k", "4"], 65, "4 clusters of 3 points"),
        (
            vec!["--input", &input, "--k", "2", "--output", "/nonexistent/c.csv"],
            73,
            "make its directory first",
        ),
        (vec!["--input", &input, "--init", &none], 66, "none.csv: cannot be read"),
        (vec!["--input", &input, "--k", "2", "--output", &input], 64, "this file is an input"),
    ] {
        for n in [1, 3] {
            let (text, got) = run(n, &args).unwrap_err();
            assert!(got == code && text.contains(want), "{got} {text}");
        }
    }
}

#[cfg(feature = "hdf5")]
#[test]
fn hyperslabs_of_hdf5_are_the_rows_of_npy() {
    // A prime number of rows, so that no number of ranks divides it.
    const N: usize = 503;
    let dir = Dir::new();
    let plane: Vec<f64> = blobs(N as u64).split([',', '\n']).filter_map(|f| f.parse().ok()).collect();
    let whole: Vec<i32> = plane.iter().map(|x| (x * 1000.0) as i32).collect();
    let narrow: Vec<f32> = plane.iter().map(|x| *x as f32).collect();
    let bytes = |x: &[f64]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let file = hdf5_metno::File::create(dir.path("x.h5")).unwrap();
    let set = |name: &str, shape: &[usize]| file.new_dataset::<f64>().shape(shape).create(name).unwrap();
    set("plane", &[N, 2]).write_raw(&plane).unwrap();
    set("line", &[2 * N]).write_raw(&plane).unwrap();
    // Borders between ranks lie inside of chunks.
    let chunked = file.new_dataset::<f64>().shape([N, 2]).chunk([64, 2]).create("chunked").unwrap();
    chunked.write_raw(&plane).unwrap();
    file.new_dataset::<i32>().shape([N, 2]).create("whole").unwrap().write_raw(&whole).unwrap();
    file.new_dataset::<f32>().shape([N, 2]).create("narrow").unwrap().write_raw(&narrow).unwrap();
    drop((chunked, file));
    let whole: Vec<f64> = whole.iter().map(|x| f64::from(*x)).collect();
    let narrow: Vec<f64> = narrow.iter().map(|x| f64::from(*x)).collect();
    for (name, shape, points) in [
        ("plane", &[N as u64, 2][..], &plane),
        ("line", &[2 * N as u64], &plane),
        ("chunked", &[N as u64, 2], &plane),
        ("whole", &[N as u64, 2], &whole),
        ("narrow", &[N as u64, 2], &narrow),
    ] {
        let npy = [npy::header_bytes("<f8", shape), bytes(points)].concat();
        std::fs::write(dir.path("x.npy"), npy).unwrap();
        for n in [1, 2, 3, 5] {
            let results = ["x.npy".to_owned(), format!("x.h5:/{name}")].map(|input| {
                let (input, c, l) = (dir.text(&input), dir.text("c.npy"), dir.text("l.npy"));
                let args =
                    ["--input", &input, "--k", "5", "--iterations", "5", "--output", &c, "--labels", &l];
                run(n, &args).unwrap();
                (std::fs::read(c).unwrap(), std::fs::read(l).unwrap())
            });
            assert_eq!(results[0].1.len() as u64, 128 + 4 * shape[0]);
            assert!(results[0] == results[1], "{name} on {n} ranks");
        }
    }
}

#[test]
fn a_text_file_that_grows_between_the_ranks_is_an_error() {
    let dir = Dir::new();
    let inputs = [dir.write("before.csv", "1,2\n3,4\n"), dir.write("after.csv", "1,2\n3,4\n5,6\n")];
    let ends = World::local(2, |mut world| {
        let options = options(&["--input", &inputs[world.rank() as usize], "--k", "2"]);
        let end = job::run(&mut world, &options).unwrap_err();
        world.finish()?;
        Ok((end.to_string(), end.exit_code()))
    });
    for (text, code) in ends.unwrap() {
        assert!(text.contains("rank 1 sees a file of 12 bytes, but rank 0 one of 8"), "{text}");
        assert_eq!(code, exit::DATA);
    }
}
