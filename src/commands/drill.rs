//! `aeolian drill`: a fire drill. Ranks work together until one of them does something bad; how the job ends then is what
//! one wants to see on one's own cluster before it happens for real.

use aeolian::harp::{Sum, allreduce_slice, barrier};
use clap::{Args, ValueEnum};
use std::time::{Duration, Instant};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// Nothing: the job ends well
    None,
    /// The rank is killed (SIGKILL)
    Kill,
    /// The rank is stopped (SIGSTOP) and never goes on
    Stop,
    /// The rank ends with code 0 in the middle of the job
    Exit0,
    /// The rank ends with code 3
    Exit3,
    /// The rank ends with code 0 and no exit handler runs
    Vanish,
    /// The rank panics
    Panic,
    /// The rank returns an error
    Error,
    /// The rank calls another collective than the others
    Mismatch,
    /// The rank stops calling collectives and waits for a message that nobody sends
    Deadlock,
    /// The rank ends with code 7 after the job is done
    Late,
}

/// Arguments of `aeolian drill`.
#[derive(Debug, Args)]
pub(crate) struct DrillArgs {
    /// What goes wrong
    #[arg(long, value_enum)]
    fault: Fault,
    /// On which rank
    #[arg(long, default_value_t = 0)]
    rank: u32,
    /// After so many rounds of work
    #[arg(long, default_value_t = 50)]
    at: u64,
    /// How long the drill takes if nothing ends it, in seconds
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Look for stop requests (Ctrl-C, SIGTERM, SIGUSR1) and end in good order
    #[arg(long)]
    listen: bool,
}

/// Runs as a rank of whatever launched it.
pub(crate) fn main(args: &DrillArgs) -> u8 {
    let mut stopped = false;
    let code = aeolian::run(|world| {
        let end = Instant::now() + Duration::from_secs_f64(args.seconds);
        let victim = world.rank() == args.rank;
        for round in 0u64.. {
            let ask = args.listen && world.stop_requested();
            // The clocks differ: the end is agreed on, like everything that ranks must do together.
            let mut agree = [1, u64::from(ask), u64::from(Instant::now() >= end)];
            if victim && round == args.at {
                misbehave(world, args.fault)?;
            }
            allreduce_slice(world, &mut agree, Sum)?;
            if agree[0] != u64::from(world.size()) {
                return Err(aeolian::Failure::new(aeolian::net::exit::INTERNAL, "a sum is wrong"));
            }
            stopped = agree[1] > 0;
            if stopped || agree[2] > 0 || (args.fault == Fault::Late && round > args.at) {
                if world.rank() == 0 {
                    println!(
                        "drill: {} after {round} rounds",
                        if stopped { "stopped in order" } else { "over" }
                    );
                }
                return Ok(());
            }
            if round == 0 && world.rank() == 0 {
                println!("drill: {} ranks at work over {}", world.size(), world.transport());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    });
    match code {
        0 if stopped => aeolian::net::exit::STOPPED,
        0 if args.fault == Fault::Late
            && std::env::var_os("AEOLIAN_RANK").is_none_or(|r| r == *args.rank.to_string()) =>
        {
            7
        }
        code => code,
    }
}

fn misbehave(world: &mut aeolian::World, fault: Fault) -> Result<(), aeolian::Failure> {
    let signal = |signal| {
        rustix::process::kill_process(rustix::process::getpid(), signal).unwrap_or_default();
    };
    match fault {
        Fault::None | Fault::Late => {}
        Fault::Kill => signal(rustix::process::Signal::KILL),
        Fault::Stop => signal(rustix::process::Signal::STOP),
        Fault::Exit0 => std::process::exit(0),
        Fault::Exit3 => std::process::exit(3),
        // SAFETY: ends the process, which is the point.
        Fault::Vanish => unsafe { libc::_exit(0) },
        #[allow(clippy::panic)]
        Fault::Panic => panic!("drill"),
        Fault::Error => return Err(aeolian::Failure::new(42, "the drill's own error").help("end the drill")),
        Fault::Mismatch => barrier(world)?,
        Fault::Deadlock => {
            let edge = world.open_edge()?;
            world.recv(edge)?;
        }
    }
    Ok(())
}
