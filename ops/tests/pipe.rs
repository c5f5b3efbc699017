//! Records through programs of the system: what fails, refuses, or does not want to read.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

use aeolian_net::{NetError, World};
use aeolian_ops::{
    Batch, Dataflow, Full, Insert, InsertError, LogicalPlan, Operator, OpsError, Pipe, taking,
};
use std::time::{Duration, Instant};

/// The lines that a program makes of these, in so many rounds, where a receiver takes what `take` lets it.
fn lines(command: &[&str], input: &[String], rounds: usize, refuse: u32) -> Result<Vec<Vec<u8>>, OpsError> {
    let world = World::alone();
    let flow = Dataflow::new(&world)?;
    let mut came = Vec::new();
    let mut asked = 0;
    let take = |_: u32, mut batch: Batch<Vec<u8>>| {
        asked += 1;
        came.extend(batch.by_ref().take(if asked % 3 < refuse { 1 } else { usize::MAX }));
        if batch.is_empty() { Ok(()) } else { Err(Full(batch)) }
    };
    let mut op = Pipe::new(&flow, &LogicalPlan::each_rank(&world), command.iter().copied(), take)?;
    for round in 0..rounds {
        if round > 0 {
            op.reset()?;
        }
        op.insert_all(0, input.iter().cloned())?;
        op.finish(0)?;
        op.complete()?;
    }
    drop(op);
    Ok(came)
}

#[test]
fn all_lines_come_back() {
    // More than fits into pipes and buffers at a time, in both directions.
    let input: Vec<String> = (0..100_000).map(|i| format!("{i} {}", "x".repeat(i % 50))).collect();
    for refuse in [0, 2] {
        let got = lines(&["cat"], &input, 2, refuse).unwrap();
        assert_eq!(got.len(), 2 * input.len());
        assert!(got.iter().zip(input.iter().cycle()).all(|(got, want)| got == want.as_bytes()));
    }
}

#[test]
fn what_is_not_wanted_is_dropped_and_the_last_line_needs_no_end() {
    let input: Vec<String> = (0..100_000).map(|i| i.to_string()).collect();
    assert_eq!(lines(&["head", "-n", "2"], &input, 1, 0).unwrap(), [b"0", b"1"]);
    assert_eq!(lines(&["printf", "a\nb"], &[], 1, 0).unwrap(), [b"a", b"b"]);
    assert_eq!(lines(&["wc", "-l"], &["two\nlines".into()], 1, 0).unwrap(), [b"2"]);
    assert!(lines(&["true"], &[], 1, 0).unwrap().is_empty());
}

#[test]
fn programs_that_fail_are_named() {
    let told = |command: &[&str]| lines(command, &["a".into()], 1, 0).unwrap_err().to_string();
    let text = told(&["false"]);
    assert!(
        text.starts_with("pipe #1 on rank 0: false of task 0 failed: it ended with exit status: 1"),
        "{text}"
    );
    let text = told(&["sh", "-c", "cat; kill -9 $$"]);
    assert!(text.contains("sh of task 0 failed: it ended with signal: 9"), "{text}");
    let text = told(&["no-such-program-here"]);
    assert!(text.contains("no-such-program-here of task 0 failed: No such file"), "{text}");
    assert!(matches!(lines(&[], &[], 1, 0), Err(OpsError::Plan(_))));
}

#[test]
fn what_cannot_be_is_told() {
    let world = World::alone();
    let flow = Dataflow::new(&world).unwrap();
    let plan = LogicalPlan::each_rank(&world);
    let mut op = Pipe::new(&flow, &plan, ["cat"], taking(|_, _: Batch<Vec<u8>>| {})).unwrap();
    assert!(op.barrier(0, Vec::new()).unwrap_err().to_string().contains("knows none"));
    assert!(op.finish(1).unwrap_err().to_string().contains("source 1 cannot finish here"));
    op.finish(0).unwrap();
    match op.insert(0, "late") {
        Err(InsertError::Failed(e)) => assert!(e.to_string().contains("it has finished"), "{e}"),
        other => panic!("{other:?}"),
    }
    assert!(op.reset().is_err());
    op.complete().unwrap();
    let elsewhere = LogicalPlan::new(&world, 1, 2);
    assert!(matches!(Pipe::new(&flow, &elsewhere, ["cat"], taking(|_, _| {})), Err(OpsError::Plan(_))));
}

#[test]
fn a_program_that_is_left_is_killed() {
    let world = World::alone();
    let flow = Dataflow::new(&world).unwrap();
    let plan = LogicalPlan::each_rank(&world);
    let mut pid = None;
    let take = taking(|_, batch: Batch<Vec<u8>>| pid = pid.take().or(batch.last()));
    let mut op = Pipe::new(&flow, &plan, ["sh", "-c", "echo $$; exec sleep 1000"], take).unwrap();
    let began = Instant::now();
    while !op.progress().unwrap() {
        assert!(began.elapsed() < Duration::from_secs(60), "it says nothing");
    }
    drop(op);
    let pid = String::from_utf8(pid.unwrap()).unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is left");
}

#[test]
fn each_rank_has_its_own() -> Result<(), NetError> {
    let got = World::local(3, |world| {
        let flow = Dataflow::new(&world)?;
        // Two tasks on rank 1, none on rank 2.
        let plan = LogicalPlan::new(&world, 0, 0).sources_on(&[1, 0, 1])?.targets_on(&[1, 0, 1])?;
        let mut came = Vec::new();
        let take = taking(|task, batch: Batch<Vec<u8>>| came.extend(batch.map(|line| (task, line))));
        let mut op = Pipe::new(&flow, &plan, ["sed", "s/^/line /"], take)?;
        for source in plan.sources_of(world.rank()) {
            op.insert_all(source, [source.to_string()])?;
            op.finish(source)?;
        }
        op.complete()?;
        drop(op);
        world.finish()?;
        came.sort();
        Ok(came)
    })?;
    let line = |task: u32| (task, format!("line {task}").into_bytes());
    assert_eq!(got, [vec![line(1)], vec![line(0), line(2)], vec![]]);
    Ok(())
}
