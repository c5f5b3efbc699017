//! The command line: what can be said, and mpirun's ways of saying it.

use crate::commands;
use crate::launch;
use aeolian_net::exit;
use aeolian_net::topology::BindPolicy;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Big-data processing that is native to HPC machines.
#[derive(Debug, Parser)]
#[command(name = "aeolian", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a program on several ranks, here or on other hosts
    Run(Box<RunArgs>),
    /// Show what a job would find here: launcher, MPI, cores, memory, scratch space, limits
    Doctor(commands::doctor::DoctorArgs),
    /// Work with the site's MPI
    #[command(subcommand)]
    Mpi(commands::mpi::MpiCommand),
    /// Explain an exit code: `aeolian explain 82`, `aeolian explain LEFT_EARLY`; all of them without an argument
    Explain {
        /// Code or name
        code: Option<String>,
    },
    /// Fire drill: see how a job ends when a rank is killed, stopped, panics, ...
    Drill(commands::drill::DrillArgs),
    /// Check every operation on the wires in use: `srun -n 4 aeolian selftest`
    Selftest {
        /// How many times
        #[arg(long, default_value_t = 1)]
        repeat: u32,
    },
    /// Measure which algorithms of collectives are fastest here, and write it down for later jobs
    Tune(commands::tune::TuneArgs),
    /// Print the version and what this build contains
    Version,
    /// Start the ranks of one host (what `aeolian run` starts through ssh)
    #[command(hide = true)]
    Agent,
    /// End what a killed launcher left behind
    #[command(hide = true)]
    Guard,
}

const EXAMPLES: &str = "\
Examples:
  aeolian run -n 4 ./kmeans --input points.npy --k 10
  aeolian run --host n1:8,n2:8 ./kmeans --input points.npy --k 10
  aeolian run --hostfile hosts -x RUST_LOG --tag-output ./app

The program's exit code is kept; codes of our own are 64 to 87 (`aeolian explain`). Ctrl-C once stops the job in good
order, twice kills it. `aeolian run` writes nothing of its own to standard output.";

/// The arguments of `aeolian run`. Options end where the program's name stands.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// Number of ranks (default: all slots of the hosts, or the cores of this one) [also: -np]
    #[arg(short = 'n', value_name = "N")]
    pub(crate) ranks: Option<u32>,
    /// Hosts with their slots; may be repeated
    #[arg(short = 'H', long, value_name = "a:4,b:4")]
    pub(crate) host: Vec<String>,
    /// File with one host a line: `name slots=4`
    #[arg(long, value_name = "FILE", conflicts_with = "host")]
    pub(crate) hostfile: Option<PathBuf>,
    /// Allow more ranks than slots
    #[arg(long)]
    pub(crate) oversubscribe: bool,
    /// Give the ranks a variable: the one of this shell, or a value; may be repeated
    #[arg(short = 'x', value_name = "VAR[=VALUE]")]
    pub(crate) export: Vec<OsString>,
    /// Working directory of the ranks (default: this one)
    #[arg(long, value_name = "DIR")]
    pub(crate) wdir: Option<PathBuf>,
    /// Bind each rank to its share of the cores, to a NUMA node, or not at all [default: core while there is one for each]
    #[arg(long, value_name = "core|numa|none")]
    pub(crate) bind: Option<BindPolicy>,
    /// How ranks talk to each other
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) transport: Transport,
    /// Encryption between ranks [default: on between hosts, off inside one]; ranks prove who they are in any case
    #[arg(long, value_enum)]
    pub(crate) encrypt: Option<OnOff>,
    /// Network interface (ib0) or address to use between hosts
    #[arg(long, value_name = "NAME")]
    pub(crate) interface: Option<String>,
    /// End the job after this time (90s, 15m, 2h)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// A rank without a sign of life for this long is given up
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub(crate) hang_timeout: Duration,
    /// All hosts must answer, and all ranks must join, within this time
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub(crate) start_timeout: Duration,
    /// Start each line of output with its rank
    #[arg(long)]
    pub(crate) tag_output: bool,
    /// The ssh command for other hosts, with options
    #[arg(long, value_name = "COMMAND", default_value = "ssh", env = "AEOLIAN_SSH")]
    pub(crate) ssh: String,
    /// Where this command is on the other hosts (default: where it is here)
    #[arg(long, value_name = "PATH")]
    pub(crate) remote_aeolian: Option<PathBuf>,
    /// Only errors, no remarks
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// At the end, write one line of JSON about the job to FILE (to standard error without one)
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub(crate) json: Option<PathBuf>,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

/// `--transport`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// Shared memory inside a host, TCP between hosts.
    Auto,
    /// Shared memory only.
    Shm,
    /// TCP only.
    Tcp,
}

impl Transport {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Transport::Auto => "auto",
            Transport::Shm => "shm",
            Transport::Tcp => "tcp",
        }
    }
}

/// `on` or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnOff {
    /// Yes.
    On,
    /// No.
    Off,
}

/// Runs the command line; gives the exit code.
pub(crate) fn main(args: Vec<OsString>) -> u8 {
    let cli = match parse(args) {
        Ok(cli) => cli,
        Err(e) => {
            let code = if e.use_stderr() { exit::USAGE } else { exit::OK };
            // A closed terminal is no reason for another code.
            e.print().unwrap_or_default();
            return code;
        }
    };
    match cli.command {
        Command::Run(args) => launch::run::main(&args),
        Command::Doctor(args) => commands::doctor::main(&args),
        Command::Mpi(command) => commands::mpi::main(&command),
        Command::Explain { code } => commands::explain::main(code.as_deref()),
        Command::Drill(args) => commands::drill::main(&args),
        Command::Selftest { repeat } => commands::selftest::main(repeat),
        Command::Tune(args) => commands::tune::main(&args),
        Command::Version => commands::version::main(),
        Command::Agent => launch::remote::serve(),
        Command::Guard => launch::guard::serve(),
    }
}

/// The arguments of an `aeolian run` that another command is.
pub(crate) fn run_args(args: Vec<OsString>) -> Result<RunArgs, clap::Error> {
    match parse(args)?.command {
        Command::Run(args) => Ok(*args),
        _ => Err(clap::Error::new(clap::error::ErrorKind::InvalidSubcommand)),
    }
}

fn parse(args: Vec<OsString>) -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches_from(like_mpirun(args))?;
    Cli::from_arg_matches(&matches)
}

/// Turns mpirun's long options with one dash (`-np 4 -host a`) into ours, and marks where the program stands: from
/// there on every word is the program's own.
fn like_mpirun(args: Vec<OsString>) -> Vec<OsString> {
    const SAME: &[(&str, &str)] = &[
        ("-np", "-n"),
        ("--np", "-n"),
        ("-host", "--host"),
        ("-hosts", "--host"),
        ("-hostfile", "--hostfile"),
        ("-machinefile", "--hostfile"),
        ("--machinefile", "--hostfile"),
        ("-f", "--hostfile"),
        ("-wdir", "--wdir"),
        ("-oversubscribe", "--oversubscribe"),
        ("-tag-output", "--tag-output"),
        ("-timeout", "--timeout"),
    ];
    /// Options whose next word is their value.
    const VALUED: &[&str] = &[
        "-n",
        "-H",
        "-x",
        "--host",
        "--hostfile",
        "--wdir",
        "--bind",
        "--transport",
        "--encrypt",
        "--interface",
        "--timeout",
        "--hang-timeout",
        "--start-timeout",
        "--ssh",
        "--remote-aeolian",
    ];
    if args.get(1).is_none_or(|command| command != "run") {
        return args;
    }
    let mut out = Vec::with_capacity(args.len());
    let mut rest = args.into_iter();
    out.extend(rest.by_ref().take(2));
    while let Some(word) = rest.next() {
        let same = SAME.iter().find(|(theirs, _)| word == *theirs);
        let word = same.map_or(word, |(_, ours)| OsString::from(ours));
        let is_option = word.as_encoded_bytes().starts_with(b"-");
        let valued = VALUED.iter().any(|option| word == *option);
        if word == "--" || !is_option {
            out.push("--".into());
            out.extend((!is_option).then_some(word));
            break;
        }
        out.push(word);
        if valued {
            out.extend(rest.next());
        }
    }
    out.extend(rest);
    out
}

/// A longer time is as good as this one, which can be added to the clock, and which ranks take from their environment
/// (there it must be below 1e9 s): 30 years.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Reads `30s`, `500ms`, `1h30m`, or plain seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time: 500ms, 90s, 15m, 2h, 1h30m, or seconds");
    if let Ok(seconds) = text.parse::<f64>() {
        return sensible(seconds).ok_or_else(wrong)?;
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let value: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        total += value
            * match &rest[digits..unit] {
                "ms" => 0.001,
                "s" | "sec" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                "d" => 86_400.0,
                _ => return Err(wrong()),
            };
        rest = &rest[unit..];
    }
    sensible(total).ok_or_else(wrong)?
}

/// `None` for what is no time.
fn sensible(seconds: f64) -> Option<Result<Duration, String>> {
    let finite = seconds.is_finite().then_some(seconds.min(LONGEST.as_secs_f64()))?;
    let time = Duration::try_from_secs_f64(finite).ok()?;
    Some(if time.is_zero() {
        Err("a time of zero would end the job before it starts".into())
    } else {
        Ok(time)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> RunArgs {
        let args = std::iter::once("aeolian").chain(line.split(' ')).map(OsString::from).collect();
        match parse(args).unwrap().command {
            Command::Run(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_program_keeps_its_own_options() {
        let args = run("run -n 4 ./app -n 7 --host x --help --json");
        assert_eq!(args.ranks, Some(4));
        assert_eq!(args.program, ["./app", "-n", "7", "--host", "x", "--help", "--json"]);
        assert!(args.host.is_empty() && args.json.is_none());
        let args = run("run -n 1 -- ./app -- x");
        assert_eq!(args.program, ["./app", "--", "x"]);
    }

    #[test]
    fn mpiruns_habits() {
        let args = run("run -np 3 -host a:2,b -x A -x B=1 -wdir /tmp ./app -np 9");
        assert_eq!((args.ranks, args.host.as_slice()), (Some(3), &["a:2,b".to_string()][..]));
        assert_eq!(args.export, ["A", "B=1"]);
        assert_eq!(args.program, ["./app", "-np", "9"]);
        assert_eq!(run("run -n4 ./app").ranks, Some(4));
        assert_eq!(run("run --json ./app").json, Some("-".into()));
        assert_eq!(run("run --json=f ./app").json, Some("f".into()));
    }

    #[test]
    fn unknown_options_are_not_programs() {
        let wrong = |line: &str| {
            let args = std::iter::once("aeolian").chain(line.split(' ')).map(OsString::from).collect();
            parse(args).unwrap_err().to_string()
        };
        assert!(wrong("run -n 4 --bogus ./app").contains("--bogus"));
        assert!(wrong("run --timeuot 5 ./app").contains("--timeout"), "did you mean");
        assert!(wrong("run -n 4").contains("PROGRAM"));
        assert!(wrong("run -n x ./app").contains("'x'"));
        assert!(wrong("run --timeout 0 ./app").contains("zero"));
    }

    #[test]
    fn times() {
        assert_eq!(duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("1.5").unwrap(), Duration::from_millis(1500));
        assert_eq!(duration("10000000000000000000s").unwrap(), LONGEST);
        for huge in ["1e19", "1e20", "99999999999999999999s"] {
            assert_eq!(duration(huge).unwrap(), LONGEST);
        }
        for wrong in ["", "x", "5x", "-3", "0s", "s", "1e400", "nan", "1..2s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn clap_finds_no_contradiction() {
        Cli::command().debug_assert();
    }
}
