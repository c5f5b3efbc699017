//! Barriers whose marks fill the window of the edge: what was inserted before them is not lost.

use aeolian_net::{WINDOW, World};
use aeolian_ops::{
    AllReduce, Batch, Dataflow, Distinct, Full, Insert, InsertError, KeyedReduce, LogicalPlan, Operator,
    OpsError, Partition, Receiver, Record, Reduce, RoundRobin, TopK,
};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Barrier;

/// What a target got: records, and barriers as `None`.
struct Log<T>(Rc<RefCell<Vec<Option<T>>>>);

impl<T: Record> Receiver<Batch<T>> for Log<T> {
    fn receive(&mut self, _: u32, batch: Batch<T>) -> Result<(), Full<Batch<T>>> {
        self.0.borrow_mut().extend(batch.map(Some));
        Ok(())
    }

    fn barrier(&mut self, _: u32, _: &[(u32, Vec<u8>)]) {
        self.0.borrow_mut().push(None);
    }
}

impl<T: Record> Receiver<T> for Log<T> {
    fn receive(&mut self, _: u32, item: T) -> Result<(), Full<T>> {
        self.0.borrow_mut().push(Some(item));
        Ok(())
    }

    fn barrier(&mut self, _: u32, _: &[(u32, Vec<u8>)]) {
        self.0.borrow_mut().push(None);
    }
}

/// A source on rank 0 inserts a record and comes to two barriers; the target on rank 1 takes none of their marks before the source has
/// finished. Returns what the target got.
fn held_up<I, T: Record + Clone + Send, O: Insert<I>>(
    record: impl Fn() -> I + Sync,
    make: impl Fn(&Dataflow, &LogicalPlan, Log<T>) -> Result<O, OpsError> + Sync,
) -> Vec<Option<T>> {
    let finished = Barrier::new(2);
    let got = World::local(2, |world| {
        let flow = Dataflow::new(&world)?;
        let plan = LogicalPlan::new(&world, 1, 1).targets_on(&[1])?;
        let log = Rc::default();
        let mut op = make(&flow, &plan, Log(Rc::clone(&log)))?;
        if world.rank() == 0 {
            op.insert(0, record()).map_err(|e| OpsError::Plan(format!("{e:?}")))?;
            for _ in 0..2 {
                op.barrier(0, vec![7; WINDOW as usize])?;
                op.progress()?;
            }
            op.finish(0)?;
        }
        finished.wait();
        op.complete()?;
        drop(op);
        world.finish()?;
        Ok(log.take())
    });
    got.unwrap().swap_remove(1)
}

#[test]
fn nothing_is_lost_behind_marks_that_are_held_up() {
    let sum = |a: &mut u64, b| *a += b;
    let last = [None, None, Some(7)];
    assert_eq!(held_up(|| 7, |flow, plan, log| Reduce::new(flow, plan, sum, log)), last);
    assert_eq!(held_up(|| 7, |flow, plan, log| AllReduce::new(flow, plan, sum, log)), last);
    assert_eq!(held_up(|| 7, |flow, plan, log: Log<u64>| TopK::new(flow, plan, 3, log)), last);
    assert_eq!(held_up(|| 7, |flow, plan, log: Log<u64>| Distinct::new(flow, plan, log)), last);
    let keyed = held_up(|| (1u8, 7), |flow, plan, log| KeyedReduce::new(flow, plan, sum, log));
    assert_eq!(keyed, [None, None, Some((1, 7))]);
    // What brings records as they are has it before the marks.
    let first =
        held_up(|| 7, |flow, plan, log: Log<u64>| Partition::new(flow, plan, RoundRobin::default(), log));
    assert_eq!(first, [Some(7), None, None]);
}

/// A source may finish at once where it has come to a barrier: the end comes after it.
#[test]
fn the_end_may_be_said_at_a_barrier() {
    World::local(1, |world| {
        let flow = Dataflow::new(&world)?;
        let log: Rc<RefCell<Vec<Option<u64>>>> = Rc::default();
        let plan = LogicalPlan::new(&world, 2, 1);
        let mut op = Partition::new(&flow, &plan, RoundRobin::default(), Log(Rc::clone(&log)))?;
        op.insert_all(0, [7u64])?;
        op.barrier(0, Vec::new())?;
        op.finish(0)?;
        assert!(op.is_at_barrier(0) && !op.is_at_barrier(1));
        let Err(InsertError::Failed(refused)) = op.insert(0, 8) else { panic!("it has finished") };
        assert!(refused.to_string().contains("it has finished"), "{refused}");
        assert!(op.barrier(0, Vec::new()).unwrap_err().to_string().contains("it has finished"));
        // The other source goes on, and comes to the same barrier later.
        op.insert_all(1, [9])?;
        op.progress()?;
        assert!(op.is_at_barrier(0) && log.borrow().is_empty());
        op.barrier(1, Vec::new())?;
        assert!(op.barrier(1, Vec::new()).unwrap_err().to_string().contains("not told yet"));
        op.progress()?;
        op.insert_all(1, [10])?;
        op.finish(1)?;
        op.complete()?;
        assert_eq!(*log.borrow(), [Some(7), Some(9), None, Some(10)]);
        drop(op);
        world.finish()
    })
    .unwrap();
}
