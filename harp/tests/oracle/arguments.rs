//! Calls that cannot be right on any rank: an error that says why, on all ranks, and a world that is as good as before.

use aeolian_harp::*;
use aeolian_net::{NetError, World, exit};
use std::time::Duration;

fn table() -> Table<f64, Sum> {
    let mut table = Table::new(Sum);
    table.insert(3, vec![1.0, 2.0]);
    table
}

/// All ranks make the call, are told `what`, and go on together.
fn refused(what: &str, call: impl Fn(&mut World) -> Result<()> + Sync) {
    World::local(3, |mut world| {
        for _ in 0..2 {
            let error = call(&mut world).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
            let mut t = table();
            allreduce(&mut world, &mut t)?;
            assert_eq!(t.get(3).unwrap()[..], [3.0, 6.0]);
        }
        world.finish()
    })
    .unwrap();
}

#[test]
fn a_root_that_does_not_exist() {
    const WHAT: &str = "root 3 in a world of 3 ranks";
    refused(WHAT, |w| broadcast(w, &mut table(), 3));
    refused(WHAT, |w| reduce(w, &mut table(), 3));
    refused(WHAT, |w| gather(w, &mut table(), 3));
    refused(WHAT, |w| scatter(w, &mut table(), 3, &Modulo));
    refused(WHAT, |w| ibroadcast(w, table(), 3)?.wait().map(drop));
    refused(WHAT, |w| ireduce(w, table(), 3)?.wait().map(drop));
    refused(WHAT, |w| igather(w, table(), 3)?.wait().map(drop));
    refused(WHAT, |w| iscatter(w, table(), 3, Modulo)?.wait().map(drop));
}

#[test]
fn a_rotation_that_is_no_permutation() {
    for list in [vec![], vec![0, 1], vec![0, 0, 1], vec![1, 2, 3], vec![0, 1, 2, 3]] {
        let rotation = Rotation::To(list);
        refused("is not a permutation of 3 ranks", |w| rotate(w, &mut table(), &rotation));
        refused("is not a permutation of 3 ranks", |w| {
            irotate(w, table(), rotation.clone())?.wait().map(drop)
        });
    }
}

#[test]
fn another_number_of_tables_than_ranks() {
    refused("alltoall of 2 tables in a world of 3 ranks", |w| alltoall(w, vec![table(), table()]).map(drop));
    refused("alltoall of 0 tables", |w| ialltoall(w, Vec::<Table<f64, Sum>>::new())?.wait().map(drop));
}

#[test]
fn a_partitioner_that_sends_to_nobody() {
    let nobody = ById::new("nobody", |_, size| size + 4);
    const WHAT: &str = "partitioner `nobody` sends partition 3 to rank 7 in a world of 3 ranks";
    refused(WHAT, |w| regroup(w, &mut table(), &nobody));
    refused(WHAT, |w| aggregate(w, &mut table(), &nobody, |_, _| {}));
    refused(WHAT, |w| push(w, &table(), &mut Table::new(Sum), &nobody));
    refused(WHAT, |w| join(w, &mut table(), &Table::<u8, Sum>::new(Sum), &nobody));
}

/// The error of a job in which rank 1 has a partition of another length, of which the ranks that combine it tell.
fn uneven(call: impl Fn(&mut World, Table<f64, Sum>) -> Result<()> + Sync) {
    let job = World::local_with(3, Duration::from_secs(2), |mut world| {
        let mut t = Table::<f64, Sum>::new(Sum);
        t.insert(3, vec![0.0; 5 + usize::from(world.rank() == 1)]);
        call(&mut world, t)?;
        world.finish()
    });
    let error = job.unwrap_err();
    assert_eq!(error.exit_code(), exit::MISMATCH, "{error}");
    let text = error.to_string();
    assert!(text.contains("partition 3 has") && text.contains("came from rank"), "{text}");
}

#[test]
fn partitions_of_one_id_of_different_lengths() {
    uneven(|w, mut t| broadcast(w, &mut t, 0));
    uneven(|w, mut t| reduce(w, &mut t, 2));
    uneven(|w, mut t| allreduce(w, &mut t));
    uneven(|w, mut t| gather(w, &mut t, 2));
    uneven(|w, mut t| allgather(w, &mut t));
    uneven(|w, mut t| scatter(w, &mut t, 0, &ById::new("one", |_, _| 1)));
    uneven(|w, mut t| regroup(w, &mut t, &Modulo));
    uneven(|w, mut t| aggregate(w, &mut t, &Modulo, |_, _| {}));
    uneven(|w, t| push(w, &t.clone(), &mut t.clone(), &Modulo));
    uneven(|w, mut t| join(w, &mut t, &Table::<u8, Sum>::new(Sum), &Modulo));
    uneven(|w, mut t| scan(w, &mut t));
    uneven(|w, mut t| exscan(w, &mut t));
    uneven(|w, t| iallreduce(w, t)?.wait().map(drop));
}

/// As [`uneven`], where they do not meet.
#[test]
fn different_lengths_are_fine_where_partitions_do_not_meet() {
    World::local(3, |mut world| {
        let lengths = |t: &Table<u8, Sum>| t.iter().map(|(_, p)| p.len()).collect::<Vec<_>>();
        let me = world.rank() as usize;
        let mut t = Table::<u8, Sum>::new(Sum);
        t.insert(3, vec![0; me + 1]);
        rotate(&mut world, &mut t, &Rotation::Ring)?;
        assert_eq!(lengths(&t), [(me + 2) % 3 + 1]);
        let came = alltoall(&mut world, vec![t.clone(), t.clone(), t])?;
        assert_eq!(came.iter().map(lengths).collect::<Vec<_>>(), [[3], [1], [2]]);
        world.finish()
    })
    .unwrap();
}

#[test]
fn an_error_of_one_rank_ends_the_others() {
    let error = World::local(3, |mut world| {
        if world.rank() == 2 {
            return Err(NetError::Above { what: "no input".into(), code: 65 });
        }
        barrier(&mut world)?;
        world.finish()
    });
    assert_eq!(error.unwrap_err().exit_code(), 65);
}

#[test]
fn a_refused_call_does_not_disturb_the_eight_under_way() {
    const LEN: usize = 50_000;
    World::local(3, |mut world| {
        for _ in 0..5 {
            let mut flying = Vec::new();
            for _ in 0..8 {
                let mut t = Table::<f64, Sum>::new(Sum);
                t.insert(0, vec![1.0; LEN]);
                flying.push(iallreduce(&world, t)?);
            }
            assert!(broadcast(&mut world, &mut table(), 9).is_err());
            for pending in flying {
                assert_eq!(pending.wait()?.get(0).unwrap()[..], [3.0; LEN]);
            }
        }
        world.finish()
    })
    .unwrap();
}

#[test]
fn a_rank_that_works_long_inside_a_collective_is_not_deadlocked() {
    World::local_with(2, Duration::from_millis(300), |mut world| {
        let me = world.rank();
        if me == 1 {
            // Until rank 0 sleeps, so that this rank wakes it.
            std::thread::sleep(Duration::from_millis(300));
        }
        let mut t = Table::<f64, Sum>::new(Sum);
        t.insert(0, vec![1.0]);
        aggregate(&mut world, &mut t, &Modulo, |_, sum| {
            std::thread::sleep(Duration::from_millis(2500));
            sum[0] *= 2.0;
        })?;
        assert_eq!(t.get(0).unwrap()[..], [4.0]);
        world.finish()
    })
    .unwrap();
}
