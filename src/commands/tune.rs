//! `aeolian tune`: measures which algorithm of a collective is the fastest here, and writes it down for later jobs.
//!
//! Started by nobody it starts ranks of itself as `aeolian run` does; started as ranks, by whatever launcher, it measures in that job.

use crate::cli::{self, Transport};
use crate::launch;
use aeolian::harp::tune::{Finding, measure, values};
use aeolian_net::NetError;
use aeolian_net::bytes::Bytes;
use aeolian_net::launcher::{Launch, Launcher};
use aeolian_net::tuning::{Place, Row, Shape, Tuning};
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long it measures, beside starting the ranks.
const LONG: Duration = Duration::from_secs(60);

/// The same, `--quick`.
const QUICK: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  aeolian tune                                           on this machine, over TCP
  aeolian tune --host n1,n2,n3,n4                        between hosts
  srun -N 4 --ntasks-per-node 1 aeolian tune             in an allocation
  mpirun -n 4 -x AEOLIAN_TRANSPORT=mpi aeolian tune      over MPI

The file has one row for each wire and number of nodes and ranks; later jobs take the nearest one of their wire, if there is one of up to twice
or half as many nodes. AEOLIAN_TUNE=off turns that off, AEOLIAN_TUNE=FILE names another file.";

/// The arguments of `aeolian tune`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TuneArgs {
    /// Number of ranks (default: all slots of the hosts, or the cores of this one)
    #[arg(short = 'n', value_name = "N")]
    ranks: Option<u32>,
    /// Hosts with their slots; may be repeated
    #[arg(short = 'H', long, value_name = "a:4,b:4")]
    host: Vec<String>,
    /// File with one host a line: `name slots=4`
    #[arg(long, value_name = "FILE", conflicts_with = "host")]
    hostfile: Option<PathBuf>,
    /// How ranks talk to each other [default: auto between hosts; tcp on one, where ranks that share memory leave nothing to choose]
    #[arg(long, value_enum)]
    transport: Option<Transport>,
    /// A few seconds instead of a minute: to see what it does
    #[arg(long)]
    quick: bool,
    /// The file to write [default: where jobs look for it, aeolian/tune.txt in $XDG_CACHE_HOME or ~/.cache]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Does it; gives the exit code.
pub(crate) fn main(args: &TuneArgs) -> u8 {
    let starts = Launch::detect().map(|launch| launch.launcher == Launcher::Nobody);
    match starts.and_then(|starts| if starts { start(args) } else { rank(args) }) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("aeolian: error: {e}");
            e.exit_code()
        }
    }
}

/// The file to write.
fn output(args: &TuneArgs) -> Result<PathBuf, NetError> {
    let path = args.output.clone().or_else(|| Place::from_env().map(|place| place.path));
    let path = path.ok_or_else(|| NetError::Config {
        what: "there is no place for the tuning file: AEOLIAN_TUNE is off, or HOME is not set".into(),
        help: "give one with --output FILE".into(),
    })?;
    std::path::absolute(&path).map_err(NetError::os(format!("finding {}", path.display())))
}

/// Starts ranks of this command.
fn start(args: &TuneArgs) -> Result<u8, NetError> {
    let own = std::env::current_exe().map_err(NetError::os("finding our own path"))?;
    let one_host = args.host.is_empty() && args.hostfile.is_none();
    let transport = args.transport.unwrap_or(if one_host { Transport::Tcp } else { Transport::Auto });
    let mut words: Vec<OsString> = ["aeolian", "run", "--transport"].map(OsString::from).into();
    words.push(transport.name().into());
    // It is about to be written: that it is no good now is no matter.
    words.extend(["-x", "AEOLIAN_TUNE=off"].map(OsString::from));
    if let Some(ranks) = args.ranks {
        words.extend(["-n".into(), ranks.to_string().into()]);
    }
    for host in &args.host {
        words.extend(["--host".into(), host.into()]);
    }
    if let Some(file) = &args.hostfile {
        words.extend(["--hostfile".into(), file.into()]);
    }
    words.extend([own.into(), "tune".into(), "--output".into(), output(args)?.into()]);
    words.extend(args.quick.then(|| "--quick".into()));
    match cli::run_args(words) {
        Ok(run) => Ok(launch::run::main(&run)),
        Err(e) => Err(NetError::Internal(e.to_string())),
    }
}

/// Runs as a rank of whatever launched it.
fn rank(args: &TuneArgs) -> Result<u8, NetError> {
    if args.ranks.is_some() || !args.host.is_empty() || args.hostfile.is_some() || args.transport.is_some() {
        return Err(NetError::Config {
            what: "this is a rank of a job already: its launcher has chosen the ranks, hosts and transport"
                .into(),
            help: "give them to the launcher; AEOLIAN_TRANSPORT says the transport".into(),
        });
    }
    let output = output(args)?;
    let limit = if args.quick { QUICK } else { LONG };
    Ok(aeolian::run(|world| {
        let (first, shape) = (world.rank() == 0, world.shape());
        if first {
            say(&format!("aeolian tune: {shape}, about {} s\n", limit.as_secs()));
        }
        let found = measure(world, limit)?;
        if !first {
            return Ok(());
        }
        if found.is_empty() {
            say(
                "nothing to choose: a rank alone, and ranks that share memory, send no messages in collectives\n",
            );
            return Ok(());
        }
        say(&found.iter().map(text).collect::<String>());
        write(&output, shape, &found)?;
        Ok(())
    }))
}

/// Puts the findings into the file, beside what it has of other shapes.
fn write(path: &Path, shape: Shape, found: &[Finding]) -> Result<(), NetError> {
    let mut tuning = match Tuning::read(path) {
        Ok(tuning) => tuning.unwrap_or_default(),
        Err(e) => {
            eprintln!(
                "aeolian: warning: what was in it is lost: {}",
                e.to_string().lines().next().unwrap_or_default()
            );
            Tuning::default()
        }
    };
    let end = format!("written to {} for {shape}\n", path.display());
    tuning.put(Row { shape, values: values(found) });
    tuning.write(path)?;
    say(&end);
    Ok(())
}

/// Nobody may read any more, which is no reason to fail.
fn say(text: &str) {
    std::io::stdout().write_all(text.as_bytes()).unwrap_or_default();
}

/// A bound as people read it: its cases in lines, its ways in columns, the fastest marked, then what was chosen.
fn text(finding: &Finding) -> String {
    let Finding { name, about, bytes, default, chosen, gain, ways, cases } = finding;
    let value = |n: u64| if *bytes { Bytes(n).to_string() } else { n.to_string() };
    let mut text = format!("\n{name}: {about}\n");
    if cases.is_empty() {
        text += &format!("  not measured; {} (the default)\n", value(*chosen));
        return text;
    }
    let width = cases.iter().map(|case| case.what.len()).max().unwrap_or(0);
    let column = ways.iter().map(String::len).max().unwrap_or(0).max(9) + 2;
    text += &format!("  {:width$}", "");
    ways.iter().for_each(|way| text += &format!("{way:>column$} "));
    text.truncate(text.trim_end().len());
    text.push('\n');
    for case in cases {
        let times = case.times();
        let fastest = times.iter().copied().fold(f64::INFINITY, f64::min);
        text += &format!("  {:width$}", case.what);
        for time in &times {
            let mark = if *time == fastest { '*' } else { ' ' };
            text += &format!("{:>column$}{mark}", micros(*time));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text + &match chosen == default {
        true => format!("  {} (the default)\n", value(*chosen)),
        false => format!(
            "  {} (default {}): {gain:.2} times as fast where it makes a difference\n",
            value(*chosen),
            value(*default)
        ),
    }
}

fn micros(seconds: f64) -> String {
    let micros = seconds * 1e6;
    let digits = if micros < 100.0 { 1 } else { 0 };
    format!("{micros:.digits$} us")
}

#[cfg(test)]
mod tests {
    use super::*;
    use aeolian::harp::tune::Case;

    #[test]
    fn a_finding_is_a_small_table() {
        let case = |what: &str, times: &[f64]| Case {
            what: what.into(),
            samples: times.iter().map(|time| vec![*time]).collect(),
        };
        let mut finding = Finding {
            name: "eager",
            about: "tables of up to so many bytes",
            bytes: true,
            default: 8 << 10,
            chosen: 16 << 10,
            gain: 1.234,
            ways: vec!["at once".into(), "after a word".into()],
            cases: vec![case("allreduce 12 KiB", &[3.1e-5, 4.25e-5]), case("allgather", &[2e-3, 1e-3])],
        };
        let lines = [
            "",
            "eager: tables of up to so many bytes",
            "                         at once   after a word",
            "  allreduce 12 KiB       31.0 us*       42.5 us",
            "  allgather              2000 us        1000 us*",
            "  16 KiB (default 8 KiB): 1.23 times as fast where it makes a difference",
        ];
        assert_eq!(text(&finding).lines().collect::<Vec<_>>(), lines);
        finding.chosen = finding.default;
        assert_eq!(text(&finding).lines().last(), Some("  8 KiB (the default)"));
        finding.cases.clear();
        assert_eq!(text(&finding).lines().last(), Some("  not measured; 8 KiB (the default)"));
    }
}
