//! The small commands.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use aeolian_net::exit;
use common::run;

#[test]
fn every_code_is_explained_by_number_and_name() {
    for (code, name, meaning) in exit::TABLE {
        for key in [code.to_string(), name.to_string(), name.to_lowercase()] {
            let done = run(&["explain", &key]);
            assert!(
                done.code() == 0 && done.out.contains(name) && done.out.contains(meaning),
                "{key}: {done:?}"
            );
        }
    }
    assert_eq!(run(&["explain"]).out.lines().count(), exit::TABLE.len());
    assert!(run(&["explain", "3"]).out.contains("the program's own"));
    assert!(run(&["explain", "137"]).out.contains("signal 9"));
    let done = run(&["explain", "NONSENSE"]);
    assert!(done.code() == 64 && done.err.contains("LEFT_EARLY"), "{done:?}");
}

#[test]
fn wrong_command_lines_are_64_and_help_is_0() {
    assert_eq!(run(&["run", "--bogus", "true"]).code(), 64);
    assert_eq!(run(&["run"]).code(), 64);
    assert_eq!(run(&["run", "-n", "0", "true"]).code(), 64);
    assert_eq!(run(&["run", "--help"]).code(), 0);
    assert!(run(&["version"]).out.starts_with("aeolian "));
}

#[test]
fn an_agent_that_nobody_speaks_to_ends() {
    let done = common::run_with(&["agent"], b"");
    assert_eq!(done.code(), 0, "{done:?}");
    let done = common::run_with(&["agent"], b"\xff\xff\xff\xff nonsense");
    assert!(done.code() == 76 && done.err.contains("people do not"), "{done:?}");
    let done = common::run_with(&["guard"], b"+\n-x\n+99999999999999\nnonsense\n");
    assert_eq!(done.code(), 0, "{done:?}");
}
