//! `aeolian run` from its arguments to its exit code.

use super::agent::{Agent, Report, StdinFrom};
use super::boss::Boss;
use super::error::{BadHost, LaunchError, Result};
use super::hand::{self, Ear, Hand, Here, SharedTerminal, There};
use super::output::Terminal;
use super::place::Placed;
use super::spec::{HostSpec, PROTOCOL};
use super::ssh::{self, Remote};
use super::watch::{Fate, Happening, RankState, STOP_GRACE, Verdict, Watch};
use super::wire::{self, ToAgent};
use super::{bind, hostfile, place, report, signals, stdin};
use crate::cli::{OnOff, RunArgs, Transport};
use aeolian_net::control::{JobId, JobSettings, Protection, TransportChoice};
use aeolian_net::master::MasterConfig;
use aeolian_net::secret::Secret;
use aeolian_net::{exit, interfaces};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ChildStdout;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Runs the job; gives the exit code. Says once what went wrong, on standard error.
pub(crate) fn main(args: &RunArgs) -> u8 {
    let began = Instant::now();
    let ended = start(args).map(|mut job| {
        let verdict = job.watch.run();
        (job, verdict)
    });
    match ended {
        Ok((mut job, verdict)) => {
            let text = match &verdict {
                Verdict::Failed(blame) => Some(format!("aeolian: error: {blame}")),
                Verdict::Stopped(why) => Some(format!("aeolian: the job stopped in good order: {why}")),
                Verdict::Signalled(signal) => {
                    Some(format!("aeolian: the job was ended by {}", signals::name(*signal)))
                }
                Verdict::ReaderGone(Some(blame)) => Some(format!(
                    "aeolian: error: {blame}\naeolian: the reader of the output had gone before that: the job ends with {}",
                    verdict.code()
                )),
                Verdict::Finished | Verdict::Ended(_) | Verdict::ReaderGone(None) => None,
            };
            if let Some(text) = text {
                job.watch.last_word(&text);
            }
            let value = report::of(&job.id, &verdict, &job.watch.hands, &job.watch.ranks, began.elapsed());
            hand_in(&value, args, verdict.code(), |text| job.watch.last_word(text))
        }
        Err(e) => {
            let say = |text: &str| writeln!(std::io::stderr(), "{text}").unwrap_or_default();
            say(&format!("aeolian: error: {e}"));
            hand_in(&report::of_error(&e), args, e.exit_code(), say)
        }
    }
}

/// Writes the report if one is asked for, with `say` if to standard error. Gives the exit code: `code` if that went well.
fn hand_in(value: &Value, args: &RunArgs, code: u8, mut say: impl FnMut(&str)) -> u8 {
    match args.json.as_deref() {
        None => code,
        Some(file) if file == Path::new("-") => {
            say(&value.to_string());
            code
        }
        Some(file) => match report::write(value, file) {
            Ok(()) => code,
            Err(e) => {
                say(&format!("aeolian: error: {e}"));
                if code == exit::OK { exit::CANNOT_WRITE } else { code }
            }
        },
    }
}

/// A running job.
struct Job {
    id: String,
    watch: Watch,
}

fn start(args: &RunArgs) -> Result<Job> {
    super::child::raise_file_limit();
    let placed = placed(args)?;
    let several = placed.len() > 1;
    let remote = placed.iter().any(|p| !p.host.is_local());
    let wdir = match &args.wdir {
        Some(dir) => dir.clone(),
        None => std::env::current_dir().map_err(LaunchError::os("finding the working directory"))?,
    };
    let wdir = std::path::absolute(wdir).map_err(LaunchError::os("finding the working directory"))?;
    let Some((program, arguments)) = args.program.split_first() else {
        return Err(LaunchError::Usage {
            what: "no program".into(),
            help: "aeolian run -n 4 ./program".into(),
        });
    };

    let (tell, happenings) = mpsc::channel();
    let size = placed.iter().map(|p| p.ranks.len() as u32).sum();
    let (id, secret) = (JobId::random()?, Secret::random()?);
    let job = id.to_string();
    let bind = own_address(&placed, args.interface.as_deref())?;
    let config = MasterConfig {
        bind,
        size,
        secret: secret.clone(),
        job: id,
        epoch: 1,
        settings: job_settings(args, bind),
        start_timeout: args.start_timeout,
        exit_reports_expected: true,
        report: Box::new(|_| ()),
    };
    let boss = Boss::start(config, tell.clone())?;
    let mut env: Vec<(OsString, OsString)> = vec![
        ("AEOLIAN_MASTER".into(), boss.addr().to_string().into()),
        ("AEOLIAN_SIZE".into(), size.to_string().into()),
        ("AEOLIAN_JOB".into(), OsString::from(&job)),
        ("AEOLIAN_EPOCH".into(), "1".into()),
        ("AEOLIAN_START_TIMEOUT".into(), args.start_timeout.as_secs_f64().to_string().into()),
    ];
    env.extend(exported(args)?);
    let spec = |p: &Placed| HostSpec {
        protocol: PROTOCOL,
        host: p.host.name.clone(),
        ranks: p.ranks.clone(),
        size,
        program: program.clone(),
        args: arguments.to_vec(),
        wdir: wdir.clone().into_os_string(),
        env: env.clone(),
        bind: args.bind,
        stdin_rank: p.ranks.contains(&0).then_some(0),
        prompt: stdin::is_conversation(),
        secret: secret.to_hex_line().as_bytes().to_vec(),
    };

    let tags = args.tag_output.then(|| tags(&placed, several));
    let terminal: SharedTerminal = Arc::new(Mutex::new(Terminal::own(tags)));
    let told = Arc::default();
    let ear = |host: usize| {
        let (terminal, happenings) = (terminal.clone(), tell.clone());
        Arc::new(Ear { host, terminal, happenings, told: Arc::clone(&told) })
    };

    // What can be known to fail is known before the first rank starts.
    let mut here = None;
    for (index, p) in placed.iter().enumerate().filter(|(_, p)| p.host.is_local()) {
        let spec = spec(p);
        let program = spec.resolve_program()?;
        let cpus = bind::plan(&spec)?;
        here = Some((index, spec, program, cpus));
    }
    let far: Vec<(usize, HostSpec)> =
        placed.iter().enumerate().filter(|(_, p)| !p.host.is_local()).map(|(i, p)| (i, spec(p))).collect();
    let connected = if remote { connect(args, far, &terminal)? } else { Vec::new() };
    signals::listen({
        let tell = tell.clone();
        move |signal| tell.send(Happening::Signal(signal)).unwrap_or_default()
    })?;

    let mut hands: Vec<Option<Arc<dyn Hand>>> = placed.iter().map(|_| None).collect();
    let ranks = placed.iter().enumerate().flat_map(|(host, p)| p.ranks.iter().map(move |_| host));
    let ranks = ranks.map(|host| RankState { host, pid: 0, fate: Fate::Open }).collect();
    for (index, remote, from) in connected {
        let remote = Arc::new(remote);
        // A host that is lost here is reported by its listener.
        remote.send(&ToAgent::Go).unwrap_or_default();
        let credit = Arc::default();
        if placed[index].ranks.contains(&0) {
            let to = remote.clone();
            stdin::forward(Arc::clone(&credit), move |message| to.send(message));
        }
        listen(remote.clone(), from, ear(index), tell.clone())?;
        hands[index] = Some(Arc::new(There { remote, credit }));
    }
    if let Some((index, spec, program, cpus)) = here {
        let host = spec.host.clone();
        let input = if spec.stdin_rank.is_some() { stdin::inherited() } else { StdinFrom::Null };
        let agent = Agent::start(spec, program, cpus, input, ear(index))?;
        hands[index] = Some(Arc::new(Here { host, agent }));
    }
    let hands = hands.into_iter().flatten().collect();
    let watch = Watch::new(hands, ranks, boss, happenings, terminal, args.quiet, args.timeout);
    Ok(Job { id: job, watch })
}

/// Which rank runs where. All names of this host become one.
fn placed(args: &RunArgs) -> Result<Vec<Placed>> {
    let mut hosts = Vec::new();
    for list in &args.host {
        hostfile::parse_list(list)?.into_iter().for_each(|host| hostfile::add(&mut hosts, host));
    }
    if let Some(file) = &args.hostfile {
        hosts = hostfile::read(file)?;
    }
    let mut merged: Vec<hostfile::Host> = Vec::new();
    for mut host in hosts {
        if let Some(known) = merged.iter().find(|known| known.is_local() && host.is_local()) {
            host.name.clone_from(&known.name);
        }
        hostfile::add(&mut merged, host);
    }
    place::place(&merged, args.ranks, args.oversubscribe, bind::processors())
}

/// What the job master tells all ranks.
fn job_settings(args: &RunArgs, bind: IpAddr) -> JobSettings {
    JobSettings {
        hang_timeout: args.hang_timeout,
        stop_grace: STOP_GRACE,
        protection: match (args.encrypt, bind.is_loopback()) {
            (Some(OnOff::On), _) | (None, false) => Protection::Encrypted,
            (_, true) => Protection::Checksummed,
            (Some(OnOff::Off), false) => Protection::Authenticated,
        },
        transport: match args.transport {
            Transport::Auto => TransportChoice::Auto,
            Transport::Shm => TransportChoice::Shm,
            Transport::Tcp => TransportChoice::Tcp,
        },
    }
}

/// The variables of `-x`.
fn exported(args: &RunArgs) -> Result<Vec<(OsString, OsString)>> {
    let mut env: Vec<(OsString, OsString)> = Vec::new();
    for export in &args.export {
        let bytes = export.as_bytes();
        match bytes.iter().position(|b| *b == b'=') {
            Some(0) => {
                let what = format!("-x {} has no name before the equals sign", export.to_string_lossy());
                return Err(LaunchError::Usage { what, help: "-x VAR or -x VAR=VALUE".into() });
            }
            Some(at) => {
                env.push((OsStr::from_bytes(&bytes[..at]).into(), OsStr::from_bytes(&bytes[at + 1..]).into()))
            }
            None => match std::env::var_os(export) {
                Some(value) => env.push((export.clone(), value)),
                None if args.quiet => {}
                None => eprintln!(
                    "aeolian: warning: -x {}: not set here, so not passed on",
                    export.to_string_lossy()
                ),
            },
        }
    }
    Ok(env)
}

fn tags(placed: &[Placed], several: bool) -> Vec<String> {
    let mut tags = Vec::new();
    for p in placed {
        let tag =
            |rank: &u32| if several { format!("[{rank}@{}] ", p.host.name) } else { format!("[{rank}] ") };
        tags.extend(p.ranks.iter().map(tag));
    }
    tags
}

/// Reaches all other hosts at once; all that fail are one error.
fn connect(
    args: &RunArgs,
    far: Vec<(usize, HostSpec)>,
    terminal: &SharedTerminal,
) -> Result<Vec<(usize, Remote, ChildStdout)>> {
    let words = ssh::split_words(&args.ssh).map_err(|what| LaunchError::Usage {
        what: format!("--ssh: {what}"),
        help: "--ssh \"ssh -F config\"".into(),
    })?;
    let own = std::env::current_exe().map_err(LaunchError::os("finding our own path"))?;
    let aeolian = args.remote_aeolian.clone().unwrap_or(own);
    let say: Arc<dyn Fn(&str) + Send + Sync> = {
        let terminal = terminal.clone();
        Arc::new(move |text: &str| hand::say(&terminal, text, Duration::from_secs(5)))
    };
    let patience = args.start_timeout;
    let mut orders = Vec::new();
    for (index, spec) in far {
        let order = wire::json_frame(&spec).map_err(|e| LaunchError::Usage {
            what: format!("the order for {} is too large: {e}", spec.host),
            help: "hand long lists of arguments and large variables (-x) to the program in a file".into(),
        })?;
        orders.push((index, spec.host.clone(), order));
    }
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = orders
            .iter()
            .map(|(index, host, order)| {
                let line = ssh::command_line(&words, host, aeolian.as_os_str(), patience);
                let say = say.clone();
                let run = move || Remote::connect(&line, host, order, patience, say);
                (*index, host, std::thread::Builder::new().name("connect".into()).spawn_scoped(scope, run))
            })
            .collect();
        let joined = threads.into_iter().map(|(index, host, thread)| {
            let failed = |why: String| BadHost { host: host.clone(), why, code: exit::INTERNAL };
            let result = match thread.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(failed("a thread of the launcher panicked".into())),
                Err(e) => Err(failed(format!("no thread to be had: {e}"))),
            };
            result.map(|(remote, from)| (index, remote, from))
        });
        joined.collect()
    });
    let (good, bad): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    let bad: Vec<BadHost> = bad.into_iter().filter_map(Result::err).collect();
    // Dropping the good ones closes their connections: their agents end without having started anything.
    if bad.is_empty() { Ok(good.into_iter().flatten().collect()) } else { Err(LaunchError::BadHosts(bad)) }
}

fn listen(remote: Arc<Remote>, from: ChildStdout, ear: Arc<Ear>, tell: Sender<Happening>) -> Result<()> {
    let host = ear.host;
    let hear = move || {
        let report: &dyn Report = &*ear;
        let lost = |why| tell.send(Happening::HostLost(host, why)).unwrap_or_default();
        remote.listen(from, report, lost);
    };
    let done = std::thread::Builder::new().name("agent".into()).stack_size(256 << 10).spawn(hear);
    done.map(drop).map_err(LaunchError::os("starting the thread `agent`"))
}

/// The address that `--interface` means: itself, or that of the interface of this name (IPv4 if it has one).
fn address_of(interface: &str) -> Result<IpAddr> {
    if let Ok(address) = interface.parse() {
        return Ok(address);
    }
    let all = interfaces::interfaces()?;
    let mut own: Vec<_> = all.iter().filter(|i| i.name == interface).map(|i| i.address).collect();
    own.sort_by_key(IpAddr::is_ipv6);
    own.first().copied().ok_or_else(|| {
        let mut names: Vec<_> = all.iter().filter(|i| i.up && !i.loopback).map(|i| i.name.as_str()).collect();
        names.dedup();
        LaunchError::Usage {
            what: format!("--interface {interface}: this host has no such interface with an address"),
            help: format!("one of {}, or an address of this host", names.join(", ")),
        }
    })
}

/// The address of this host that ranks reach the job master at: loopback unless other hosts take part.
fn own_address(placed: &[Placed], interface: Option<&str>) -> Result<IpAddr> {
    let Some(far) = placed.iter().find(|p| !p.host.is_local()) else {
        return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
    };
    if let Some(interface) = interface {
        return address_of(interface);
    }
    let name = far.host.name.rsplit('@').next().unwrap_or(&far.host.name);
    // No packet is sent: connecting a UDP socket only asks for the way.
    let ask = |to: SocketAddr| -> std::io::Result<IpAddr> {
        let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        Ok(socket.local_addr()?.ip())
    };
    let addresses = std::net::ToSocketAddrs::to_socket_addrs(&(name, 22u16)).map(|a| a.collect::<Vec<_>>());
    let own = addresses.and_then(|all| {
        all.into_iter()
            .map(ask)
            .find(Result::is_ok)
            .unwrap_or_else(|| Err(std::io::ErrorKind::HostUnreachable.into()))
    });
    // A name that only ssh's configuration knows: then whatever reaches other hosts at all; ssh says if there is no such host.
    own.or_else(|_| Ok(interfaces::reachable()?.address))
}
