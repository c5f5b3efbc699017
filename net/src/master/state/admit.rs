//! Who is let in.

use super::{Action, ConnId, Outcome, SAME_VERSION, State, VERSION};
use crate::control::protocol::{Card, JobInfo, PROTOCOL, ToRank};
use crate::error::Blame;
use crate::exit;
use std::time::Instant;

impl State {
    /// Somebody of this job, for whom it has no place as he is: the job cannot be complete, and all learn at once why.
    pub(super) fn turn_down(&mut self, conn: ConnId, blame: Blame, out: &mut Vec<Action>) {
        if self.welcomed {
            // All are here: one too many harms nobody.
            out.push(Action::Send(conn, ToRank::Refused(blame.cause)));
        } else {
            out.push(Action::Send(conn, ToRank::Abort(blame.clone())));
            self.fail(blame, out);
        }
        out.push(Action::Close(conn));
    }

    pub(super) fn register(
        &mut self,
        now: Instant,
        conn: ConnId,
        protocol: u32,
        card: Card,
        out: &mut Vec<Action>,
    ) {
        let refuse = |reason: String, out: &mut Vec<Action>| {
            out.push(Action::Send(conn, ToRank::Refused(reason)));
            out.push(Action::Close(conn));
        };
        if let Some(Outcome::Failed(blame)) = &self.outcome {
            out.push(Action::Send(conn, ToRank::Abort(blame.clone())));
            out.push(Action::Close(conn));
            return;
        }
        if protocol != PROTOCOL {
            let cause = format!(
                "rank {} on {} speaks control protocol {protocol} (Aeolian {}), the job master {PROTOCOL} (Aeolian {VERSION})",
                card.rank, card.host, card.version,
            );
            return self.turn_down(conn, of_card(&card, exit::PROTOCOL, cause, SAME_VERSION), out);
        }
        if card.size != self.rules.size {
            let cause = format!(
                "rank {} on {} was told that there are {} ranks, the job master that there are {}",
                card.rank, card.host, card.size, self.rules.size
            );
            let remedy = "let one launcher start all ranks, with an environment that nobody edited";
            return self.turn_down(conn, of_card(&card, exit::CONFIG, cause, remedy), out);
        }
        if card.rank >= self.rules.size {
            let size = self.rules.size;
            return refuse(format!("rank {} of {size} wants to join a job of {size} ranks", card.rank), out);
        }
        if let Some(first) = self.ranks.iter().find_map(|r| r.card.as_ref())
            && first.exe != card.exe
        {
            let cause = format!(
                "rank {} on {} runs another program (Aeolian {}, hash {}) than rank {} on {} (Aeolian {}, hash {})",
                card.rank,
                card.host,
                card.version,
                hash(&card.exe),
                first.rank,
                first.host,
                first.version,
                hash(&first.exe)
            );
            let remedy =
                "all ranks must run the same binary: copy it to every host or put it on a shared file system";
            return self.turn_down(conn, of_card(&card, exit::PROTOCOL, cause, remedy), out);
        }
        let r = &mut self.ranks[card.rank as usize];
        if let Some(there) = &r.card {
            let text = format!(
                "rank {} is there already (pid {} on {}): a second one came from pid {} on {}",
                card.rank, there.pid, there.host, card.pid, card.host
            );
            return refuse(text, out);
        }
        (r.host, r.pid) = (card.host.clone(), card.pid);
        r.conn = Some(conn);
        r.heard = Some(now);
        self.conns.insert(conn, card.rank);
        r.card = Some(card);
        self.first_registered.get_or_insert(now);
        if let Some(reason) = &self.stop {
            out.push(Action::Send(conn, ToRank::Stop(reason.clone())));
        }
        if self.conns.len() == self.ranks.len() {
            let cards = self.ranks.iter().filter_map(|r| r.card.clone()).collect();
            self.welcomed = true;
            self.moved.1 = now;
            self.ranks.iter_mut().for_each(|r| r.heard = Some(now));
            let info = JobInfo {
                job: self.rules.job,
                epoch: self.rules.epoch,
                cards,
                settings: self.rules.settings,
            };
            self.tell_all(ToRank::Welcome(info), out);
        } else {
            self.mixed(out);
        }
    }
}

/// A blame of a rank that was not let in.
fn of_card(card: &Card, code: u8, cause: String, remedy: &str) -> Blame {
    let (host, phase) = (card.host.clone(), "start-up".into());
    Blame { rank: Some(card.rank), host, pid: card.pid, phase, ..Blame::of_nobody(code, cause, remedy) }
}

fn hash(bytes: &[u8]) -> String {
    bytes[..6].iter().map(|b| format!("{b:02x}")).collect()
}
