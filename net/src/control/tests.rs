//! Real masters and ranks (as threads) over loopback.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::protocol::{StopReason, VERSION};
use super::*;
use crate::error::{Blame, NetError, Result};
use crate::exit;
use crate::master::{Master, MasterConfig, Outcome, RankExit, RankStatus};
use crate::secret::Secret;

const LONG: Duration = Duration::from_secs(20);
static ALLREDUCE: OpName = OpName("allreduce");
static BARRIER: OpName = OpName("barrier");

struct Job {
    master: Master,
    secret: Secret,
    id: JobId,
    size: u32,
    reports: Arc<Mutex<Vec<Blame>>>,
}

impl Job {
    fn new(size: u32) -> Self {
        Self::with(size, |_| {})
    }

    fn with(size: u32, change: impl FnOnce(&mut MasterConfig)) -> Self {
        let (secret, id) = (Secret::random().unwrap(), JobId::random().unwrap());
        let reports = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&reports);
        let mut config = MasterConfig::local(size, secret.clone(), id);
        config.report = Box::new(move |blame| sink.lock().unwrap().push(blame.clone()));
        change(&mut config);
        Job { master: Master::start(config).unwrap(), secret, id, size, reports }
    }

    fn card(&self, rank: u32) -> Card {
        Card {
            rank,
            size: self.size,
            host: format!("host{rank}"),
            pid: 1000 + rank,
            node: "node".into(),
            exe: [1; 32],
            version: VERSION.into(),
            data: None,
            extra: vec![rank as u8],
        }
    }

    fn pending(&self) -> Pending {
        Control::connect(self.master.addr(), &self.secret, self.id, 0, LONG).unwrap()
    }

    fn join(&self, rank: u32) -> Result<(Control, JobInfo)> {
        self.pending().register(self.card(rank), quiet())
    }

    /// Runs `body` on every rank as a thread.
    fn run<T: Send>(&self, body: impl Fn(u32, Control, JobInfo) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.size)
                .map(|rank| {
                    let body = &body;
                    scope.spawn(move || {
                        let (control, info) = self.join(rank).unwrap();
                        body(rank, control, info)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    fn outcome(&self) -> Outcome {
        self.master.wait(LONG).expect("the job ends in time")
    }

    fn blame(&self) -> Blame {
        match self.outcome() {
            Outcome::Failed(blame) => {
                assert_eq!(*self.reports.lock().unwrap(), std::slice::from_ref(&blame)[..], "reported once");
                blame
            }
            other => panic!("the job should have failed, not {other:?}"),
        }
    }
}

fn quiet() -> ControlConfig {
    ControlConfig { start_timeout: LONG, exit_on_failure: false, report: Box::new(|_| {}) }
}

/// Waits for the verdict as a blocked main thread would.
fn failed(control: &Control) -> Blame {
    let start = Instant::now();
    while control.failure().is_none() {
        assert!(start.elapsed() < LONG, "no verdict came");
        std::thread::sleep(Duration::from_millis(2));
    }
    control.failure().unwrap().clone()
}

fn blank(code: u8, rank: Option<u32>, cause: &str) -> Blame {
    Blame {
        code,
        rank,
        host: String::new(),
        pid: 0,
        phase: String::new(),
        cause: cause.into(),
        remedy: String::new(),
    }
}

#[test]
fn all_register_exchange_and_finish() {
    for size in [1, 2, 5] {
        let job = Job::new(size);
        job.run(|rank, control, info| {
            assert_eq!((info.job, info.size, info.epoch), (job.id, size, 0));
            assert_eq!(info.cards, (0..size).map(|r| job.card(r)).collect::<Vec<_>>());
            for round in 0..5u8 {
                let parts = control.exchange(&vec![round; rank as usize * 100], LONG).unwrap();
                let wanted: Vec<_> = (0..size).map(|r| vec![round; r as usize * 100]).collect();
                assert_eq!(parts, wanted);
            }
            control.finish().unwrap();
        });
        assert_eq!(job.outcome(), Outcome::Finished);
        assert!(job.reports.lock().unwrap().is_empty());
        assert!(job.master.snapshot().iter().all(|view| view.status == RankStatus::Finished));
    }
}

#[test]
fn a_large_exchange_passes_and_a_too_large_one_is_named() {
    let job = Job::new(2);
    job.run(|rank, control, _| {
        let parts = control.exchange(&vec![rank as u8; 5 << 20], LONG).unwrap();
        assert_eq!(parts, [vec![0; 5 << 20], vec![1; 5 << 20]]);
        assert!(matches!(control.exchange(&vec![0; 16 << 20], LONG), Err(NetError::Usage(_))));
        control.finish().unwrap();
    });
    assert_eq!(job.outcome(), Outcome::Finished);
}

#[test]
fn nobody_finishes_before_the_last() {
    let job = Job::new(3);
    let done = AtomicUsize::new(0);
    job.run(|rank, control, _| {
        if rank == 2 {
            std::thread::sleep(Duration::from_millis(200));
            assert_eq!(done.load(Ordering::SeqCst), 0);
        }
        control.finish().unwrap();
        done.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!(job.outcome(), Outcome::Finished);
}

#[test]
fn a_reported_failure_reaches_all_and_wakes_them() {
    let job = Job::new(3);
    let woken = AtomicUsize::new(0);
    let woken = Arc::new(woken);
    job.run(|rank, control, _| {
        let count = Arc::clone(&woken);
        control.set_waker(Box::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        }));
        control.exchange(b"", LONG).unwrap();
        let verdict = if rank == 1 {
            control.fail(blank(exit::DATA, Some(1), "line 3 is ragged")).clone()
        } else {
            failed(&control)
        };
        assert_eq!((verdict.code, verdict.rank), (exit::DATA, Some(1)));
        assert_eq!((verdict.host.as_str(), verdict.pid), ("host1", 1001), "filled in by the master");
        assert!(matches!(control.exchange(b"", LONG), Err(NetError::JobFailed(_))));
        assert!(matches!(control.finish(), Err(NetError::JobFailed(_))));
    });
    assert_eq!(job.blame().cause, "line 3 is ragged");
    assert!(woken.load(Ordering::SeqCst) >= 3);
}

#[test]
fn a_dropped_control_is_left_early() {
    let job = Job::new(2);
    job.run(|rank, control, _| {
        if rank == 1 {
            drop(control);
        } else {
            assert!(matches!(control.finish(), Err(NetError::JobFailed(_))));
        }
    });
    let blame = job.blame();
    assert_eq!((blame.code, blame.rank), (exit::LEFT_EARLY, Some(1)));
}

/// A registered rank without a control thread: closes, or hangs.
fn bare(job: &Job, rank: u32) -> crate::noise::NoiseStream {
    use super::protocol::{PROTOCOL, ToMaster, encode};
    use crate::noise::{NoiseStream, Role, prologue};
    let stream = std::net::TcpStream::connect(job.master.addr()).unwrap();
    let context = prologue("control", job.id, 0);
    let mut stream = NoiseStream::new(stream, Role::Initiator, &job.secret, &context).unwrap();
    let deadline = Instant::now() + LONG;
    stream.prove(deadline).unwrap();
    let card = encode(&job.card(rank)).unwrap();
    let message = ToMaster::Register { protocol: PROTOCOL, version: VERSION.into(), card };
    stream.send(&encode(&message).unwrap(), deadline).unwrap();
    stream
}

#[test]
fn a_broken_connection_is_a_lost_rank() {
    let job = Job::new(2);
    let stream = bare(&job, 1);
    let (control, _) = job.join(0).unwrap();
    drop(stream);
    assert_eq!(failed(&control).code, exit::RANK_LOST);
    let blame = job.blame();
    assert_eq!((blame.rank, blame.host.as_str(), blame.pid), (Some(1), "host1", 1001));
}

#[test]
fn the_launcher_knows_better_why_a_connection_broke() {
    for (how, code, words) in [
        (RankExit::Signal(9), exit::RANK_LOST, "killed by signal 9 (SIGKILL)"),
        (RankExit::Code(3), 3, "exited with code 3"),
        (RankExit::Code(0), exit::LEFT_EARLY, "exited with code 0"),
    ] {
        let job = Job::with(2, |config| config.exit_reports_expected = true);
        let stream = bare(&job, 1);
        let (control, _) = job.join(0).unwrap();
        drop(stream);
        std::thread::sleep(Duration::from_millis(50));
        assert!(control.failure().is_none(), "waits for the launcher");
        job.master.rank_exited(1, how);
        let blame = job.blame();
        assert_eq!((blame.code, blame.rank), (code, Some(1)));
        assert!(blame.cause.contains(words), "{}", blame.cause);
    }
}

#[test]
fn a_silent_rank_is_hung() {
    let job = Job::with(2, |config| config.settings.hang_timeout = Duration::from_millis(600));
    let _stream = bare(&job, 1);
    let (control, _) = job.join(0).unwrap();
    assert_eq!(failed(&control).code, exit::RANK_HUNG);
    assert_eq!(job.blame().rank, Some(1));
    assert_eq!(job.master.connected(), [1], "it does not obey, and is named");
}

#[test]
fn ranks_in_different_operations_are_told_so() {
    let job = Job::with(2, |config| config.settings.hang_timeout = Duration::from_millis(600));
    job.run(|rank, control, _| {
        control.enter(if rank == 0 { &ALLREDUCE } else { &BARRIER }, 7);
        assert_eq!(failed(&control).code, exit::MISMATCH);
    });
    let blame = job.blame();
    assert!(blame.cause.contains("rank 0 is in allreduce #7, rank 1 in barrier #7"), "{}", blame.cause);
}

#[test]
fn work_and_progress_are_no_deadlock() {
    let job = Job::with(3, |config| config.settings.hang_timeout = Duration::from_millis(400));
    job.run(|rank, control, _| {
        let end = Instant::now() + Duration::from_millis(1500);
        if rank > 0 {
            control.enter(&ALLREDUCE, 1);
        }
        while Instant::now() < end {
            // Rank 0 computes for long, rank 1 moves data, rank 2 waits.
            if rank == 1 {
                control.progressed();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        control.leave();
        control.finish().unwrap();
    });
    assert_eq!(job.outcome(), Outcome::Finished);
}

#[test]
fn wrong_ranks_are_refused_and_the_first_is_unharmed() {
    let job = Job::new(2);
    let (ready, wait) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            let pending = job.pending();
            ready.send(()).unwrap();
            pending.register(job.card(0), quiet()).unwrap()
        });
        wait.recv_timeout(LONG).unwrap();
        while job.master.connected() != [0] {
            std::thread::sleep(Duration::from_millis(2));
        }
        let twice = job.pending().register(Card { pid: 7, ..job.card(0) }, quiet()).unwrap_err();
        let text = twice.to_string();
        assert!(text.contains("pid 1000 on host0") && text.contains("pid 7 on host0"), "{text}");
        let outside = job.pending().register(Card { rank: 2, ..job.card(0) }, quiet()).unwrap_err();
        assert!(outside.to_string().contains("rank 2 does not exist in a job of 2 ranks"), "{outside}");
        let (second, _) = job.join(1).unwrap();
        let (first, _) = first.join().unwrap();
        scope.spawn(|| first.finish().unwrap());
        second.finish().unwrap();
    });
    assert_eq!(job.outcome(), Outcome::Finished);
}

#[test]
fn another_binary_ends_the_job_at_once() {
    let job = Job::new(2);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| job.join(0).map(|_| ()));
        while job.master.connected() != [0] {
            std::thread::sleep(Duration::from_millis(2));
        }
        let other = job.pending().register(Card { exe: [2; 32], ..job.card(1) }, quiet()).unwrap_err();
        assert!(other.to_string().contains("another program than rank 0 on host0"), "{other}");
        assert!(matches!(first.join().unwrap(), Err(NetError::JobFailed(_))));
    });
    assert_eq!(job.blame().code, exit::PROTOCOL);
}

#[test]
fn missing_ranks_are_listed() {
    let job = Job::with(4, |config| config.start_timeout = Duration::from_millis(500));
    job.master.spawned(3, "far", 77);
    let error = job.join(1).unwrap_err();
    let NetError::JobFailed(blame) = error else { panic!("{error}") };
    assert_eq!(blame.code, exit::NOT_ALL_CAME);
    assert!(blame.cause.contains("3 of 4 ranks did not come within 0.5 s: ranks 0, 2-3"), "{}", blame.cause);
    assert!(blame.cause.contains("rank 3 was started on far as pid 77"), "{}", blame.cause);
}

#[test]
fn another_secret_job_or_epoch_is_not_let_in() {
    let job = Job::new(1);
    let addr = job.master.addr();
    let soon = Duration::from_millis(300);
    let stranger = Secret::random().unwrap();
    for (secret, id, epoch) in
        [(&stranger, job.id, 0), (&job.secret, JobId::random().unwrap(), 0), (&job.secret, job.id, 1)]
    {
        let error = Control::connect(addr, secret, id, epoch, soon).unwrap_err();
        assert!(matches!(error, NetError::NotAllowed { .. }), "{error}");
    }
    job.run(|_, control, _| control.finish().unwrap());
    assert_eq!(job.outcome(), Outcome::Finished);
}

#[test]
fn nobody_listening_is_a_bounded_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr: SocketAddr = listener.local_addr().unwrap();
    drop(listener);
    let (secret, id) = (Secret::random().unwrap(), JobId::random().unwrap());
    let error = Control::connect(addr, &secret, id, 0, Duration::from_millis(100)).unwrap_err();
    assert!(matches!(error, NetError::TimedOut { .. }), "{error}");
}

#[test]
fn a_lost_master_is_noticed_by_all_and_printed_by_one_first() {
    // A master that is killed: its sockets close. Here a proxy between ranks and master is dropped.
    let job = Job::new(2);
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = proxy.local_addr().unwrap();
    let (cut, is_cut) = std::sync::mpsc::channel::<()>();
    let upstream = job.master.addr();
    let forwarder = std::thread::spawn(move || {
        let mut ends = Vec::new();
        for _ in 0..2 {
            let (near, _) = proxy.accept().unwrap();
            let far = std::net::TcpStream::connect(upstream).unwrap();
            for (mut from, mut to) in [
                (near.try_clone().unwrap(), far.try_clone().unwrap()),
                (far.try_clone().unwrap(), near.try_clone().unwrap()),
            ] {
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
            ends.push((near, far));
        }
        is_cut.recv_timeout(LONG).unwrap();
        for (near, far) in ends {
            let _ = (near.shutdown(std::net::Shutdown::Both), far.shutdown(std::net::Shutdown::Both));
        }
    });
    let printed = Arc::new(Mutex::new(Vec::new()));
    let controls: Vec<Control> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|rank| {
                let (job, printed) = (&job, Arc::clone(&printed));
                scope.spawn(move || {
                    let pending = Control::connect(addr, &job.secret, job.id, 0, LONG).unwrap();
                    let report = move |_: &Blame| printed.lock().unwrap().push(rank);
                    let config = ControlConfig { report: Box::new(report), ..quiet() };
                    pending.register(job.card(rank), config).unwrap().0
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    cut.send(()).unwrap();
    forwarder.join().unwrap();
    for control in &controls {
        let blame = failed(control);
        assert_eq!(blame.code, exit::MASTER_LOST);
        assert!(blame.cause.contains(&addr.to_string()), "{}", blame.cause);
    }
    let start = Instant::now();
    while printed.lock().unwrap().len() < 2 && start.elapsed() < LONG {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut who = printed.lock().unwrap().clone();
    who.sort_unstable();
    assert_eq!(who, [0, 1]);
}

#[test]
fn stop_gives_time_to_a_program_that_asks_and_none_to_others() {
    let job = Job::new(2);
    job.run(|rank, control, _| {
        assert!(!control.stop_requested());
        control.exchange(b"", LONG).unwrap();
        if rank == 0 {
            job.master.stop(StopReason::signal(15, None));
        }
        let start = Instant::now();
        while !control.stop_requested() {
            assert!(start.elapsed() < LONG);
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(1300));
        assert!(control.failure().is_none(), "it has its grace");
        control.finish().unwrap();
    });
    assert_eq!(job.outcome(), Outcome::Stopped(StopReason::signal(15, None)));

    let job = Job::new(2);
    job.run(|rank, control, _| {
        control.exchange(b"", LONG).unwrap();
        if rank == 0 {
            job.master.stop(StopReason::signal(2, None));
        }
        assert_eq!(failed(&control).code, exit::INTERRUPTED);
    });
    assert!(job.blame().cause.contains("SIGINT came"));
}

#[test]
fn a_master_that_is_dropped_tells_the_ranks() {
    let mut job = Job::new(1);
    let (control, _) = job.join(0).unwrap();
    let other = Job::new(1);
    drop(std::mem::replace(&mut job.master, other.master));
    assert_eq!(failed(&control).code, exit::MASTER_LOST);
}
