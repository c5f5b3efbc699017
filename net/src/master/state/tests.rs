//! Every rule of the job master, in virtual time.

use super::*;
use proptest::prelude::*;

struct Game {
    state: State,
    start: Instant,
    ms: u64,
    actions: Vec<Action>,
}

fn card(rank: u32, size: u32) -> Card {
    Card {
        rank,
        size,
        host: format!("n{rank}"),
        pid: 1000 + rank,
        node: "x".into(),
        exe: [7; 32],
        version: "0".into(),
        data: None,
        extra: vec![],
    }
}

impl Game {
    fn new(size: u32, exit_reports_expected: bool) -> Game {
        let start = Instant::now();
        let rules = Rules {
            size,
            job: JobId::from_bytes([1; 16]),
            epoch: 1,
            settings: JobSettings::default(),
            start_timeout: Duration::from_secs(60),
            exit_reports_expected,
        };
        Game { state: State::new(rules, start), start, ms: 0, actions: vec![] }
    }

    /// All ranks registered; connection numbers are ranks plus 100.
    fn running(size: u32, exit_reports_expected: bool) -> Game {
        let mut game = Game::new(size, exit_reports_expected);
        (0..size).for_each(|r| game.say(r, ToMaster::Register { protocol: PROTOCOL, card: card(r, size) }));
        assert!(
            game.sent(0).iter().any(|m| matches!(m, ToRank::Welcome(i) if i.cards.len() == size as usize))
        );
        game
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.ms)
    }

    fn event(&mut self, event: Event) {
        let actions = self.state.handle(self.now(), event);
        self.actions.extend(actions);
    }

    fn say(&mut self, rank: u32, message: ToMaster) {
        self.event(Event::Message(100 + u64::from(rank), message));
    }

    fn beat(&mut self, rank: u32, op: &str, progress: u64) {
        self.say(
            rank,
            ToMaster::Heartbeat(Activity { op: op.into(), seq: 7, waiting: !op.is_empty(), progress }),
        );
    }

    /// Time passes, in steps of a quarter of a second; `alive` ranks keep beating.
    fn pass(&mut self, seconds: f64, alive: &[u32]) {
        let end = self.ms + (seconds * 1000.0) as u64;
        while self.ms < end {
            self.ms += 250;
            alive.iter().for_each(|&r| self.beat(r, "", 0));
            let actions = self.state.tick(self.now());
            self.actions.extend(actions);
        }
    }

    fn sent(&self, rank: u32) -> Vec<ToRank> {
        let own = 100 + u64::from(rank);
        let of = |a: &Action| match a {
            Action::Send(conn, m) if *conn == own => Some(m.clone()),
            Action::SendAll(conns, m) if conns.contains(&own) => Some(m.clone()),
            _ => None,
        };
        self.actions.iter().filter_map(of).collect()
    }

    fn blame(&self) -> Blame {
        match self.state.outcome() {
            Some(Outcome::Failed(blame)) => blame.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn reports(&self) -> usize {
        self.actions.iter().filter(|a| matches!(a, Action::Report(_))).count()
    }
}

#[test]
fn success_is_when_all_said_finished_and_ended_with_0() {
    let mut g = Game::running(3, true);
    (0..2).for_each(|r| g.say(r, ToMaster::Finished));
    assert_eq!(g.state.outcome(), None);
    g.say(2, ToMaster::Finished);
    assert!((0..3).all(|r| g.sent(r).contains(&ToRank::AllFinished)));
    assert_eq!(g.state.outcome(), None, "the launcher's word is waited for");
    (0..3).for_each(|rank| g.event(Event::Exited { rank, exit: RankExit::Code(0) }));
    assert_eq!(g.state.outcome(), Some(&Outcome::Finished));
    let mut g = Game::running(2, false);
    (0..2).for_each(|r| g.say(r, ToMaster::Finished));
    assert_eq!(g.state.outcome(), Some(&Outcome::Finished));
}

#[test]
fn one_code_of_all_is_the_programs_word_and_another_one_of_one_rank_its_trouble() {
    let mut g = Game::running(2, true);
    (0..2).for_each(|r| g.say(r, ToMaster::Finished));
    (0..2).for_each(|rank| g.event(Event::Exited { rank, exit: RankExit::Code(65) }));
    assert_eq!((g.state.outcome(), g.reports()), (Some(&Outcome::Ended(65)), 0));
    let mut g = Game::running(2, true);
    (0..2).for_each(|r| g.say(r, ToMaster::Finished));
    g.event(Event::Exited { rank: 1, exit: RankExit::Code(7) });
    g.event(Event::Exited { rank: 0, exit: RankExit::Code(0) });
    g.pass(3.0, &[]);
    assert_eq!((g.blame().code, g.blame().rank, g.reports()), (7, Some(1), 1));
}

#[test]
fn a_killed_rank_is_named_by_its_signal_and_the_others_are_told() {
    let mut g = Game::running(3, true);
    g.event(Event::Closed(101));
    assert_eq!(g.state.outcome(), None, "the launcher's word is waited for");
    g.event(Event::Exited { rank: 1, exit: RankExit::Signal(libc::SIGKILL) });
    let blame = g.blame();
    assert_eq!(
        (blame.code, blame.rank, blame.pid, blame.host.as_str()),
        (exit::RANK_LOST, Some(1), 1001, "n1")
    );
    assert!(blame.cause.contains("signal 9 (SIGKILL)") && blame.remedy.contains("memory"), "{blame}");
    assert!([0, 2].iter().all(|&r| g.sent(r).contains(&ToRank::Abort(blame.clone()))));
    // The first cause sticks.
    g.event(Event::Exited { rank: 0, exit: RankExit::Code(80) });
    g.say(2, ToMaster::Failed(Blame::of_nobody(42, "later".into(), "")));
    assert_eq!((g.blame(), g.reports()), (blame, 1));
}

#[test]
fn a_closed_connection_is_enough_where_nobody_watches_the_processes() {
    let mut g = Game::running(2, false);
    g.event(Event::Closed(101));
    assert_eq!((g.blame().code, g.blame().rank), (exit::RANK_LOST, Some(1)));
    let mut g = Game::running(2, true);
    g.event(Event::Closed(101));
    g.pass(2.5, &[0]);
    assert_eq!(
        g.blame().code,
        exit::RANK_LOST,
        "a launcher that says nothing is not waited for longer than two seconds"
    );
}

#[test]
fn leaving_early_is_never_success() {
    let cases = [(Some(0), exit::LEFT_EARLY), (Some(3), 3), (None, exit::LEFT_EARLY)];
    for (code, want) in cases {
        let mut g = Game::running(2, false);
        g.say(1, ToMaster::Left(code));
        assert_eq!((g.blame().code, g.blame().rank), (want, Some(1)));
    }
    let mut g = Game::running(2, true);
    g.event(Event::Exited { rank: 0, exit: RankExit::Code(0) });
    g.event(Event::Closed(100));
    assert_eq!((g.blame().code, g.blame().rank), (exit::LEFT_EARLY, Some(0)));
    // The rank's own words, on their way when its end is seen, count more than its exit code.
    let mut g = Game::running(2, true);
    g.event(Event::Exited { rank: 0, exit: RankExit::Code(101) });
    g.say(0, ToMaster::Failed(Blame::of_nobody(exit::PANICKED, "panicked: boom".into(), "")));
    assert_eq!((g.blame().code, g.blame().rank), (exit::PANICKED, Some(0)));
}

#[test]
fn silence_is_suspected_then_judged_but_not_after_our_own_sleep() {
    let mut g = Game::running(2, false);
    g.pass(6.0, &[0]);
    let view = g.state.snapshot(g.now());
    assert_eq!((view[0].suspect, view[1].suspect), (false, true));
    g.pass(3.0, &[0]);
    assert_eq!(g.state.outcome(), None);
    g.pass(2.0, &[0]);
    assert_eq!((g.blame().code, g.blame().rank), (exit::RANK_HUNG, Some(1)));
    // The master itself stood still for a minute: nobody is judged by that.
    let mut g = Game::running(2, false);
    g.ms += 60_000;
    g.pass(1.0, &[]);
    assert_eq!(g.state.outcome(), None);
}

#[test]
fn ranks_that_wait_for_one_another_are_named_with_their_operations() {
    let mut g = Game::running(4, false);
    for _ in 0..60 {
        g.ms += 250;
        (0..3).for_each(|r| g.beat(r, "allreduce", 5));
        g.beat(3, "barrier", 9);
        let actions = g.state.tick(g.now());
        g.actions.extend(actions);
    }
    let blame = g.blame();
    assert_eq!(blame.code, exit::MISMATCH);
    assert!(
        blame.cause.contains("ranks 0-2 are in allreduce #7")
            && blame.cause.contains("rank 3 is in barrier #7")
    );
}

#[test]
fn computing_or_moving_ranks_are_no_deadlock() {
    for case in 0..2 {
        let mut g = Game::running(2, false);
        for i in 0..200 {
            g.ms += 250;
            g.beat(0, "allreduce", 1);
            // One rank computes for fifty seconds; or messages keep moving.
            if case == 0 {
                g.beat(1, "", 1)
            } else {
                g.beat(1, "allreduce", i)
            }
            let actions = g.state.tick(g.now());
            g.actions.extend(actions);
        }
        assert_eq!(g.state.outcome(), None);
    }
}

#[test]
fn missing_ranks_are_listed() {
    let mut g = Game::new(5, false);
    g.pass(300.0, &[]);
    assert_eq!(
        g.state.outcome(),
        None,
        "the time runs from the first rank's coming: plain programs never come"
    );
    [1, 3].iter().for_each(|&r| g.say(r, ToMaster::Register { protocol: PROTOCOL, card: card(r, 5) }));
    g.pass(61.0, &[1, 3]);
    let blame = g.blame();
    assert_eq!(blame.code, exit::NOT_ALL_CAME);
    assert!(blame.cause.contains("3 of 5 ranks") && blame.cause.contains("rank 0, 2, 4"), "{blame}");
}

#[test]
fn one_too_many_is_refused_with_both_sides_named() {
    let refused = |change: &dyn Fn(&mut Card)| {
        let mut g = Game::new(3, false);
        g.say(0, ToMaster::Register { protocol: PROTOCOL, card: card(0, 3) });
        let mut other = card(1, 3);
        change(&mut other);
        g.event(Event::Message(555, ToMaster::Register { protocol: PROTOCOL, card: other }));
        let text = g.actions.iter().find_map(|a| match a {
            Action::Send(555, ToRank::Refused(why)) => Some(why.clone()),
            _ => None,
        });
        assert!(g.actions.contains(&Action::Close(555)));
        assert_eq!(g.state.outcome(), None, "the honest ones are unharmed");
        text.unwrap()
    };
    assert!(refused(&|c| c.rank = 0).contains("rank 0 is there already (pid 1000 on n0)"));
    assert!(refused(&|c| c.rank = 3).contains("rank 3 of 3"));
    let mut g = Game::new(2, false);
    g.event(Event::Message(9, ToMaster::Finished));
    assert!(g.actions.contains(&Action::Send(9, ToRank::Refused("register first".into()))));
}

#[test]
fn another_binary_version_or_size_fails_the_job_at_once_with_both_named() {
    let failed = |change: &dyn Fn(&mut Card), protocol: u32, code: u8, words: &[&str]| {
        let mut g = Game::new(3, true);
        g.say(0, ToMaster::Register { protocol: PROTOCOL, card: card(0, 3) });
        let mut other = card(1, 3);
        change(&mut other);
        g.event(Event::Message(555, ToMaster::Register { protocol, card: other }));
        let blame = g.blame();
        assert_eq!((blame.code, blame.rank, blame.pid, g.reports()), (code, Some(1), 1001, 1), "{blame}");
        assert!(words.iter().all(|w| blame.cause.contains(w)), "{blame}");
        let abort = ToRank::Abort(blame);
        assert!(g.actions.contains(&Action::Send(555, abort.clone())) && g.sent(0).contains(&abort));
        assert!(g.actions.contains(&Action::Close(555)));
        // Whoever comes later learns the same.
        g.say(2, ToMaster::Register { protocol: PROTOCOL, card: card(2, 3) });
        assert_eq!(g.sent(2), [abort]);
    };
    let odd = format!("protocol {} (Aeolian 9.9)", PROTOCOL + 1);
    failed(&|c| c.size = 4, PROTOCOL, exit::CONFIG, &["rank 1 on n1", "4 ranks", "there are 3"]);
    failed(
        &|c| c.exe = [8; 32],
        PROTOCOL,
        exit::PROTOCOL,
        &["rank 1 on n1", "080808", "rank 0 on n0", "070707"],
    );
    failed(&|c| c.version = "9.9".into(), PROTOCOL + 1, exit::PROTOCOL, &[&odd, VERSION]);
    // A version so different that its registration does not decode.
    let mut g = Game::new(2, true);
    g.say(0, ToMaster::Register { protocol: PROTOCOL, card: card(0, 2) });
    g.event(Event::Garbled { conn: 555, from: IpAddr::from([10, 0, 0, 9]) });
    assert_eq!((g.blame().code, g.reports()), (exit::PROTOCOL, 1));
    assert!(g.blame().cause.contains("10.0.0.9") && g.sent(0).contains(&ToRank::Abort(g.blame())));
    // Once all are there, such a one is too many and harms nobody.
    let mut g = Game::running(2, false);
    let other = Card { exe: [8; 32], ..card(1, 2) };
    g.event(Event::Message(555, ToMaster::Register { protocol: PROTOCOL, card: other }));
    g.event(Event::Garbled { conn: 556, from: IpAddr::from([10, 0, 0, 9]) });
    assert_eq!(g.state.outcome(), None);
}

#[test]
fn a_stopped_rank_among_waiting_ones_is_hung_not_mismatched() {
    // It stopped at any moment before or after the others began to wait.
    for stopped_at in [0, 1_000, 2_500, 5_000] {
        let mut g = Game::running(3, false);
        while g.state.outcome().is_none() {
            g.ms += 250;
            assert!(g.ms < 60_000, "in bounded time");
            (0..3).filter(|r| *r != 1 || g.ms <= stopped_at).collect::<Vec<_>>().iter().for_each(|&r| {
                g.beat(r, "allreduce", 1);
            });
            let actions = g.state.tick(g.now());
            g.actions.extend(actions);
        }
        assert_eq!(
            (g.blame().code, g.blame().rank),
            (exit::RANK_HUNG, Some(1)),
            "{stopped_at}: {}",
            g.blame()
        );
    }
}

#[test]
fn a_rank_stopped_between_its_receipt_and_its_end_is_hung() {
    let mut g = Game::running(2, true);
    (0..2).for_each(|r| g.say(r, ToMaster::Finished));
    g.event(Event::Closed(100));
    g.event(Event::Exited { rank: 0, exit: RankExit::Code(0) });
    g.pass(9.0, &[]);
    assert_eq!(g.state.outcome(), None);
    g.pass(2.0, &[]);
    assert_eq!(
        (g.blame().code, g.blame().rank, g.blame().phase.as_str()),
        (exit::RANK_HUNG, Some(1), "finished")
    );
}

#[test]
fn what_a_rank_says_of_another_yields_to_first_hand_knowledge() {
    let lost = |rank| Blame {
        rank: Some(rank),
        ..Blame::of_nobody(exit::RANK_LOST, "lost rank 1: closed".into(), "")
    };
    // Nothing better comes: then it is the verdict, with what is known of the lost one and who says so.
    let mut g = Game::running(3, false);
    g.say(2, ToMaster::Failed(lost(1)));
    g.event(Event::Closed(102));
    g.pass(0.75, &[0, 1]);
    assert_eq!(g.state.outcome(), None, "the witness's own end is a consequence");
    g.pass(0.5, &[0, 1]);
    let blame = g.blame();
    assert_eq!(
        (blame.code, blame.rank, blame.pid, blame.host.as_str()),
        (exit::RANK_LOST, Some(1), 1001, "n1")
    );
    assert!(blame.cause.contains("rank 2 on n2 says: lost rank 1"), "{blame}");
    // The lost one's own words, the launcher's, or the end of its connection come within the second.
    let mut g = Game::running(3, true);
    g.say(2, ToMaster::Failed(lost(1)));
    g.event(Event::Exited { rank: 2, exit: RankExit::Code(80) });
    g.event(Event::Closed(101));
    g.pass(0.5, &[0]);
    g.event(Event::Exited { rank: 1, exit: RankExit::Signal(libc::SIGKILL) });
    assert!(g.blame().cause.contains("killed by signal 9"), "{}", g.blame());
    let mut g = Game::running(3, false);
    g.say(2, ToMaster::Failed(lost(1)));
    g.say(1, ToMaster::Failed(Blame::of_nobody(exit::PANICKED, "panicked: boom".into(), "")));
    assert_eq!((g.blame().code, g.blame().rank), (exit::PANICKED, Some(1)));
    // A rank that does not exist, or the speaker itself, is the speaker's own trouble.
    for of in [2, 9] {
        let mut g = Game::running(3, false);
        g.say(2, ToMaster::Failed(lost(of)));
        assert_eq!((g.blame().code, g.blame().rank), (exit::RANK_LOST, Some(2)));
    }
}

#[test]
fn programs_that_never_join_are_plain_programs_until_one_joins() {
    let mut g = Game::new(2, true);
    (0..2).for_each(|rank| g.event(Event::Exited { rank, exit: RankExit::Code(0) }));
    assert_eq!(g.state.outcome(), Some(&Outcome::Finished));
    let mut g = Game::new(2, true);
    g.event(Event::Exited { rank: 1, exit: RankExit::Code(0) });
    g.say(0, ToMaster::Register { protocol: PROTOCOL, card: card(0, 2) });
    assert_eq!((g.blame().code, g.blame().rank), (exit::LEFT_EARLY, Some(1)));
    let mut g = Game::new(2, true);
    g.event(Event::Exited { rank: 1, exit: RankExit::Code(9) });
    assert_eq!(g.blame().code, 9);
}

#[test]
fn a_stop_reaches_all_also_late_comers_and_ends_in_good_order() {
    let mut g = Game::new(2, true);
    g.say(0, ToMaster::Register { protocol: PROTOCOL, card: card(0, 2) });
    g.say(0, ToMaster::Signal(libc::SIGUSR1));
    g.say(1, ToMaster::Register { protocol: PROTOCOL, card: card(1, 2) });
    for r in 0..2 {
        let stops = g
            .sent(r)
            .into_iter()
            .filter(|m| matches!(m, ToRank::Stop(s) if s.what.contains("SIGUSR1 to rank 0")));
        assert_eq!(stops.count(), 1);
    }
    (0..2).for_each(|r| g.say(r, ToMaster::Finished));
    (0..2).for_each(|rank| g.event(Event::Exited { rank, exit: RankExit::Code(i32::from(exit::STOPPED)) }));
    assert!(matches!(g.state.outcome(), Some(Outcome::Stopped(s)) if s.code == exit::TERMINATED));
}

#[test]
fn an_exchange_is_complete_when_all_gave_their_part() {
    let mut g = Game::running(3, false);
    for r in [2, 0, 1] {
        assert!(!g.sent(0).iter().any(|m| matches!(m, ToRank::Exchanged { .. })));
        g.say(r, ToMaster::Exchange { seq: 4, bytes: vec![r as u8; 3] });
    }
    let want = ToRank::Exchanged { seq: 4, all: vec![vec![0; 3], vec![1; 3], vec![2; 3]] };
    assert!((0..3).all(|r| g.sent(r).contains(&want)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Any order of events: at most one report, the first verdict stays, and success only if all said FINISHED.
    #[test]
    fn no_order_of_events_breaks_the_rules(steps in prop::collection::vec((0u32..3, 0u8..13, 0u64..4000), 1..60), watched: bool) {
        let mut g = Game::new(3, watched);
        let mut finished = [false; 3];
        let mut verdict: Option<Outcome> = None;
        for (rank, what, ms) in steps {
            g.ms += ms;
            match what {
                0..=3 => g.say(rank, ToMaster::Register { protocol: PROTOCOL, card: card(rank, 3) }),
                4 => g.beat(rank, if ms % 2 == 0 { "barrier" } else { "" }, ms),
                5 | 6 => {
                    g.say(rank, ToMaster::Finished);
                    finished[rank as usize] |= g.state.snapshot(g.now())[rank as usize].finished;
                }
                7 => g.event(Event::Closed(100 + u64::from(rank))),
                8 => g.event(Event::Exited { rank, exit: RankExit::Code((ms % 3) as i32) }),
                9 => g.event(Event::Exited { rank, exit: RankExit::Signal(9) }),
                10 => g.say(rank, ToMaster::Left(None)),
                11 => g.say(rank, ToMaster::Failed(Blame { rank: Some(ms as u32 % 4), ..Blame::of_nobody(exit::RANK_LOST, "x".into(), "") })),
                _ => g.event(Event::StopAsked(StopReason::signal(15, "x"))),
            }
            let actions = g.state.tick(g.now());
            g.actions.extend(actions);
            prop_assert!(g.reports() <= 1);
            match (&verdict, g.state.outcome()) {
                (None, Some(now)) => {
                    let joined = g.state.anyone_joined();
                    if matches!(now, Outcome::Finished) {
                        prop_assert!(finished.iter().all(|f| *f) || !joined);
                    }
                    verdict = Some(now.clone());
                }
                (Some(first @ Outcome::Failed(_)), now) => prop_assert_eq!(Some(first), now),
                _ => {}
            }
        }
    }
}

#[test]
fn a_failed_job_never_has_the_code_of_success() {
    let nobody = || Blame::of_nobody(exit::OK, "the user's own words".into(), "");
    let mut g = Game::running(2, false);
    g.say(1, ToMaster::Failed(nobody()));
    assert_eq!((g.blame().code, g.blame().rank), (exit::LEFT_EARLY, Some(1)));
    let mut g = Game::running(2, false);
    g.event(Event::Fail(nobody()));
    assert_eq!(g.blame().code, exit::LEFT_EARLY);
    let mut g = Game::running(2, true);
    g.event(Event::Exited { rank: 0, exit: RankExit::Code(256) });
    g.pass(4.0, &[1]);
    assert_eq!(g.blame().code, exit::LEFT_EARLY);
}

#[test]
fn a_rank_that_stands_still_after_the_last_receipt_is_hung() {
    let mut g = Game::running(2, false);
    (0..2).for_each(|r| g.say(r, ToMaster::Finished));
    assert_eq!(g.state.outcome(), Some(&Outcome::Finished));
    g.pass(12.0, &[0]);
    assert_eq!((g.blame().code, g.blame().rank), (exit::RANK_HUNG, Some(1)));
    // One that has gone is none of these.
    let mut g = Game::running(2, false);
    (0..2).for_each(|r| g.say(r, ToMaster::Finished));
    (0..2).for_each(|r| g.event(Event::Closed(100 + r)));
    g.pass(12.0, &[]);
    assert_eq!(g.state.outcome(), Some(&Outcome::Finished));
}

#[test]
fn a_rank_killed_after_its_receipt_is_lost_until_all_have_theirs() {
    let mut g = Game::running(2, false);
    g.say(1, ToMaster::Finished);
    g.event(Event::Closed(101));
    g.pass(4.0, &[0]);
    assert_eq!((g.blame().code, g.blame().rank), (exit::RANK_LOST, Some(1)));
}
