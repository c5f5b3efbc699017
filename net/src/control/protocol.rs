//! What ranks and the job master say to each other, and its bytes (postcard).

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Blame, NetError, Result};
use crate::exit;

/// Version of these messages; ranks and master must agree on it.
pub const PROTOCOL: u32 = 1;
/// Version of this crate, for messages to people.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What one exchange may carry in all, over all ranks.
pub const MAX_EXCHANGE: usize = 15 << 20;

/// The identity of a job: 128 random bits, written as 32 hexadecimal digits.
///
/// ```
/// use aeolian_net::control::JobId;
/// let id = JobId::random()?;
/// assert_eq!(id.to_string().parse::<JobId>()?, id);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobId([u8; 16]);

impl JobId {
    /// A new identity.
    ///
    /// # Errors
    /// [`NetError::Os`] if the system has no random numbers.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| NetError::Os {
            what: "drawing a job id".into(),
            source: std::io::Error::other(error.to_string()),
        })?;
        Ok(JobId(bytes))
    }

    /// An identity that follows from a name that all ranks know, such as Slurm's job and step id.
    pub fn from_name(name: &str) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&blake3::derive_key("aeolian 1 job id", name.as_bytes())[..16]);
        JobId(bytes)
    }

    /// The 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JobId({self})")
    }
}

impl std::str::FromStr for JobId {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self> {
        let well_formed = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(number) if well_formed => Ok(JobId(number.to_be_bytes())),
            _ => Err(NetError::Config {
                what: format!("{text:?} is not a job id"),
                help: "AEOLIAN_JOB is 32 hexadecimal digits and set by the launcher: do not set it by hand"
                    .into(),
            }),
        }
    }
}

/// The name of an operation, as blame shows it: `static ALLREDUCE: OpName = OpName("allreduce");`.
#[derive(Debug, PartialEq, Eq)]
pub struct OpName(pub &'static str);

/// How the frames of the data transports are protected on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protection {
    /// A checksum: for the memory of one host only.
    Checksummed,
    /// A keyed hash of each frame: nobody can change or add one.
    Authenticated,
    /// Nobody can read one either.
    Encrypted,
}

/// Which wires the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransportChoice {
    /// Shared memory inside a node, the best that works between nodes.
    Auto,
    /// Shared memory only.
    Shm,
    /// TCP only.
    Tcp,
    /// MPI only.
    Mpi,
}

/// What the master settles for all ranks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSettings {
    /// A rank (or the master) that is silent for so long counts as hung. Heartbeats come five times as often.
    pub hang_timeout: Duration,
    /// How long a program that asks [`Control::stop_requested`](super::Control::stop_requested) may take to end.
    pub stop_grace: Duration,
    /// Protection of data frames.
    pub protection: Protection,
    /// Choice of transport.
    pub transport: TransportChoice,
}

impl Default for JobSettings {
    /// 10 s, 30 s, authenticated, automatic.
    fn default() -> Self {
        JobSettings {
            hang_timeout: Duration::from_secs(10),
            stop_grace: Duration::from_secs(30),
            protection: Protection::Authenticated,
            transport: TransportChoice::Auto,
        }
    }
}

/// What a rank says of itself when it registers; every rank gets everyone's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Its number, from 0.
    pub rank: u32,
    /// The number of ranks that it expects.
    pub size: u32,
    /// Its host's name, for people.
    pub host: String,
    /// Its process id on that host.
    pub pid: u32,
    /// Identity of its node: ranks with equal ones can share memory.
    pub node: String,
    /// blake3 of its executable: all ranks run the same one.
    pub exe: [u8; 32],
    /// Version of this crate in it ([`VERSION`]).
    pub version: String,
    /// Where its data transport listens.
    pub data: Option<SocketAddr>,
    /// What other layers want every rank to know.
    pub extra: Vec<u8>,
}

/// What a rank learns when all have come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobInfo {
    /// The job.
    pub job: JobId,
    /// Which attempt of the job this is.
    pub epoch: u32,
    /// Number of ranks.
    pub size: u32,
    /// Everyone's card, in order of rank.
    pub cards: Vec<Card>,
    /// What the master settled.
    pub settings: JobSettings,
}

/// Whether a rank's main thread is at work or in an operation that may wait for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// In user code.
    Computing,
    /// In an operation of ours.
    Waiting,
}

/// What a heartbeat tells of a rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulse {
    /// At work or in an operation.
    pub phase: Phase,
    /// The operation (the last one, while computing); empty before the first.
    pub op: String,
    /// Its number in the program's order.
    pub seq: u64,
    /// Grows whenever something moves.
    pub progress: u64,
    /// For how long, in milliseconds, nothing of this has changed.
    pub since_ms: u64,
}

impl Pulse {
    /// The pulse of a rank that has not said anything yet.
    pub fn new() -> Self {
        Pulse { phase: Phase::Computing, op: String::new(), seq: 0, progress: 0, since_ms: 0 }
    }

    /// The phase as blame shows it: `compute`, `allreduce #7`.
    pub fn describe(&self) -> String {
        match self.phase {
            Phase::Computing => "compute".into(),
            Phase::Waiting => format!("{} #{}", self.op, self.seq),
        }
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a job is asked to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopReason {
    /// The exit code if the program does not know how to stop in order.
    pub code: u8,
    /// The rank that passed the request on, if one did.
    pub rank: Option<u32>,
    /// What happened, as a phrase: `SIGTERM came`, `the user pressed Ctrl-C`.
    pub what: String,
}

impl StopReason {
    /// The reason for a signal that came on `rank` (or to the launcher).
    pub fn signal(signal: i32, rank: Option<u32>) -> Self {
        let code = if signal == libc::SIGINT { exit::INTERRUPTED } else { exit::TERMINATED };
        let place = rank.map_or(String::new(), |rank| format!(" on rank {rank}"));
        StopReason { code, rank, what: format!("{} came{place}", signal_name(signal)) }
    }
}

/// `SIGKILL` for 9, `signal 77` for one without a name.
pub fn signal_name(signal: i32) -> String {
    const NAMES: &[(i32, &str)] = &[
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGTRAP, "SIGTRAP"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGUSR1, "SIGUSR1"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGUSR2, "SIGUSR2"),
        (libc::SIGPIPE, "SIGPIPE"),
        (libc::SIGALRM, "SIGALRM"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGXCPU, "SIGXCPU"),
        (libc::SIGXFSZ, "SIGXFSZ"),
        (libc::SIGSYS, "SIGSYS"),
    ];
    let known = NAMES.iter().find(|(number, _)| *number == signal);
    known.map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).into())
}

/// From a rank to the master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToMaster {
    /// The first message. The card is packed a second time, so that any version can read what stands before it.
    Register {
        /// [`PROTOCOL`] of the rank.
        protocol: u32,
        /// [`VERSION`] of the rank.
        version: String,
        /// A packed [`Card`].
        card: Vec<u8>,
    },
    /// A sign of life.
    Heartbeat(Pulse),
    /// This rank cannot go on, or saw another one fail.
    Failed(Blame),
    /// This rank's process ends without having finished; the code, where it is known.
    Left {
        /// Exit code.
        code: Option<i32>,
    },
    /// This rank has done all its work.
    Finished,
    /// This rank's share of an exchange.
    Exchange {
        /// Number of the exchange, from 0.
        seq: u64,
        /// The share.
        bytes: Vec<u8>,
    },
    /// The outside (a signal) asks this rank to stop.
    StopAsked(StopReason),
    /// This rank has heard of the stop request.
    StopSeen {
        /// Whether its program asks about stop requests.
        aware: bool,
    },
}

/// From the master to a rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToRank {
    /// All have come.
    Welcome(JobInfo),
    /// This rank cannot take part.
    Refused(Blame),
    /// Not all have come yet: these have not.
    Missing {
        /// The first of them (at most 32).
        ranks: Vec<u32>,
        /// How many they are.
        count: u32,
    },
    /// The master lives (answer to a heartbeat).
    HeartbeatAck,
    /// Everyone's share of an exchange, in order of rank.
    Exchanged {
        /// Number of the exchange.
        seq: u64,
        /// The shares.
        parts: Vec<Vec<u8>>,
    },
    /// Stop at the next good place.
    Stop(StopReason),
    /// The job has failed.
    Abort(Blame),
    /// Every rank said `Finished`.
    AllFinished,
}

/// The bytes of a message.
///
/// # Errors
/// [`NetError::Usage`] if it is too long for one message.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>> {
    postcard::to_stdvec(message)
        .map_err(|error| NetError::Usage(format!("packing a control message: {error}")))
}

/// The message in these bytes, all of them. Never panics, whatever they are.
///
/// # Errors
/// [`NetError::Protocol`] if they are something else.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    let malformed = |what: String| NetError::Protocol { peer: "the peer".into(), what };
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(malformed(format!("a control message with {} bytes too many", rest.len()))),
        Err(error) => Err(malformed(format!("a malformed control message ({error})"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn card(rank: u32) -> Card {
        Card {
            rank,
            size: 3,
            host: "n1".into(),
            pid: 17,
            node: "n1/boot".into(),
            exe: [7; 32],
            version: VERSION.into(),
            data: Some("[::1]:80".parse().unwrap()),
            extra: vec![1, 2, 3],
        }
    }

    fn blame() -> Blame {
        Blame {
            code: 80,
            rank: Some(1),
            host: "n1".into(),
            pid: 3,
            phase: "compute".into(),
            cause: "killed".into(),
            remedy: "none".into(),
        }
    }

    fn to_master() -> Vec<ToMaster> {
        let card = encode(&card(1)).unwrap();
        vec![
            ToMaster::Register { protocol: PROTOCOL, version: VERSION.into(), card },
            ToMaster::Heartbeat(Pulse { op: "allreduce".into(), seq: 7, ..Pulse::new() }),
            ToMaster::Failed(blame()),
            ToMaster::Left { code: Some(3) },
            ToMaster::Finished,
            ToMaster::Exchange { seq: 9, bytes: vec![5; 300] },
            ToMaster::StopAsked(StopReason::signal(15, Some(2))),
            ToMaster::StopSeen { aware: true },
        ]
    }

    fn to_rank() -> Vec<ToRank> {
        let info = JobInfo {
            job: JobId::from_name("x"),
            epoch: 1,
            size: 2,
            cards: vec![card(0), card(1)],
            settings: JobSettings::default(),
        };
        vec![
            ToRank::Welcome(info),
            ToRank::Refused(blame()),
            ToRank::Missing { ranks: vec![2], count: 1 },
            ToRank::HeartbeatAck,
            ToRank::Exchanged { seq: 1, parts: vec![vec![], vec![1; 200]] },
            ToRank::Stop(StopReason::signal(2, None)),
            ToRank::Abort(blame()),
            ToRank::AllFinished,
        ]
    }

    #[test]
    fn every_message_survives_the_trip_and_refuses_a_tail() {
        for message in to_master() {
            let mut bytes = encode(&message).unwrap();
            assert_eq!(decode::<ToMaster>(&bytes).unwrap(), message);
            bytes.push(0);
            assert!(decode::<ToMaster>(&bytes).is_err());
        }
        for message in to_rank() {
            let bytes = encode(&message).unwrap();
            assert_eq!(decode::<ToRank>(&bytes).unwrap(), message);
            assert!(decode::<ToRank>(&bytes[..bytes.len() - 1]).is_err());
        }
    }

    #[test]
    fn job_ids_are_strict() {
        for bad in ["", "12", "+0000000000000000000000000000000", "g0000000000000000000000000000000"] {
            assert!(bad.parse::<JobId>().is_err(), "{bad:?}");
        }
        assert_eq!(JobId::from_name("7.0"), JobId::from_name("7.0"));
        assert_ne!(JobId::from_name("7.0"), JobId::from_name("7.1"));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode::<ToMaster>(&bytes);
            let _ = decode::<ToRank>(&bytes);
            let _ = decode::<Card>(&bytes);
        }

        #[test]
        fn mutated_messages_never_panic(
            which in any::<prop::sample::Index>(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let all: Vec<Vec<u8>> = to_master()
                .iter()
                .map(|m| encode(m).unwrap())
                .chain(to_rank().iter().map(|m| encode(m).unwrap()))
                .collect();
            let mut bytes = which.get(&all).clone();
            for (at, value) in edits {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let _ = decode::<ToMaster>(&bytes);
            let _ = decode::<ToRank>(&bytes);
        }
    }
}
