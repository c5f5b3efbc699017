//! The job master inside the launcher.

use super::error::Result;
use super::watch::Happening;
use super::wire::Ended;
use aeolian_net::Blame;
use aeolian_net::control::protocol::{JobId, JobSettings};
use aeolian_net::exit;
use aeolian_net::master::{Master, MasterConfig, Outcome, RankExit};
use aeolian_net::secret::Secret;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// How long everybody gets to hear how the job ended before the master goes away.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The master and the thread that hears its verdict.
pub(crate) struct Boss {
    master: Arc<Master>,
    secret: Secret,
    job: JobId,
}

impl Boss {
    /// Starts the master on `bind`; its verdict comes as a [`Happening::Outcome`].
    pub(crate) fn start(
        size: u32,
        bind: IpAddr,
        settings: JobSettings,
        start_timeout: Duration,
        tell: Sender<Happening>,
    ) -> Result<Boss> {
        let (secret, job) = (Secret::random()?, JobId::random()?);
        let master = Master::start(MasterConfig {
            bind,
            size,
            secret: secret.clone(),
            job,
            epoch: EPOCH,
            settings,
            start_timeout,
            exit_reports_expected: true,
            // The launcher's own loop says it, at the end of the ranks' output.
            report: Box::new(|_| ()),
        })?;
        let master = Arc::new(master);
        let hear = {
            let master = Arc::downgrade(&master);
            move || {
                while let Some(master) = master.upgrade() {
                    if let Some(outcome) = master.wait(Duration::from_millis(200)) {
                        let blame = match outcome {
                            Outcome::Finished => None,
                            Outcome::Failed(blame) => Some(Box::new(blame)),
                        };
                        tell.send(Happening::Outcome(blame)).unwrap_or_default();
                        return;
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("verdict".into()).stack_size(128 << 10).spawn(hear);
        thread.map(drop).map_err(super::error::LaunchError::os("starting the thread `verdict`"))?;
        Ok(Boss { master, secret, job })
    }

    /// Where ranks register.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.master.addr()
    }

    pub(crate) fn job(&self) -> JobId {
        self.job
    }

    /// What a rank reads from its secret's descriptor.
    pub(crate) fn secret_line(&self) -> Vec<u8> {
        self.secret.to_hex_line().as_bytes().to_vec()
    }

    pub(crate) fn spawned(&self, rank: u32, host: &str, pid: u32) {
        self.master.spawned(rank, host, pid);
    }

    pub(crate) fn exited(&self, rank: u32, ended: Ended) {
        let exit = match ended {
            Ended::Code(code) => RankExit::Code(code),
            Ended::Signal(signal) => RankExit::Signal(signal),
        };
        self.master.rank_exited(rank, exit);
    }

    pub(crate) fn fail(&self, blame: Blame) {
        self.master.fail(blame);
    }

    pub(crate) fn stop(&self, signal: &str) {
        let code = if signal.contains("INT") { exit::INTERRUPTED } else { exit::TERMINATED };
        self.master.stop(format!("{signal} to aeolian run"), code);
    }

    /// True once a rank has joined: the program knows Aeolian.
    pub(crate) fn anyone_joined(&self) -> bool {
        self.master.anyone_joined()
    }
}

impl Drop for Boss {
    fn drop(&mut self) {
        self.master.drain(LAST_WORDS);
    }
}

/// The incarnation of a job's first attempt.
pub(crate) const EPOCH: u32 = 1;
