use super::*;
use crate::limits::{Limit, Unit};
use crate::scratch::Medium;

/// A report in which everything that can be long is.
fn crowded() -> Report {
    let mut report = Report::gather(Some(700));
    let long = "/directory with a long name".repeat(5);
    report.host = "h".repeat(63);
    report.settings.insert("AEOLIAN_SCRATCH".into(), long.clone());
    report.slurm.insert("SLURM_JOB_NODELIST".into(), "node[0001-0400],".repeat(12));
    let outcomes = [
        Outcome::Works(Loaded { flavor: "openmpi".into(), version: "Open MPI ".repeat(20) }),
        Outcome::Refused { reason: "it is damaged ".repeat(10) },
        Outcome::Missing,
        Outcome::Untried,
    ];
    report.mpi.candidates =
        outcomes.map(|outcome| Candidate { path: format!("{long}/lib.so"), outcome }).into();
    report.limits.push(Limit {
        name: "a limit whose name takes more than its share of the line".into(),
        unit: Unit::Bytes,
        value: Some(u64::MAX),
        needed: Some(u64::MAX),
        verdict: Verdict::warn("too little", "more"),
    });
    report.scratch.push(Scratch {
        source: "AEOLIAN_SCRATCH".into(),
        path: long.clone(),
        file_system: "tmpfs".into(),
        medium: Medium::Memory,
        free_bytes: Some(1),
        not_writable: None,
        verdict: Verdict::warn(format!("{long} is memory"), "use a disk"),
    });
    report.interfaces.push(Interface {
        name: "interface-names-have-15-at-most".into(),
        address: "2001:0db8:1111:2222:3333:4444:5555:6666".parse().unwrap(),
        up: true,
        loopback: false,
    });
    for _ in 0..12 {
        report.warnings.push(Warning::new("scratch", format!("{long} is memory"), format!("not {long}")));
    }
    report
}

#[test]
fn never_wider_than_80_columns_and_every_warning_has_help() {
    for report in [Report::gather(None), crowded()] {
        let text = render_text(&report);
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
            assert_eq!(line, line.trim_end());
        }
        let helps = text.lines().filter(|l| l.trim_start().starts_with("help ")).count();
        assert_eq!(helps, report.warnings.len(), "{text}");
        assert!(report.warnings.iter().all(|w| !w.problem.is_empty() && !w.help.is_empty()));
    }
}

#[test]
fn warnings_come_last() {
    let text = render_text(&crowded());
    let last_section = text.split("\n\n").last().unwrap();
    let first = last_section.lines().next().unwrap();
    assert!(first.ends_with("warnings"), "{first}");
    let mut quiet = Report::gather(Some(1));
    quiet.warnings.clear();
    assert!(render_text(&quiet).ends_with("\n\nNo warnings.\n"));
}

#[test]
fn json_comes_back_as_it_went() {
    for report in [Report::gather(Some(3)), crowded()] {
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}

#[test]
fn ranks_are_those_asked_for_or_launched_or_one_a_core() {
    let launch = |launcher, size, local_size| Launch { launcher, rank: 0, size, local_size };
    let ranks = |asked, launch: Launch| {
        let found = Ranks::find(asked, Some(&launch), 8);
        (found.here, found.total)
    };
    assert_eq!(ranks(None, launch(Launcher::Nobody, 1, Some(1))), (8, 8));
    assert_eq!(ranks(Some(3), launch(Launcher::Nobody, 1, Some(1))), (3, 3));
    assert_eq!(ranks(None, launch(Launcher::OpenMpi, 64, Some(16))), (16, 64));
    assert_eq!(ranks(Some(4), launch(Launcher::OpenMpi, 64, Some(16))), (4, 64));
    assert_eq!(ranks(None, launch(Launcher::Aeolian, 6, None)), (6, 6));
    assert_eq!(ranks(None, launch(Launcher::Pmix, 0, None)), (8, 8));
    assert_eq!(Ranks::find(Some(0), None, 8).here, 1);
}

#[test]
fn scratch_warns_of_what_was_named_or_when_nothing_is_good() {
    let directory = |source: &str, bad: bool| Scratch {
        source: source.into(),
        path: format!("/{source}"),
        file_system: "x".into(),
        medium: Medium::Unknown,
        free_bytes: None,
        not_writable: None,
        verdict: if bad { Verdict::warn(format!("/{source} is bad"), "h") } else { Verdict::Ok },
    };
    let warned = |all: &[(&str, bool)]| {
        let all: Vec<_> = all.iter().map(|(source, bad)| directory(source, *bad)).collect();
        scratch_warnings(&all).into_iter().map(|w| w.problem).collect::<Vec<_>>()
    };
    assert_eq!(warned(&[("default", false)]), [""; 0]);
    assert_eq!(warned(&[("default", true)]), ["/default is bad"]);
    assert_eq!(warned(&[("TMPDIR", false), ("default", true)]), [""; 0]);
    assert_eq!(warned(&[("TMPDIR", true), ("default", false)]), ["/TMPDIR is bad"]);
    assert_eq!(warned(&[("TMPDIR", true), ("default", true)]), ["/TMPDIR is bad"]);
}

#[test]
fn little_memory_is_worth_a_word() {
    let budget = |bytes| Budget { bytes, source: "s".into(), candidates: vec![("s".into(), bytes)] };
    assert_eq!(little_memory(&budget(LITTLE_MEMORY)), None);
    assert!(little_memory(&budget(LITTLE_MEMORY - 1)).unwrap().problem.contains("256 MiB"));
}

#[test]
fn what_hangs_is_not_waited_for() {
    let (never, waits) = std::sync::mpsc::channel::<()>();
    assert_eq!(within(Duration::from_millis(20), move || waits.recv().is_ok()), None);
    drop(never);
    assert_eq!(within(PATIENCE, || 7), Some(7));
}
