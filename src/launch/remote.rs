//! The other end of ssh: `aeolian agent`, which reads its order from standard input and starts the ranks of its host.

use super::agent::{Agent, Report, StdinFrom};
use super::bind;
use super::credit::Credit;
use super::spec::{HostSpec, Order};
use super::wire::{self, FromAgent, Stream, ToAgent};
use aeolian_net::exit;
use rustix::process::Signal;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long ranks get between SIGTERM and SIGKILL when the launcher is gone.
const GRACE: Duration = Duration::from_secs(1);

/// The agent's main. Its standard output carries frames, so its own complaints go to standard error (which ssh hands
/// on to the launcher).
pub(crate) fn serve() -> u8 {
    match run() {
        Ok(code) => code,
        // The launcher is gone, or never was one.
        Err(e) => {
            writeln!(io::stderr(), "aeolian agent: {e} (`aeolian run --host` starts agents; people do not)")
                .unwrap_or_default();
            exit::PROTOCOL
        }
    }
}

fn run() -> io::Result<u8> {
    let up = Arc::new(Uplink::default());
    let mut from = io::BufReader::new(io::stdin());
    {
        let mut out = io::stdout().lock();
        out.write_all(wire::GREETING)?;
        out.flush()?;
    }
    let Some(order) = wire::read_raw(&mut from)? else { return Ok(exit::OK) };
    let refuse = |why: String, code: u8| {
        up.event(FromAgent::Refused { why, code });
        Ok(code)
    };
    let spec = match HostSpec::read(&order)? {
        Order::Ours(spec) => spec,
        Order::Foreign(protocol) => {
            let why = format!(
                "another version of aeolian is there: {}, and here one of protocol {protocol}",
                wire::version()
            );
            return refuse(format!("{why}\nhelp: install the same version on all hosts"), exit::PROTOCOL);
        }
    };
    drop(order);
    let prepared = spec.resolve_program().and_then(|program| Ok((program, bind::plan(&spec)?)));
    let (program, cpus) = match prepared {
        Ok(prepared) => prepared,
        Err(e) => return refuse(e.to_string(), e.exit_code()),
    };
    up.event(FromAgent::Ready);
    match wire::read_frame::<ToAgent>(&mut from)? {
        Some(ToAgent::Go) => {}
        // Another host was not ready.
        _ => return Ok(exit::OK),
    }
    let stdin = if spec.stdin_rank.is_some() { StdinFrom::Fed } else { StdinFrom::Null };
    super::child::raise_file_limit();
    let agent = match Agent::start(spec, program, cpus, stdin, up.clone()) {
        Ok(agent) => agent,
        Err(e) => return refuse(e.to_string(), e.exit_code()),
    };
    loop {
        match wire::read_frame::<ToAgent>(&mut from) {
            Ok(Some(ToAgent::Signal(number))) => {
                if let Some(signal) = Signal::from_named_raw(number) {
                    agent.signal(signal);
                }
            }
            Ok(Some(ToAgent::Stdin(data))) => agent.feed(Some(data)),
            Ok(Some(ToAgent::StdinEnd)) => agent.feed(None),
            Ok(Some(ToAgent::CloseOutput(stream))) => up.close(stream),
            Ok(Some(ToAgent::OutputTaken(cost))) => up.credit.give(cost),
            Ok(Some(ToAgent::Go)) => {}
            // The end of the stream: the job is over, or the launcher is gone. Either way nothing may stay.
            Ok(None) | Err(_) => break,
        }
    }
    up.credit.lift();
    agent.signal(Signal::TERM);
    if !up.wait_done(GRACE) {
        agent.signal(Signal::KILL);
        up.wait_done(2 * GRACE);
    }
    Ok(exit::OK)
}

/// The way to the launcher: frames on standard output.
#[derive(Default)]
struct Uplink {
    credit: Credit,
    closed: [AtomicBool; 2],
    done: Mutex<bool>,
    is_done: Condvar,
}

impl Uplink {
    fn close(&self, stream: Stream) {
        self.closed[usize::from(stream == Stream::Err)].store(true, Ordering::Release);
    }

    fn wait_done(&self, patience: Duration) -> bool {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.is_done.wait_timeout_while(done, patience, |done| !*done);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Report for Uplink {
    fn output(&self, rank: u32, stream: Stream, data: &[u8]) -> io::Result<()> {
        let cost = wire::output_cost(data);
        // A rank whose reader is slow waits here, and not where the news of its end must get past.
        self.credit.take(cost);
        if self.closed[usize::from(stream == Stream::Err)].load(Ordering::Acquire) {
            self.credit.give(cost as u32);
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        wire::write_frame(&mut io::stdout().lock(), &FromAgent::Output { rank, stream, data: data.to_vec() })
    }

    fn event(&self, event: FromAgent) {
        let done = matches!(event, FromAgent::Done);
        // If the launcher is gone, the end of standard input says so too.
        wire::write_frame(&mut io::stdout().lock(), &event).unwrap_or_default();
        if done {
            *self.done.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.is_done.notify_all();
        }
    }
}
