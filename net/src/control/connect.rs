//! How a rank comes to its master: connect, prove, register.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::Control;
use super::protocol::{Card, JobId, JobInfo, PROTOCOL, ToMaster, ToRank, VERSION, decode, encode};
use super::shared::Shared;
use super::thread::ControlThread;
use crate::error::{Blame, NetError, Result};
use crate::exit;
use crate::noise::{NoiseStream, Role, prologue};
use crate::secret::Secret;

/// How long a master may hang up on our proof (it does so while strangers crowd its door) before we believe it.
const HANG_UPS: Duration = Duration::from_secs(8);

/// How a rank behaves towards its master.
pub struct ControlConfig {
    /// How long [`Pending::register`] waits for all ranks. The master's own time-out should be shorter: it knows
    /// more, and says it.
    pub start_timeout: Duration,
    /// Whether the process ends (half a second after the main thread has been told) when the job has failed. Ranks
    /// that are threads of one process must not.
    pub exit_on_failure: bool,
    /// Prints a failure that the master cannot print because it is gone itself.
    pub report: Box<dyn Fn(&Blame) + Send + Sync>,
}

impl Default for ControlConfig {
    /// For a rank that is a process: 75 s to start, end with the job, print to standard error.
    fn default() -> Self {
        ControlConfig {
            start_timeout: Duration::from_secs(75),
            exit_on_failure: true,
            report: Box::new(|blame| eprintln!("aeolian: {blame}")),
        }
    }
}

/// A proven connection to the master that has not registered yet.
pub struct Pending {
    stream: NoiseStream,
    addr: SocketAddr,
    job: JobId,
    epoch: u32,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("master", &self.addr).finish_non_exhaustive()
    }
}

pub(super) fn connect(
    addr: SocketAddr,
    secret: &Secret,
    job: JobId,
    epoch: u32,
    timeout: Duration,
) -> Result<Pending> {
    let start = Instant::now();
    let deadline = start + timeout;
    let context = prologue("control", job, epoch);
    let mut pause = Duration::from_millis(5);
    let mut hung_up: Option<Instant> = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let problem = match TcpStream::connect_timeout(&addr, left.min(Duration::from_secs(5))) {
            Ok(stream) => {
                let mut stream = NoiseStream::new(stream, Role::Initiator, secret, &context)?;
                match stream.prove(deadline.min(Instant::now() + Duration::from_secs(5))) {
                    Ok(()) => return Ok(Pending { stream, addr, job, epoch }),
                    Err(NetError::Lost { .. })
                        if hung_up.get_or_insert_with(Instant::now).elapsed() >= HANG_UPS =>
                    {
                        return Err(not_allowed(addr));
                    }
                    Err(error @ (NetError::Lost { .. } | NetError::TimedOut { .. })) => error.to_string(),
                    Err(_) => return Err(not_allowed(addr)),
                }
            }
            Err(error) if retriable(error.kind()) => error.to_string(),
            Err(error) => return Err(NetError::os(format!("connecting to the job master at {addr}"))(error)),
        };
        if Instant::now() >= deadline {
            if hung_up.is_some() {
                return Err(not_allowed(addr));
            }
            return Err(NetError::TimedOut {
                what: format!("a connection to the job master at {addr} ({problem})"),
                seconds: timeout.as_secs(),
                help:
                    "see whether the launcher (or rank 0) lives, and whether this host reaches that address; \
                       AEOLIAN_INTERFACE chooses another network"
                        .into(),
            });
        }
        // Not all ranks of a node at the same moment.
        let spread = Duration::from_micros(u64::from(std::process::id() % 64) * 100);
        std::thread::sleep((pause + spread).min(deadline.saturating_duration_since(Instant::now())));
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

fn retriable(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::TimedOut
            | ErrorKind::WouldBlock
            | ErrorKind::Interrupted
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
    )
}

fn not_allowed(addr: SocketAddr) -> NetError {
    NetError::NotAllowed {
        peer: format!("the job master at {addr}"),
        what: "it does not accept our proof: another secret, another job or another attempt of it (or no job master \
               at all)"
            .into(),
    }
}

impl Pending {
    /// Our own address on the way to the master: a good one for data to come to.
    ///
    /// # Errors
    /// [`NetError::Os`] if the system does not tell.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// The master's address.
    pub fn master_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Registers and waits until all ranks have come; then starts the control thread.
    ///
    /// # Errors
    /// [`NetError::JobFailed`] if the job ends before it starts, [`NetError::Config`] or [`NetError::Protocol`] if
    /// the master turns this rank down (the same rank twice, another size, binary or version),
    /// [`NetError::TimedOut`] with the missing ranks, [`NetError::Lost`] if the master is gone.
    pub fn register(mut self, card: Card, config: ControlConfig) -> Result<(Control, JobInfo)> {
        let deadline = Instant::now() + config.start_timeout;
        let (rank, size) = (card.rank, card.size);
        let message =
            ToMaster::Register { protocol: PROTOCOL, version: VERSION.into(), card: encode(&card)? };
        self.stream.send(&encode(&message)?, deadline)?;
        let mut missing = String::new();
        let info = loop {
            let bytes = match self.stream.receive(deadline) {
                Ok(bytes) => bytes,
                Err(NetError::TimedOut { .. }) => {
                    return Err(NetError::TimedOut {
                        what: format!("the start of the job of {size} ranks{missing}"),
                        seconds: config.start_timeout.as_secs(),
                        help:
                            "see what the missing ranks printed, and whether their hosts reach the job master"
                                .into(),
                    });
                }
                Err(NetError::Lost { what, .. }) => {
                    return Err(NetError::Lost { peer: format!("the job master at {}", self.addr), what });
                }
                Err(error) => return Err(error),
            };
            match decode(&bytes)? {
                ToRank::Welcome(info) => break info,
                ToRank::Refused(blame) => return Err(self.refused(blame)),
                ToRank::Abort(blame) => return Err(NetError::JobFailed(Box::new(blame))),
                ToRank::Missing { ranks, count } => {
                    missing = format!(": {count} missing, first of them {ranks:?}");
                }
                _ => {}
            }
        };
        self.check(&info, rank, size)?;
        let shared = Arc::new(Shared::new(rank)?);
        let thread =
            ControlThread::new(Arc::clone(&shared), self.stream, config, &info, self.addr).spawn()?;
        Ok((Control::new(shared, thread), info))
    }

    fn refused(&self, blame: Blame) -> NetError {
        if blame.code == exit::CONFIG {
            NetError::Config { what: blame.cause, help: blame.remedy }
        } else {
            let peer = format!("the job master at {}", self.addr);
            NetError::Protocol { peer, what: format!("{} ({})", blame.cause, blame.remedy) }
        }
    }

    fn check(&self, info: &JobInfo, rank: u32, size: u32) -> Result<()> {
        let numbered = (0u32..).zip(&info.cards).all(|(i, card)| card.rank == i);
        let complete = info.size == size && info.cards.len() == size as usize && rank < size && numbered;
        if complete && info.job == self.job && info.epoch == self.epoch {
            return Ok(());
        }
        Err(NetError::Protocol {
            peer: format!("the job master at {}", self.addr),
            what: "its list of ranks does not fit this job".into(),
        })
    }
}
