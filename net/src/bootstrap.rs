//! From a bare process to a [`World`]: who started us, where is the job master, who are the others, which wires.
//!
//! Every world of several processes has a job master. `aeolian run` hosts it; for all other launchers rank 0 does, and
//! tells the others where it listens, and the job's secret, through the best channel there is:
//!
//! 1. the MPI that was loaded (broadcast), which then also carries messages between nodes;
//! 2. the launcher's key-value service (PMIx, PMI-1, PMI-2), when no MPI can be loaded: said in one line, and our own wires
//!    are used;
//! 3. under `srun` without either, a file that only the user can read ([`rendezvous`](crate::rendezvous)).

use crate::control::protocol::STOP_GRACE;
use crate::control::protocol::{
    Card, HANG_TIMEOUT, JobId, JobInfo, JobSettings, Protection, TransportChoice,
};
use crate::control::{Control, ControlConfig};
use crate::error::{Blame, NetError, Result};
use crate::interfaces;
use crate::launcher::{Launch, Launcher};
use crate::master::{Master, MasterConfig, Outcome};
use crate::mpi::{self, Mpi, Prefer};
use crate::node::{NodeId, host_name};
use crate::pmi::{self, Kvs};
use crate::rendezvous;
use crate::secret::Secret;
use crate::supervisor::{OpName, Supervisor};
use crate::transport::mpi::MpiWire;
use crate::transport::shm::{Own, Shm, ShmCard};
use crate::transport::tcp::{Mesh, MeshConfig};
use crate::transport::{Bell, Transport};
use crate::world::{Layout, Parts, World};
use aeolian_slurm::SlurmEnv;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use zeroize::{Zeroize, Zeroizing};

/// How long ranks may take to come, unless `AEOLIAN_START_TIMEOUT` says otherwise.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long rank 0 stays, when it cannot join, for the others to hear the job master's verdict.
const LAST_VERDICT: Duration = Duration::from_secs(2);

/// How long rank 0 waits then for ranks that have not registered yet.
const LATE_COMERS: Duration = Duration::from_millis(300);

/// What rank 0 tells the others, in place of a [`Meeting`], if there is none.
const NO_MASTER: &[u8] = b"none";

fn no_master() -> NetError {
    NetError::Config {
        what: "rank 0 could not start the job master".into(),
        help: "its own message says why".into(),
    }
}

/// What all ranks must know to meet.
struct Meeting {
    master: SocketAddr,
    secret: Secret,
    job: JobId,
    epoch: u32,
}

impl Meeting {
    fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "{} {} {} {}",
            self.master,
            self.job,
            self.epoch,
            self.secret.to_hex_line().trim_end()
        ))
    }

    fn from_text(text: &str) -> Result<Meeting> {
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

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

fn env_seconds(name: &str, default: Duration) -> Result<Duration> {
    let Some(text) = env(name) else { return Ok(default) };
    match text.trim().trim_end_matches('s').parse::<f64>() {
        Ok(s) if s > 0.0 && s < 1e9 => Ok(Duration::from_secs_f64(s)),
        _ => Err(NetError::Config {
            what: format!("{name}={text:?} is no number of seconds"),
            help: format!("unset {name}, or write it like 10 or 2.5"),
        }),
    }
}

fn env_transport() -> Result<TransportChoice> {
    env("AEOLIAN_TRANSPORT").map_or(Ok(TransportChoice::Auto), |t| t.parse())
}

fn settings(bind: IpAddr) -> Result<JobSettings> {
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

/// What the user sees when a job without `aeolian run` fails: one error.
fn report(blame: &Blame) {
    use std::io::Write;
    // Not eprintln, which panics when nobody reads any more: that is so when the launcher was killed.
    let _ = std::io::stderr().write_all(format!("aeolian: error: {blame}\n").as_bytes());
}

/// Joins the world that this process was started for.
pub(crate) fn init() -> Result<World> {
    let launch = Launch::detect()?;
    let start = env_seconds("AEOLIAN_START_TIMEOUT", START_TIMEOUT)?;
    match launch.launcher {
        Launcher::Nobody => Ok(World::alone()),
        Launcher::Aeolian => {
            let meeting = from_environment()?;
            join(launch.rank, launch.size, meeting, None, None, None, start, launch.launcher)
        }
        Launcher::Slurm => {
            // With --mpi=none an MPI would start as N lonely ones: it is not even tried.
            by_file(&launch, start, None)
        }
        _ => by_launcher(&launch, start),
    }
}

fn from_environment() -> Result<Meeting> {
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
fn host(size: u32, one_node: bool, start: Duration) -> Result<(Master, Meeting)> {
    let bind = if one_node { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { interfaces::reachable()?.address };
    let (secret, job) = (Secret::random()?, JobId::random()?);
    let epoch = u32::from_le_bytes([job.as_bytes()[0], job.as_bytes()[1], job.as_bytes()[2], 1]);
    let master = Master::start(MasterConfig {
        bind,
        size,
        secret: secret.clone(),
        job,
        epoch,
        settings: settings(bind)?,
        start_timeout: start,
        exit_reports_expected: false,
        report: Box::new(report),
    })?;
    let meeting = Meeting { master: master.addr(), secret, job, epoch };
    Ok((master, meeting))
}

/// `no_pmi` is why the PMI service that was offered cannot be used here, if one was.
fn by_file(launch: &Launch, start: Duration, no_pmi: Option<NetError>) -> Result<World> {
    let slurm = SlurmEnv::from_env().map_err(crate::launcher::misread)?;
    let Some(SlurmEnv { step: Some(step), job_id, restart_count, cluster, .. }) = slurm else {
        return Err(NetError::Config {
            what: "this is no task of a Slurm step any more".into(),
            help: "start the program with srun, in an environment that nobody edited".into(),
        });
    };
    let name = format!("slurm-{}-{job_id}-{}-{restart_count}", cluster.unwrap_or_default(), step.id)
        .replace('/', "_");
    let dir = match (env("AEOLIAN_RENDEZVOUS_DIR"), env("HOME")) {
        (Some(dir), _) => PathBuf::from(dir),
        (None, Some(home)) => PathBuf::from(home).join(".aeolian").join("rendezvous"),
        (None, None) => {
            return Err(NetError::Config {
                what: "srun started several ranks without PMIx or PMI-2, and HOME is not set: they have nowhere to meet".into(),
                help: "use srun --mpi=pmi2, or set AEOLIAN_RENDEZVOUS_DIR to a directory that all nodes share".into(),
            });
        }
    };
    if launch.rank == 0 {
        let (master, meeting) = host(launch.size, step.nodes.len() == 1, start)?;
        let published = rendezvous::publish(&dir, &name, &meeting.to_text())?;
        // Dropped, and so removed, once all have come.
        join(0, launch.size, meeting, Some(master), None, Some(published), start, launch.launcher)
    } else {
        let found = rendezvous::find(&dir, &name, start).map_err(|e| match (e, no_pmi) {
            (NetError::TimedOut { what, seconds, .. }, Some(no_pmi)) => NetError::TimedOut {
                what,
                seconds,
                help: format!(
                    "the other ranks may be waiting in {}, which cannot be used on {}: {no_pmi}",
                    launch.launcher,
                    host_name()
                ),
            },
            (e, _) => e,
        })?;
        let meeting = Meeting::from_text(&Zeroizing::new(found))?;
        join(launch.rank, launch.size, meeting, None, None, None, start, launch.launcher)
    }
}

fn by_launcher(launch: &Launch, start: Duration) -> Result<World> {
    let without = matches!(env("AEOLIAN_MPI").as_deref(), Some("none" | "off"));
    let rejected = if without {
        vec![]
    } else {
        match mpi::find(Prefer::of(launch.launcher)) {
            Ok(found) => return by_mpi(launch, &found.library, start),
            Err(rejected) => rejected,
        }
    };
    if let (Some(named), false) = (env("AEOLIAN_MPI"), rejected.is_empty()) {
        return Err(NetError::Config {
            what: format!("AEOLIAN_MPI={named} cannot be loaded:\n  {}", lines(&rejected)),
            help: "correct the path, or unset it to let Aeolian look for an MPI; AEOLIAN_MPI=none for our own wires"
                .into(),
        });
    }
    if env_transport()? == TransportChoice::Mpi {
        return Err(NetError::Config {
            what: format!("MPI was asked for, but none can be loaded:\n  {}", lines(&rejected)),
            help: "build the shim for this site's MPI with: aeolian mpi build".into(),
        });
    }
    let slurm = matches!(launch.launcher, Launcher::SlurmPmix | Launcher::SlurmPmi2);
    let kvs = match pmi::connect() {
        // Slurm's environment says enough to meet without it.
        Ok(Some(kvs)) => Some(kvs),
        without if slurm => {
            let why = without.err();
            if launch.rank == 0 {
                let why = why.as_ref().map_or(String::new(), |why| format!(" ({why})"));
                say_own_wires(launch.size, &format!("a private file{why}"));
            }
            return by_file(launch, start, why);
        }
        without => without?,
    };
    let Some(kvs) = kvs else {
        return Err(NetError::Config {
            what: format!(
                "{} started {} ranks, but no MPI can be loaded and it offers no PMI service:\n  {}",
                launch.launcher,
                launch.size,
                lines(&rejected)
            ),
            help: "build the shim for this site's MPI with: aeolian mpi build; or start with: aeolian run"
                .into(),
        });
    };
    by_kvs(launch, kvs, start)
}

/// The one line for those who expected an MPI.
fn say_own_wires(size: u32, through: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(
        format!(
            "aeolian: no MPI loaded: {size} ranks meet through {through} and use Aeolian's own wires (aeolian doctor tells why)\n"
        )
        .as_bytes(),
    );
}

fn lines(rejected: &[mpi::Rejected]) -> String {
    if rejected.is_empty() {
        return "(AEOLIAN_MPI=none)".into();
    }
    rejected.iter().map(|r| r.to_string()).collect::<Vec<_>>().join("\n  ")
}

/// A word of fixed length that is the same for ranks of one node.
fn node_digest(node: &str) -> [u8; 32] {
    *blake3::hash(node.as_bytes()).as_bytes()
}

fn by_mpi(launch: &Launch, library: &mpi::MpiLibrary, start: Duration) -> Result<World> {
    let mpi = Mpi::init(library)?;
    let (rank, size) = (mpi.rank(), mpi.size());
    if launch.denies(rank, size) {
        return Err(NetError::Config {
            what: format!(
                "{} says that this is {}, but the MPI that was loaded ({}, from {}) says rank {rank} of {size}: it does not belong to this launcher",
                launch.launcher, launch.place(), library.version, library.origin
            ),
            help: match launch.launcher {
                Launcher::SlurmPmix => "MPICH needs srun --mpi=pmi2; for Open MPI build its shim with: aeolian mpi build --mpicc mpicc.openmpi".into(),
                Launcher::SlurmPmi2 => "Open MPI needs srun --mpi=pmix; for MPICH build its shim with: aeolian mpi build --mpicc mpicc.mpich".into(),
                _ => "build the shim with this launcher's own mpicc (aeolian mpi build --mpicc ...), or name it: AEOLIAN_MPI=path; or AEOLIAN_MPI=none for our own wires".into(),
            },
        });
    }
    meet_by_mpi(mpi, start, launch.launcher)
}

/// A world of the ranks of a communicator that the program has made itself.
#[cfg(feature = "mpi")]
pub(crate) fn from_mpi(mpi: Mpi) -> Result<World> {
    let start = env_seconds("AEOLIAN_START_TIMEOUT", START_TIMEOUT)?;
    meet_by_mpi(mpi, start, Launch::detect()?.launcher)
}

/// The ranks meet through MPI: rank 0 hosts the job master and tells where.
fn meet_by_mpi(mpi: Mpi, start: Duration, launcher: Launcher) -> Result<World> {
    let (rank, size) = (mpi.rank(), mpi.size());
    if size == 1 {
        let mut world = World::alone();
        world.raw_communicator = Some(mpi.raw_comm() as usize);
        world.keep_mpi(mpi);
        return Ok(world);
    }
    let mut nodes = vec![[0u8; 32]; size as usize];
    mpi.allgather(&[node_digest(NodeId::of_this_process().as_str())], &mut nodes)?;
    let one_node = nodes.iter().all(|n| *n == nodes[0]);
    let mut text = [0u8; 256];
    let mut master = None;
    let mut trouble = None;
    if rank == 0 {
        // The others wait in the broadcast: they must get something in any case.
        match host(size, one_node, start) {
            Ok((m, meeting)) => {
                let line = meeting.to_text();
                text[..line.len()].copy_from_slice(line.as_bytes());
                master = Some(m);
            }
            Err(e) => {
                text[..NO_MASTER.len()].copy_from_slice(NO_MASTER);
                trouble = Some(e);
            }
        }
    }
    mpi.bcast(&mut text, 0)?;
    if let Some(e) = trouble {
        return Err(e);
    }
    if text.starts_with(NO_MASTER) {
        return Err(no_master());
    }
    let meeting = Meeting::from_text(&Zeroizing::new(String::from_utf8_lossy(&text).into_owned()));
    text.zeroize();
    join(rank, size, meeting?, master, Some(mpi), None, start, launcher)
}

fn by_kvs(launch: &Launch, mut kvs: Box<dyn Kvs>, start: Duration) -> Result<World> {
    let (rank, size) = (kvs.rank(), kvs.size());
    if launch.denies(rank, size) {
        return Err(NetError::Config {
            what: format!(
                "{} says that this is {}, but its {} service says rank {rank} of {size}",
                launch.launcher,
                launch.place(),
                kvs.protocol()
            ),
            help: "start the program through its launcher, with an environment that nobody edited".into(),
        });
    }
    if size == 1 {
        kvs.finalize()?;
        return Ok(World::alone());
    }
    if rank == 0 {
        say_own_wires(size, kvs.protocol());
    }
    kvs.put("aeolian-node", &node_digest(NodeId::of_this_process().as_str()))?;
    kvs.fence()?;
    let mut master = None;
    if rank == 0 {
        let mut one_node = true;
        let mine = kvs.get(0, "aeolian-node")?;
        for r in 1..size {
            one_node &= kvs.get(r, "aeolian-node")? == mine;
        }
        // The others wait at the fence: they must hear something in any case.
        match host(size, one_node, start) {
            Ok((m, meeting)) => {
                kvs.put("aeolian-meet", meeting.to_text().as_bytes())?;
                master = Some(m);
            }
            Err(e) => {
                // That this fails too says less than `e`.
                let _ = kvs
                    .put("aeolian-meet", NO_MASTER)
                    .and_then(|()| kvs.fence())
                    .and_then(|()| kvs.finalize());
                return Err(e);
            }
        }
    }
    kvs.fence()?;
    let meeting = {
        let bytes = Zeroizing::new(kvs.get(0, "aeolian-meet")?);
        if bytes.starts_with(NO_MASTER) {
            kvs.finalize()?;
            return Err(no_master());
        }
        Meeting::from_text(&Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))?
    };
    kvs.finalize()?;
    join(rank, size, meeting, master, None, None, start, launch.launcher)
}

/// What a rank's transports tell the others, as [`Card::extra`].
#[derive(serde::Serialize, serde::Deserialize)]
struct Extra {
    shm: Option<ShmCard>,
    mpi: bool,
    /// The CPUs that this rank may run on, one bit each.
    cpus: Vec<u64>,
}

impl Extra {
    fn of(card: &Card) -> Result<Extra> {
        postcard::from_bytes(&card.extra).map_err(|e| NetError::Protocol {
            peer: format!("rank {}", card.rank),
            what: format!("its card does not decode: {e}"),
        })
    }
}

/// The CPUs that this process may run on.
fn own_cpus() -> Vec<u64> {
    let mut words = Vec::new();
    if let Ok(set) = rustix::thread::sched_getaffinity(None) {
        for cpu in (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)) {
            if words.len() <= cpu / 64 {
                words.resize(cpu / 64 + 1, 0);
            }
            words[cpu / 64] |= 1 << (cpu % 64);
        }
    }
    words
}

/// How many CPUs the time that a control group grants this process amounts to, if that is less than it may run on.
fn quota() -> usize {
    let granted = std::thread::available_parallelism().map_or(usize::MAX, usize::from);
    let own: u32 = own_cpus().iter().map(|word| word.count_ones()).sum();
    if granted < own as usize { granted } else { usize::MAX }
}

/// How many CPUs the ranks of `node` have among them: bound to one each, they do not share.
fn cpus_of(info: &JobInfo, node: &str) -> Result<usize> {
    let mut union = Vec::new();
    for card in info.cards.iter().filter(|card| card.node == node) {
        let cpus = Extra::of(card)?.cpus;
        union.resize(union.len().max(cpus.len()), 0u64);
        union.iter_mut().zip(cpus).for_each(|(all, own)| *all |= own);
    }
    Ok(union.iter().map(|word| word.count_ones() as usize).sum::<usize>().max(1))
}

/// Registers, and makes the wires.
#[allow(clippy::too_many_arguments)]
fn join(
    rank: u32,
    size: u32,
    meeting: Meeting,
    master: Option<Master>,
    mpi: Option<Mpi>,
    published: Option<rendezvous::Published>,
    start: Duration,
    launcher: Launcher,
) -> Result<World> {
    match register(rank, size, meeting, master.as_ref(), mpi, published, start, launcher) {
        Ok(mut world) => {
            world.keep_master(master);
            Ok(world)
        }
        Err(e) => match master {
            Some(master) => Err(take_leave(&master, e)),
            None => Err(e),
        },
    }
}

/// Rank 0 cannot join: the others must hear why before the job master goes with it.
fn take_leave(master: &Master, e: NetError) -> NetError {
    if !matches!(e, NetError::JobFailed(_)) {
        master.fail(Blame {
            code: e.exit_code(),
            rank: Some(0),
            host: host_name(),
            pid: std::process::id(),
            phase: "start-up".into(),
            cause: e.to_string(),
            remedy: String::new(),
        });
    }
    let official = master.wait(LAST_VERDICT);
    // Some may be on their way to it.
    std::thread::sleep(LATE_COMERS);
    master.drain(LAST_VERDICT);
    match official {
        Some(Outcome::Failed(blame)) => NetError::JobFailed(Box::new(blame)),
        _ => e,
    }
}

#[allow(clippy::too_many_arguments)]
fn register(
    rank: u32,
    size: u32,
    meeting: Meeting,
    master: Option<&Master>,
    mpi: Option<Mpi>,
    published: Option<rendezvous::Published>,
    start: Duration,
    launcher: Launcher,
) -> Result<World> {
    // A little more than the master's own bound, so that its verdict arrives.
    let limit = start + Duration::from_secs(10);
    // Before the connection, which the master does not keep for long without a registration: the file may come slowly.
    let exe = executable_hash()?;
    let pending = Control::connect(meeting.master, &meeting.secret, meeting.job, meeting.epoch, limit)?;
    let mesh = Mesh::listen(pending.local_addr()?.ip())?;
    let shm = Own::new(size)?;
    let extra = Extra { shm: Some(shm.card().clone()), mpi: mpi.is_some(), cpus: own_cpus() };
    let card = Card {
        rank,
        size,
        host: host_name(),
        pid: std::process::id(),
        node: NodeId::of_this_process().as_str().into(),
        exe,
        version: env!("CARGO_PKG_VERSION").into(),
        data: Some(mesh.address()?),
        extra: postcard::to_stdvec(&extra).map_err(|e| NetError::Usage(e.to_string()))?,
    };
    let config = ControlConfig {
        exit_on_abort: true,
        master_is_rank_0: launcher != Launcher::Aeolian,
        report: Box::new(report),
    };
    let bell = Bell::new()?;
    let ringer = bell.ringer()?;
    let (control, info) = pending.register(card, limit, config)?;
    drop(published);
    control.set_waker(Box::new(move || ringer.ring()));
    control.install_process_hooks();
    if let Some(master) = master {
        crate::control::hosts_master(master.drainer());
    }
    crate::panics::remember();
    let mut raw = mpi.as_ref().map(|mpi| mpi.raw_comm() as usize);
    let made = wires(rank, size, &meeting, &info, mesh, shm, mpi, limit);
    let (wires, kept) = match made {
        Ok(made) => made,
        Err(e) => {
            // If it is another rank that is gone, that one is to blame (and the job master knows its host and process).
            let lost = e.lost_rank().filter(|lost| *lost != rank && *lost < size);
            control.fail(Blame {
                code: e.exit_code(),
                rank: lost.or(Some(rank)),
                host: host_name(),
                pid: std::process::id(),
                phase: "start-up".into(),
                cause: e.to_string(),
                remedy: String::new(),
            });
            return Err(control.failure().map_or(e, |blame| NetError::JobFailed(Box::new(blame.clone()))));
        }
    };
    // An MPI that carries nothing has done its part. While it lives, launchers end the job their own way when a rank fails
    // (Hydra kills all, and may call that a success), and Open MPI's segments wait for mpirun to remove them.
    let mut own = None;
    match kept {
        Some(mut mpi) if mpi.initialized_here() => {
            mpi.finalize()?;
            raw = None;
        }
        // The program's own MPI is the program's to end; our duplicate of its communicator lives until the world ends.
        kept => own = kept,
    }
    let mut world = World::assemble(Parts {
        rank,
        size,
        wires,
        supervisor: Box::new(control),
        wake: Some(bell),
        layout: layout(&info),
        cores: cpus_of(&info, &info.cards[rank as usize].node)?.min(quota()),
    });
    world.raw_communicator = raw;
    if let Some(mpi) = own {
        world.keep_mpi(mpi);
    }
    Ok(world)
}

type Wires = Vec<(Box<dyn Transport>, Vec<u32>)>;

/// Chooses and makes the wires. An MPI that carries nothing is handed back, to be finalized at once.
#[allow(clippy::too_many_arguments)]
fn wires(
    rank: u32,
    size: u32,
    meeting: &Meeting,
    info: &JobInfo,
    mesh: Mesh,
    own: Own,
    mpi: Option<Mpi>,
    limit: Duration,
) -> Result<(Wires, Option<Mpi>)> {
    let me = &info.cards[rank as usize];
    let choice = info.settings.transport;
    let mates: Vec<u32> = info.cards.iter().filter(|c| c.node == me.node).map(|c| c.rank).collect();
    let same_node = |r: u32| info.cards[r as usize].node == me.node;
    if choice == TransportChoice::Shm
        && let Some(far) = info.cards.iter().find(|c| c.node != me.node)
    {
        return Err(NetError::Config {
            what: format!(
                "transport shm was asked for, but rank {rank} ({}) and rank {} ({}) are on different nodes, in different containers or of different users",
                me.host, far.rank, far.host
            ),
            help: "use --transport auto".into(),
        });
    }
    let use_mpi = match choice {
        TransportChoice::Mpi if mpi.is_none() => {
            return Err(NetError::Config {
                what: "transport mpi was asked for, but no MPI is loaded".into(),
                help: "start with mpirun or srun, with a shim made by: aeolian mpi build".into(),
            });
        }
        TransportChoice::Mpi => true,
        TransportChoice::Auto => mpi.is_some() && mates.len() < size as usize,
        _ => false,
    };
    let others = || (0..size).filter(|&r| r != rank);
    let in_shm = |r: u32| matches!(choice, TransportChoice::Auto | TransportChoice::Shm) && same_node(r);
    let mut wires: Wires = Vec::new();
    let near: Vec<u32> = others().filter(|&r| in_shm(r)).collect();
    if !near.is_empty() {
        let mut cards = Vec::new();
        for &r in &mates {
            let card = &info.cards[r as usize];
            let Some(shm) = Extra::of(card)?.shm else {
                return Err(NetError::Protocol {
                    peer: format!("rank {r}"),
                    what: "it has no shared segment".into(),
                });
            };
            cards.push((r, card.pid, shm));
        }
        let shm = Shm::connect(own, rank, size, info.epoch, &cards)?;
        wires.push((Box::new(shm), near));
    }
    let far: Vec<u32> = others().filter(|&r| !in_shm(r)).collect();
    if far.is_empty() {
        return Ok((wires, mpi));
    }
    if use_mpi && let Some(mpi) = mpi {
        wires.push((Box::new(MpiWire::new(mpi, info.epoch)), far));
        return Ok((wires, None));
    }
    let mut peers = Vec::new();
    for &r in &far {
        let Some(address) = info.cards[r as usize].data else {
            return Err(NetError::Protocol { peer: format!("rank {r}"), what: "it listens nowhere".into() });
        };
        peers.push((r, address));
    }
    let config = MeshConfig {
        rank,
        size,
        job: info.job,
        epoch: info.epoch,
        secret: meeting.secret.clone(),
        protection: info.settings.protection,
        unanswered: info.settings.hang_timeout,
    };
    wires.push((Box::new(mesh.connect(&config, &peers, limit)?), far));
    Ok((wires, mpi))
}

fn layout(info: &JobInfo) -> Layout {
    let mut ids: Vec<&str> = Vec::new();
    let mut hosts = Vec::new();
    let node_of = info
        .cards
        .iter()
        .map(|card| match ids.iter().position(|id| *id == card.node) {
            Some(at) => at as u32,
            None => {
                ids.push(&card.node);
                hosts.push(card.host.clone());
                ids.len() as u32 - 1
            }
        })
        .collect();
    Layout { node_of, hosts }
}

fn executable_hash() -> Result<[u8; 32]> {
    let what = || NetError::os("reading this program's own file (/proc/self/exe)");
    let file = std::fs::File::open("/proc/self/exe").map_err(what())?;
    // Read, not mapped: on a network file system another host may write to it.
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).map_err(what())?;
    Ok(*hasher.finalize().as_bytes())
}

impl Supervisor for Control {
    fn enter(&self, op: &'static OpName, seq: u64) {
        Control::enter(self, op, seq);
    }
    fn leave(&self) {
        Control::leave(self);
    }
    fn waiting(&self, yes: bool) {
        Control::waiting(self, yes);
    }
    fn progressed(&self) {
        Control::progressed(self);
    }
    fn failure(&self) -> Option<Blame> {
        Control::failure(self).cloned()
    }
    fn fail(&self, blame: Blame) {
        Control::fail(self, blame);
    }
    fn say_finished(&self) -> Result<()> {
        Control::say_finished(self);
        Ok(())
    }
    fn all_finished(&self) -> bool {
        Control::all_finished(self)
    }
    fn stop_requested(&self) -> bool {
        Control::stop_requested(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_ranks_do_not_share_and_free_ones_do() {
        let info = |cpus: &[&[u64]]| JobInfo {
            job: JobId::from_bytes([0; 16]),
            epoch: 0,
            cards: (0..)
                .zip(cpus)
                .map(|(rank, cpus)| Card {
                    rank,
                    size: cpus.len() as u32,
                    host: "h".into(),
                    pid: 1,
                    node: if rank < 2 { "a" } else { "b" }.into(),
                    exe: [0; 32],
                    version: String::new(),
                    data: None,
                    extra: postcard::to_stdvec(&Extra { shm: None, mpi: false, cpus: cpus.to_vec() })
                        .unwrap(),
                })
                .collect(),
            settings: JobSettings::default(),
        };
        assert_eq!(cpus_of(&info(&[&[1], &[2], &[4]]), "a").unwrap(), 2, "bound to one each");
        assert_eq!(cpus_of(&info(&[&[1], &[1], &[4]]), "a").unwrap(), 1, "bound to the same one");
        assert_eq!(cpus_of(&info(&[&[3, 1], &[3], &[]]), "a").unwrap(), 3);
        assert_eq!(cpus_of(&info(&[&[3], &[3], &[]]), "b").unwrap(), 1, "unknown");
    }

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
