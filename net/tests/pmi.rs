//! Ranks find each other through the launchers' key-value services, with no MPI. What runs on the ranks is the ignored test `worker`
//! of this same binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on should panic

mod launch;

use aeolian_net::pmi::{self, pmi1, pmix};
use launch::{launch, launch_with, need};

fn value(rank: u32, round: u32) -> Vec<u8> {
    // Any bytes, among them those that the wire itself uses; round 2 has as many as fit in every service.
    let mut value = format!("rank={rank} round {round}\n\0").into_bytes();
    value.extend((0..=255u8).chain([rank as u8]));
    value
}

fn exchange(expected: &str) {
    let mut kvs = pmi::connect().unwrap().expect("the launcher offers no service");
    assert_eq!(kvs.protocol(), expected);
    let (me, n) = (kvs.rank(), kvs.size());
    assert!(kvs.max_value() >= 300, "{}", kvs.max_value());
    for round in 0..3 {
        let key = format!("card-{round}");
        kvs.put(&key, &value(me, round)).unwrap();
        if me == 0 {
            kvs.put(&format!("empty_{round}"), b"").unwrap();
        }
        kvs.fence().unwrap();
        for rank in 0..n {
            assert_eq!(kvs.get(rank, &key).unwrap(), value(rank, round));
        }
        assert_eq!(kvs.get(0, &format!("empty_{round}")).unwrap(), b"");
    }
    assert!(kvs.put("k", &vec![0; kvs.max_value() + 1]).is_err());
    kvs.put("full", &vec![0xab; kvs.max_value()]).unwrap();
    kvs.fence().unwrap();
    assert_eq!(kvs.get((me + 1) % n, "full").unwrap(), vec![0xab; kvs.max_value()]);
    if expected == "PMI-1" {
        let error = kvs.get(0, "never-put").unwrap_err();
        println!("REFUSED {error}");
    }
    kvs.fence().unwrap();
    kvs.finalize().unwrap();
    println!("KVS OK {expected} rank {me} of {n}");
}

#[test]
#[ignore = "started on each rank by the other tests"]
fn worker() {
    match std::env::var(launch::ROLE).as_deref() {
        Ok("pmi1") => exchange("PMI-1"),
        Ok("pmix") => exchange("PMIx"),
        Ok("no-library") => {
            let error = pmix::Pmix::connect().unwrap_err();
            println!("NO LIBRARY: {error}");
            std::process::exit(0);
        }
        Ok(other) => panic!("no role {other}"),
        Err(_) => println!("skipped: this test is for ranks"),
    }
}

#[test]
fn pmi1_under_hydra() {
    let Some(launcher) = need("mpiexec.mpich") else { return };
    for ranks in [1, 4, 7] {
        let run = launch(&launcher, ranks, "pmi1", &[], 60);
        run.assert_all("KVS OK PMI-1", ranks);
        run.assert_all("REFUSED", ranks);
    }
}

#[test]
fn pmi1_over_tcp_under_hydra() {
    let Some(launcher) = need("mpiexec.mpich") else { return };
    let run = launch_with(&launcher, &["-pmi-port"], 4, "pmi1", &[], 60);
    run.assert_all("KVS OK PMI-1", 4);
}

#[test]
fn pmix_under_open_mpi() {
    let Some(launcher) = need("mpirun.openmpi") else { return };
    for ranks in [1, 4, 7] {
        launch(&launcher, ranks, "pmix", &[], 60).assert_all("KVS OK PMIx", ranks);
    }
}

#[test]
fn a_missing_pmix_library_is_an_error_that_helps() {
    let Some(launcher) = need("mpirun.openmpi") else { return };
    let run = launch(&launcher, 1, "no-library", &[("AEOLIAN_PMIX", "libno-pmix.so.2")], 60);
    assert!(run.text.contains("NO LIBRARY") && run.text.contains("libno-pmix.so.2"), "{}", run.text);
    assert!(run.text.contains("AEOLIAN_PMIX"), "{}", run.text);
}

#[test]
fn nobody_offers_anything() {
    if pmix::offered() || pmi1::offered() {
        println!("skipped: the tests themselves were started by an MPI launcher");
        return;
    }
    assert!(pmi::connect().unwrap().is_none());
}
