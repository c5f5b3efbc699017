//! Ranks as real processes: what the job master learns when one leaves, is killed, is stopped or gets a signal.
//!
//! The test binary starts itself: with `AEOLIAN_TEST_RANK` set it is rank 0 or 1 of a job of two.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use aeolian_net::control::protocol::Card;
use aeolian_net::control::{Control, ControlConfig, JobId};
use aeolian_net::master::{Master, MasterConfig, Outcome};
use aeolian_net::secret::Secret;
use aeolian_net::{Blame, exit};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(20);

fn finish(control: Control) {
    control.say_finished();
    let start = Instant::now();
    while !control.all_finished() {
        assert!(start.elapsed() < LONG);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Not a test of its own: the body of a rank, if this process is one.
#[test]
fn rank_body() {
    let Ok(rank) = std::env::var("AEOLIAN_TEST_RANK") else { return };
    let rank: u32 = rank.parse().unwrap();
    if let Ok(dir) = std::env::var("AEOLIAN_TEST_MEETING") {
        let _published = aeolian_net::rendezvous::publish(dir.as_ref(), "slurm-1", "secret").unwrap();
        println!("ready");
        return std::thread::sleep(LONG);
    }
    if std::env::var_os("AEOLIAN_TEST_ALONE").is_some() {
        let end = Instant::now() + LONG;
        let mut world = aeolian_net::World::alone();
        world.wait_until(|_| Ok((Instant::now() > end).then_some(()))).unwrap();
        return world.finish().unwrap();
    }
    let addr: SocketAddr = std::env::var("AEOLIAN_TEST_MASTER").unwrap().parse().unwrap();
    let job: JobId = std::env::var("AEOLIAN_TEST_JOB").unwrap().parse().unwrap();
    let deed = std::env::var("AEOLIAN_TEST_DEED").unwrap();
    let secret = Secret::from_fd(0).unwrap();
    let card = Card {
        rank,
        size: 2,
        host: "here".into(),
        pid: std::process::id(),
        node: format!("node {rank}"),
        exe: [0; 32],
        version: "1".into(),
        data: None,
        extra: vec![],
    };
    let config = ControlConfig {
        exit_on_abort: true,
        master_is_rank_0: false,
        report: Box::new(|blame| eprintln!("{blame}")),
    };
    let pending = Control::connect(addr, &secret, job, 0, LONG).unwrap();
    let (control, _) = pending.register(card, LONG, config).unwrap();
    control.install_process_hooks();
    let wait = || std::thread::sleep(LONG);
    if deed == "after" {
        finish(control);
        println!("ready");
        return wait();
    }
    control.exchange(b"", LONG).unwrap();
    if deed == "aware" {
        assert!(!control.stop_requested());
    }
    println!("ready");
    match (deed.as_str(), rank) {
        ("exit0", 1) => std::process::exit(0),
        ("exit3", 1) => std::process::exit(3),
        // The system keeps eight bits: a success to whoever looks.
        ("exit256", 1) => std::process::exit(256),
        ("aware", _) => {
            let start = Instant::now();
            while !control.stop_requested() && start.elapsed() < LONG {
                std::thread::sleep(Duration::from_millis(5));
            }
            finish(control);
            std::process::exit(i32::from(exit::STOPPED));
        }
        ("finish", _) => {
            finish(control);
            std::process::exit(0);
        }
        _ => wait(),
    }
}

struct Job {
    master: Option<Master>,
    ranks: Vec<Child>,
    reports: Arc<Mutex<Vec<Blame>>>,
}

impl Drop for Job {
    fn drop(&mut self) {
        for rank in &mut self.ranks {
            let _ = rank.kill();
            let _ = rank.wait();
        }
    }
}

impl Job {
    /// Two ranks that have both said that they are ready.
    fn start(deed: &str) -> Job {
        Job::start_with(deed, Duration::from_secs(10))
    }

    fn start_with(deed: &str, hang: Duration) -> Job {
        let (secret, id) = (Secret::random().unwrap(), JobId::random().unwrap());
        let reports = Arc::new(Mutex::new(Vec::new()));
        let sink = reports.clone();
        let mut config = MasterConfig {
            bind: Ipv4Addr::LOCALHOST.into(),
            size: 2,
            secret: secret.clone(),
            job: id,
            epoch: 0,
            settings: Default::default(),
            start_timeout: LONG,
            exit_reports_expected: false,
            report: Box::new(move |blame| sink.lock().unwrap().push(blame.clone())),
        };
        config.settings.hang_timeout = hang;
        let master = Master::start(config).unwrap();
        let addr = master.addr().to_string();
        let mut job = Job { master: Some(master), ranks: Vec::new(), reports };
        let (say, ready) = channel();
        for rank in 0..2 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "rank_body", "--nocapture"])
                .env("AEOLIAN_TEST_RANK", rank.to_string())
                .env("AEOLIAN_TEST_MASTER", &addr)
                .env("AEOLIAN_TEST_JOB", id.to_string())
                .env("AEOLIAN_TEST_DEED", deed)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(secret.to_hex_line().as_bytes()).unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let say = say.clone();
            // Read to the end, so that no rank blocks or breaks on its output.
            std::thread::spawn(move || {
                for line in lines.map_while(Result::ok).filter(|line| line.ends_with("ready")) {
                    let _ = say.send(line);
                }
            });
            job.ranks.push(child);
        }
        Job::both(&ready);
        job
    }

    fn both(ready: &Receiver<String>) {
        (0..2).for_each(|_| drop(ready.recv_timeout(LONG).expect("the ranks get ready")));
    }

    fn signal(&self, rank: usize, signal: i32) {
        let pid = self.ranks[rank].id() as i32;
        // SAFETY: kill touches no memory; the process is a child of ours that has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// The exit code of a rank, in bounded time; -9 stands for SIGKILL.
    fn code(&mut self, rank: usize) -> i32 {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ranks[rank].try_wait().unwrap() {
                return status.code().unwrap_or_else(|| -status.signal().unwrap());
            }
            assert!(start.elapsed() < LONG, "rank {rank} is left behind");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn codes(&mut self) -> [i32; 2] {
        [self.code(0), self.code(1)]
    }

    fn outcome(&self) -> Outcome {
        self.master.as_ref().unwrap().wait(LONG).expect("the job ends in time")
    }

    fn blame(&self) -> Blame {
        let Outcome::Failed(blame) = self.outcome() else { panic!("the job should have failed") };
        assert_eq!(self.reports.lock().unwrap()[..], std::slice::from_ref(&blame)[..], "told once");
        blame
    }
}

#[test]
fn a_signal_while_the_others_are_awaited_leaves_no_meeting_file() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let dir = tempfile::tempdir().unwrap();
        let mut rank = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "rank_body", "--nocapture"])
            .env("AEOLIAN_TEST_RANK", "0")
            .env("AEOLIAN_TEST_MEETING", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(rank.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.contains("ready")));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        // SAFETY: a child that has not been waited for.
        unsafe { libc::kill(rank.id() as i32, signal) };
        assert_eq!(rank.wait().unwrap().signal(), Some(signal));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "signal {signal}");
    }
}

#[test]
fn both_finish() {
    let mut job = Job::start("finish");
    assert_eq!(job.codes(), [0, 0]);
    assert_eq!(job.outcome(), Outcome::Finished);
}

#[test]
fn leaving_with_0_is_no_success_anywhere() {
    for deed in ["exit0", "exit256"] {
        let mut job = Job::start(deed);
        let blame = job.blame();
        assert_eq!((blame.code, blame.rank, blame.pid), (exit::LEFT_EARLY, Some(1), job.ranks[1].id()));
        assert_eq!(job.codes(), [i32::from(exit::LEFT_EARLY); 2], "{deed}");
    }
}

#[test]
fn the_programs_own_code_is_kept() {
    let mut job = Job::start("exit3");
    let blame = job.blame();
    assert_eq!((blame.code, blame.rank), (3, Some(1)));
    assert_eq!(job.codes(), [3, 3]);
}

#[test]
fn a_killed_rank_ends_the_other() {
    let mut job = Job::start("wait");
    job.signal(1, libc::SIGKILL);
    let blame = job.blame();
    assert_eq!((blame.code, blame.rank), (exit::RANK_LOST, Some(1)));
    assert_eq!(job.codes(), [i32::from(exit::RANK_LOST), -libc::SIGKILL]);
}

#[test]
fn a_stopped_rank_is_hung_and_ends_the_other() {
    let mut job = Job::start_with("wait", Duration::from_secs(2));
    job.signal(1, libc::SIGSTOP);
    let blame = job.blame();
    assert_eq!((blame.code, blame.rank, blame.pid), (exit::RANK_HUNG, Some(1), job.ranks[1].id()));
    assert_eq!(job.code(0), i32::from(exit::RANK_HUNG));
    job.signal(1, libc::SIGCONT);
    // It hears of it when it goes on.
    assert_eq!(job.code(1), i32::from(exit::RANK_HUNG));
}

#[test]
fn a_signal_ends_a_program_that_does_not_ask() {
    for (signal, code, name) in
        [(libc::SIGTERM, exit::TERMINATED, "SIGTERM"), (libc::SIGINT, exit::INTERRUPTED, "SIGINT")]
    {
        let mut job = Job::start("wait");
        job.signal(1, signal);
        let blame = job.blame();
        assert_eq!(blame.code, code);
        assert!(blame.cause.contains(&format!("{name} to rank 1")), "{}", blame.cause);
        assert_eq!(job.codes(), [i32::from(code); 2]);
    }
}

#[test]
fn a_signal_lets_a_program_that_asks_end_in_order() {
    let mut job = Job::start("aware");
    job.signal(0, libc::SIGUSR1);
    assert_eq!(job.codes(), [i32::from(exit::STOPPED); 2]);
    assert_eq!(job.outcome(), Outcome::Finished);
}

#[test]
fn a_program_that_goes_on_after_its_end_of_the_job_can_be_ended_by_a_signal() {
    let mut job = Job::start("after");
    assert_eq!(job.outcome(), Outcome::Finished);
    job.signal(0, libc::SIGTERM);
    job.signal(1, libc::SIGINT);
    assert_eq!(job.codes(), [-libc::SIGTERM, -libc::SIGINT]);
}

#[test]
fn a_lost_master_ends_the_ranks() {
    let mut job = Job::start("wait");
    drop(job.master.take());
    assert_eq!(job.codes(), [i32::from(exit::MASTER_LOST); 2]);
}

#[test]
fn a_long_wait_in_a_world_of_one_is_told_once() {
    let body = ["--exact", "rank_body", "--nocapture"];
    let own = [("AEOLIAN_TEST_RANK", "0"), ("AEOLIAN_TEST_ALONE", "1")];
    let done = Command::new(std::env::current_exe().unwrap()).args(body).envs(own).output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{said}");
    assert_eq!(said.matches("has waited for 10 s in a world of one").count(), 1, "{said}");
}
