//! What all ranks must know to meet, and rank 0's side of it.

use super::join::report;
use super::settings::{env, job_settings};
use crate::control::protocol::JobId;
use crate::error::{NetError, Result};
use crate::interfaces;
use crate::master::{Master, MasterConfig};
use crate::secret::Secret;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use zeroize::Zeroizing;

/// What rank 0 tells the others, in place of a [`Meeting`], if there is none.
pub(super) const NO_MASTER: &[u8] = b"none";

pub(super) fn no_master() -> NetError {
    NetError::Config {
        what: "rank 0 could not start the job master".into(),
        help: "its own message says why".into(),
    }
}

/// What all ranks must know to meet.
pub(super) struct Meeting {
    pub(super) master: SocketAddr,
    pub(super) secret: Secret,
    pub(super) job: JobId,
    pub(super) epoch: u32,
}

impl Meeting {
    pub(super) fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "{} {} {} {}",
            self.master,
            self.job,
            self.epoch,
            self.secret.to_hex_line().trim_end()
        ))
    }

    pub(super) fn from_text(text: &str) -> Result<Meeting> {
        let bad = || NetError::Config {
            what: "what rank 0 told about the job master does not parse".into(),
            help: "all ranks must run the same binary".into(),
        };
        let mut words = text.trim_end_matches(['\0', '\n']).split(' ');
        let (Some(master), Some(job), Some(epoch), Some(secret)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(bad());
        };
        Ok(Meeting {
            master: master.parse().map_err(|_| bad())?,
            job: job.parse()?,
            epoch: epoch.parse().map_err(|_| bad())?,
            secret: Secret::from_hex(secret)?,
        })
    }
}

/// What `aeolian run` tells its ranks.
pub(super) fn from_environment() -> Result<Meeting> {
    let need = |name: &str| {
        env(name).ok_or_else(|| NetError::Config {
            what: format!("AEOLIAN_MASTER is set, but {name} is not"),
            help: "these variables are aeolian run's: do not set them by hand".into(),
        })
    };
    // The descriptor is read and closed: a second time it would be somebody else's.
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(NetError::Usage("World::init was called before in this process".into()));
    }
    let master = need("AEOLIAN_MASTER")?;
    let fd: i32 = need("AEOLIAN_SECRET_FD")?.parse().map_err(|_| NetError::Config {
        what: "AEOLIAN_SECRET_FD is no number".into(),
        help: "these variables are aeolian run's: do not set them by hand".into(),
    })?;
    Ok(Meeting {
        master: master.parse().map_err(|_| NetError::Config {
            what: format!("AEOLIAN_MASTER={master:?} is no address"),
            help: "these variables are aeolian run's: do not set them by hand".into(),
        })?,
        secret: Secret::from_fd(fd)?,
        job: need("AEOLIAN_JOB")?.parse()?,
        epoch: env("AEOLIAN_EPOCH").and_then(|e| e.parse().ok()).unwrap_or(1),
    })
}

/// Rank 0's side of meeting: starts the master.
pub(super) fn host(size: u32, one_node: bool, start: Duration) -> Result<(Master, Meeting)> {
    let bind = if one_node { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { interfaces::reachable()?.address };
    let (secret, job) = (Secret::random()?, JobId::random()?);
    let epoch = u32::from_le_bytes([job.as_bytes()[0], job.as_bytes()[1], job.as_bytes()[2], 1]);
    let master = Master::start(MasterConfig {
        bind,
        size,
        secret: secret.clone(),
        job,
        epoch,
        settings: job_settings(bind)?,
        start_timeout: start,
        exit_reports_expected: false,
        report: Box::new(report),
    })?;
    let meeting = Meeting { master: master.addr(), secret, job, epoch };
    Ok((master, meeting))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meeting_survives_its_text() {
        let meeting = Meeting {
            master: "127.0.0.1:4711".parse().unwrap(),
            secret: Secret::random().unwrap(),
            job: JobId::random().unwrap(),
            epoch: 7,
        };
        let again = Meeting::from_text(&meeting.to_text()).unwrap();
        assert_eq!(
            (again.master, again.job, again.epoch, again.secret.as_bytes()),
            (meeting.master, meeting.job, 7, meeting.secret.as_bytes())
        );
        assert!(meeting.to_text().len() < 256, "fits MPI's broadcast and PMI-1's values");
        assert!(Meeting::from_text("nonsense").is_err());
    }
}
