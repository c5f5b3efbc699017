//! The frame of every program: join the world, parse, run, end with one message and the right exit code.

use std::process::ExitCode;

use aeolian::World;
use aeolian::net::{NetError, exit};

use crate::{Error, Result};

/// Why there are no options.
#[derive(Debug)]
pub enum End {
    /// Help, version, or what the parser found wrong.
    Print(clap::Error),
    /// Options that make no sense together.
    Wrong(Error),
}

/// Runs the program `name`: options by `parse`, then `run` on every rank.
pub fn main<O>(
    name: &str,
    parse: impl FnOnce(std::env::ArgsOs) -> std::result::Result<O, End>,
    run: impl FnOnce(&mut World, &O) -> Result<()>,
) -> ExitCode {
    let mut world = match World::init() {
        Ok(world) => world,
        Err(e) => {
            let e = Error::from(e);
            if !e.is_told_already() {
                eprintln!("{}", e.report(name));
            }
            return ExitCode::from(e.exit_code());
        }
    };
    // The command line is the same on every rank, so what is wrong with it is too: rank 0 says it.
    let alone = world.size() == 1;
    let result = match parse(std::env::args_os()) {
        Ok(options) => run(&mut world, &options),
        Err(End::Print(text)) => {
            if world.rank() == 0 && (alone || !text.use_stderr()) {
                let _ = text.print();
            }
            return match text.use_stderr() {
                true if alone => ExitCode::from(exit::USAGE),
                true => fail(world, brief(name, &text)),
                false => finish(name, world),
            };
        }
        Err(End::Wrong(e)) => Err(e),
    };
    match result {
        Ok(()) => finish(name, world),
        Err(e) if alone => {
            eprintln!("{}", e.report(name));
            ExitCode::from(e.exit_code())
        }
        Err(e) => fail(world, e),
    }
}

/// What the parser found wrong, in one line, with its tip if it has one: for the job master, who tells it.
fn brief(name: &str, text: &clap::Error) -> Error {
    let text = text.to_string();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().trim_start_matches("error: ");
    // What is missing, or possible, stands in lines of its own.
    let more: Vec<&str> = lines.take_while(|line| line.starts_with(' ')).map(str::trim).collect();
    let what = format!("{first} {}", more.join(", "));
    let tip = text
        .lines()
        .find_map(|l| l.trim().strip_prefix("tip: "))
        .map(|t| format!("{t}; "))
        .unwrap_or_default();
    Error::usage(what.trim_end(), format!("{tip}see {name} --help"))
}

fn finish(name: &str, world: World) -> ExitCode {
    match world.finish() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            if !matches!(e, NetError::JobFailed(_)) {
                eprintln!("{name}: error: {e}");
            }
            ExitCode::from(e.exit_code())
        }
    }
}

/// Ends the job with an error. Errors of the program are known to all ranks: one of them tells the job master, who tells
/// the user once; the others wait until they hear it from there. Errors of the wires are told by whoever has them.
fn fail(world: World, e: Error) -> ExitCode {
    let code = e.exit_code();
    let (rank, cause, remedy) = e.blame();
    match e {
        Error::Net(_) if e.is_told_already() => {}
        Error::Net(_) => world.fail(code, cause, remedy),
        _ if rank == world.rank() => world.fail(code, cause, remedy),
        // The job has failed, so this cannot succeed; it returns when the job master has said so.
        _ => drop(world.finish()),
    }
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Options {
        #[arg(long, value_name = "DIR")]
        output: String,
        #[arg(long, value_name = "N")]
        records: u64,
        #[arg(long, value_parser = ["inner", "left"])]
        kind: Option<String>,
    }

    #[test]
    fn usage_errors_are_whole() {
        let wrong = |args: &[&str]| {
            let args = ["x"].iter().chain(args);
            brief("x", &Options::try_parse_from(args).unwrap_err()).to_string()
        };
        assert_eq!(
            wrong(&[]),
            "the following required arguments were not provided: --output <DIR>, --records <N>\n  help: see x --help"
        );
        assert_eq!(
            wrong(&["--kind", "lefty"]),
            "invalid value 'lefty' for '--kind <KIND>' [possible values: inner, left]\n  \
             help: a similar value exists: 'left'; see x --help"
        );
        let said = wrong(&["--outptu", "a"]);
        assert!(
            said.starts_with("unexpected argument '--outptu' found\n  help: a similar argument"),
            "{said}"
        );
    }
}
