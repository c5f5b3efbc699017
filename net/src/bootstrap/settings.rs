//! What the user's environment says about how the world is to be made.

use crate::control::protocol::{HANG_TIMEOUT, JobSettings, Protection, STOP_GRACE, TransportChoice};
use crate::error::{NetError, Result};
use std::net::IpAddr;
use std::time::Duration;

/// How long ranks may take to come, unless `AEOLIAN_START_TIMEOUT` says otherwise.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

pub(super) fn env_seconds(name: &str, default: Duration) -> Result<Duration> {
    let Some(text) = env(name) else { return Ok(default) };
    match text.trim().trim_end_matches('s').parse::<f64>() {
        Ok(s) if s > 0.0 && s < 1e9 => Ok(Duration::from_secs_f64(s)),
        _ => Err(NetError::Config {
            what: format!("{name}={text:?} is no number of seconds"),
            help: format!("unset {name}, or write it like 10 or 2.5"),
        }),
    }
}

pub(super) fn env_transport() -> Result<TransportChoice> {
    env("AEOLIAN_TRANSPORT").map_or(Ok(TransportChoice::Auto), |t| t.parse())
}

/// The settings of a job whose job master listens on `bind`.
pub(super) fn job_settings(bind: IpAddr) -> Result<JobSettings> {
    let encrypt = match env("AEOLIAN_ENCRYPT").as_deref() {
        None => !bind.is_loopback(),
        Some("on") => true,
        Some("off") => false,
        Some(other) => {
            return Err(NetError::Config {
                what: format!("AEOLIAN_ENCRYPT={other:?}"),
                help: "write on or off".into(),
            });
        }
    };
    let protection = match (encrypt, bind.is_loopback()) {
        (true, _) => Protection::Encrypted,
        (false, true) => Protection::Checksummed,
        (false, false) => Protection::Authenticated,
    };
    Ok(JobSettings {
        hang_timeout: env_seconds("AEOLIAN_HANG_TIMEOUT", HANG_TIMEOUT)?,
        stop_grace: env_seconds("AEOLIAN_STOP_GRACE", STOP_GRACE)?,
        protection,
        transport: env_transport()?,
    })
}
