//! From `fn main` to a finished world and an exit code.

use aeolian_harp::HarpError;
use aeolian_net::{NetError, World, exit};
use aeolian_ops::OpsError;
use std::process::ExitCode;

/// Why a rank cannot go on: what to tell the user, and the exit code.
///
/// Every [`std::error::Error`] turns into one by `?`: of Aeolian's own errors the exit code is kept, I/O errors get
/// [`exit::IO`], others [`exit::PROGRAM`]. [`Failure::new`] gives a code of one's own.
///
/// ```
/// use aeolian::{Failure, net::exit};
/// fn parse(text: &str) -> Result<u32, Failure> {
///     Ok(text.parse()?)
/// }
/// let failure = parse("x").unwrap_err();
/// assert_eq!((failure.code(), failure.to_string().as_str()), (exit::PROGRAM, "invalid digit found in string"));
/// ```
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    remedy: String,
    /// Told already, by the job master.
    known: bool,
}

impl Failure {
    /// A failure with an exit code: one of [`exit`], or 2 to 63 for the program's own. (0 would be a success: it becomes
    /// [`exit::PROGRAM`].)
    pub fn new(code: u8, message: impl Into<String>) -> Failure {
        let code = if code == exit::OK { exit::PROGRAM } else { code };
        Failure { code, message: message.into(), remedy: String::new(), known: false }
    }

    /// Adds what the user can do about it.
    pub fn help(mut self, remedy: impl Into<String>) -> Failure {
        self.remedy = remedy.into();
        self
    }

    /// To standard error, if anyone reads it: when the launcher was killed nobody does, and eprintln would panic.
    fn tell(&self) {
        use std::io::Write;
        let _ = std::io::stderr().write_all(format!("aeolian: error: {self}\n").as_bytes());
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        if !self.remedy.is_empty() {
            write!(f, "\n  help: {}", self.remedy)?;
        }
        Ok(())
    }
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(e: E) -> Failure {
        let any: &(dyn std::error::Error + 'static) = &e;
        let harp = any.downcast_ref::<HarpError>();
        let ops = any.downcast_ref::<OpsError>();
        let net = any.downcast_ref::<NetError>().or(match (harp, ops) {
            (Some(HarpError::Net(net)), _) | (_, Some(OpsError::Net(net))) => Some(net),
            _ => None,
        });
        let code = match (net, harp, ops) {
            (Some(net), ..) => net.exit_code(),
            (None, Some(harp), _) => harp.exit_code(),
            (None, None, Some(ops)) => ops.exit_code(),
            _ if any.is::<std::io::Error>() => exit::IO,
            _ => exit::PROGRAM,
        };
        let mut message = any.to_string();
        let mut source = any.source();
        while let Some(cause) = source {
            // Many errors say what their cause said already.
            let text = cause.to_string();
            if !message.contains(&text) {
                message += &format!(": {text}");
            }
            source = cause.source();
        }
        let known = matches!(net, Some(NetError::JobFailed(_)));
        Failure { code, message, remedy: String::new(), known }
    }
}

/// Runs `program` on every rank: joins the world, calls it, finishes the world, gives the exit code.
///
/// An error of one rank ends the whole job, is told once (by the job master, with rank, host and process) and decides the
/// exit code. See the crate's first example.
pub fn main(program: impl FnOnce(&mut World) -> Result<(), Failure>) -> ExitCode {
    ExitCode::from(run(program))
}

/// As [`main`], with the exit code as a number.
pub fn run(program: impl FnOnce(&mut World) -> Result<(), Failure>) -> u8 {
    let mut world = match World::init() {
        Ok(world) => world,
        Err(e) => {
            let failure = Failure::from(e);
            if !failure.known {
                failure.tell();
            }
            return failure.code;
        }
    };
    // A panic ends here, so that the job's exit code is the documented one on every launcher.
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| program(&mut world)));
    let failure = match result {
        Err(_) => {
            world.fail_by_panic();
            return exit::PANICKED;
        }
        Ok(Ok(())) => match world.finish() {
            Ok(()) => return exit::OK,
            Err(e) => {
                let failure = Failure::from(e);
                if !failure.known {
                    failure.tell();
                }
                return failure.code;
            }
        },
        Ok(Err(failure)) => failure,
    };
    if !failure.known {
        if world.size() == 1 {
            failure.tell();
        } else {
            world.fail(failure.code, failure.message, failure.remedy);
        }
    }
    failure.code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::spill::SpillError;

    #[test]
    fn errors_of_operators_keep_their_codes() {
        let full = || {
            OpsError::from(SpillError::NoRoom {
                operator: "sort #1".into(),
                rank: 0,
                wanted: 100,
                refusals: Vec::new(),
            })
        };
        assert_eq!(Failure::from(full()).code(), exit::CANNOT_WRITE);
        assert_eq!(Failure::from(NetError::from(full())).code(), exit::CANNOT_WRITE);
        let usage = || NetError::Usage("no such rank".into());
        assert_eq!(Failure::from(OpsError::from(usage())).code(), Failure::from(usage()).code());
    }
}
