//! Joining: from a [`Meeting`] to a world.

use super::meeting::Meeting;
use super::wires::{Extra, cpus_of, own_cpus, wires};
use crate::cgroup;
use crate::control::protocol::{Card, JobInfo};
use crate::control::{Control, ControlConfig};
use crate::error::{Blame, NetError, Result};
use crate::launcher::Launcher;
use crate::master::{Master, Outcome};
use crate::mpi::Mpi;
use crate::node::{NodeId, host_name};
use crate::rendezvous;
use crate::transport::Bell;
use crate::transport::shm::Own;
use crate::transport::tcp::Mesh;
use crate::tuning;
use crate::world::{Layout, Parts, World};
use std::path::Path;
use std::time::Duration;

/// How long rank 0 stays, when it cannot join, for the others to hear the job master's verdict.
const LAST_VERDICT: Duration = Duration::from_secs(2);

/// How long rank 0 waits then for ranks that have not registered yet.
const LATE_COMERS: Duration = Duration::from_millis(300);

/// What the user sees when a job without `aeolian run` fails: one error.
pub(super) fn report(blame: &Blame) {
    use std::io::Write;
    // Not eprintln, which panics when nobody reads any more: that is so when the launcher was killed.
    let _ = std::io::stderr().write_all(format!("aeolian: error: {blame}\n").as_bytes());
}

/// A rank that knows where to go.
pub(super) struct Joining {
    pub(super) rank: u32,
    pub(super) size: u32,
    pub(super) meeting: Meeting,
    pub(super) launcher: Launcher,
    /// How long all ranks may take to come.
    pub(super) start: Duration,
    /// On the rank that hosts it.
    pub(super) master: Option<Master>,
    /// The MPI that was loaded, if one was.
    pub(super) mpi: Option<Mpi>,
}

impl Joining {
    /// Registers, makes the wires, and is done with `published` once all have come.
    pub(super) fn join(mut self, published: Option<rendezvous::Published>) -> Result<World> {
        let master = self.master.take();
        match self.register(master.as_ref(), published) {
            Ok(world) => {
                world.keep_master(master);
                Ok(world)
            }
            Err(e) => match master {
                Some(master) => Err(take_leave(&master, e)),
                None => Err(e),
            },
        }
    }

    fn register(
        mut self,
        master: Option<&Master>,
        published: Option<rendezvous::Published>,
    ) -> Result<World> {
        let (rank, size, mpi) = (self.rank, self.size, self.mpi.take());
        // A little more than the master's own bound, so that its verdict arrives.
        let limit = self.start + Duration::from_secs(10);
        // Before the connection, which the master does not keep for long without a registration: the file may come slowly.
        let exe = executable_hash()?;
        let meeting = &self.meeting;
        let pending = Control::connect(meeting.master, &meeting.secret, meeting.job, meeting.epoch, limit)?;
        let mesh = Mesh::listen(pending.local_addr()?.ip())?;
        let shm = Own::new(size)?;
        let tuned = if rank == 0 { tuning::load() } else { Vec::new() };
        let extra = Extra { shm: Some(shm.card().clone()), mpi: mpi.is_some(), cpus: own_cpus(), tuned };
        let card = Card {
            rank,
            size,
            host: host_name(),
            pid: std::process::id(),
            node: NodeId::of_this_process().as_str().into(),
            exe,
            version: env!("CARGO_PKG_VERSION").into(),
            data: Some(mesh.address()?),
            extra: postcard::to_stdvec(&extra)
                .map_err(|e| NetError::Internal(format!("a rank's card does not encode: {e}")))?,
        };
        let config = ControlConfig {
            exit_on_abort: true,
            master_is_rank_0: self.launcher != Launcher::Aeolian,
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
        let made = wires(&self, &info, (mesh, shm), mpi, limit);
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
                return Err(control
                    .failure()
                    .map_or(e, |blame| NetError::JobFailed(Box::new(blame.clone()))));
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
        let quota = cgroup::cpu_quota(Path::new("/")).map_or(usize::MAX, |cpus| cpus.ceil() as usize);
        let world = World::assemble(Parts {
            rank,
            size,
            wires,
            supervisor: Box::new(control),
            wake: Some(bell),
            layout: layout(&info),
            cores: cpus_of(&info, &info.cards[rank as usize].node)?.min(quota),
        });
        world.keep_raw_communicator(raw);
        world.keep_protection(info.settings.protection);
        if let Some(row) = tuning::pick(&Extra::of(&info.cards[0])?.tuned, &world.shape()) {
            world.set_tuned(row.values.clone());
        }
        if let Some(mpi) = own {
            world.keep_mpi(mpi);
        }
        Ok(world)
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
