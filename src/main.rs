//! The `aeolian` command.

mod cli;
mod commands;
mod launch;

fn main() -> std::process::ExitCode {
    let code = cli::main(std::env::args_os().collect());
    std::process::ExitCode::from(code)
}
