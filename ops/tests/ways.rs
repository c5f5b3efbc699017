//! How many messages operators send, directly and by node.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so and ends")]

use aeolian_net::World;
use aeolian_ops::{
    Batch, Broadcast, Dataflow, Insert, InsertError, KeyedGather, Lists, LogicalPlan, Operator, Options,
    Order, Partition, RoundRobin, Ways, taking,
};
use std::cell::Cell;

/// Nodes with so many ranks each.
fn nodes(count: u32, ranks: u32) -> Vec<u32> {
    (0..count * ranks).map(|rank| rank / ranks).collect()
}

/// Inserts these records, completes the operator, and says how many messages this rank has sent for that.
fn messages_of(
    world: &World,
    op: &mut impl Insert<u64>,
    records: impl Iterator<Item = u64>,
) -> Result<u64, aeolian_ops::OpsError> {
    let before = world.traffic().messages_sent;
    op.insert_all(world.rank(), records)?;
    op.finish(world.rank())?;
    op.complete()?;
    Ok(world.traffic().messages_sent - before)
}

/// Each rank gives one record to each: what the rank sends that sends most.
fn one_to_each(nodes: &[u32], ways: Ways) -> u64 {
    let counts = World::local_nodes(nodes, |world| {
        let flow = Dataflow::with(&world, Options { ways, ..Options::detect(world.layout(), 0)? });
        let got = Cell::new(0);
        let take = taking(|_, batch: Batch<u64>| got.set(got.get() + batch.count()));
        let plan = LogicalPlan::each_rank(&world);
        let mut op = Partition::new(&flow, &plan, RoundRobin::default(), take)?;
        let messages = messages_of(&world, &mut op, 0..u64::from(world.size()))?;
        drop(op);
        assert_eq!(got.get(), nodes.len());
        world.finish()?;
        Ok(messages)
    });
    counts.unwrap().into_iter().max().unwrap()
}

/// One rank gives all one record: what all ranks send together.
fn one_to_all(nodes: &[u32], ways: Ways) -> u64 {
    let counts = World::local_nodes(nodes, |world| {
        let flow = Dataflow::with(&world, Options { ways, ..Options::detect(world.layout(), 0)? });
        let got = Cell::new(0);
        let take = taking(|_, batch: Batch<u64>| got.set(got.get() + batch.count()));
        let plan = LogicalPlan::each_rank(&world).sources_on(&[0])?;
        let mut op = Broadcast::new(&flow, &plan, take)?;
        let before = world.traffic().messages_sent;
        if world.rank() == 0 {
            op.insert_all(0, [7])?;
            op.finish(0)?;
        }
        op.complete()?;
        let messages = world.traffic().messages_sent - before;
        drop(op);
        assert_eq!(got.get(), 1);
        world.finish()?;
        Ok(messages)
    });
    counts.unwrap().into_iter().sum()
}

#[test]
fn messages_grow_with_nodes_and_not_with_ranks() {
    for (count, ranks) in [(2, 3), (4, 4), (3, 8), (6, 4)] {
        let layout = nodes(count, ranks);
        let (count, ranks) = (u64::from(count), u64::from(ranks));
        // A batch and a mark for each.
        assert_eq!(one_to_each(&layout, Ways::Direct), 2 * (count * ranks - 1));
        // A bundle and a mark for each node; inside of it what this rank gives, what it passes on, and a mark.
        assert_eq!(one_to_each(&layout, Ways::ByNode), 2 * (count - 1) + 3 * (ranks - 1));
    }
}

#[test]
fn what_is_for_all_goes_to_each_node_once() {
    let layout = nodes(3, 4);
    // A batch and a mark for each other rank, and marks of nobody else.
    assert_eq!(one_to_all(&layout, Ways::Direct), 2 * 11);
    // To one rank of each other node, and inside each node to all ranks but the one that passes it on.
    for ways in [Ways::ByNode, Ways::Suitable] {
        assert_eq!(one_to_all(&layout, ways), 2 * 2 + 3 * 2 * 3);
    }
}

#[test]
fn few_ranks_send_directly_and_many_by_node() {
    for (few, many) in [(nodes(2, 16), nodes(2, 17)), (nodes(5, 4), nodes(3, 9))] {
        assert_eq!(one_to_each(&few, Ways::Suitable), one_to_each(&few, Ways::Direct));
        assert_eq!(one_to_each(&many, Ways::Suitable), one_to_each(&many, Ways::ByNode));
    }
}

/// What is too large for a bundle goes alone, and comes in the order in which it was given.
#[test]
fn large_and_small_records_keep_their_order() {
    World::local_nodes(&nodes(3, 2), |world| {
        let options =
            Options { ways: Ways::ByNode, batch: 1000, ..Options::detect(world.layout(), world.rank())? };
        let flow = Dataflow::with(&world, options);
        let next = std::cell::RefCell::new(vec![0u32; 6]);
        let take = taking(|_, batch: Batch<(u32, u32, Vec<u8>)>| {
            for (source, number, bytes) in batch {
                let next = &mut next.borrow_mut()[source as usize];
                assert_eq!((number, bytes.len()), (*next, length(number)));
                assert!(bytes.iter().all(|byte| *byte == number as u8));
                *next += 1;
            }
        });
        let plan = LogicalPlan::each_rank(&world).targets_on(&[5])?;
        let mut op = Partition::new(&flow, &plan, |_: u32, _: &(u32, u32, Vec<u8>), _: u32| 0, take)?;
        let me = world.rank();
        op.insert_all(me, (0..200).map(|number| (me, number, vec![number as u8; length(number)])))?;
        op.finish(me)?;
        op.complete()?;
        drop(op);
        assert_eq!(next.into_inner(), vec![if me == 5 { 200 } else { 0 }; 6]);
        world.finish()
    })
    .unwrap();
}

/// What a rank gives itself does not come between what it passes on and whose that is, however full windows are.
#[test]
fn what_is_passed_on_is_not_taken_for_the_passing_ranks() {
    const MANY: u64 = 2000;
    let lists = World::local_nodes(&[0, 0, 1], |world| {
        // (Of one message, so that each waits for the one before it; and each record goes alone.)
        world.set_window(1);
        let options =
            Options { ways: Ways::ByNode, batch: 1, ..Options::detect(world.layout(), world.rank())? };
        let flow = Dataflow::with(&world, options);
        let plan = LogicalPlan::each_rank(&world).sources_on(&[0, 2])?.targets_on(&[0, 1])?;
        let mut lists = Vec::new();
        let take = Lists::new(|_, key: u64, values: Vec<(u64, u64)>| lists.push((key, values)));
        let mut op = KeyedGather::new(&flow, &plan, Order::ByKey, take)?;
        let other = world.handle();
        for (source, rank) in plan.sources().iter().enumerate().filter(|(_, rank)| **rank == world.rank()) {
            let mut next = 0;
            while next < MANY {
                match op.insert(source as u32, (next % 7, (u64::from(*rank), next))) {
                    Ok(()) => next += 1,
                    Err(InsertError::Full(_)) => drop(op.progress()?),
                    Err(InsertError::Failed(e)) => return Err(e.into()),
                }
                // As another operator would.
                other.progress()?;
            }
            op.finish(source as u32)?;
        }
        op.complete()?;
        drop(op);
        world.finish()?;
        Ok(lists)
    });
    let lists: Vec<_> = lists.unwrap().into_iter().flatten().collect();
    assert_eq!(lists.len(), 7);
    for (key, values) in lists {
        let of = |rank| (key..MANY).step_by(7).map(move |next| (rank, next));
        assert!(values.iter().copied().eq(of(0).chain(of(2))), "key {key}");
    }
}

/// Of a few bytes, of a few hundred, and of more than a batch.
fn length(number: u32) -> usize {
    [3, 200, 5, 5000][number as usize % 4]
}
