//! Host lists against the real thing: `scontrol show hostnames`, which needs a slurm.conf but no running cluster.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are test code too")]
use std::io::Write as _;
use std::process::Command;

use aeolian_slurm::hostlist::{compress, expand};

/// Runs scontrol with a configuration of its own; `None` (said on stderr) where it is not installed.
fn scontrol(what: &str, list: &str) -> Option<Vec<String>> {
    // Of each thread its own: what one removes, another may be about to use.
    let thread = format!("slurm-conf-{}-{:?}", std::process::id(), std::thread::current().id());
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(thread);
    std::fs::create_dir_all(&dir).unwrap();
    let conf = dir.join("slurm.conf");
    let text = "ClusterName=x\nSlurmctldHost=localhost\nNodeName=localhost\nPartitionName=p Nodes=ALL\n";
    std::fs::File::create(&conf).unwrap().write_all(text.as_bytes()).unwrap();
    let out = Command::new("scontrol").env("SLURM_CONF", &conf).args(["show", what, list]).output();
    std::fs::remove_file(&conf).unwrap();
    let _ = std::fs::remove_dir(&dir);
    match out {
        Ok(out) => Some(String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let required = std::env::var("AEOLIAN_REQUIRE_ALL").is_ok_and(|v| v == "1");
            assert!(!required, "scontrol is not installed (ci/setup installs it), and AEOLIAN_REQUIRE_ALL=1");
            eprintln!("SKIPPED: scontrol is not installed (ci/setup installs it)");
            None
        }
        Err(e) => panic!("scontrol: {e}"),
    }
}

#[test]
fn the_same_names_as_slurm() {
    for list in [
        "n1",
        "n[1-4]",
        "n[01-04,7],gpu[1-2]-ib[0-3],a",
        "n[9-010]",
        "n[08-11]",
        "n[098-101]",
        "n[001-10]",
        "n[0-01]",
        "n[1-2][3-4]",
        "n[1,1]",
        "n[3,1,2]",
        "a,,b,",
        "a b",
        "[1-2]",
        "rack[01-03]node[1-2]",
        "very-long-name-with-dashes-[1-3]",
        "n[0-1000]",
    ] {
        let Some(theirs) = scontrol("hostnames", list) else { return };
        assert_eq!(expand(list).unwrap(), theirs, "{list}");
    }
}

#[test]
fn slurm_reads_what_we_compress() {
    for names in ["n1 n2 n3 n5", "n09 n10 n11 n012 n7", "a b1 b2 a", "x-1 x-2 y01", "7 8 9 10", "n1 n1"] {
        let names: Vec<&str> = names.split(' ').collect();
        let Some(theirs) = scontrol("hostnames", &compress(&names).unwrap()) else { return };
        assert_eq!(theirs, names);
    }
}

#[test]
fn what_slurm_refuses_we_refuse() {
    for list in ["n[3-1]", "n[]", "n[a-b]", "n[-1]", "n[1--2]", "a[[1]]", "n[1-99999999999999999999]"] {
        let Some(theirs) = scontrol("hostnames", list) else { return };
        assert!(theirs.is_empty(), "{list}: {theirs:?}");
        assert!(expand(list).is_err(), "{list}");
    }
}
