//! What reads bytes of others is given damaged ones: headers of frames, control messages, handshakes, records, cards of boards.
//!
//! A decoder is a module here: `good` inputs, and what `decode` makes of any bytes: whether they are fine, or what is wrong with the decoder.
//! Tests damage the good ones at random, `fuzz/` looks for bytes that get further. Where a check or a cipher keeps damage from what lies
//! behind it, the input is a [`Script`] instead, of a conversation whose other end knows the secret.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so and ends")]

mod script;
pub mod sessions;

pub(crate) use script::{Script, piece};

use crate::control::protocol::{
    Activity, Card, JobId, JobInfo, JobSettings, StopReason, ToMaster, ToRank, decode, encode,
};
use crate::error::{Blame, NetError};
use crate::transport::Kind;
use crate::transport::frame::{Header, LEN, MAX_BODY};
use serde::{Serialize, de::DeserializeOwned};

pub(crate) fn check(ok: bool, what: &str) -> Result<bool, String> {
    if ok { Ok(true) } else { Err(what.into()) }
}

/// Headers of frames.
pub mod headers {
    use super::*;

    pub fn good() -> Vec<Vec<u8>> {
        let header =
            |kind, len| Header { epoch: 7, seq: 9, edge: 3, kind, tag: 1 << 40, len }.encode().to_vec();
        vec![header(Kind::Data, 0), header(Kind::Data, 123_456), header(Kind::Credit, 8)]
    }

    pub fn decode(bytes: &[u8]) -> Result<bool, String> {
        // On the wire a header is never shorter; what follows it is not looked at.
        let Some(head) = bytes.first_chunk::<LEN>() else { return Ok(false) };
        let Ok(header) = Header::decode(head, 7, 9) else { return Ok(false) };
        check((header.epoch, header.seq) == (7, 9), "another epoch or number was taken")?;
        check(header.len <= MAX_BODY, "a length beyond the limit was taken")?;
        check(&header.encode() == head, "it was read as another one")
    }
}

fn encoded<T: Serialize>(messages: &[T]) -> Vec<Vec<u8>> {
    messages.iter().map(|m| encode(m).unwrap()).collect()
}

fn control<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<bool, String> {
    match decode::<T>(bytes, "rank 5 on n1") {
        Ok(message) => {
            let again = encode(&message).map_err(|e| e.to_string())?;
            // Numbers have longer forms too, and a message may have been damaged into one of those.
            check(again.len() <= bytes.len(), "it was read as a longer one")
        }
        Err(error @ NetError::Protocol { .. }) => {
            check(error.to_string().contains("rank 5 on n1"), "the error does not name the peer")
                .map(|_| false)
        }
        Err(other) => Err(other.to_string()),
    }
}

fn blame() -> Blame {
    Blame::of_nobody(80, "killed by signal 9 (SIGKILL)".into(), "look at the log")
}

fn card(rank: u32) -> Card {
    Card {
        rank,
        size: 2,
        host: "n1".into(),
        pid: 4711,
        node: "n1 boot 1234".into(),
        exe: [7; 32],
        version: "0.1.0".into(),
        data: Some("127.0.0.1:4711".parse().unwrap()),
        extra: vec![1; 40],
    }
}

/// Messages to the job master.
pub mod to_master {
    use super::*;

    pub fn good() -> Vec<Vec<u8>> {
        let activity = Activity { op: "allreduce".into(), seq: 300, waiting: true, progress: 1 << 33 };
        encoded(&[
            ToMaster::Register { protocol: 2, card: card(0) },
            ToMaster::Heartbeat(activity),
            ToMaster::Failed(blame()),
            ToMaster::Left(Some(3)),
            ToMaster::Finished,
            ToMaster::Exchange { seq: 1, bytes: vec![9; 300] },
            ToMaster::Signal(15),
        ])
    }

    pub fn decode(bytes: &[u8]) -> Result<bool, String> {
        control::<ToMaster>(bytes)
    }
}

/// Messages to a rank.
pub mod to_rank {
    use super::*;

    pub fn good() -> Vec<Vec<u8>> {
        let job = JobId::from_bytes([1; 16]);
        let cards = vec![card(0), card(1)];
        encoded(&[
            ToRank::Welcome(JobInfo { job, epoch: 1, cards, settings: JobSettings::default() }),
            ToRank::Refused("no".into()),
            ToRank::Beat,
            ToRank::Exchanged { seq: 1, all: vec![vec![1, 2], vec![], vec![9; 300]] },
            ToRank::Stop(StopReason::signal(15, "aeolian run")),
            ToRank::Abort(blame()),
            ToRank::AllFinished,
        ])
    }

    pub fn decode(bytes: &[u8]) -> Result<bool, String> {
        control::<ToRank>(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::{self, withstands, withstands_some};
    use crate::noise::{Role, Session, UNPROVEN_BYTES};
    use crate::secret::Secret;
    use crate::transport::tcp::{damaged_handshakes, damaged_records};
    use crate::{Buf, World};

    /// Damaged scripts, each of which makes keys.
    const SCRIPTS: u64 = 3000;

    #[test]
    fn headers_of_frames() {
        withstands("a header", &headers::good(), headers::decode);
    }

    #[test]
    fn messages_to_the_master() {
        withstands("a message to the master", &to_master::good(), to_master::decode);
    }

    #[test]
    fn messages_to_a_rank() {
        withstands("a message to a rank", &to_rank::good(), to_rank::decode);
    }

    #[test]
    fn scripts_of_sessions() {
        withstands_some(SCRIPTS, "a session", &sessions::good(), sessions::decode);
    }

    #[test]
    fn scripts_of_records() {
        withstands_some(SCRIPTS, "records", &damaged_records::good(), damaged_records::decode);
    }

    #[test]
    fn scripts_of_handshakes() {
        withstands_some(SCRIPTS, "a handshake", &damaged_handshakes::good(), damaged_handshakes::decode);
    }

    /// What the other end would say: its first bytes, or its whole side of a conversation.
    fn ends(secret: &Secret) -> (Session, Session) {
        let make = |role| Session::new(role, secret, b"decoders").unwrap();
        (make(Role::Initiator), make(Role::Responder))
    }

    fn pump(from: &mut Session, to: &mut Session) -> Vec<u8> {
        let bytes = from.outgoing().to_vec();
        to.feed(&bytes).unwrap();
        from.written(bytes.len());
        bytes
    }

    #[test]
    fn handshakes() {
        let secret = Secret::from_bytes(&[5; 32]);
        // Damage that comes after the end of the handshake proves nothing wrong: only what was proven by damaged bytes does.
        let (mut a, mut b) = ends(&secret);
        let hello = pump(&mut a, &mut b);
        withstands("a first message", std::slice::from_ref(&hello), |bytes| {
            let (_, mut responder) = ends(&secret);
            let fed = responder.feed(bytes);
            let whole = bytes.starts_with(&hello);
            check(!responder.is_proven(), "it counts as a proof")?;
            check(whole || !responder.is_answered(), "a damaged one was answered")?;
            check(
                bytes.len() < UNPROVEN_BYTES || fed.is_err(),
                "more than an unproven peer may send was taken",
            )?;
            check(matches!(responder.next_message(), Ok(None) | Err(_)), "a message came out")?;
            Ok(fed.is_ok() && whole)
        });
    }

    #[test]
    fn sealed_messages() {
        let secret = Secret::from_bytes(&[5; 32]);
        // Each conversation has fresh keys, so one is kept: what is damaged ends it, and the next one is another.
        let conversation = || {
            let (mut a, mut b) = ends(&secret);
            pump(&mut a, &mut b);
            pump(&mut b, &mut a);
            pump(&mut a, &mut b);
            a.queue(b"register me").unwrap();
            let sealed = a.outgoing().to_vec();
            (b, sealed)
        };
        let mut rng = mutate::Rng::seeded("sealed messages");
        for _ in 0..2000 {
            let (mut responder, sealed) = conversation();
            let bytes = mutate::damaged(&mut rng, &sealed);
            let fed = responder.feed(&bytes);
            match responder.next_message() {
                Ok(Some(message)) => {
                    assert!(bytes.starts_with(&sealed), "a damaged one was taken: {bytes:02x?}");
                    assert_eq!(message, b"register me");
                }
                Ok(None) => assert!(!bytes.starts_with(&sealed)),
                Err(_) => assert!(fed.is_err()),
            }
        }
    }

    #[test]
    fn cards_of_boards() {
        World::local(2, |mut world| {
            let edge = world.open_edge()?;
            let mine = world.board_card()?;
            world.send(edge, 1 - world.rank(), 0, mine.clone())?;
            let theirs = world.recv(edge)?.body;
            if world.rank() == 0 {
                withstands("the card of a board", &[theirs.to_vec()], |bytes| {
                    match world.open_boards(&[mine.clone(), Buf::from_slice(bytes)]) {
                        Ok(()) => Ok(true),
                        Err(e) => check(e.to_string().contains("rank 1"), "the error does not name the peer")
                            .map(|_| false),
                    }
                });
            }
            world.finish()
        })
        .unwrap();
    }

    /// The look at memory is no empty one.
    #[test]
    #[should_panic(expected = "bytes of memory")]
    fn a_decoder_that_believes_a_length_is_found() {
        withstands("a list", &[vec![2, 0, 0, 0, 7, 7]], |bytes| {
            let Some(head) = bytes.first_chunk::<4>() else { return Ok(false) };
            let mut list = Vec::new();
            let announced = u32::from_le_bytes(*head) as usize;
            list.try_reserve_exact(announced.min(1 << 30)).map_err(|e| e.to_string())?;
            list.extend_from_slice(&bytes[4..]);
            Ok(list.len() == announced)
        });
    }
}
