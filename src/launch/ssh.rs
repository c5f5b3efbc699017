//! Hosts behind ssh: one `ssh HOST '/path/aeolian' agent` each.
//!
//! The command line carries a quoted path and a fixed word, nothing else: program, arguments, environment and secret
//! go through the connection. ssh is told never to ask (`BatchMode`), and its host-key checking is left as the user's
//! configuration has it.

use super::agent::Report;
use super::credit::AHEAD;
use super::error::BadHost;
use super::wire::{self, FromAgent, ToAgent};
use aeolian_net::exit;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many lines of ssh's complaints are kept for the error message.
const TAIL: usize = 8;

/// Quotes `word` for a POSIX shell (csh and fish read it the same way unless it has a backslash or `!`): whatever it
/// contains, it stays one word and nothing in it is expanded.
pub(crate) fn quote(word: &OsStr) -> OsString {
    let mut quoted = vec![b'\''];
    for byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend_from_slice(b"'\\''"),
            other => quoted.push(*other),
        }
    }
    quoted.push(b'\'');
    OsString::from_vec(quoted)
}

/// Splits the value of `--ssh` into words: blanks separate, quotes and backslashes do what they do in a shell.
pub(crate) fn split_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => return Err(format!("a {c} without its end in `{text}`")),
                        Some(end) if end == c => break,
                        Some('\\') if c == '"' => word.extend(chars.next()),
                        Some(other) => word.push(other),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    if words.is_empty() { Err("it is empty".into()) } else { Ok(words) }
}

/// The argument vector that reaches `host`.
///
/// Our options are given only to a program called `ssh`: what else stands in `--ssh` is taken to know what it does.
pub(crate) fn command_line(ssh: &[String], host: &str, aeolian: &OsStr, patience: Duration) -> Vec<OsString> {
    let mut line: Vec<OsString> = ssh.iter().map(OsString::from).collect();
    if ssh.first().is_some_and(|program| Path::new(program).file_name() == Some(OsStr::new("ssh"))) {
        let seconds = patience.as_secs().clamp(1, 60);
        line.extend(["-T", "-x", "-oBatchMode=yes", "-oClearAllForwardings=yes"].map(OsString::from));
        line.extend([
            format!("-oConnectTimeout={seconds}").into(),
            "-oServerAliveInterval=5".into(),
            "--".into(),
        ]);
    }
    let mut remote = quote(aeolian);
    remote.push(" agent");
    line.extend([OsString::from(host), remote]);
    line
}

/// An agent on another host that is ready for [`ToAgent::Go`].
pub(crate) struct Remote {
    /// The host's name.
    pub(crate) host: String,
    child: Mutex<Child>,
    to: Mutex<Option<ChildStdin>>,
    complaints: Complaints,
}

impl Remote {
    /// Reaches `host`, hands over the order's frame and waits until the agent has checked it, `patience` at most. Gives the
    /// connection and the agent's stream of frames, for [`Remote::listen`].
    pub(crate) fn connect(
        line: &[OsString],
        host: &str,
        order: &[u8],
        patience: Duration,
        say: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> Result<(Remote, ChildStdout), BadHost> {
        let bad = |why: String, code: u8| BadHost { host: host.to_string(), why, code };
        let Some((program, arguments)) = line.split_first() else {
            return Err(bad("no ssh".into(), exit::USAGE));
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: the terminal's Ctrl-C is for the launcher, which passes on what is to be passed on.
        command.process_group(0);
        let mut child = command
            .spawn()
            .map_err(|e| bad(format!("cannot start {}: {e}", program.to_string_lossy()), exit::NO_HOST))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(to), Some(from), Some(errors)) = pipes else {
            return Err(bad("ssh has no pipes".into(), exit::INTERNAL));
        };
        let complaints = Complaints::listen(host, errors, say);
        let remote =
            Remote { host: host.to_string(), child: Mutex::new(child), to: Mutex::new(Some(to)), complaints };
        match remote.introduce(order, from, Instant::now() + patience) {
            Ok(from) => {
                remote.complaints.forward();
                Ok((remote, from))
            }
            Err(Refusal::Agent { why, code }) => {
                drop(remote.end());
                Err(bad(why, code))
            }
            Err(Refusal::Silent) => {
                drop(remote.end());
                let said = remote.complaints.tail();
                Err(bad(format!("no answer within {} s\n{said}", patience.as_secs()), exit::NO_HOST))
            }
            Err(Refusal::Gone) => {
                let ended = remote.end();
                let said = remote.complaints.tail();
                let status = shown(&ended);
                // ssh's own word for a connection that failed, or it was killed; any other status is the agent's.
                if ended.is_ok_and(|status| !matches!(status.code(), Some(255) | None)) {
                    let why =
                        format!("the agent ended before it was ready ({status})\n{said}\n{}", same_version());
                    Err(bad(why, exit::PROTOCOL))
                } else {
                    let why = format!("the connection ended before the agent was ready ({status})\n{said}");
                    Err(bad(why, exit::NO_HOST))
                }
            }
            Err(Refusal::Noise(noise)) => {
                let status = shown(&remote.end());
                let said = remote.complaints.tail();
                let told = [said, noise].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join("\n");
                Err(bad(if told.is_empty() { format!("ssh ended: {status}") } else { told }, exit::NO_HOST))
            }
        }
    }

    fn introduce(&self, order: &[u8], from: ChildStdout, until: Instant) -> Result<ChildStdout, Refusal> {
        let mut from = Patient { from, until };
        let silent = |until| Instant::now() >= until;
        if let Err(noise) = wire::skip_to_greeting(&mut from) {
            return Err(if silent(until) { Refusal::Silent } else { Refusal::Noise(noise) });
        }
        // Once the agent is there to read it. If it is gone already, what it said on its way out is the better message.
        if self.write(|to| write_until(to, order, until)).is_err_and(|e| e.kind() == io::ErrorKind::TimedOut)
        {
            return Err(Refusal::Silent);
        }
        match wire::read_frame(&mut from) {
            Ok(Some(FromAgent::Ready)) => Ok(from.from),
            Ok(Some(FromAgent::Refused { why, code })) => Err(Refusal::Agent { why, code }),
            _ if silent(until) => Err(Refusal::Silent),
            Ok(None) => Err(Refusal::Gone),
            // In the middle of a frame.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(Refusal::Gone),
            _ => Err(Refusal::Agent {
                why: format!("the agent does not speak our protocol\n{}", same_version()),
                code: exit::PROTOCOL,
            }),
        }
    }

    /// Sends to the agent.
    ///
    /// # Errors
    /// The connection is gone; [`Remote::listen`] reports it too.
    pub(crate) fn send(&self, message: &ToAgent) -> io::Result<()> {
        self.write(|to| wire::write_frame(to, message))
    }

    fn write(&self, write: impl FnOnce(&mut ChildStdin) -> io::Result<()>) -> io::Result<()> {
        match self.to.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(to) => write(to),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Takes the agent's frames until its end. `lost` is told why at once if that comes before the agent was done; in any
    /// case `report` then hears of [`FromAgent::Done`], as soon as all output that came has gone out.
    pub(crate) fn listen(&self, from: ChildStdout, report: &dyn Report, lost: impl FnOnce(String)) {
        let waiting = AtomicUsize::new(0);
        let (queue, queued) = mpsc::channel();
        std::thread::scope(|scope| {
            let waiting = &waiting;
            let put_out = move || self.put_out(&queued, waiting, report);
            let thread = std::thread::Builder::new().name("output".into()).stack_size(128 << 10);
            let why = match thread.spawn_scoped(scope, put_out) {
                Ok(_) => self.take_frames(from, report, &queue, waiting),
                Err(e) => {
                    drop(self.end());
                    Some(format!("no thread to be had for its output: {e}"))
                }
            };
            why.map(lost).unwrap_or_default();
            drop(queue);
        });
        report.event(FromAgent::Done);
    }

    /// Takes frames: output is put into `queue`, the rest is reported. Gives the reason if the connection is lost.
    fn take_frames(
        &self,
        from: ChildStdout,
        report: &dyn Report,
        queue: &Sender<Output>,
        waiting: &AtomicUsize,
    ) -> Option<String> {
        let mut from = BufReader::with_capacity(64 << 10, from);
        loop {
            match wire::read_frame(&mut from) {
                Ok(Some(FromAgent::Output { rank, stream, data })) => {
                    let cost = wire::output_cost(&data);
                    if waiting.fetch_add(cost, Ordering::AcqRel) > 2 * AHEAD {
                        drop(self.end());
                        return Some("the agent sends more output than it may".into());
                    }
                    queue.send(Output { rank, stream, data }).unwrap_or_default();
                }
                Ok(Some(FromAgent::Done)) => {
                    drop(self.end());
                    return None;
                }
                Ok(Some(event)) => report.event(event),
                Ok(None) => {
                    let status = shown(&self.end());
                    let said = self.complaints.tail();
                    return Some(if said.is_empty() {
                        format!("the connection ended ({status})")
                    } else {
                        said
                    });
                }
                Err(e) => {
                    drop(self.end());
                    return Some(format!("the connection broke: {e}"));
                }
            }
        }
    }

    /// Puts out what is in the queue, however slow its reader is, and tells the agent how much of it has gone.
    fn put_out(&self, queued: &Receiver<Output>, waiting: &AtomicUsize, report: &dyn Report) {
        let mut deaf = [false; 2];
        let mut taken = 0;
        for Output { rank, stream, data } in queued {
            let told = &mut deaf[usize::from(stream == wire::Stream::Err)];
            if report.output(rank, stream, &data).is_err() && !std::mem::replace(told, true) {
                self.send(&ToAgent::CloseOutput(stream)).unwrap_or_default();
            }
            let cost = wire::output_cost(&data);
            waiting.fetch_sub(cost, Ordering::AcqRel);
            taken += cost;
            // Not for every line; what is kept back is far below what the agent may send.
            if taken >= AHEAD / 8 {
                self.send(&ToAgent::OutputTaken(taken as u32)).unwrap_or_default();
                taken = 0;
            }
        }
    }

    /// Closes the connection (the agent then ends) and gives ssh's last status.
    fn end(&self) -> io::Result<ExitStatus> {
        *self.to.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + Duration::from_secs(2);
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
                _ => break,
            }
        }
        drop(child.kill());
        child.wait()
    }
}

fn shown(ended: &io::Result<ExitStatus>) -> String {
    ended.as_ref().map_or_else(io::Error::to_string, ExitStatus::to_string)
}

/// What may help against an agent that does not do as ours would.
fn same_version() -> String {
    format!(
        "help: is another version of aeolian there? This is {}: install the same on all hosts",
        wire::version()
    )
}

/// A piece of a rank's output on its way to the terminal.
struct Output {
    rank: u32,
    stream: wire::Stream,
    data: Vec<u8>,
}

enum Refusal {
    Agent { why: String, code: u8 },
    Noise(String),
    Gone,
    Silent,
}

/// Waits for `flags` until `until`; false if they do not come.
fn ready(fd: BorrowedFd<'_>, flags: PollFlags, until: Instant) -> io::Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match rustix::event::poll(&mut [PollFd::new(&fd, flags)], Some(&left)) {
            Ok(n) => return Ok(n > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Writes to a pipe whose reader may stand still, and gives up (`TimedOut`) at a point in time.
fn write_until(to: &mut ChildStdin, data: &[u8], until: Instant) -> io::Result<()> {
    // Where there is room, there is room for a piece of this size.
    for piece in data.chunks(rustix::pipe::PIPE_BUF) {
        if !ready(to.as_fd(), PollFlags::OUT, until)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        to.write_all(piece)?;
    }
    Ok(())
}

/// A stream that gives up at a point in time.
struct Patient {
    from: ChildStdout,
    until: Instant,
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match ready(self.from.as_fd(), PollFlags::IN, self.until)? {
            true => self.from.read(buffer),
            false => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// What ssh (and the remote shell) say on their standard error: kept for the error message until the agent is ready,
/// shown from then on.
struct Complaints {
    lines: Arc<Mutex<VecDeque<String>>>,
    forward: Arc<AtomicBool>,
    reader: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Complaints {
    fn listen(host: &str, errors: ChildStderr, say: Arc<dyn Fn(&str) + Send + Sync>) -> Complaints {
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let forward = Arc::new(AtomicBool::new(false));
        let (keep, show, host) = (lines.clone(), forward.clone(), host.to_string());
        let read = move || {
            let mut errors = BufReader::new(errors);
            let mut line = Vec::new();
            // A line is at most 4 KiB here, so that nobody fills our memory.
            while errors.by_ref().take(4096).read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_string();
                line.clear();
                if show.load(Ordering::Acquire) {
                    say(&format!("aeolian: {host}: {text}"));
                }
                let mut keep = keep.lock().unwrap_or_else(PoisonError::into_inner);
                if keep.len() == TAIL {
                    keep.pop_front();
                }
                keep.push_back(text);
            }
        };
        let reader = std::thread::Builder::new().name("ssh stderr".into()).spawn(read).ok();
        Complaints { lines, forward, reader: Mutex::new(reader) }
    }

    fn forward(&self) {
        // What came before is a login banner, or a warning that did no harm.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.forward.store(true, Ordering::Release);
    }

    /// What was said, once ssh has ended. A process that ssh left in the background may hold the pipe: do not wait for
    /// ever.
    fn tail(&self) -> String {
        let until = Instant::now() + Duration::from_millis(300);
        if let Some(reader) = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take() {
            while !reader.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `sh -c` makes of a command that prints its one argument.
    fn through_sh(word: &OsStr) -> Vec<u8> {
        let mut script = OsString::from("printf %s ");
        script.push(quote(word));
        let out = Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
        out.stdout
    }

    #[test]
    fn quoting_survives_a_real_shell() {
        let hostile: &[&[u8]] = &[
            b"/usr/bin/aeolian",
            b"/with blank/and 'quote'/\"double\"",
            b"/$(touch /tmp/pwned)/`id`/${HOME}/*?[a-z]~",
            b"'; echo pwned; '",
            b"-n\\n\\\\ \t\n newline ! # & | ; < > ( ) { }",
            b"",
            b"'",
            b"''''",
            b"\xff\xfe not utf-8 \x01\x7f",
        ];
        for word in hostile {
            assert_eq!(through_sh(OsStr::from_bytes(word)), *word, "{}", String::from_utf8_lossy(word));
        }
    }

    #[test]
    fn words_of_the_ssh_option() {
        assert_eq!(split_words("ssh -F my.cfg").unwrap(), ["ssh", "-F", "my.cfg"]);
        assert_eq!(split_words(r#" a\ b 'c d' "e\"f" g"h"'' "#).unwrap(), ["a b", "c d", "e\"f", "gh"]);
        assert!(split_words("ssh 'x").is_err() && split_words("  ").is_err());
    }

    #[test]
    fn the_command_line_holds_no_secret_and_asks_nothing() {
        let line = command_line(
            &["/usr/bin/ssh".into(), "-F".into(), "cfg".into()],
            "n1",
            OsStr::new("/opt/it's/aeolian"),
            Duration::from_secs(30),
        );
        let text: Vec<_> = line.iter().map(|w| w.to_str().unwrap()).collect();
        assert!(
            text.contains(&"-oBatchMode=yes") && !text.iter().any(|w| w.contains("StrictHostKeyChecking"))
        );
        assert_eq!(text[text.len() - 3..], ["--", "n1", r"'/opt/it'\''s/aeolian' agent"]);
        let own = command_line(&["rsh".into()], "n1", OsStr::new("/a"), Duration::from_secs(30));
        assert_eq!(own, ["rsh", "n1", "'/a' agent"]);
    }
}
