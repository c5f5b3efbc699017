//! The boards (`net/src/shared/`): what a rank shows is read after it was written, a place is written again after all are done with it, and
//! shares of a part that is combined where it lies meet nowhere.

use aeolian_models::{explore, fails, mirrors};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

/// What may be taken away.
#[derive(Clone, Copy)]
struct Rules {
    /// Of `head.ticket.store` in `World::try_expose`.
    ticket: Ordering,
    /// Of `done.store` in `Boards::say_done`.
    done: Ordering,
    /// A place waits until all are done with the call before.
    wait_for_place: bool,
    /// What was lent is looked at again only when all are done.
    wait_for_reclaim: bool,
    /// Shares of ranks are disjoint.
    shares: bool,
}

const AS_IT_IS: Rules = Rules {
    ticket: Ordering::Release,
    done: Ordering::Release,
    wait_for_place: true,
    wait_for_reclaim: true,
    shares: true,
};

const RANKS: usize = 2;

/// A board of one place (`SLOTS` are used in turn, each by the same rules), and what its rank has lent: a share for each rank.
struct Board {
    done: AtomicU64,
    ticket: AtomicU64,
    place: UnsafeCell<u64>,
    lent: Vec<UnsafeCell<u64>>,
}

fn boards() -> Arc<Vec<Board>> {
    let board = |_| Board {
        done: AtomicU64::new(0),
        ticket: AtomicU64::new(0),
        place: UnsafeCell::new(0),
        lent: (0..RANKS).map(|_| UnsafeCell::new(0)).collect(),
    };
    Arc::new((0..RANKS).map(board).collect())
}

fn until(mut ready: impl FnMut() -> bool) {
    while !ready() {
        thread::yield_now();
    }
}

/// `Boards::all_done`
fn all_done(boards: &[Board], call: u64) -> bool {
    boards.iter().all(|b| b.done.load(Ordering::Acquire) >= call)
}

/// `Exposure::poll`
fn shown(board: &Board, call: u64) -> bool {
    board.ticket.load(Ordering::Acquire) == call
}

fn get(cell: &UnsafeCell<u64>) -> u64 {
    // SAFETY: that nobody writes meanwhile is what loom checks.
    cell.with(|at| unsafe { *at })
}

fn set(cell: &UnsafeCell<u64>, value: u64) {
    // SAFETY: that nobody else looks meanwhile is what loom checks.
    cell.with_mut(|at| unsafe { *at = value });
}

/// Runs `rank` on each of the ranks.
fn ranks(rank: impl Fn(usize, &[Board]) + Copy + Send + 'static) {
    let boards = boards();
    let others: Vec<_> = (1..RANKS)
        .map(|r| {
            let boards = boards.clone();
            thread::spawn(move || rank(r, &boards))
        })
        .collect();
    rank(0, &boards);
    others.into_iter().for_each(|t| t.join().unwrap());
}

/// `calls` collectives, in each of which every rank shows a number and reads those of all.
fn small_calls(rules: Rules, calls: u64) {
    ranks(move |me, boards| {
        for call in 1..=calls {
            if rules.wait_for_place {
                until(|| all_done(boards, call - 1));
            }
            set(&boards[me].place, 10 * call + me as u64);
            boards[me].ticket.store(call, rules.ticket);
            for (rank, board) in boards.iter().enumerate() {
                until(|| shown(board, call));
                assert_eq!(get(&board.place), 10 * call + rank as u64);
            }
            boards[me].done.store(call, rules.done);
        }
    });
}

/// A part on each rank that is combined where it lies (`Exposure::rewrite`), each share by one rank, and comes back to its owner.
fn rewritten(rules: Rules) {
    ranks(move |me, boards| {
        for share in &boards[me].lent {
            set(share, 1 + me as u64);
        }
        boards[me].ticket.store(1, rules.ticket);
        boards.iter().for_each(|board| until(|| shown(board, 1)));
        let share = if rules.shares { me } else { 0 };
        let sum = boards.iter().map(|board| get(&board.lent[share])).sum();
        boards.iter().for_each(|board| set(&board.lent[share], sum));
        boards[me].done.store(1, rules.done);
        // `Exposure::poll_reclaim`
        if rules.wait_for_reclaim {
            until(|| all_done(boards, 1));
        }
        for share in &boards[me].lent {
            assert_eq!(get(share), 3);
        }
    });
}

const RACE: &str = "Causality violation";

#[test]
fn calls_follow_one_another_on_the_same_place() {
    explore(|| small_calls(AS_IT_IS, 2));
}

#[test]
fn the_release_of_the_ticket_is_needed() {
    fails(RACE, || small_calls(Rules { ticket: Ordering::Relaxed, ..AS_IT_IS }, 1));
}

#[test]
fn the_release_of_done_is_needed() {
    fails(RACE, || small_calls(Rules { done: Ordering::Relaxed, ..AS_IT_IS }, 2));
}

#[test]
fn the_wait_for_a_place_is_needed() {
    fails("", || small_calls(Rules { wait_for_place: false, ..AS_IT_IS }, 2));
}

#[test]
fn parts_are_combined_where_they_lie() {
    explore(|| rewritten(AS_IT_IS));
}

#[test]
fn the_release_of_the_ticket_is_needed_to_combine() {
    fails(RACE, || rewritten(Rules { ticket: Ordering::Relaxed, ..AS_IT_IS }));
}

#[test]
fn the_release_of_done_is_needed_to_combine() {
    fails(RACE, || rewritten(Rules { done: Ordering::Relaxed, ..AS_IT_IS }));
}

#[test]
fn disjoint_shares_are_needed() {
    fails(RACE, || rewritten(Rules { shares: false, ..AS_IT_IS }));
}

#[test]
fn the_wait_for_what_was_lent_is_needed() {
    fails("", || rewritten(Rules { wait_for_reclaim: false, ..AS_IT_IS }));
}

#[test]
fn the_code_is_as_it_was_modelled() {
    mirrors(
        include_str!("../../net/src/shared/boards.rs"),
        &[
            "fn say_done",
            "done.store(seq, Ordering::Release);",
            "fn all_done",
            "done[place].load(Ordering::Acquire)",
            "done(place, r) >= seq",
        ],
    );
    mirrors(
        include_str!("../../net/src/shared/exposure.rs"),
        &[
            "fn try_expose",
            "match self.has_place_for(seq)? {",
            "seq <= SLOTS as u64 || boards.all_done(seq - SLOTS as u64)",
            "head.ticket.store(tag, Ordering::Release);",
            "fn poll(",
            "head.ticket.load(Ordering::Acquire) != self.tag",
            "fn rewrite",
            "fn poll_reclaim",
            "self.done();",
            ".all_done(self.seq)",
        ],
    );
}
