//! A live job master on loopback: ranks (as threads), ranks that misbehave, and strangers at its door.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use aeolian_net::control::protocol::{Card, JobInfo, PROTOCOL, ToMaster, encode};
use aeolian_net::control::{Control, ControlConfig, JobId, Pending, StopReason};
use aeolian_net::master::{Master, MasterConfig, Outcome, RankExit};
use aeolian_net::noise::{NoiseStream, Role, Session, prologue};
use aeolian_net::secret::Secret;
use aeolian_net::{Blame, NetError, OpName, exit};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(20);
const EPOCH: u32 = 3;
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
    fn new(size: u32) -> Job {
        Job::with(size, |_| {})
    }

    fn with(size: u32, change: impl FnOnce(&mut MasterConfig)) -> Job {
        let (secret, id) = (Secret::random().unwrap(), JobId::random().unwrap());
        let reports = Arc::new(Mutex::new(Vec::new()));
        let sink = reports.clone();
        let mut config = MasterConfig {
            bind: Ipv4Addr::LOCALHOST.into(),
            size,
            secret: secret.clone(),
            job: id,
            epoch: EPOCH,
            settings: Default::default(),
            start_timeout: LONG,
            exit_reports_expected: false,
            report: Box::new(move |blame| sink.lock().unwrap().push(blame.clone())),
        };
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
            version: "1".into(),
            data: None,
            extra: vec![rank as u8],
        }
    }

    fn pending(&self) -> Pending {
        Control::connect(self.master.addr(), &self.secret, self.id, EPOCH, LONG).unwrap()
    }

    fn join(&self, rank: u32) -> Result<(Control, JobInfo), NetError> {
        self.pending().register(self.card(rank), LONG, quiet())
    }

    /// A registered rank without a control thread: it can close its connection, or be silent.
    fn bare(&self, rank: u32) -> NoiseStream {
        let deadline = Instant::now() + LONG;
        let mut stream = self.proven();
        let register = ToMaster::Register { protocol: PROTOCOL, card: self.card(rank) };
        stream.send(&encode(&register).unwrap(), deadline).unwrap();
        stream
    }

    fn proven(&self) -> NoiseStream {
        let context = prologue("control", self.id, EPOCH);
        let stream = TcpStream::connect(self.master.addr()).unwrap();
        let mut stream = NoiseStream::new(stream, Role::Initiator, &self.secret, &context).unwrap();
        stream.prove(Instant::now() + LONG).unwrap();
        stream
    }

    /// Runs `body` on every rank as a thread.
    fn run<T: Send>(&self, body: impl Fn(u32, Control, JobInfo) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let one = |rank| {
                let body = &body;
                scope.spawn(move || {
                    let (control, info) = self.join(rank).unwrap();
                    body(rank, control, info)
                })
            };
            let threads: Vec<_> = (0..self.size).map(one).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    fn outcome(&self) -> Outcome {
        self.master.wait(LONG).expect("the job ends in time")
    }

    fn blame(&self) -> Blame {
        match self.outcome() {
            Outcome::Failed(blame) => {
                assert_eq!(*self.reports.lock().unwrap(), std::slice::from_ref(&blame)[..], "told once");
                blame
            }
            other => panic!("the job should have failed, not {other:?}"),
        }
    }
}

fn quiet() -> ControlConfig {
    ControlConfig { exit_on_abort: false, master_is_rank_0: false, report: Box::new(|_| {}) }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LONG, "{what} in bounded time");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits for the verdict as a blocked main thread would.
fn failed(control: &Control) -> Blame {
    until("a verdict", || control.failure().is_some());
    control.failure().unwrap().clone()
}

/// Waits for all other receipts as `World::finish` does.
fn finish(control: Control) {
    control.say_finished();
    until("the end", || control.all_finished());
}

fn blank(code: u8, rank: Option<u32>, cause: &str) -> Blame {
    let (host, phase, remedy) = (String::new(), String::new(), String::new());
    Blame { code, rank, host, pid: 0, phase, cause: cause.into(), remedy }
}

// Ranks.

#[test]
fn all_register_exchange_and_finish() {
    for size in [1, 2, 5] {
        let job = Job::new(size);
        job.run(|rank, control, info| {
            assert_eq!((info.job, info.epoch), (job.id, EPOCH));
            assert_eq!(info.cards, (0..size).map(|r| job.card(r)).collect::<Vec<_>>());
            for round in 0..5u8 {
                let all = control.exchange(&vec![round; rank as usize * 100], LONG).unwrap();
                let wanted: Vec<_> = (0..size).map(|r| vec![round; r as usize * 100]).collect();
                assert_eq!(all, wanted);
            }
            finish(control);
        });
        assert_eq!(job.outcome(), Outcome::Finished);
        assert!(job.reports.lock().unwrap().is_empty());
        assert!(job.master.snapshot().iter().all(|view| view.finished));
    }
}

#[test]
fn a_large_exchange_passes() {
    let job = Job::new(2);
    job.run(|rank, control, _| {
        let all = control.exchange(&vec![rank as u8; 5 << 20], LONG).unwrap();
        assert!(all == [vec![0; 5 << 20], vec![1; 5 << 20]]);
        finish(control);
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
        finish(control);
        done.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!(job.outcome(), Outcome::Finished);
}

#[test]
fn a_told_failure_reaches_all_wakes_them_and_is_official_when_fail_returns() {
    let job = Job::new(3);
    let woken = Arc::new(AtomicUsize::new(0));
    job.run(|rank, control, _| {
        let count = woken.clone();
        control.set_waker(Box::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        }));
        control.exchange(b"", LONG).unwrap();
        if rank == 1 {
            control.fail(blank(exit::DATA, None, "line 3 is ragged"));
            assert!(control.failure().is_some(), "the verdict is there");
        }
        let verdict = failed(&control);
        assert_eq!((verdict.code, verdict.rank), (exit::DATA, Some(1)));
        assert_eq!((verdict.host.as_str(), verdict.pid), ("host1", 1001), "filled in by the master");
        assert!(matches!(control.exchange(b"", LONG), Err(NetError::JobFailed(_))));
    });
    assert_eq!(job.blame().cause, "line 3 is ragged");
    assert!(woken.load(Ordering::SeqCst) >= 3);
}

#[test]
fn of_two_failures_the_first_is_official_for_both() {
    let job = Job::new(2);
    let verdicts = job.run(|rank, control, _| {
        control.exchange(b"", LONG).unwrap();
        control.fail(blank(exit::DATA + rank as u8, None, "x"));
        control.failure().cloned().unwrap()
    });
    assert_eq!(verdicts, [job.blame(), job.blame()]);
}

#[test]
fn a_dropped_control_is_a_lost_rank() {
    let job = Job::new(2);
    job.run(|rank, control, _| {
        if rank == 0 {
            assert_eq!(failed(&control).rank, Some(1));
        }
    });
    assert_eq!((job.blame().code, job.blame().rank), (exit::RANK_LOST, Some(1)));
}

#[test]
fn a_broken_connection_is_a_lost_rank() {
    let job = Job::new(2);
    let stream = job.bare(1);
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
        (RankExit::Code(3), 3, "ended with code 3"),
        (RankExit::Code(0), exit::LEFT_EARLY, "left with code 0"),
    ] {
        let job = Job::with(2, |config| config.exit_reports_expected = true);
        let stream = job.bare(1);
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
fn who_lost_another_rank_is_believed_after_a_second_and_not_blamed() {
    let job = Job::new(3);
    let told = Instant::now();
    job.run(|rank, control, _| {
        if rank == 2 {
            control.fail(blank(exit::RANK_LOST, Some(1), "its connection closed"));
            assert!(told.elapsed() >= Duration::from_secs(1), "first-hand knowledge had its time");
        }
        assert_eq!((failed(&control).code, failed(&control).rank), (exit::RANK_LOST, Some(1)));
    });
    let blame = job.blame();
    assert_eq!((blame.host.as_str(), blame.pid), ("host1", 1001));
    assert!(blame.cause.contains("rank 2 on host2 says"), "{}", blame.cause);
}

#[test]
fn a_silent_rank_is_hung_also_where_all_others_wait() {
    let job = Job::with(2, |config| config.settings.hang_timeout = Duration::from_millis(1000));
    let _stream = job.bare(1);
    let (control, _) = job.join(0).unwrap();
    control.enter(&ALLREDUCE, 7);
    control.waiting(true);
    assert_eq!((failed(&control).code, failed(&control).rank), (exit::RANK_HUNG, Some(1)));
    assert_eq!(job.blame().rank, Some(1));
}

#[test]
fn ranks_in_different_operations_are_told_so() {
    let job = Job::with(2, |config| config.settings.hang_timeout = Duration::from_millis(1000));
    job.run(|rank, control, _| {
        control.enter(if rank == 0 { &ALLREDUCE } else { &BARRIER }, 7);
        control.waiting(true);
        assert_eq!(failed(&control).code, exit::MISMATCH);
    });
    let cause = job.blame().cause;
    assert!(cause.contains("rank 0 is in allreduce #7; rank 1 is in barrier #7"), "{cause}");
}

#[test]
fn work_and_progress_are_no_deadlock() {
    let job = Job::with(3, |config| config.settings.hang_timeout = Duration::from_millis(800));
    job.run(|rank, control, _| {
        let end = Instant::now() + Duration::from_millis(2400);
        if rank > 0 {
            control.enter(&ALLREDUCE, 1);
            control.waiting(true);
        }
        while Instant::now() < end {
            // Rank 0 computes for long, rank 1 moves data, rank 2 waits.
            if rank == 1 {
                control.progressed();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        control.leave();
        finish(control);
    });
    assert_eq!(job.outcome(), Outcome::Finished);
}

#[test]
fn long_work_inside_an_operation_is_no_deadlock() {
    let job = Job::with(2, |config| config.settings.hang_timeout = Duration::from_millis(500));
    job.run(|_, control, _| {
        // All combine what has come: in an allreduce, and nobody waits.
        control.enter(&ALLREDUCE, 1);
        std::thread::sleep(Duration::from_millis(1500));
        control.leave();
        finish(control);
    });
    assert_eq!(job.outcome(), Outcome::Finished);
}

#[test]
fn missing_ranks_are_listed() {
    let job = Job::with(4, |config| config.start_timeout = Duration::from_secs(1));
    job.master.spawned(3, "far", 77);
    let Err(NetError::JobFailed(blame)) = job.join(1) else { panic!("the job must fail") };
    assert_eq!(blame.code, exit::NOT_ALL_CAME);
    assert!(blame.cause.contains("3 of 4 ranks did not come within 1 s: rank 0, 2-3"), "{}", blame.cause);
    assert!(blame.cause.contains("on far"), "{}", blame.cause);
}

// Registrations that cannot be.

#[test]
fn one_too_many_is_refused_and_the_others_are_unharmed() {
    let job = Job::new(2);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| job.join(0).unwrap());
        until("rank 0's registration", || job.master.anyone_joined());
        let twice = job.pending().register(Card { pid: 7, ..job.card(0) }, LONG, quiet()).err().unwrap();
        let text = twice.to_string();
        assert!(text.contains("pid 1000 on host0") && text.contains("pid 7 on host0"), "{text}");
        let outside = job.pending().register(Card { rank: 2, ..job.card(0) }, LONG, quiet()).err().unwrap();
        assert!(outside.to_string().contains("rank 2 of 2"), "{outside}");
        let (second, _) = job.join(1).unwrap();
        let (first, _) = first.join().unwrap();
        scope.spawn(|| finish(first));
        finish(second);
    });
    assert_eq!(job.outcome(), Outcome::Finished);
}

#[test]
fn another_binary_or_size_ends_the_job_at_once_for_all() {
    for (exe, size, code, words) in
        [([2; 32], 2, exit::PROTOCOL, "another program"), ([1; 32], 3, exit::CONFIG, "there are 3 ranks")]
    {
        let job = Job::new(2);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| job.join(0).map(|_| ()));
            until("rank 0's registration", || job.master.anyone_joined());
            let odd = Card { exe, size, ..job.card(1) };
            let other = job.pending().register(odd, LONG, quiet()).err().unwrap();
            assert!(matches!(other, NetError::JobFailed(_)), "{other}");
            assert!(matches!(first.join().unwrap(), Err(NetError::JobFailed(_))));
        });
        let blame = job.blame();
        assert_eq!((blame.code, blame.rank), (code, Some(1)));
        assert!(blame.cause.contains(words) && blame.cause.contains("rank 1 on host1"), "{blame}");
    }
}

#[test]
fn a_registration_of_another_version_ends_the_job_at_once() {
    let job = Job::new(2);
    let mut stream = job.proven();
    stream.send(&[0xff; 20], Instant::now() + LONG).unwrap();
    let blame = job.blame();
    assert_eq!(blame.code, exit::PROTOCOL);
    assert!(blame.cause.contains("127.0.0.1") && blame.cause.contains("another control protocol"), "{blame}");
}

#[test]
fn another_secret_job_or_epoch_is_not_let_in() {
    let job = Job::new(1);
    let addr = job.master.addr();
    let soon = Duration::from_millis(300);
    let stranger = Secret::random().unwrap();
    for (secret, id, epoch) in [
        (&stranger, job.id, EPOCH),
        (&job.secret, JobId::random().unwrap(), EPOCH),
        (&job.secret, job.id, EPOCH + 1),
    ] {
        let error = Control::connect(addr, secret, id, epoch, soon).err().unwrap();
        assert!(matches!(error, NetError::NotAllowed { .. }), "{error}");
    }
    job.run(|_, control, _| finish(control));
    assert_eq!(job.outcome(), Outcome::Finished);
}

// The master's end, and stops.

#[test]
fn nobody_listening_is_a_bounded_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr: SocketAddr = listener.local_addr().unwrap();
    drop(listener);
    let (secret, id) = (Secret::random().unwrap(), JobId::random().unwrap());
    let error = Control::connect(addr, &secret, id, 0, Duration::from_millis(100)).err().unwrap();
    assert!(matches!(error, NetError::Lost { .. }), "{error}");
}

#[test]
fn a_master_that_hangs_up_on_a_rank_is_tried_again() {
    let job = Job::new(1);
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = door.local_addr().unwrap();
    let master = job.master.addr();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // The first three are hung up on, before or after their first message; the fourth when it has the answer, so that it
            // takes itself for proven; the fifth is let through.
            for i in 0..3 {
                let (mut stream, _) = door.accept().unwrap();
                if i > 0 {
                    let _ = stream.read(&mut [0; 8]);
                }
            }
            let (mut near, _) = door.accept().unwrap();
            let mut far = TcpStream::connect(master).unwrap();
            let pass = |from: &mut TcpStream, to: &mut TcpStream| {
                let mut bytes = [0; 512];
                let some = from.read(&mut bytes).unwrap();
                to.write_all(&bytes[..some]).unwrap();
            };
            pass(&mut near, &mut far);
            pass(&mut far, &mut near);
            drop((near, far));
            let (near, _) = door.accept().unwrap();
            let far = TcpStream::connect(master).unwrap();
            let (mut from, mut to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || std::io::copy(&mut &far, &mut &near));
        });
        let pending = Control::connect(addr, &job.secret, job.id, EPOCH, LONG).unwrap();
        let joined = pending.register(job.card(0), LONG, quiet());
        if joined.is_err() {
            // The door would wait for ever.
            drop(TcpStream::connect(addr));
        }
        finish(joined.unwrap().0);
    });
    assert_eq!(job.outcome(), Outcome::Finished);
}

#[test]
fn a_lost_master_is_noticed_by_all() {
    let mut job = Job::new(2);
    let told = Arc::new(AtomicUsize::new(0));
    let controls: Vec<Control> = std::thread::scope(|scope| {
        let one = |rank| {
            let (job, told) = (&job, told.clone());
            scope.spawn(move || {
                let report = move |_: &Blame| {
                    told.fetch_add(1, Ordering::SeqCst);
                };
                let config = ControlConfig { report: Box::new(report), ..quiet() };
                job.pending().register(job.card(rank), LONG, config).unwrap().0
            })
        };
        [one(0), one(1)].into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    drop(std::mem::replace(&mut job.master, Job::new(1).master));
    for control in &controls {
        let blame = failed(control);
        assert_eq!(blame.code, exit::MASTER_LOST);
        // Nobody is there to judge: it returns at once all the same.
        control.fail(blank(exit::DATA, None, "x"));
        assert_eq!(control.failure(), Some(&blame), "the first cause stays");
    }
    assert_eq!(told.load(Ordering::SeqCst), 2);
}

#[test]
fn a_stop_gives_time_to_a_program_that_asks_and_none_to_others() {
    let job = Job::new(2);
    job.run(|rank, control, _| {
        assert!(!control.stop_requested());
        control.exchange(b"", LONG).unwrap();
        if rank == 0 {
            job.master.stop(StopReason::signal(15, "the test"));
        }
        until("the request", || control.stop_requested());
        std::thread::sleep(Duration::from_millis(300));
        assert!(control.failure().is_none(), "it has its grace");
        finish(control);
    });
    assert_eq!(job.outcome(), Outcome::Finished);
    assert!(job.reports.lock().unwrap().is_empty());

    let job = Job::new(2);
    job.run(|rank, control, _| {
        control.exchange(b"", LONG).unwrap();
        if rank == 0 {
            job.master.stop(StopReason::signal(2, "the test"));
        }
        assert_eq!(failed(&control).code, exit::INTERRUPTED);
    });
    assert!(job.blame().cause.contains("SIGINT to the test"));
}

// Strangers: none of them gets in, and an honest job of three succeeds meanwhile.

fn dial(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// Reads until the master hangs up; tells how many bytes it said.
fn hung_up_on(mut stream: TcpStream) -> usize {
    let (mut said, mut buffer) = (0, [0; 1024]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return said,
            Ok(n) => said += n,
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return said,
            Err(e) => panic!("the master should have hung up: {e}"),
        }
    }
}

fn honest(job: &Job) {
    job.run(|rank, control, _| {
        assert_eq!(control.exchange(&[rank as u8], LONG).unwrap(), [[0], [1], [2]]);
        finish(control);
    });
}

/// What an honest rank sends to prove itself, as a listener on the wire records it.
fn recording(job: &Job) -> Vec<u8> {
    let mut session =
        Session::new(Role::Initiator, &job.secret, &prologue("control", job.id, EPOCH)).unwrap();
    let mut stream = dial(job.master.addr());
    let mut recorded = session.outgoing().to_vec();
    stream.write_all(&recorded).unwrap();
    session.written(recorded.len());
    let mut answer = [0; 50];
    stream.read_exact(&mut answer).unwrap();
    session.feed(&answer).unwrap();
    // The proof is not sent: the recorded connection is cut before it.
    recorded.extend_from_slice(session.outgoing());
    recorded
}

#[test]
fn strangers_get_nothing_and_disturb_nobody() {
    let job = Job::new(3);
    let addr = job.master.addr();
    let replay = recording(&job);
    let mut random = vec![0; 5000];
    getrandom::fill(&mut random).unwrap();
    println!("random bytes: {:02x?}", &random[..64]);
    let other = Secret::random().unwrap();
    let hello = |secret: &Secret, kind, id, epoch| {
        let session = Session::new(Role::Initiator, secret, &prologue(kind, id, epoch)).unwrap();
        session.outgoing().to_vec()
    };
    let attacks: Vec<(&str, Vec<u8>)> = vec![
        ("random bytes", random),
        ("http", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("a length too great", vec![0xff; 2]),
        ("length zero", vec![0; 2]),
        ("zeros", vec![0; 8000]),
        ("a wrong secret", hello(&other, "control", job.id, EPOCH)),
        ("a wrong job", hello(&job.secret, "control", JobId::random().unwrap(), EPOCH)),
        ("a wrong epoch", hello(&job.secret, "control", job.id, EPOCH + 1)),
        ("a wrong kind", hello(&job.secret, "data", job.id, EPOCH)),
    ];
    std::thread::scope(|scope| {
        for (what, bytes) in &attacks {
            scope.spawn(move || {
                let mut stream = dial(addr);
                let _ = stream.write_all(bytes);
                assert_eq!(hung_up_on(stream), 0, "{what}: the master says nothing");
            });
        }
        scope.spawn(move || {
            let mut stream = dial(addr);
            // It answers the first message, which is genuine but old; the second does not fit the fresh key.
            stream.write_all(&replay[..50]).unwrap();
            stream.read_exact(&mut [0; 50]).unwrap();
            let _ = stream.write_all(&replay[50..]);
            assert_eq!(hung_up_on(stream), 0, "replay");
        });
        honest(&job);
    });
    assert_eq!(job.outcome(), Outcome::Finished);
}

#[test]
fn a_dribble_is_cut_off_in_time() {
    let job = Job::new(3);
    let addr = job.master.addr();
    let context = prologue("control", job.id, EPOCH);
    let hello = Session::new(Role::Initiator, &job.secret, &context).unwrap().outgoing().to_vec();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut stream = dial(addr);
            let cut = hello.iter().any(|byte| {
                std::thread::sleep(Duration::from_millis(300));
                stream.write_all(&[*byte]).is_err()
            });
            assert!(cut, "a byte every 300 ms must not hold a place");
        });
        honest(&job);
    });
    assert_eq!(job.outcome(), Outcome::Finished);
}

#[test]
fn a_crowd_of_idle_connections_keeps_nobody_out() {
    let job = Job::new(3);
    let addr = job.master.addr();
    let mut crowd: Vec<_> = (0..200).map(|_| dial(addr)).collect();
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // And they keep coming.
        scope.spawn(|| {
            while !enough.load(Ordering::SeqCst) {
                crowd.push(dial(addr));
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| honest(&job)));
        enough.store(true, Ordering::SeqCst);
        result.unwrap();
    });
    assert_eq!(job.outcome(), Outcome::Finished);
}
