//! The whole program on ranks as threads of this process, on the bundled flights and planes.

use aeolian_examples::flights;
use aeolian_examples::readat::ReadAt;

use crate::cli::parse;
use crate::job;

#[path = "../common/testing.rs"]
mod testing;
use testing::Dir;

/// The lines of the output, without the header.
fn lines(ranks: u32, args: &[&str]) -> Vec<String> {
    let dir = Dir::new();
    let to = dir.text("o.csv");
    let words = [&["join", "--quiet", "--output", &to], args].concat();
    let options = parse(words.iter().map(Into::into)).unwrap();
    testing::run(ranks, |world| job::run(world, &options)).unwrap();
    let text = std::fs::read_to_string(to).unwrap();
    assert!(text.starts_with("tailnum,year,month,day,dep_time,"), "{text}");
    text.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn the_bundled_flights_on_any_number_of_ranks() {
    let sorted = lines(1, &["--sorted"]);
    assert_eq!(sorted.len(), 445);
    for ranks in [1, 2, 3, 7] {
        assert_eq!(lines(ranks, &["--sorted"]), sorted, "{ranks} ranks");
        let (mut any, mut same) = (lines(ranks, &[]), sorted.clone());
        any.sort();
        same.sort();
        assert_eq!(any, same, "{ranks} ranks");
    }
}

#[test]
fn files_of_them_say_the_same() {
    let dir = Dir::new();
    let file = |name: &str, source: ReadAt| {
        dir.write(name, std::str::from_utf8(&source.bytes(0, source.len()).unwrap()).unwrap())
    };
    let (left, right) = (file("l.csv", flights::flights()), file("r.csv", flights::planes()));
    let args = ["--left", &left, "--right", &right, "--on", "tailnum", "--sorted"];
    assert_eq!(lines(2, &args), lines(2, &["--sorted"]));
}

/// So many rows DuckDB finds; every plane has flights, but 168 of these have no tail number, and 71 one that is not known.
#[test]
fn all_kinds_of_join_of_the_bundled_flights() {
    for (kind, rows) in
        [("inner", 445), ("left", 684), ("right", 445), ("full", 684), ("semi", 445), ("anti", 239)]
    {
        for ranks in [1, 2] {
            let found = lines(ranks, &["--kind", kind]);
            assert_eq!(found.len(), rows, "{kind}, {ranks} ranks");
            let without = found.iter().filter(|line| line.starts_with(',')).count();
            let kept = matches!(kind, "left" | "full" | "anti");
            assert_eq!(without, if kept { 168 } else { 0 }, "{kind}, {ranks} ranks");
        }
    }
}
