//! The whole program on ranks as threads of this process, on the bundled flights.

use aeolian_examples::flights;

use crate::cli::parse;
use crate::job;

#[path = "../common/testing.rs"]
mod testing;
use testing::Dir;

/// What DuckDB says of them.
const GROUPS: &str = include_str!("tests/flights-groups.csv");

fn output(ranks: u32, args: &[&str]) -> String {
    let dir = Dir::new();
    let to = dir.text("o.csv");
    let words = [&["groupby", "--quiet", "--output", &to], args].concat();
    let options = parse(words.iter().map(Into::into)).unwrap();
    testing::run(ranks, |world| job::run(world, &options)).unwrap();
    std::fs::read_to_string(to).unwrap()
}

#[test]
fn the_bundled_flights_on_any_number_of_ranks() {
    for ranks in [1, 2, 3, 7] {
        assert_eq!(output(ranks, &[]), GROUPS, "{ranks} ranks");
    }
}

#[test]
fn a_file_of_them_says_the_same() {
    let dir = Dir::new();
    let source = flights::flights();
    let text = String::from_utf8(source.bytes(0, source.len()).unwrap()).unwrap();
    let file = dir.write("flights.csv", &text);
    let agg = "count,count:dep_time,mean:dep_delay,max:dep_delay,sum:distance";
    assert_eq!(output(2, &["--input", &file, "--key", "carrier", "--agg", agg]), GROUPS);
    let counts: Vec<String> =
        GROUPS.lines().map(|l| l.split(',').take(2).collect::<Vec<_>>().join(",")).collect();
    let text = output(2, &["--input", &file, "--key", "carrier"]);
    assert_eq!(text.lines().collect::<Vec<_>>(), counts, "without --agg, groups are counted");
}

#[test]
fn how_files_are_written_is_said_of_the_output_only() {
    let text = output(2, &["--key", "tailnum", "--delimiter", "tab", "--null", "NA"]);
    assert_eq!(text.lines().nth(1), Some("NA\t168\t0\tNA\tNA\t193489"), "{text}");
}
