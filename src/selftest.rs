//! `aeolian selftest`: checks, on the ranks it is started with, that every public operation gives the right answer on the
//! wires in use. For users after an installation (`srun -n 4 aeolian selftest`) and for our own tests, on every transport.

mod collectives;
mod flight;
mod ops;
mod wires;

use crate::Failure;
use aeolian_harp::barrier;
use aeolian_net::{World, exit};
use collectives::{
    aggregates, allgathers, allreduces, alltoalls, broadcasts, events, gathers, in_sequence, joins,
    pushes_and_pulls, reduces, regroups, rotates, same_bits, same_shapes, scans, scatters, slices,
};
use wires::{flow_control, point_to_point};

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
    ("combining in place", same_shapes),
    ("slices", slices),
    ("gather", gathers),
    ("allgather", allgathers),
    ("same bits", same_bits),
    ("scatter", scatters),
    ("alltoall", alltoalls),
    ("regroup", regroups),
    ("aggregate", aggregates),
    ("push and pull", pushes_and_pulls),
    ("join", joins),
    ("rotate", rotates),
    ("scan and exscan", scans),
    ("in sequence", in_sequence),
    ("events", events),
    ("several under way", flight::under_way),
    ("copies under way", flight::copies),
    ("parts of the world", flight::parts),
    ("operators", ops::operators),
];

fn wrong(what: impl Into<String>) -> Failure {
    Failure::new(exit::INTERNAL, format!("self-test failed: {}", what.into())).help(
        "this is a defect of Aeolian or of the network: please report it with the output of aeolian doctor",
    )
}

fn expect(ok: bool, what: impl FnOnce() -> String) -> Result<(), Failure> {
    if ok { Ok(()) } else { Err(wrong(what())) }
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
