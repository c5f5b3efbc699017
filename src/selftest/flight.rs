//! Several collectives under way at a time, and worlds of some of the ranks.

use super::collectives::{table, union};
use super::expect;
use crate::Failure;
use aeolian_harp::*;
use aeolian_net::World;

/// Started in one order, waited for in another, with a blocking one in between; one is not waited for at all.
pub(super) fn under_way(world: &mut World) -> Result<(), Failure> {
    let (n, me) = (world.size(), world.rank());
    // More than a window to each rank, where there are few.
    let long = if n <= 8 { 700_000 } else { 20_000 };
    let ones = || -> Result<Table<u64, Sum>, Failure> {
        let mut t = Table::new(Sum);
        t.add(9, vec![1; long])?;
        Ok(t)
    };
    let dropped = iallgather(world, ones()?)?;
    let all_here = ibarrier(world)?;
    let reduced = iallreduce(world, ones()?)?;
    let sent = if me == n - 1 { table(n - 1, Sum)? } else { Table::new(Sum) };
    let broadcast = ibroadcast(world, sent, n - 1)?;
    drop(dropped);
    let mut sum = [me];
    allreduce_slice(world, &mut sum, Sum)?;
    expect(sum == [n * (n - 1) / 2], || "a blocking allreduce between others".into())?;
    let gathered = igather(world, table(me, Sum)?, n / 2)?;
    let regrouped = iregroup(world, ones()?, Modulo)?;
    let turned = irotate(world, table(me, Sum)?, Rotation::Ring)?;

    let check = |what: &str, ok: bool| expect(ok, || format!("{what}, one of several under way"));
    let (mut reduced, mut turned) = (Some(reduced), Some(turned));
    // The first half of the ranks waits for these in one order, the others in the other.
    for which in if me < n / 2 { [0, 1] } else { [1, 0] } {
        if which == 0 {
            if let Some(turned) = turned.take() {
                while !turned.test()? {
                    std::thread::yield_now();
                }
                check("rotate", turned.wait()? == table((me + n - 1) % n, Sum)?)?;
            }
        } else if let Some(reduced) = reduced.take() {
            check("allreduce", reduced.wait()?.get(9).is_some_and(|p| p[..] == vec![u64::from(n); long]))?;
        }
    }
    let at_home = (me == (9 % u64::from(n)) as u32).then(|| vec![u64::from(n); long]);
    check("regroup", regrouped.wait()?.get(9).map(|p| p.to_vec()) == at_home)?;
    let t = gathered.wait()?;
    check("gather", if me == n / 2 { t == union(n)? } else { t.is_empty() })?;
    check("broadcast", broadcast.wait()? == table(n - 1, Sum)?)?;
    Ok(all_here.wait()?)
}

/// Broadcasts and allgathers of long partitions, with short ones beside them, all under way at a time and waited for in another order on each rank. (Over
/// an MPI these are its own, which all ranks must begin in the same order.)
pub(super) fn copies(world: &mut World) -> Result<(), Failure> {
    let (n, me) = (world.size(), world.rank());
    let long = if n <= 8 { 100_000 } else { 9_000 };
    let given = |call: u32, rank: u32| -> Table<u32, Sum> {
        let mut t = Table::new(Sum);
        for (len, k) in [long + 1000 * rank as usize, 3, 0, 9_000, 17_000].into_iter().zip(0..) {
            let value = |i: usize| i as u32 ^ (rank << 24) ^ (call << 20);
            t.insert(
                u64::from(call) << 32 | u64::from(rank) << 8 | k,
                (0..len).map(value).collect::<Vec<_>>(),
            );
        }
        t
    };
    let everybodys = |call: u32| -> Result<Table<u32, Sum>, Failure> {
        let mut all = Table::new(Sum);
        for table in (0..n).map(|rank| given(call, rank)) {
            for (id, part) in table.iter() {
                all.add(id, part.to_vec())?;
            }
        }
        Ok(all)
    };
    for round in 0..3 {
        let mut under_way = Vec::new();
        for call in 0..6 {
            let root = (round + call) % n;
            under_way.push((
                call,
                match (call % 3, root == me) {
                    (2, _) => iallgather(world, given(call, me))?,
                    (_, true) => ibroadcast(world, given(call, me), root)?,
                    (_, false) => ibroadcast(world, Table::new(Sum), root)?,
                },
            ));
            if (me + call + round) % 3 == 0 {
                world.progress()?;
            }
        }
        under_way.rotate_left((me + round) as usize % 6);
        for (call, pending) in under_way {
            let want = if call % 3 == 2 { everybodys(call)? } else { given(call, (round + call) % n) };
            expect(pending.wait()? == want, || format!("call {call} of several, round {round}"))?;
        }
    }
    Ok(())
}

/// The sum of the job's ranks over a world.
fn sum(world: &mut World, me: u32) -> Result<u32, Failure> {
    let mut sum = [me];
    allreduce_slice(world, &mut sum, Sum)?;
    Ok(sum[0])
}

/// Parts of the world: a node's ranks, even and odd ones, in turned order, one inside the other, all at work at the same time.
pub(super) fn parts(world: &mut World) -> Result<(), Failure> {
    let (n, me) = (world.size(), world.rank());
    let mut mates = split_by_node(world)?;
    let node = world.layout().node_of[me as usize];
    let on_node: Vec<u32> = world.layout().ranks_on(node).collect();
    expect(mates.size() as usize == on_node.len() && mates.layout().hosts.len() == 1, || {
        "the ranks of a node".into()
    })?;
    expect(sum(&mut mates, me)? == on_node.iter().sum(), || "a sum over a node".into())?;

    let same: Vec<u32> = (0..n).filter(|r| r % 2 == me % 2).collect();
    let Some(mut half) = split(world, Some(me % 2), -i64::from(me))? else {
        return expect(false, || "a rank with a color has no world".into());
    };
    let turned: Result<Vec<u32>, _> = (0..half.size()).rev().map(|rank| half.job_rank(rank)).collect();
    expect(turned? == same, || "the order of a part's ranks".into())?;

    // In all three worlds at once, of which each rank waits for another one first.
    let mine = || -> Result<Table<u32, Sum>, Failure> {
        let mut t = Table::new(Sum);
        t.add(0, vec![me; 50_000])?;
        Ok(t)
    };
    let mut under_way = vec![
        (iallreduce(&half, mine()?)?, same.iter().sum::<u32>()),
        (iallreduce(world, mine()?)?, n * (n - 1) / 2),
        (iallreduce(&mates, mine()?)?, on_node.iter().sum()),
    ];
    under_way.rotate_left(me as usize % 3);
    for (pending, want) in under_way {
        let t = pending.wait()?;
        expect(t.get(0).is_some_and(|p| p[..] == vec![want; 50_000]), || {
            "a sum in one of three worlds".into()
        })?;
    }

    drop(mates);
    let inner = split(&mut half, (me >= 2).then_some(0), 0)?;
    if let Some(mut inner) = inner {
        let want = same.iter().filter(|r| **r >= 2).sum();
        expect(sum(&mut inner, me)? == want, || "a sum over a part of a part".into())?;
    }
    expect(sum(&mut half, me)? == same.iter().sum(), || "a sum over a part after its own parts".into())
}
