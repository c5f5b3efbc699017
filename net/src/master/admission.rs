//! Who may register: the same binary, the same size, each rank once.

use std::net::SocketAddr;

use super::ranks::Rank;
use crate::control::protocol::{Card, PROTOCOL, VERSION, decode};
use crate::error::Blame;
use crate::exit;

/// A registration that was turned down.
pub(crate) struct Refusal {
    /// What the rank is told.
    pub(crate) blame: Blame,
    /// Whether the job can still succeed without it.
    pub(crate) harmless: bool,
}

/// Looks at a registration.
pub(crate) fn admit(
    ranks: &[Rank],
    peer: SocketAddr,
    protocol: u32,
    version: &str,
    card: &[u8],
) -> Result<Card, Box<Refusal>> {
    let size = ranks.len();
    let refuse = |card: Option<&Card>, harmless: bool, code: u8, cause: String, remedy: &str| {
        Box::new(Refusal {
            blame: Blame {
                code,
                rank: card.map(|card| card.rank),
                host: card.map_or(peer.ip().to_string(), |card| card.host.clone()),
                pid: card.map_or(0, |card| card.pid),
                phase: "start-up".into(),
                cause,
                remedy: remedy.into(),
            },
            harmless,
        })
    };
    if protocol != PROTOCOL || version != VERSION {
        let cause = format!(
            "a rank from {} speaks protocol {protocol} of Aeolian {version}, the job master protocol {PROTOCOL} of \
             Aeolian {VERSION}",
            peer.ip()
        );
        return Err(refuse(
            None,
            false,
            exit::PROTOCOL,
            cause,
            "build program and launcher with one version",
        ));
    }
    let card: Card = decode(card).map_err(|error| {
        refuse(None, false, exit::PROTOCOL, format!("{}: {error}", peer.ip()), "please report this")
    })?;
    let Some(known) = ranks.get(card.rank as usize) else {
        let cause = format!("rank {} does not exist in a job of {size} ranks", card.rank);
        return Err(refuse(Some(&card), true, exit::CONFIG, cause, "see how the ranks are started"));
    };
    if let Some(first) = &known.card {
        let cause = format!(
            "rank {} is there twice: pid {} on {} came first, pid {} on {} second",
            card.rank, first.pid, first.host, card.pid, card.host
        );
        return Err(refuse(Some(&card), true, exit::CONFIG, cause, "start every rank once"));
    }
    if card.size as usize != size {
        let cause = format!("rank {} expects {} ranks, the job has {size}", card.rank, card.size);
        return Err(refuse(Some(&card), false, exit::CONFIG, cause, "see how the ranks are started"));
    }
    if let Some(other) =
        ranks.iter().filter_map(|rank| rank.card.as_ref()).find(|other| other.exe != card.exe)
    {
        let cause = format!(
            "rank {} on {} runs another program than rank {} on {} (blake3 {} and {})",
            card.rank,
            card.host,
            other.rank,
            other.host,
            short(&card.exe),
            short(&other.exe)
        );
        return Err(refuse(Some(&card), false, exit::PROTOCOL, cause, "copy the same binary to every host"));
    }
    Ok(card)
}

fn short(hash: &[u8; 32]) -> String {
    hash[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}
