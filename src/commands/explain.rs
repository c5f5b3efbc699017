//! `aeolian explain`: what an exit code means.

use aeolian_net::exit;
use std::io::Write;

/// What to do about a code, for those where there is something to do.
fn remedy(code: u8) -> &'static str {
    match code {
        exit::USAGE => "compare with `--help`",
        exit::DATA => "the message names file, line and column: correct the input there",
        exit::NO_INPUT => "check the path, and that every host sees it",
        exit::NO_HOST => "`ssh -o BatchMode=yes HOST true` must work without a question for each host",
        exit::INTERNAL | exit::PROTOCOL => {
            "same version and same binary on every host? If so, please report it"
        }
        exit::OS => "`aeolian doctor` shows the limits (processes, open files, memory)",
        exit::CANNOT_WRITE | exit::IO => "is the disk full, the quota used up, the directory writable?",
        exit::STOPPED => "start the job again",
        exit::NOT_ALLOWED => "let one launcher start all ranks; do not set AEOLIAN_* variables by hand",
        exit::CONFIG => "`aeolian doctor` shows what the launcher and MPI say",
        exit::RANK_LOST => {
            "the message names rank, host and signal; SIGKILL is often the memory limit (dmesg, sacct)"
        }
        exit::RANK_HUNG => "if the rank was only slow, raise --hang-timeout (AEOLIAN_HANG_TIMEOUT)",
        exit::LEFT_EARLY => {
            "let every rank return from main through the world's end; do not call exit(0) before it"
        }
        exit::PANICKED => {
            "the message holds the panic's place; RUST_BACKTRACE=1 shows how it got there (-x RUST_BACKTRACE=1)"
        }
        exit::MISMATCH => "every rank must call the same collectives in the same order",
        exit::NOT_ALL_CAME => {
            "the message lists who is missing; raise --start-timeout if the file system is slow"
        }
        exit::MASTER_LOST => "was the launcher, or the host of rank 0, killed?",
        exit::TIME_LIMIT => "raise --timeout",
        _ => "",
    }
}

/// Prints one code, or all.
pub(crate) fn main(code: Option<&str>) -> u8 {
    let rows: Vec<_> = match code {
        None => exit::TABLE.iter().collect(),
        Some(text) => {
            let wanted =
                |row: &&(u8, &str, &str)| row.1.eq_ignore_ascii_case(text) || text.parse() == Ok(row.0);
            exit::TABLE.iter().filter(wanted).collect()
        }
    };
    let mut out = String::new();
    for (number, name, meaning) in &rows {
        out.push_str(&format!("{number:>3}  {name:<13} {meaning}\n"));
        if code.is_some() && !remedy(*number).is_empty() {
            out.push_str(&format!("     help: {}\n", remedy(*number)));
        }
    }
    if let (true, Some(text)) = (rows.is_empty(), code) {
        match text.parse::<u8>() {
            Ok(number @ 129..=192) => {
                out = format!("{number}  a shell's way to say: ended by signal {}\n", number - 128);
            }
            Ok(number) => out = format!("{number}  the program's own code: see its documentation\n"),
            Err(_) => {
                let names: Vec<_> = exit::TABLE.iter().map(|row| row.1).collect();
                eprintln!(
                    "aeolian: error: no exit code is called `{text}`\n  help: one of {}",
                    names.join(", ")
                );
                return exit::USAGE;
            }
        }
    }
    // Into `| head`, perhaps.
    std::io::stdout().write_all(out.as_bytes()).unwrap_or_default();
    exit::OK
}
