//! `aeolian run`: ranks onto hosts, started, watched, and ended without a trace.
//!
//! The layers, each used only by those above it in this list's reverse order:
//! - `run` brings it together: job master, hosts, signals, outcome, exit code;
//! - `ssh` reaches the agents of other hosts, `remote` is such an agent;
//! - `agent` starts and watches the ranks of one host, `child` forks one of them, `guard` outlives us if we are killed;
//! - `hostfile`, `place`, `bind`, `spec` say what is to be started where;
//! - `wire`, `word`, `output`, `stdin`, `signals` carry frames, strings in them, lines, input and signals,
//!   `credit` bounds how much is on its way.

mod agent;
mod bind;
mod boss;
mod child;
mod credit;
pub(crate) mod error;
pub(crate) mod guard;
mod hand;
mod hostfile;
mod output;
mod place;
pub(crate) mod remote;
mod report;
pub(crate) mod run;
mod session;
mod signals;
mod spec;
mod ssh;
mod stdin;
mod watch;
mod wire;
mod word;
