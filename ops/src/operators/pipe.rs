//! [`Pipe`]: records through a program of the system.

use crate::batch::Batch;
use crate::dataflow::Dataflow;
use crate::error::{OpsError, Result, Whose};
use crate::operator::{Insert, InsertError, Operator, Receiver};
use crate::outbox::Outbox;
use crate::plan::LogicalPlan;
use aeolian_net::{OpName, World};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

static NAME: OpName = OpName("pipe");

/// Bytes of lines that wait for a program; and of its output that are read at a time.
const WAITING: usize = 64 << 10;

/// The program of one task.
#[derive(Default)]
struct Task {
    child: Option<Child>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    /// Lines that the program has not taken, from `sent` on.
    input: Vec<u8>,
    sent: usize,
    finished: bool,
    /// What it has written last, without a line's end yet.
    line: Vec<u8>,
    lines: VecDeque<Vec<u8>>,
    /// The program has ended, and all of its lines are in `lines`.
    ended: bool,
}

/// N sources to N targets, source `i` to target `i` on the same rank: each record is a line for a program, and each line of its output is a
/// record.
///
/// One program runs for each task; its error output is this process'. Records are texts or bytes; one with line ends in it becomes several
/// lines. What the program does not want to read is dropped (`head`). One that fails, or cannot be started, fails the operator, and one
/// that is left when the operator is dropped is killed. A pipe knows no barriers: what goes through a program, and when, only the program
/// knows.
///
/// *Cost*: two copies through the system a record, and a process for each task. *Memory*: 64 KiB a task in each direction, and the longest
/// line.
///
/// ```
/// use aeolian_ops::{Dataflow, Insert, LogicalPlan, Operator, Pipe, taking};
/// let lines = aeolian_net::World::local(2, |world| {
///     let flow = Dataflow::new(&world)?;
///     let mut lines: Vec<Vec<u8>> = Vec::new();
///     let take = taking(|_target, batch| lines.extend(batch));
///     let mut op = Pipe::new(&flow, &LogicalPlan::each_rank(&world), ["tr", "a-z", "A-Z"], take)?;
///     op.insert_all(world.rank(), ["wind".to_string(), format!("harp {}", world.rank())])?;
///     op.finish(world.rank())?;
///     op.complete()?;
///     drop(op);
///     world.finish()?;
///     Ok(lines)
/// })?;
/// assert_eq!(lines[1], [b"WIND".to_vec(), b"HARP 1".to_vec()]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub struct Pipe<R> {
    world: World,
    number: u64,
    command: Vec<OsString>,
    plan: LogicalPlan,
    receiver: R,
    /// (number of the task, its program)
    tasks: Vec<(u32, Task)>,
    outbox: Outbox<Vec<u8>>,
}

impl<R: Receiver<Batch<Vec<u8>>>> Pipe<R> {
    /// On the tasks of `plan`, with a program and its arguments.
    ///
    /// # Errors
    /// [`OpsError::Plan`] if the plan is for a world of another size or has a target elsewhere than its source, or no program is given.
    pub fn new(
        flow: &Dataflow,
        plan: &LogicalPlan,
        command: impl IntoIterator<Item = impl Into<OsString>>,
        receiver: R,
    ) -> Result<Pipe<R>> {
        let world = flow.world().handle();
        let command: Vec<OsString> = command.into_iter().map(Into::into).collect();
        if plan.ranks() != world.size() || plan.sources() != plan.targets() || command.is_empty() {
            return Err(OpsError::Plan(match command.is_empty() {
                true => format!("{} without a program", NAME.0),
                false => format!(
                    "{} whose targets are not where its sources are, or for a world of another size",
                    NAME.0
                ),
            }));
        }
        let number = flow.number();
        let rank = world.job_rank(world.rank()).unwrap_or(world.rank());
        let whose = Whose { operator: format!("{} #{number}", NAME.0), rank };
        let mut pipe = Pipe {
            tasks: Vec::new(),
            plan: plan.clone(),
            receiver,
            command,
            number,
            outbox: Outbox::new(whose),
            world,
        };
        pipe.open();
        Ok(pipe)
    }

    fn open(&mut self) {
        self.tasks = self.plan.sources_of(self.world.rank()).map(|task| (task, Task::default())).collect();
    }

    fn usage(&self, what: String) -> OpsError {
        self.outbox.whose().usage(what)
    }

    fn task(&mut self, source: u32, what: &str) -> Result<&mut Task> {
        let found = self.tasks.iter().position(|(task, _)| *task == source);
        match found {
            None => Err(self.usage(format!("source {source} cannot {what} here: it is not on this rank"))),
            Some(at) if self.tasks[at].1.finished => {
                Err(self.usage(format!("source {source} cannot {what}: it has finished")))
            }
            Some(at) => Ok(&mut self.tasks[at].1),
        }
    }

    /// Takes a line, or says that there is no room now.
    fn put(&mut self, source: u32, line: &[u8]) -> Result<bool> {
        let task = self.task(source, "insert")?;
        if task.input.len() - task.sent >= WAITING {
            return Ok(false);
        }
        // (What was sent goes when there is more of it than of what was not.)
        if task.sent > task.input.len() / 2 {
            task.input.drain(..task.sent);
            task.sent = 0;
        }
        task.input.extend_from_slice(line);
        task.input.push(b'\n');
        Ok(true)
    }
}

impl Task {
    fn start(&mut self, command: &[OsString]) -> std::io::Result<()> {
        let (program, arguments) = command.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
        let mut child =
            Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        self.stdin = child.stdin.take();
        self.stdout = child.stdout.take();
        self.child = Some(child);
        // It is asked again and again, and never waited for.
        for fd in [self.stdin.as_ref().map(AsFd::as_fd), self.stdout.as_ref().map(AsFd::as_fd)] {
            let fd = fd.ok_or(std::io::ErrorKind::BrokenPipe)?;
            fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
        }
        Ok(())
    }

    /// Moves lines in and out; true if any moved.
    fn progress(&mut self) -> std::io::Result<bool> {
        let mut moved = false;
        while let Some(stdin) = &self.stdin
            && self.sent < self.input.len()
        {
            match rustix::io::write(stdin, &self.input[self.sent..]) {
                Ok(bytes) => self.sent += bytes,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                // It does not want to know more.
                Err(Errno::PIPE) => self.stdin = None,
                Err(e) => return Err(e.into()),
            }
            moved = true;
        }
        if self.stdin.is_none() {
            self.sent = self.input.len();
        }
        if self.finished && self.sent == self.input.len() {
            self.stdin = None;
        }
        let mut bytes = [0; 8 << 10];
        while let Some(stdout) = &self.stdout
            && self.lines.is_empty()
        {
            match rustix::io::read(stdout, &mut bytes) {
                Ok(0) => {
                    self.stdout = None;
                    let rest = std::mem::take(&mut self.line);
                    self.lines.extend((!rest.is_empty()).then_some(rest));
                }
                Ok(n) => {
                    for line in bytes[..n].split_inclusive(|byte| *byte == b'\n') {
                        self.line.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
                        if line.ends_with(b"\n") {
                            self.lines.push_back(std::mem::take(&mut self.line));
                        }
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Whether the program has ended; an error if not well.
    fn end(&mut self) -> std::io::Result<bool> {
        if self.stdout.is_some() || !self.finished {
            return Ok(false);
        }
        if let Some(child) = &mut self.child {
            let Some(status) = child.try_wait()? else { return Ok(false) };
            self.child = None;
            if !status.success() {
                return Err(std::io::Error::other(format!("it ended with {status}")));
            }
        }
        self.ended = true;
        Ok(true)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl<R: Receiver<Batch<Vec<u8>>>> Operator for Pipe<R> {
    fn finish(&mut self, source: u32) -> Result<()> {
        self.task(source, "finish")?.finished = true;
        Ok(())
    }

    /// A pipe knows no barriers.
    fn barrier(&mut self, source: u32, _: Vec<u8>) -> Result<()> {
        Err(self.usage(format!("source {source} cannot come to a barrier: a pipe knows none")))
    }

    fn is_at_barrier(&self, _: u32) -> bool {
        false
    }

    fn progress(&mut self) -> Result<bool> {
        let mut moved = false;
        for (number, task) in &mut self.tasks {
            let whose = self.outbox.whose().clone();
            let command = &self.command;
            let failed = |e: std::io::Error| {
                let name = command.first().map(|name| name.display().to_string()).unwrap_or_default();
                whose.usage(format!("{name} of task {number} failed: {e}"))
            };
            if task.ended {
                continue;
            }
            if task.child.is_none() && task.stdout.is_none() && task.lines.is_empty() {
                task.start(command).map_err(failed)?;
            }
            moved |= task.progress().map_err(failed)?;
            let lines = &mut task.lines;
            while !lines.is_empty() || !self.outbox.is_empty() {
                if !self.outbox.hand_over(&mut self.receiver, *number, || Ok(lines.pop_front()))? {
                    break;
                }
                moved = true;
            }
            if self.outbox.is_empty() && task.lines.is_empty() {
                moved |= task.end().map_err(failed)?;
            } else {
                // Batches are for one target at a time.
                break;
            }
        }
        Ok(moved)
    }

    fn is_complete(&self) -> bool {
        self.outbox.is_empty() && self.tasks.iter().all(|(_, task)| task.ended)
    }

    /// Nothing but asking tells what a program does.
    fn is_held_up(&self) -> bool {
        !self.is_complete()
    }

    fn reset(&mut self) -> Result<()> {
        if !self.is_complete() {
            return Err(self.usage("reset before it was complete".into()));
        }
        self.open();
        Ok(())
    }

    fn world(&self) -> World {
        self.world.handle()
    }

    fn name(&self) -> (&'static OpName, u64) {
        (&NAME, self.number)
    }
}

impl<T: AsRef<[u8]>, R: Receiver<Batch<Vec<u8>>>> Insert<T> for Pipe<R> {
    fn insert(&mut self, source: u32, line: T) -> Result<(), InsertError<T>> {
        match self.put(source, line.as_ref())? {
            true => Ok(()),
            false => Err(InsertError::Full(line)),
        }
    }
}
