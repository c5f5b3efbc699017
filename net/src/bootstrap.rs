//! From a bare process to a [`World`]: who started us, where is the job master, who are the others, which wires.
//!
//! Every world of several processes has a job master. `aeolian run` hosts it; for all other launchers rank 0 does, and
//! tells the others where it listens, and the job's secret, through the best channel there is:
//!
//! 1. the MPI that was loaded (broadcast), which then also carries messages between nodes;
//! 2. the launcher's key-value service (PMIx, PMI-1, PMI-2), when no MPI can be loaded: said in one line, and our own wires
//!    are used;
//! 3. under `srun` without either, a file that only the user can read ([`rendezvous`](crate::rendezvous)).

mod join;
mod meeting;
mod settings;
mod wires;

use crate::control::protocol::TransportChoice;
use crate::error::{NetError, Result};
use crate::launcher::{Launch, Launcher};
use crate::mpi::{self, Mpi, Prefer};
use crate::node::{NodeId, host_name};
use crate::pmi::{self, Kvs};
use crate::private;
use crate::rendezvous;
use crate::world::World;
use aeolian_slurm::SlurmEnv;
use join::Joining;
use meeting::{Meeting, NO_MASTER, from_environment, host, no_master};
use settings::{START_TIMEOUT, env, env_seconds, env_transport};
use std::path::PathBuf;
use std::time::Duration;
use zeroize::{Zeroize, Zeroizing};

/// Joins the world that this process was started for.
pub(crate) fn init() -> Result<World> {
    // Used with the first collective; whoever misspells it should hear of it now.
    private::is_wanted()?;
    let launch = Launch::detect()?;
    let start = env_seconds("AEOLIAN_START_TIMEOUT", START_TIMEOUT)?;
    match launch.launcher {
        Launcher::Nobody => Ok(World::alone()),
        Launcher::Aeolian => {
            let Launch { launcher, rank, size, .. } = launch;
            Joining { rank, size, meeting: from_environment()?, launcher, start, master: None, mpi: None }
                .join(None)
        }
        Launcher::Slurm => {
            // With --mpi=none an MPI would start as N lonely ones: it is not even tried.
            by_file(&launch, start, None)
        }
        _ => by_launcher(&launch, start),
    }
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
    let &Launch { launcher, rank, size, .. } = launch;
    let of = |meeting, master| Joining { rank, size, meeting, launcher, start, master, mpi: None };
    if launch.rank == 0 {
        let (master, meeting) = host(launch.size, step.nodes.len() == 1, start)?;
        let published = rendezvous::publish(&dir, &name, &meeting.to_text())?;
        // Dropped, and so removed, once all have come.
        of(meeting, Some(master)).join(Some(published))
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
        of(meeting, None).join(None)
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
        let world = World::alone();
        world.keep_raw_communicator(Some(mpi.raw_comm() as usize));
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
    Joining { rank, size, meeting: meeting?, launcher, start, master, mpi: Some(mpi) }.join(None)
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
    Joining { rank, size, meeting, launcher: launch.launcher, start, master, mpi: None }.join(None)
}
