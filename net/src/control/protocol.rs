//! What ranks and the job master say to each other, as postcard over the authenticated stream of [`noise`](crate::noise).

use crate::error::{Blame, NetError, Result};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// Version of this protocol; both ends must have the same.
pub const PROTOCOL: u32 = 2;

/// A job: 128 random bits, shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobId([u8; 16]);

impl JobId {
    /// A new one.
    ///
    /// # Errors
    /// [`NetError::Os`] if the system has no random numbers to give.
    pub fn random() -> Result<JobId> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)
            .map_err(|e| NetError::os("asking for randomness")(std::io::Error::other(e.to_string())))?;
        Ok(JobId(bytes))
    }

    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> JobId {
        JobId(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl std::fmt::Debug for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JobId({self})")
    }
}

impl std::str::FromStr for JobId {
    type Err = NetError;

    /// ```
    /// use aeolian_net::control::protocol::JobId;
    /// let job: JobId = "000102030405060708090a0b0c0d0e0f".parse()?;
    /// assert_eq!(job.to_string(), "000102030405060708090a0b0c0d0e0f");
    /// assert!("+1".parse::<JobId>().is_err());
    /// # Ok::<(), aeolian_net::NetError>(())
    /// ```
    fn from_str(text: &str) -> Result<JobId> {
        let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).ok();
        let bytes = if text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            (0..16).map(|i| digits(2 * i)).collect::<Option<Vec<u8>>>()
        } else {
            None
        };
        bytes.and_then(|b| b.try_into().ok()).map(JobId).ok_or_else(|| NetError::Config {
            what: format!("{text:?} is no job id (32 hexadecimal digits)"),
            help: "AEOLIAN_JOB is set by the launcher: do not set it by hand".into(),
        })
    }
}

/// How the data connections between ranks are protected, once both ends have proven that they know the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protection {
    /// CRC-32 against accidents: the default on loopback, where the kernel keeps others out of a connection.
    Checksummed,
    /// A keyed hash against tampering, readable on the way: `--encrypt off` between hosts.
    Authenticated,
    /// Encrypted: the default between hosts.
    Encrypted,
}

/// Which wires a job may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportChoice {
    /// Shared memory inside a node; across nodes MPI if it is loaded, else TCP.
    #[default]
    Auto,
    /// Shared memory only: all ranks must be on one node.
    Shm,
    /// TCP only, also inside a node.
    Tcp,
    /// MPI only, also inside a node.
    Mpi,
}

impl std::str::FromStr for TransportChoice {
    type Err = NetError;

    fn from_str(text: &str) -> Result<TransportChoice> {
        match text {
            "auto" => Ok(TransportChoice::Auto),
            "shm" => Ok(TransportChoice::Shm),
            "tcp" => Ok(TransportChoice::Tcp),
            "mpi" => Ok(TransportChoice::Mpi),
            other => Err(NetError::Config {
                what: format!("{other:?} is no transport"),
                help: "AEOLIAN_TRANSPORT (--transport) is one of auto, shm, tcp, mpi".into(),
            }),
        }
    }
}

/// What the ranks of a job have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSettings {
    /// A rank or job master that is silent for so long counts as hung.
    pub hang_timeout: Duration,
    /// A program that listens for stop requests has so long to end after one.
    pub stop_grace: Duration,
    /// Protection of the data connections.
    pub protection: Protection,
    /// Wires.
    pub transport: TransportChoice,
}

/// The default of [`JobSettings::hang_timeout`].
pub const HANG_TIMEOUT: Duration = Duration::from_secs(10);

/// The default of [`JobSettings::stop_grace`]: below the 30 s that Slurm leaves between SIGTERM and SIGKILL.
pub const STOP_GRACE: Duration = Duration::from_secs(25);

impl Default for JobSettings {
    fn default() -> JobSettings {
        JobSettings {
            hang_timeout: HANG_TIMEOUT,
            stop_grace: STOP_GRACE,
            protection: Protection::Checksummed,
            transport: TransportChoice::Auto,
        }
    }
}

/// What a rank tells about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Its rank.
    pub rank: u32,
    /// How many ranks it was told there are.
    pub size: u32,
    /// Its host's name.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// Ranks with the same text can share memory.
    pub node: String,
    /// BLAKE3 of its executable.
    pub exe: [u8; 32],
    /// Version of this crate in it.
    pub version: String,
    /// Where it listens for data connections.
    pub data: Option<SocketAddr>,
    /// What its transports tell theirs.
    pub extra: Vec<u8>,
}

/// What a rank learns when all have come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobInfo {
    /// The job.
    pub job: JobId,
    /// Its incarnation.
    pub epoch: u32,
    /// All ranks' cards, by rank.
    pub cards: Vec<Card>,
    /// What they have in common.
    pub settings: JobSettings,
}

/// Why a job is asked to end in good order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopReason {
    /// As a phrase: `SIGTERM at rank 2 on n1 (pid 4711)`.
    pub what: String,
    /// The code that programs end with which never look for stop requests.
    pub code: u8,
}

impl StopReason {
    /// A signal, to a place in words (`rank 2 on n1`, `aeolian run`).
    pub fn signal(signal: i32, place: &str) -> StopReason {
        let code = if signal == libc::SIGINT { crate::exit::INTERRUPTED } else { crate::exit::TERMINATED };
        StopReason { what: format!("{} to {place}", signal_name(signal)), code }
    }
}

/// The name of a signal that ends processes.
pub fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        _ => "see signal(7)",
    }
}

/// What a rank is doing, as its control thread sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Activity {
    /// The operation that it is in; empty outside of any.
    pub op: String,
    /// The number of that operation.
    pub seq: u64,
    /// It sleeps until something arrives. (In an operation it may also compute.)
    pub waiting: bool,
    /// Messages moved so far, or any other count that grows while things move.
    pub progress: u64,
}

impl Activity {
    /// As errors show it: `allreduce #7`, `compute`.
    pub fn phase(&self) -> String {
        if self.op.is_empty() { "compute".into() } else { format!("{} #{}", self.op, self.seq) }
    }
}

/// From a rank to the master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToMaster {
    /// First of all: who it is.
    Register {
        /// [`PROTOCOL`].
        protocol: u32,
        /// The rank.
        card: Card,
    },
    /// Alive, and doing this.
    Heartbeat(Activity),
    /// Failed.
    Failed(Blame),
    /// The process ends, with this code if it knows, without having finished.
    Left(Option<i32>),
    /// Done; nothing more will be sent.
    Finished,
    /// One round of an exchange of small byte strings among all.
    Exchange {
        /// The round.
        seq: u64,
        /// This rank's part.
        bytes: Vec<u8>,
    },
    /// The process got a signal that asks it to end.
    Signal(i32),
}

/// From the master to a rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToRank {
    /// All have come.
    Welcome(JobInfo),
    /// You do not belong here.
    Refused(String),
    /// Alive.
    Beat,
    /// All have given their part of a round.
    Exchanged {
        /// The round.
        seq: u64,
        /// All parts, by rank.
        all: Vec<Vec<u8>>,
    },
    /// Please end in good order, or now if you never ask.
    Stop(StopReason),
    /// The job has failed.
    Abort(Blame),
    /// All ranks have finished.
    AllFinished,
}

/// The bytes of a message.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>> {
    postcard::to_stdvec(message)
        .map_err(|e| NetError::Internal(format!("a control message does not encode: {e}")))
}

/// A message from its bytes.
///
/// # Errors
/// [`NetError::Protocol`] naming `peer` if they are none.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8], peer: &str) -> Result<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(NetError::Protocol {
            peer: peer.into(),
            what: format!("{} bytes after the end of a control message", rest.len()),
        }),
        Err(e) => Err(NetError::Protocol {
            peer: peer.into(),
            what: format!("a control message does not decode: {e}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode::<ToMaster>(&bytes, "x");
            let _ = decode::<ToRank>(&bytes, "x");
        }

        #[test]
        fn changed_messages_decode_or_fail(at in 0usize..60, to: u8, seq: u64) {
            let mut bytes = encode(&ToRank::Exchanged { seq, all: vec![vec![1, 2], vec![], vec![9; 40]] }).unwrap();
            let at = at % bytes.len();
            bytes[at] = to;
            let _ = decode::<ToRank>(&bytes, "x");
        }
    }
}
