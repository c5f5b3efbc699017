//! Whether the other end's kernel still answers.
//!
//! `TCP_USER_TIMEOUT` is not used for this: it also ends a connection whose receiver is well but does not read for a while
//! (its window is zero, and what waits behind it counts as unanswered). A rank reads only when its program calls in, so that
//! is the ordinary state of a rank that computes. Here a connection is given up only for bytes that *are under way* and that
//! nothing has answered. Behind a closed window nothing is under way: a host that dies then is found by the job master.

use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// What the kernel says of a connection.
struct Seen {
    /// Something is under way that the peer has not acknowledged.
    under_way: bool,
    /// Time since data was last sent, new or again.
    sent: Duration,
    /// Time since any acknowledgment came, of data or of a probe.
    answered: Duration,
}

fn look(stream: &TcpStream) -> Option<Seen> {
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into `info`, which is that long.
    let rc = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if rc != 0 {
        return None;
    }
    // SAFETY: plain integers, for which zeroes (what the kernel did not write) are valid too.
    let info = unsafe { info.assume_init() };
    Some(Seen {
        under_way: info.tcpi_unacked > 0,
        sent: Duration::from_millis(info.tcpi_last_data_sent.into()),
        answered: Duration::from_millis(info.tcpi_last_ack_recv.into()),
    })
}

/// The kernel counts the times above in ticks of its own, up to 10 ms long.
const TICKS: Duration = Duration::from_millis(20);

/// Watches one connection, from one look to the next.
#[derive(Default)]
pub(super) struct Watch {
    /// The first look since the last answer that saw something unanswered.
    silent_since: Option<Instant>,
}

impl Watch {
    /// Looks. True if for `limit` no answer has come to what is under way.
    pub(super) fn given_up(&mut self, stream: &TcpStream, limit: Duration) -> bool {
        look(stream).is_some_and(|seen| self.judge(&seen, Instant::now(), limit))
    }

    fn judge(&mut self, seen: &Seen, now: Instant, limit: Duration) -> bool {
        // The kernel sends again at ever longer intervals. If the answer to the last of them has come, the peer lives,
        // however long ago that was.
        if !seen.under_way || seen.answered <= seen.sent {
            self.silent_since = None;
            return false;
        }
        // A connection may have rested for hours before this was sent, so only time since a look of ours counts.
        let since = self.silent_since.get_or_insert(now);
        if seen.answered <= now.saturating_duration_since(*since) + TICKS {
            *since = now;
        }
        now.saturating_duration_since(*since) >= limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at these seconds: (when, under way, since sent, since answered). Which of them gives up?
    fn gives_up(looks: &[(u64, bool, u64, u64)]) -> Option<u64> {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let limit = Duration::from_secs(10);
        let s = Duration::from_secs;
        looks.iter().find_map(|&(at, under_way, sent, answered)| {
            let seen = Seen { under_way, sent: s(sent), answered: s(answered) };
            watch.judge(&seen, start + s(at), limit).then_some(at)
        })
    }

    #[test]
    fn silence_counts_from_the_first_look_that_saw_it() {
        // It rested for a hundred seconds, and what has just been sent cannot have been answered yet.
        assert_eq!(gives_up(&[(0, true, 0, 100), (1, true, 0, 0)]), None);
        assert_eq!(gives_up(&[(0, true, 0, 100), (5, true, 2, 105), (10, true, 3, 110)]), Some(10));
        // An answer came between two looks that are far apart.
        assert_eq!(
            gives_up(&[(0, true, 0, 1), (30, true, 0, 5), (39, true, 1, 14), (40, true, 2, 15)]),
            Some(40)
        );
    }

    #[test]
    fn an_answer_in_the_moment_of_a_look_counts() {
        // What was sent at first was answered at once. Then the rank has computed, and sends again just now.
        assert_eq!(gives_up(&[(0, true, 0, 12), (12, true, 0, 12)]), None);
    }

    #[test]
    fn a_closed_window_and_an_answered_repeat_are_no_silence() {
        assert_eq!(gives_up(&[(0, false, 50, 50), (60, false, 110, 40)]), None);
        // Sent again with long pauses, answered each time.
        assert_eq!(gives_up(&[(0, true, 20, 20), (15, true, 35, 35), (30, true, 8, 8)]), None);
    }
}
