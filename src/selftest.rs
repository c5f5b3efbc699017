//! `aeolian selftest`: checks, on the ranks it is started with, that every public operation gives the right answer on the
//! wires in use. For users after an installation (`srun -n 4 aeolian selftest`) and for our own tests, on every transport.

use crate::Failure;
use aeolian_harp::{Combiner, Custom, Max, Min, Product, Sum, Table};
use aeolian_harp::{allgather, allreduce, allreduce_slice, barrier, broadcast, gather, reduce};
use aeolian_net::{Buf, TrySendError, World, exit};

/// One check: its name and what it does.
type Check = (&'static str, fn(&mut World) -> Result<(), Failure>);

/// All checks, in order.
pub const CHECKS: &[Check] = &[
    ("point to point", point_to_point),
    ("flow control", flow_control),
    ("barrier", |w| Ok(barrier(w)?)),
    ("broadcast", broadcasts),
    ("reduce", reduces),
    ("allreduce", allreduces),
    ("gather", gathers),
    ("allgather", allgathers),
    ("same bits", same_bits),
];

/// Message sizes: nothing, around the limits of the wires, primes, more than a window.
const SIZES: [usize; 14] =
    [0, 1, 7, 64, 8191, 8192, 8193, 65_521, 131_072, 262_144, 262_145, 1_048_583, 4_194_304, 6_000_011];

fn wrong(what: impl Into<String>) -> Failure {
    Failure::new(exit::INTERNAL, format!("self-test failed: {}", what.into())).help(
        "this is a defect of Aeolian or of the network: please report it with the output of aeolian doctor",
    )
}

fn expect(ok: bool, what: impl FnOnce() -> String) -> Result<(), Failure> {
    if ok { Ok(()) } else { Err(wrong(what())) }
}

fn fill(from: u32, to: u32, len: usize) -> Buf {
    let mut buf = Buf::zeroed(len);
    let mut x = u64::from(from) << 32 | u64::from(to) << 8 | 1;
    for byte in buf.iter_mut() {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (x >> 56) as u8;
    }
    buf
}

/// Runs all checks; rank 0 prints a line for each if `verbose`.
///
/// # Errors
/// The first check that fails, by name.
pub fn run(world: &mut World, verbose: bool) -> Result<(), Failure> {
    for (name, check) in CHECKS {
        let start = std::time::Instant::now();
        check(world)?;
        if verbose && world.rank() == 0 {
            println!("  ok  {name} ({:.1} ms)", start.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(())
}

fn point_to_point(world: &mut World) -> Result<(), Failure> {
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
fn flow_control(world: &mut World) -> Result<(), Failure> {
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

/// A table whose ids, lengths and values depend on the rank in a known way.
fn table<C: Combiner<[f64]>>(rank: u32, combiner: C) -> Result<Table<f64, C>, Failure> {
    let mut table = Table::new(combiner);
    table.add(7, vec![f64::from(rank + 1); 3])?;
    table.add(1000 + u64::from(rank), (0..rank % 8 * 5000).map(f64::from).collect::<Vec<_>>())?;
    if rank.is_multiple_of(2) {
        table.add(u64::MAX, Vec::new())?;
    }
    Ok(table)
}

/// Roots to try: the first, the middle, the last.
fn roots(n: u32) -> Vec<u32> {
    let mut roots = vec![0, n / 2, n - 1];
    roots.dedup();
    roots
}

fn broadcasts(world: &mut World) -> Result<(), Failure> {
    for root in roots(world.size()) {
        let mut t = if world.rank() == root { table(root, Sum)? } else { Table::new(Sum) };
        broadcast(world, &mut t, root)?;
        expect(t == table(root, Sum)?, || format!("broadcast from {root}"))?;
    }
    Ok(())
}

fn union(n: u32) -> Result<Table<f64, Sum>, Failure> {
    let mut all = Table::new(Sum);
    for rank in 0..n {
        for (id, data) in table(rank, Sum)?.iter() {
            all.add(id, data.to_vec())?;
        }
    }
    Ok(all)
}

fn reduces(world: &mut World) -> Result<(), Failure> {
    let want = union(world.size())?;
    for root in roots(world.size()) {
        let mut t = table(world.rank(), Sum)?;
        reduce(world, &mut t, root)?;
        expect(if world.rank() == root { t == want } else { t.is_empty() }, || format!("reduce to {root}"))?;
    }
    Ok(())
}

fn allreduces(world: &mut World) -> Result<(), Failure> {
    let (n, me) = (world.size(), world.rank());
    let mut t = table(me, Sum)?;
    allreduce(world, &mut t)?;
    expect(t == union(n)?, || "allreduce of tables".into())?;
    let mut v = [u64::from(me) + 1];
    allreduce_slice(world, &mut v, Max)?;
    expect(v == [u64::from(n)], || "max".into())?;
    let mut v = [i8::try_from(me % 100).unwrap_or(0) - 5];
    allreduce_slice(world, &mut v, Min)?;
    expect(v == [-5], || "min".into())?;
    let mut v = [if me == 0 { 3.0f32 } else { 1.0 }; 17];
    allreduce_slice(world, &mut v, Product)?;
    expect(v == [3.0; 17], || "product".into())?;
    let mut v = [me];
    allreduce_slice(world, &mut v, Custom::new("first", |_: &mut [u32], _: &[u32]| {}))?;
    expect(v == [0], || "a combiner that is not commutative".into())
}

fn gathers(world: &mut World) -> Result<(), Failure> {
    let want = union(world.size())?;
    for root in roots(world.size()) {
        let mut t = table(world.rank(), Sum)?;
        gather(world, &mut t, root)?;
        expect(if world.rank() == root { t == want } else { t.is_empty() }, || format!("gather to {root}"))?;
    }
    Ok(())
}

fn allgathers(world: &mut World) -> Result<(), Failure> {
    let mut t = table(world.rank(), Sum)?;
    allgather(world, &mut t)?;
    expect(t == union(world.size())?, || "allgather".into())
}

/// Sums of numbers of very different size: rounded the same everywhere.
fn same_bits(world: &mut World) -> Result<(), Failure> {
    let me = f64::from(world.rank());
    let mut v: Vec<f64> =
        (0..1009).map(|i| (me * 31.7 + f64::from(i)).sin() * 10f64.powi(i % 30 - 15)).collect();
    allreduce_slice(world, &mut v, Sum)?;
    let bits: Vec<u64> = v.iter().map(|x| x.to_bits()).collect();
    let (mut low, mut high) = (bits.clone(), bits);
    allreduce_slice(world, &mut low, Min)?;
    allreduce_slice(world, &mut high, Max)?;
    expect(low == high, || "a floating-point sum has other bits on another rank".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_on_threads() {
        for n in [1, 2, 3, 5, 8] {
            World::local(n, |mut world| {
                run(&mut world, false).map_err(|f| aeolian_net::NetError::Usage(f.to_string()))?;
                world.finish()
            })
            .unwrap();
        }
    }
}
