//! `--json`: what became of the job, as one line.

use super::error::{LaunchError, Result};
use super::hand::Hand;
use super::watch::{Fate, RankState, Verdict};
use super::wire::Ended;
use aeolian_net::exit;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The report of a job that was started.
pub(crate) fn of(
    job: &str,
    verdict: &Verdict,
    hands: &[Arc<dyn Hand>],
    ranks: &[RankState],
    seconds: Duration,
) -> Value {
    let (outcome, blame) = match verdict {
        Verdict::Finished => ("finished", None),
        Verdict::Failed(blame) => ("failed", Some(blame)),
        Verdict::Stopped(_) | Verdict::Signalled(_) => ("stopped", None),
        Verdict::Ended(_) => ("ended", None),
        Verdict::ReaderGone(blame) => ("reader gone", blame.as_ref()),
    };
    let code = verdict.code();
    let ranks: Vec<_> = ranks
        .iter()
        .enumerate()
        .map(|(rank, state)| {
            let mut value = json!({"rank": rank, "host": hands[state.host].host(), "pid": state.pid});
            match state.fate {
                Fate::Ended(Ended::Code(code)) => value["exit"] = code.into(),
                Fate::Ended(Ended::Signal(signal)) => value["signal"] = signal.into(),
                Fate::Lost => value["lost"] = true.into(),
                Fate::Open => value["exit"] = Value::Null,
            }
            value
        })
        .collect();
    json!({
        "job": job,
        "outcome": outcome,
        "code": code,
        "name": exit::name(code),
        "blame": blame,
        "seconds": seconds.as_secs_f64(),
        "ranks": ranks,
    })
}

/// The report of a job that could not be started.
pub(crate) fn of_error(error: &LaunchError) -> Value {
    let code = error.exit_code();
    json!({"outcome": "not started", "code": code, "name": exit::name(code), "error": error.to_string(), "ranks": []})
}

/// Writes the line to `file`.
pub(crate) fn write(value: &Value, file: &Path) -> Result<()> {
    std::fs::write(file, format!("{value}\n"))
        .map_err(LaunchError::os(format!("writing the report to {}", file.display())))
}
