//! Messages from rank to rank.

use super::expect;
use crate::Failure;
use aeolian_net::{Buf, TrySendError, World};

/// Message sizes: nothing, around the limits of the wires, primes, more than a window.
const SIZES: [usize; 14] =
    [0, 1, 7, 64, 8191, 8192, 8193, 65_521, 131_072, 262_144, 262_145, 1_048_583, 4_194_304, 6_000_011];

fn fill(from: u32, to: u32, len: usize) -> Buf {
    let mut buf = Buf::zeroed(len);
    let mut x = u64::from(from) << 32 | u64::from(to) << 8 | 1;
    for byte in buf.iter_mut() {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (x >> 56) as u8;
    }
    buf
}

pub(super) fn point_to_point(world: &mut World) -> Result<(), Failure> {
    let (edge, n, me) = (world.open_edge()?, world.size(), world.rank());
    // Every rank to itself and its next eight, all sizes (the largest only to the next).
    for len in SIZES {
        for shift in (0..n).filter(|&s| s <= if len > 300_000 { 1 } else { 8 }) {
            let (to, from) = ((me + shift) % n, (me + n - shift) % n);
            world.send(edge, to, len as u64, fill(me, to, len))?;
            let message = world.recv_from(edge, from)?;
            expect(message.tag == len as u64 && message.body == fill(from, me, len), || {
                format!("a message of {len} bytes from rank {from} to {me} over {}", world.transport_to(from))
            })?;
        }
    }
    // Many small ones in one direction keep their order.
    const MANY: u64 = 2000;
    let (next, before) = ((me + 1) % n, (me + n - 1) % n);
    let (mut sent, mut got) = (0, 0);
    world.wait_until(|w| {
        while sent < MANY {
            match w.try_send(edge, next, sent, Buf::from_pod(&[sent])) {
                Ok(()) => sent += 1,
                Err(TrySendError::Full(_)) => break,
                Err(TrySendError::Failed(e)) => return Err(e),
            }
        }
        while let Some(m) = w.try_recv_from(edge, before)? {
            if m.tag != got || m.body.cast::<u64>() != [got] {
                return Err(aeolian_net::NetError::Protocol {
                    peer: format!("rank {before}"),
                    what: format!("message {} where {got} was due", m.tag),
                });
            }
            got += 1;
        }
        Ok((sent == MANY && got == MANY).then_some(()))
    })?;
    Ok(())
}

/// A receiver that takes nothing for a while: the sender is stopped, not stuffed.
pub(super) fn flow_control(world: &mut World) -> Result<(), Failure> {
    let (edge, go) = (world.open_edge()?, world.open_edge()?);
    let (n, me) = (world.size(), world.rank());
    if n == 1 {
        return Ok(());
    }
    const PIECE: usize = 1 << 20;
    let next = (me + 1) % n;
    let mut free = 0u64;
    let mut body = Buf::zeroed(PIECE);
    loop {
        match world.try_send(edge, next, free, body) {
            Ok(()) => free += 1,
            Err(TrySendError::Full(_)) => break,
            Err(TrySendError::Failed(e)) => return Err(e.into()),
        }
        body = Buf::zeroed(PIECE);
        expect(free < 100, || "no back-pressure: 100 MiB were taken by nobody".into())?;
    }
    world.send(go, next, free, Buf::empty())?;
    let before = (me + n - 1) % n;
    let count = world.recv_from(go, before)?.tag;
    for i in 0..count {
        let m = world.recv_from(edge, before)?;
        expect(m.tag == i && m.body.len() == PIECE, || format!("piece {i} of rank {before}"))?;
    }
    Ok(())
}
