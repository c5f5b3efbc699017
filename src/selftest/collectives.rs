//! Harp's collectives: what every rank must get follows from the ranks' numbers.

use super::{expect, wrong};
use crate::Failure;
use aeolian_harp::*;
use aeolian_net::World;

/// A table whose ids, lengths and values depend on the rank in a known way.
pub(super) fn table<C: Combiner<[f64]>>(rank: u32, combiner: C) -> Result<Table<f64, C>, Failure> {
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

pub(super) fn broadcasts(world: &mut World) -> Result<(), Failure> {
    for root in roots(world.size()) {
        let mut t = if world.rank() == root { table(root, Sum)? } else { Table::new(Sum) };
        broadcast(world, &mut t, root)?;
        expect(t == table(root, Sum)?, || format!("broadcast from {root}"))?;
    }
    Ok(())
}

pub(super) fn union(n: u32) -> Result<Table<f64, Sum>, Failure> {
    let mut all = Table::new(Sum);
    for rank in 0..n {
        for (id, data) in table(rank, Sum)?.iter() {
            all.add(id, data.to_vec())?;
        }
    }
    Ok(all)
}

pub(super) fn reduces(world: &mut World) -> Result<(), Failure> {
    let want = union(world.size())?;
    for root in roots(world.size()) {
        let mut t = table(world.rank(), Sum)?;
        reduce(world, &mut t, root)?;
        expect(if world.rank() == root { t == want } else { t.is_empty() }, || format!("reduce to {root}"))?;
    }
    Ok(())
}

pub(super) fn allreduces(world: &mut World) -> Result<(), Failure> {
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

/// Of plain slices, of lengths that take each way.
pub(super) fn slices(world: &mut World) -> Result<(), Failure> {
    let (n, me) = (world.size(), world.rank());
    // On a board, staged, read where they lie (from 4 MiB on by several), shared out in pieces.
    let longest = if n <= 8 { 600_007 } else { 70_001 };
    for len in [0, 1, 3, 500, 520, 1020, 1024, 40_000, longest] {
        let mine = |rank: u32| (0..len).map(|i| u64::from(rank) * 7 + i).collect::<Vec<u64>>();
        let sum: Vec<u64> = (0..len).map(|i| (0..u64::from(n)).map(|r| r * 7 + i).sum()).collect();
        let mut values = mine(me);
        allreduce_slice(world, &mut values, Sum)?;
        expect(values == sum, || format!("allreduce of a slice of {len}"))?;
        for root in roots(n) {
            let mut values = mine(me);
            reduce_slice(world, &mut values, Sum, root)?;
            let want = if me == root { &sum } else { &mine(me) };
            expect(values == *want, || format!("reduce of a slice of {len} to {root}"))?;
            let mut values = mine(me);
            broadcast_slice(world, &mut values, root)?;
            expect(values == mine(root), || format!("broadcast of a slice of {len} from {root}"))?;
        }
        let mut all = vec![0; len as usize * n as usize];
        allgather_slice(world, &mine(me), &mut all)?;
        expect(all == (0..n).flat_map(mine).collect::<Vec<_>>(), || format!("allgather of slices of {len}"))?;
        let under_way = [iallreduce_slice(world, mine(me), Sum)?, ibroadcast_slice(world, mine(me), n - 1)?];
        for (pending, want) in under_way.into_iter().zip([&sum, &mine(n - 1)]).rev() {
            expect(pending.wait()? == *want, || format!("a slice of {len} under way"))?;
        }
    }
    // Elements of no power of two, not in one order with the ranks.
    for len in [400, 20_001] {
        let mine = |rank: u32| (0..len).map(|i| [u64::from(rank), i, 1]).collect::<Vec<[u64; 3]>>();
        let first = || {
            Custom::new("first and count", |a: &mut [[u64; 3]], b: &[[u64; 3]]| {
                a.iter_mut().zip(b).for_each(|(a, b)| a[2] += b[2]);
            })
        };
        let want: Vec<[u64; 3]> = (0..len).map(|i| [0, i, u64::from(n)]).collect();
        for in_pieces in [true, false] {
            let law = || if in_pieces { first().elementwise().in_sequence() } else { first().in_sequence() };
            let mut values = mine(me);
            allreduce_slice(world, &mut values, law())?;
            expect(values == want, || format!("allreduce of {len} elements of 24 bytes"))?;
            for root in roots(n) {
                let mut values = mine(me);
                reduce_slice(world, &mut values, law(), root)?;
                let want = if me == root { &want } else { &mine(me) };
                expect(values == *want, || format!("reduce of {len} elements of 24 bytes to {root}"))?;
            }
        }
    }
    // Of different lengths, which all ranks see that look at all.
    for (one, other) in [(0, 5000), (5000, 0), (10, 600), (600, 20_000), (20_000, 20_001)] {
        let len = if me == n - 1 { other } else { one };
        if n > 1 && world.shares_memory() {
            let told = allreduce_slice(world, &mut vec![1u64; len], Sum);
            let right = matches!(told, Err(HarpError::Lengths { have, .. }) if have == len);
            expect(right, || format!("allreduce of {one} and {other}: {told:?}"))?;
            let told = allgather_slice(world, &vec![1u64; len], &mut vec![0; len * n as usize]);
            let right = matches!(told, Err(HarpError::Lengths { .. }));
            expect(right, || format!("allgather of {one} and {other}: {told:?}"))?;
        }
    }
    // One rank comes late: the others run out of places on their boards where it does not.
    for late in roots(n) {
        for call in 0..20 {
            if me == late {
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
            for _ in 0..6 {
                let mut values = [me + call];
                reduce_slice(world, &mut values, Sum, late)?;
                let want = if me == late { n * call + n * (n - 1) / 2 } else { me + call };
                expect(values == [want], || format!("reduce of a number to rank {late}, which comes late"))?;
                let mut values = [if me == late { call } else { 0 }];
                broadcast_slice(world, &mut values, late)?;
                expect(values == [call], || {
                    format!("broadcast of a number from rank {late}, which comes late")
                })?;
            }
            let mut values = [me];
            allreduce_slice(world, &mut values, Sum)?;
            expect(values == [n * (n - 1) / 2], || format!("allreduce, rank {late} late"))?;
        }
    }
    Ok(())
}

/// The same partitions everywhere, which ranks that share memory combine where they lie: on the board, too many for it, of all lengths at once.
pub(super) fn same_shapes(world: &mut World) -> Result<(), Failure> {
    for lens in [&[3usize, 0, 50][..], &[250; 3], &[1; 600], &[5, 250, 100_000, 511, 513]] {
        let same = |rank: u32| -> Result<Table<u64, Sum>, Failure> {
            let mut t = Table::new(Sum);
            for (&len, id) in lens.iter().zip(0u64..) {
                t.add(id, vec![u64::from(rank) + id; len])?;
            }
            Ok(t)
        };
        let n = u64::from(world.size());
        let each = |id: u64| n * (n - 1) / 2 + n * id;
        let right = |t: &Table<u64, Sum>| {
            t.iter().map(|(_, p)| p.len()).eq(lens.iter().copied())
                && t.iter().all(|(id, p)| p.iter().all(|&x| x == each(id)))
        };
        let mut t = same(world.rank())?;
        allreduce(world, &mut t)?;
        expect(right(&t), || format!("allreduce of {} equal partitions", lens.len()))?;
        for root in roots(world.size()) {
            let mut t = same(world.rank())?;
            reduce(world, &mut t, root)?;
            let fine = if world.rank() == root { right(&t) } else { t.is_empty() };
            expect(fine, || format!("reduce of {} equal partitions to {root}", lens.len()))?;
        }
    }
    Ok(())
}

pub(super) fn gathers(world: &mut World) -> Result<(), Failure> {
    let want = union(world.size())?;
    for root in roots(world.size()) {
        let mut t = table(world.rank(), Sum)?;
        gather(world, &mut t, root)?;
        expect(if world.rank() == root { t == want } else { t.is_empty() }, || format!("gather to {root}"))?;
    }
    Ok(())
}

pub(super) fn allgathers(world: &mut World) -> Result<(), Failure> {
    let mut t = table(world.rank(), Sum)?;
    allgather(world, &mut t)?;
    expect(t == union(world.size())?, || "allgather".into())
}

/// Sums of numbers of very different size: rounded the same everywhere.
pub(super) fn same_bits(world: &mut World) -> Result<(), Failure> {
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

/// The partitions of all that a partitioner gives to a rank.
fn share<P: Partitioner>(world: &World, place: &P) -> Result<Table<f64, Sum>, Failure> {
    let mut mine = Table::new(Sum);
    for (id, data) in union(world.size())?.iter() {
        if place.rank_of(id, world.size()) == world.rank() {
            mine.add(id, data.to_vec())?;
        }
    }
    Ok(mine)
}

pub(super) fn scatters(world: &mut World) -> Result<(), Failure> {
    for root in roots(world.size()) {
        let (n, want) = (world.size(), share(world, &Hashed)?);
        let all = |here: bool| if here { union(n) } else { Ok(Table::new(Sum)) };
        let mut t = all(world.rank() == root)?;
        scatter(world, &mut t, root, &Hashed)?;
        expect(t == want, || format!("scatter from {root}"))?;
        let t = iscatter(world, all(world.rank() == root)?, root, Hashed)?.wait()?;
        expect(t == want, || format!("iscatter from {root}"))?;
    }
    Ok(())
}

pub(super) fn alltoalls(world: &mut World) -> Result<(), Failure> {
    let (n, me) = (world.size(), world.rank());
    // Of any length, also none, and not the same in both directions.
    let message = |from: u32, to: u32| -> Result<Table<u32, Max>, Failure> {
        let mut t = Table::new(Max);
        t.add(u64::from(to), vec![from * 1000 + to; ((from + 2 * to) % 5 * 3000) as usize])?;
        Ok(t)
    };
    let outgoing = || (0..n).map(|to| message(me, to)).collect::<Result<Vec<_>, _>>();
    let want = (0..n).map(|from| message(from, me)).collect::<Result<Vec<_>, _>>()?;
    expect(alltoall(world, outgoing()?)? == want, || "alltoall".into())?;
    expect(ialltoall(world, outgoing()?)?.wait()? == want, || "ialltoall".into())
}

pub(super) fn regroups(world: &mut World) -> Result<(), Failure> {
    let me = world.rank();
    let want = share(world, &Modulo)?;
    let mut t = table(me, Sum)?;
    regroup(world, &mut t, &Modulo)?;
    expect(t == want, || "regroup".into())?;
    let t = iregroup(world, table(me, Sum)?, Modulo)?.wait()?;
    expect(t == want, || "iregroup".into())
}

pub(super) fn aggregates(world: &mut World) -> Result<(), Failure> {
    let (n, me) = (world.size(), world.rank());
    let function =
        |id: u64, data: &mut [f64]| data.iter_mut().for_each(|x| *x = *x / 2.0 + (id % 1000) as f64);
    let mut want = union(n)?;
    want.apply(function);
    let mut t = table(me, Sum)?;
    aggregate(world, &mut t, &Hashed, function)?;
    expect(t == want, || "aggregate".into())?;
    let t = iaggregate(world, table(me, Sum)?, Hashed, function)?.wait()?;
    expect(t == want, || "iaggregate".into())
}

/// Rank r has id r of a table that is spread over the ranks.
fn spread(me: u32) -> Result<Table<u64, Sum>, Failure> {
    let mut t = Table::new(Sum);
    t.add(u64::from(me), vec![100 * u64::from(me); 3000])?;
    Ok(t)
}

pub(super) fn pushes_and_pulls(world: &mut World) -> Result<(), Failure> {
    let (n, me) = (u64::from(world.size()), u64::from(world.rank()));
    let next = (me + 1) % n;
    // To the next one's, and to one that nobody has, which goes to rank 0.
    let mut ones = Table::<u64, Sum>::new(Sum);
    ones.add(next, vec![1; 3000])?;
    ones.add(n * 7, vec![1])?;
    let mut global = spread(world.rank())?;
    push(world, &ones, &mut global, &Modulo)?;
    let mut want = spread(world.rank())?;
    want.add(me, vec![1; 3000])?;
    if me == 0 {
        want.add(n * 7, vec![n])?;
    }
    expect(global == want, || "push".into())?;
    let again = ipush(world, ones.clone(), spread(world.rank())?, Modulo)?.wait()?;
    expect(again == want, || "ipush".into())?;

    ones.add(n * 7 + 1, vec![5])?;
    let mut pulled = ones.clone();
    let missing = pull(world, &mut pulled, &global)?;
    let mut want = Table::<u64, Sum>::new(Sum);
    want.add(next, vec![100 * next + 1; 3000])?;
    want.add(n * 7, vec![n])?;
    want.add(n * 7 + 1, vec![5])?;
    expect(missing == [n * 7 + 1] && pulled == want, || "pull".into())?;
    let (pulled, _, missing) = ipull(world, ones, global)?.wait()?;
    expect(missing == [n * 7 + 1] && pulled == want, || "ipull".into())
}

pub(super) fn joins(world: &mut World) -> Result<(), Failure> {
    let (n, me) = (world.size(), world.rank());
    // The names are at the other end of the ranks.
    let mut names = Table::<Serde<String>, _>::new(append());
    names.add(u64::from(n - 1 - me), format!("rank {me}"))?;
    let numbers = || -> Result<Table<u32, Sum>, Failure> {
        let mut t = Table::new(Sum);
        for id in 0..=n {
            t.add(u64::from(id), vec![me + id])?;
        }
        Ok(t)
    };
    let mut want = Table::<u32, Sum>::new(Sum);
    let total = n * (n - 1) / 2;
    want.add(u64::from(n - 1 - me), vec![total + n * (n - 1 - me)])?;
    if me == 0 {
        want.add(u64::from(n), vec![total + n * n])?;
    }
    let mut t = numbers()?;
    join(world, &mut t, &names, &Modulo)?;
    expect(t == want, || "join".into())?;
    let t = ijoin(world, numbers()?, names.ids(), Modulo)?.wait()?;
    expect(t == want, || "ijoin".into())
}

pub(super) fn rotates(world: &mut World) -> Result<(), Failure> {
    let (n, me) = (world.size(), world.rank());
    let mut t = table(me, Sum)?;
    for round in 1..=n.min(4) {
        rotate(world, &mut t, &Rotation::Ring)?;
        expect(t == table((me + n - round) % n, Sum)?, || format!("rotate {round} times"))?;
    }
    let mirror = Rotation::To((0..n).rev().collect());
    let t = irotate(world, table(me, Sum)?, mirror)?.wait()?;
    expect(t == table(n - 1 - me, Sum)?, || "irotate by a permutation".into())?;
    // More under way than a board has places: tables that change places, and such with a part too small to lie in shared memory.
    let mixed = |rank: u32, k: u32| -> Result<Table<u32, Sum>, Failure> {
        let mut t = Table::new(Sum);
        t.add(0, vec![100 * k + rank; 9000])?;
        t.add(1, vec![100 * k + rank; 25])?;
        t.add(2, vec![100 * k + rank; 2000])?;
        Ok(t)
    };
    let to = (0..n).map(|r| (r + 1) % n).collect::<Vec<_>>();
    let large = |rank, k| {
        mixed(rank, k).map(|mut t| {
            t.remove(1);
            t
        })
    };
    let turned = (0..20).map(|k| Ok(irotate(world, large(me, k)?, Rotation::To(to.clone()))?));
    for (k, turned) in (0..).zip(turned.collect::<Result<Vec<_>, Failure>>()?) {
        expect(turned.wait()? == large((me + n - 1) % n, k)?, || format!("irotate {k} of twenty under way"))?;
    }
    let summed = (0..20).map(|k| Ok(iallreduce(world, mixed(me, k)?)?));
    for (k, summed) in (0..).zip(summed.collect::<Result<Vec<_>, Failure>>()?) {
        let sum = vec![100 * k * n + n * (n - 1) / 2; 25];
        expect(summed.wait()?.get(1).is_some_and(|part| part[..] == sum), || {
            format!("iallreduce {k} of twenty under way")
        })?;
    }
    Ok(())
}

type Append = Custom<fn(&mut String, &String)>;

/// A combiner of which the order of the ranks can be read.
fn append() -> Append {
    Custom::new("append", |into, other| into.push_str(other))
}

fn words(rank: u32) -> Result<Table<Serde<String>, Append>, Failure> {
    let mut t = Table::new(append());
    t.add(1, format!("{rank} "))?;
    t.add(2, "x".repeat((rank as usize % 3) * 20_000))?;
    Ok(t)
}

pub(super) fn scans(world: &mut World) -> Result<(), Failure> {
    let me = world.rank();
    let up_to = |ranks: u32| {
        let mut all = Table::new(append());
        for rank in 0..ranks {
            for (id, text) in words(rank)?.iter() {
                all.add(id, text.clone())?;
            }
        }
        Ok::<_, Failure>(all)
    };
    let mut t = words(me)?;
    scan(world, &mut t)?;
    expect(t == up_to(me + 1)?, || "scan".into())?;
    let mut t = words(me)?;
    exscan(world, &mut t)?;
    expect(t == up_to(me)?, || "exscan".into())?;
    let (first, second) = (iscan(world, words(me)?)?, iexscan(world, words(me)?)?);
    expect(second.wait()? == up_to(me)?, || "iexscan".into())?;
    expect(first.wait()? == up_to(me + 1)?, || "iscan".into())
}

/// One by one, in the order of the ranks.
pub(super) fn in_sequence(world: &mut World) -> Result<(), Failure> {
    let (n, me) = (world.size(), world.rank());
    let mut want = table(0, Minus)?;
    for rank in 1..n {
        for (id, data) in table(rank, Minus)?.iter() {
            want.add(id, data.to_vec())?;
        }
    }
    let mut t = table(me, Minus)?;
    allreduce(world, &mut t)?;
    expect(t == want, || "allreduce in sequence".into())?;
    let t = ireduce(world, table(me, Minus)?, n - 1)?.wait()?;
    expect(if me == n - 1 { t == want } else { t.is_empty() }, || "ireduce in sequence".into())
}

pub(super) fn events(world: &mut World) -> Result<(), Failure> {
    let (n, me) = (world.size(), world.rank());
    if n == 1 {
        return Ok(());
    }
    if me == 0 {
        send_event(world, To::All, 1, aeolian_net::Buf::from_pod(&[n]))?;
    } else {
        let event = wait_event(world)?;
        expect((event.from, event.tag, event.body.cast::<u32>()) == (0, 1, &[n][..]), || {
            "event to all".into()
        })?;
    }
    barrier(world)?;
    send_event(world, To::Rank((me + 1) % n), 2, aeolian_net::Buf::zeroed(me as usize * 100))?;
    let (event, before) = (wait_event(world)?, (me + n - 1) % n);
    let fine = (event.from, event.tag, event.body.len()) == (before, 2, before as usize * 100);
    expect(fine, || "event to the next rank".into())?;
    barrier(world)?;
    match poll_event(world)? {
        None => Ok(()),
        Some(event) => Err(wrong(format!("an event of rank {} that was never sent", event.from))),
    }
}
