//! Which wire between which ranks, and what ranks must know of each other for it.

use super::join::Joining;
use crate::control::protocol::{Card, JobInfo, TransportChoice};
use crate::error::{NetError, Result};
use crate::mpi::Mpi;
use crate::transport::Transport;
use crate::transport::mpi::MpiWire;
use crate::transport::shm::{Own, Shm, ShmCard};
use crate::transport::tcp::{Mesh, MeshConfig};
use crate::tuning::Row;
use std::time::Duration;

/// What a rank's transports tell the others, as [`Card::extra`].
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Extra {
    pub(super) shm: Option<ShmCard>,
    pub(super) mpi: bool,
    /// The CPUs that this rank may run on, one bit each.
    pub(super) cpus: Vec<u64>,
    /// What rank 0 has read of how to choose between algorithms.
    pub(super) tuned: Vec<Row>,
}

impl Extra {
    pub(super) fn of(card: &Card) -> Result<Extra> {
        postcard::from_bytes(&card.extra).map_err(|e| NetError::Protocol {
            peer: format!("rank {}", card.rank),
            what: format!("its card does not decode: {e}"),
        })
    }
}

/// The CPUs that this process may run on.
pub(super) fn own_cpus() -> Vec<u64> {
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

/// How many CPUs the ranks of `node` have among them: bound to one each, they do not share.
pub(super) fn cpus_of(info: &JobInfo, node: &str) -> Result<usize> {
    let mut union = Vec::new();
    for card in info.cards.iter().filter(|card| card.node == node) {
        let cpus = Extra::of(card)?.cpus;
        union.resize(union.len().max(cpus.len()), 0u64);
        union.iter_mut().zip(cpus).for_each(|(all, own)| *all |= own);
    }
    Ok(union.iter().map(|word| word.count_ones() as usize).sum::<usize>().max(1))
}

pub(super) type Wires = Vec<(Box<dyn Transport>, Vec<u32>)>;

/// Chooses and makes the wires. An MPI that carries nothing is handed back, to be finalized at once.
pub(super) fn wires(
    joining: &Joining,
    info: &JobInfo,
    (mesh, own): (Mesh, Own),
    mpi: Option<Mpi>,
    limit: Duration,
) -> Result<(Wires, Option<Mpi>)> {
    let &Joining { rank, size, ref meeting, .. } = joining;
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
        wires.push((Box::new(MpiWire::new(mpi, info.epoch)?), far));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::{JobId, JobSettings};

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
                    extra: postcard::to_stdvec(&Extra {
                        shm: None,
                        mpi: false,
                        cpus: cpus.to_vec(),
                        tuned: Vec::new(),
                    })
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
}
