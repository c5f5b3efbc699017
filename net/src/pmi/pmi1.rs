//! A client of the PMI-1 wire protocol: lines of `key=value` words over an inherited socket (`PMI_FD`) or TCP (`PMI_PORT`).
//!
//! Hydra speaks it to every process that it starts, and so does Slurm's `pmi2` plugin, which tells PMI-1 from PMI-2 by the first line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{Kvs, check, decode, encode};
use crate::{NetError, Result};

/// How long the server may take for one answer; at a fence that includes the wait for the slowest rank to start.
const PATIENCE: Duration = Duration::from_secs(300);

/// Longest line that we send.
const LINE: usize = 1000;

/// Longest line that we read.
const MAX_LINE: u64 = 64 * 1024;

/// A connection to the launcher's PMI-1 server.
#[derive(Debug)]
pub struct Pmi1 {
    reader: BufReader<Socket>,
    rank: u32,
    size: u32,
    kvs: String,
    max_value: usize,
    max_key: usize,
}

/// Whether the environment names a PMI-1 server.
pub fn offered() -> bool {
    std::env::var_os("PMI_FD").is_some() || std::env::var_os("PMI_PORT").is_some()
}

impl Pmi1 {
    /// Joins the server that the environment names.
    pub fn connect() -> Result<Pmi1> {
        if let Some(fd) = number("PMI_FD")? {
            let (rank, size) = (needed("PMI_RANK")?, needed("PMI_SIZE")?);
            let fd = i32::try_from(fd).map_err(|_| config("PMI_FD", "is no file descriptor"))?;
            // Our own copy: the server takes the close of its socket for the end of the process, so the first one stays open.
            // SAFETY: the launcher says that this descriptor is open; a wrong one gives an error here, nothing else.
            let copy = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
            let socket = copy.map_err(|e| config("PMI_FD", &format!("={fd} cannot be used: {e}")))?;
            return Pmi1::on(Socket::Unix(UnixStream::from(socket)), rank, size);
        }
        let address = std::env::var("PMI_PORT").map_err(|_| config("PMI_FD", "and PMI_PORT are not set"))?;
        let stream = TcpStream::connect(&address)
            .map_err(NetError::os(format!("connecting to the launcher's PMI server at {address}")))?;
        let _ = stream.set_nodelay(true); // only speed
        let id = needed("PMI_ID")?;
        let mut pmi = Pmi1::new(Socket::Tcp(stream), 0, 0)?;
        pmi.ask(&format!("cmd=initack pmiid={id}"), "initack")?;
        for _ in 0..3 {
            let line = pmi.answer("set")?;
            match (field(&line, "size"), field(&line, "rank")) {
                (Some(size), _) => pmi.size = size.parse().map_err(|_| pmi.odd("set", &line))?,
                (_, Some(rank)) => pmi.rank = rank.parse().map_err(|_| pmi.odd("set", &line))?,
                _ => {} // debug=0
            }
        }
        pmi.greet()
    }

    fn new(socket: Socket, rank: u32, size: u32) -> Result<Pmi1> {
        socket
            .set_timeouts()
            .map_err(NetError::os("setting up the connection to the launcher's PMI server"))?;
        let (kvs, max_value, max_key) = (String::new(), 0, 0);
        Ok(Pmi1 { reader: BufReader::new(socket), rank, size, kvs, max_value, max_key })
    }

    fn on(socket: Socket, rank: u32, size: u32) -> Result<Pmi1> {
        Pmi1::new(socket, rank, size)?.greet()
    }

    /// The opening of the protocol.
    fn greet(mut self) -> Result<Pmi1> {
        if self.rank >= self.size {
            return Err(config("PMI_RANK", &format!("is {} of PMI_SIZE={}", self.rank, self.size)));
        }
        self.ask("cmd=init pmi_version=1 pmi_subversion=1", "response_to_init")?;
        let maxes = self.ask("cmd=get_maxes", "maxes")?;
        let limit = |name: &str, least: usize| {
            field(&maxes, name).and_then(|v| v.parse::<usize>().ok()).unwrap_or(0).max(least)
        };
        // The limits count the end of the string.
        self.max_key = limit("keylen_max", 32) - 1;
        let max_value = limit("vallen_max", 64) - 1;
        let name = self.ask("cmd=get_my_kvsname", "my_kvsname")?;
        let kvs = field(&name, "kvsname").map(str::to_string);
        self.kvs = kvs.ok_or_else(|| self.odd("my_kvsname", &name))?;
        // Slurm says 1024 for a value, but reads lines of that length only.
        let room = LINE.saturating_sub("cmd=put kvsname= key= value=".len() + self.kvs.len() + self.max_key);
        self.max_value = (max_value.min(room).max(32) - 1) / 2; // two digits a byte, and the x
        Ok(self)
    }

    /// Sends one line and reads the answer, which must be `cmd=expected` with rc 0 or none.
    fn ask(&mut self, line: &str, expected: &'static str) -> Result<String> {
        let lost = NetError::os(format!("sending to the launcher's PMI server ({expected})"));
        self.reader.get_mut().write_all(format!("{line}\n").as_bytes()).map_err(lost)?;
        self.answer(expected)
    }

    fn answer(&mut self, expected: &'static str) -> Result<String> {
        let mut line = String::new();
        let read = (&mut self.reader).take(MAX_LINE).read_line(&mut line);
        match read {
            Ok(0) => {
                return Err(NetError::Lost {
                    peer: "the launcher's PMI server".into(),
                    what: format!("it closed the connection instead of answering {expected}"),
                });
            }
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(NetError::TimedOut {
                    what: format!("the launcher's answer {expected}"),
                    seconds: PATIENCE.as_secs(),
                    help: "has a rank not started? at a fence the launcher waits for all".into(),
                });
            }
            Err(e) => return Err(NetError::os("reading from the launcher's PMI server")(e)),
        }
        let sound = line.ends_with('\n') && field(&line, "cmd") == Some(expected);
        match field(&line, "rc") {
            None | Some("0") if sound => Ok(line),
            _ => Err(self.odd(expected, &line)),
        }
    }

    fn odd(&self, expected: &str, line: &str) -> NetError {
        // Not what a key's value is: the job's secret travels this way too.
        let words =
            line.split_whitespace().map(|word| if word.starts_with("value=") { "value=..." } else { word });
        let said: String = words.collect::<Vec<_>>().join(" ").chars().take(200).collect();
        NetError::Protocol {
            peer: "the launcher's PMI server".into(),
            what: format!("it said {said:?} where {expected} was due"),
        }
    }

    /// The name of a rank's key in the one space of all ranks.
    fn key(&self, rank: u32, key: &str) -> Result<String> {
        let full = format!("aeolian-{rank}-{key}");
        if full.len() > self.max_key {
            return Err(NetError::Internal(format!(
                "the launcher's service takes keys of {} bytes: {full}",
                self.max_key
            )));
        }
        Ok(full)
    }
}

impl Kvs for Pmi1 {
    fn protocol(&self) -> &'static str {
        "PMI-1"
    }

    fn rank(&self) -> u32 {
        self.rank
    }

    fn size(&self) -> u32 {
        self.size
    }

    fn max_value(&self) -> usize {
        self.max_value
    }

    fn put(&mut self, key: &str, value: &[u8]) -> Result<()> {
        check(key, value, self.max_value)?;
        let key = self.key(self.rank, key)?;
        let line = format!("cmd=put kvsname={} key={key} value={}", self.kvs, encode(value));
        self.ask(&line, "put_result").map(drop)
    }

    fn fence(&mut self) -> Result<()> {
        self.ask("cmd=barrier_in", "barrier_out").map(drop)
    }

    fn get(&mut self, rank: u32, key: &str) -> Result<Vec<u8>> {
        check(key, &[], 0)?;
        let key = self.key(rank, key)?;
        let line = self.ask(&format!("cmd=get kvsname={} key={key}", self.kvs), "get_result");
        let line = line.map_err(|error| match error {
            NetError::Protocol { peer, what } => {
                NetError::Protocol { peer, what: format!("{what}, for the key {key}") }
            }
            other => other,
        })?;
        field(&line, "value").and_then(decode).ok_or_else(|| self.odd("get_result", &line))
    }

    fn finalize(&mut self) -> Result<()> {
        self.ask("cmd=finalize", "finalize_ack").map(drop)
    }
}

/// The value of the word `name=value` in a line.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn config(name: &str, what: &str) -> NetError {
    NetError::Config {
        what: format!("the launcher's environment does not add up: {name} {what}"),
        help: "start the program with mpiexec or srun --mpi=pmi2 itself, not from inside another rank".into(),
    }
}

fn number(name: &str) -> Result<Option<u32>> {
    match std::env::var(name) {
        Ok(text) => text.parse().map(Some).map_err(|_| config(name, &format!("is {text:?}, not a number"))),
        Err(_) => Ok(None),
    }
}

fn needed(name: &str) -> Result<u32> {
    number(name)?.ok_or_else(|| config(name, "is not set"))
}

/// Either kind of connection.
#[derive(Debug)]
enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    fn set_timeouts(&self) -> std::io::Result<()> {
        match self {
            Socket::Unix(s) => s.set_read_timeout(Some(PATIENCE)).and(s.set_write_timeout(Some(PATIENCE))),
            Socket::Tcp(s) => s.set_read_timeout(Some(PATIENCE)).and(s.set_write_timeout(Some(PATIENCE))),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Socket::Unix(s) => s.read(buf),
            Socket::Tcp(s) => s.read(buf),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        match self {
            Socket::Unix(s) => s.write(buf),
            Socket::Tcp(s) => s.write(buf),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(()) // neither kind holds anything back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that reads one line for each of its answers, at the other end of a socket.
    fn server(answers: &'static [&'static str]) -> (UnixStream, std::thread::JoinHandle<Vec<String>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || {
            let mut reader = BufReader::new(theirs);
            let mut asked = Vec::new();
            for answer in answers {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                asked.push(line.trim_end().to_string());
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        (ours, thread)
    }

    const GREETING: [&str; 3] = [
        "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n",
        "cmd=maxes kvsname_max=256 keylen_max=64 vallen_max=102\n",
        "cmd=my_kvsname kvsname=kvs_1\n",
    ];

    // The real servers are in tests/pmi.rs; this is about those that misbehave.
    #[test]
    fn a_refusal_is_quoted() {
        let refuse = "cmd=get_result rc=-1 msg=key_not_found value=unknown\n";
        let (socket, thread) = server(&[GREETING[0], GREETING[1], GREETING[2]]);
        let mut pmi = Pmi1::on(Socket::Unix(socket), 1, 2).unwrap();
        assert_eq!((pmi.max_value(), pmi.max_key), (50, 63));
        assert!(pmi.put("k", &[0; 51]).unwrap_err().to_string().contains("takes 50"));
        thread.join().unwrap();
        assert!(pmi.fence().is_err(), "the server is gone");

        let (socket, thread) = server(Box::leak(Box::new([GREETING[0], GREETING[1], GREETING[2], refuse])));
        let mut pmi = Pmi1::on(Socket::Unix(socket), 1, 2).unwrap();
        let error = pmi.get(0, "nothing").unwrap_err().to_string();
        assert!(error.contains("key_not_found"), "{error}");
        assert_eq!(thread.join().unwrap()[3], "cmd=get kvsname=kvs_1 key=aeolian-0-nothing");
    }

    #[test]
    fn a_value_is_not_quoted() {
        let damaged = "cmd=get_result rc=0 msg=success value=x5ec2e7!\n";
        let (socket, thread) = server(Box::leak(Box::new([GREETING[0], GREETING[1], GREETING[2], damaged])));
        let mut pmi = Pmi1::on(Socket::Unix(socket), 1, 2).unwrap();
        let error = pmi.get(0, "meet").unwrap_err().to_string();
        assert!(error.contains("msg=success value=...") && !error.contains("5ec2e7"), "{error}");
        thread.join().unwrap();
    }

    #[test]
    fn wrong_answers_are_errors() {
        for answers in [
            &["cmd=response_to_init rc=-1\n"][..],
            &["nonsense\n"],
            &["cmd=maxes\n"],
            &["cmd=response_to_init"],
        ] {
            let (socket, thread) = server(answers);
            assert!(Pmi1::on(Socket::Unix(socket), 0, 1).is_err(), "{answers:?}");
            thread.join().unwrap();
        }
        let (socket, _) = UnixStream::pair().unwrap();
        let error = Pmi1::on(Socket::Unix(socket), 2, 2).unwrap_err();
        assert!(matches!(error, NetError::Config { .. }), "{error}");
    }
}
