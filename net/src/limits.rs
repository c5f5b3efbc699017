//! What the system limits, and whether a job of so many ranks gets by with it.
//!
//! [`read()`] asks the system, [`judge`] compares: the second is pure, so that every border of it is tested.

use crate::bytes::Bytes;
use crate::verdict::Verdict;
use rustix::process::{Resource, getrlimit};
use std::path::Path;

/// Descriptors that a rank has open whatever the number of ranks: standard streams, segment, doorbell, control
/// connection, listener, MPI's own, a user's files.
const FILES_OF_A_RANK: u64 = 64;
/// Descriptors for each peer: its segment and its doorbell, its connection, and for the host of the job master one more.
const FILES_PER_PEER: u64 = 4;
/// Threads of a rank besides those that compute: the control thread, and for rank 0 those of the job master.
const THREADS_OF_A_RANK: u64 = 4;
/// Ports of a rank: the one it listens on, and the one it calls the job master from. (Connections between ranks share.)
const PORTS_OF_A_RANK: u64 = 2;
/// Connections that we let wait at a listener: the job master's, and each rank's where TCP is the wire.
pub(crate) const BACKLOG: u64 = 4096;
const MIB: u64 = 1 << 20;

/// What the system says. `None`: no limit for the first six, not known for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Raw {
    /// Open files of a process: soft limit.
    pub nofile: Option<u64>,
    /// The same, as far as the user may raise it.
    pub nofile_hard: Option<u64>,
    /// Processes and threads of the user; no limit for those who may pass it (root).
    pub nproc: Option<u64>,
    /// Bytes that a process may lock into memory.
    pub memlock: Option<u64>,
    /// Bytes of a core file.
    pub core: Option<u64>,
    /// Bytes of the main thread's stack.
    pub stack: Option<u64>,
    /// Threads that the user has now.
    pub threads_now: Option<u64>,
    /// CPUs that this process may use: ranks start about as many computing threads.
    pub cpus: Option<u64>,
    /// How many ports the system gives out by itself.
    pub ports: Option<u64>,
    /// Bytes of `/dev/shm`.
    pub shm: Option<u64>,
    /// Bytes of `/dev/shm` that are free.
    pub shm_free: Option<u64>,
    /// Connections that may wait at a listener.
    pub somaxconn: Option<u64>,
    /// Whether there is an InfiniBand or other RDMA device, whose memory has to be locked.
    pub rdma: bool,
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
}

/// A limit, what a job needs of it, and what comes of that.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limit {
    /// As `ulimit` or the kernel calls it, in words: `open files (nofile)`.
    pub name: String,
    /// What it counts.
    pub unit: Unit,
    /// What the system allows; `None`: as much as one likes.
    pub value: Option<u64>,
    /// The least that the job needs; `None`: nothing depends on it.
    pub needed: Option<u64>,
    /// Fine, or what to do.
    pub verdict: Verdict,
}

impl Limit {
    /// The value for people: `20000`, `8 MiB`, `unlimited`.
    pub fn value_text(&self) -> String {
        self.value.map_or_else(|| "unlimited".into(), |value| self.show(value))
    }

    /// What is needed, for people; `-` where nothing depends on it.
    pub fn needed_text(&self) -> String {
        self.needed.map_or_else(|| "-".into(), |needed| self.show(needed))
    }

    fn show(&self, value: u64) -> String {
        match self.unit {
            Unit::Count => value.to_string(),
            Unit::Bytes => Bytes(value).to_string(),
        }
    }
}

/// Asks the system. Never fails: what it does not say is `None`.
pub fn read() -> Raw {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse().ok();
    let shm = rustix::fs::statvfs("/dev/shm").ok();
    let nproc = getrlimit(Resource::Nproc).current;
    Raw {
        nofile: getrlimit(Resource::Nofile).current,
        nofile_hard: getrlimit(Resource::Nofile).maximum,
        // The kernel does not hold root to it.
        nproc: nproc.filter(|_| !rustix::process::geteuid().is_root()),
        memlock: getrlimit(Resource::Memlock).current,
        core: getrlimit(Resource::Core).current,
        stack: getrlimit(Resource::Stack).current,
        threads_now: threads_of_user(rustix::process::geteuid().as_raw()),
        cpus: std::thread::available_parallelism().ok().map(|n| n.get() as u64),
        ports: std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok().and_then(|t| ports(&t)),
        shm: shm.as_ref().map(|s| s.f_blocks.saturating_mul(s.f_frsize)),
        shm_free: shm.as_ref().map(|s| s.f_bavail.saturating_mul(s.f_frsize)),
        somaxconn: number("/proc/sys/net/core/somaxconn"),
        rdma: Path::new("/sys/class/infiniband").read_dir().is_ok_and(|mut all| all.next().is_some()),
    }
}

/// `32768\t60999`: both ends count.
fn ports(text: &str) -> Option<u64> {
    let mut ends = text.split_whitespace().map(|end| end.parse::<u64>().ok());
    let (low, high) = (ends.next()??, ends.next()??);
    Some(high.checked_sub(low)? + 1)
}

/// Threads of all processes of `uid`, as far as `/proc` shows them.
fn threads_of_user(uid: u32) -> Option<u64> {
    let mut threads = 0;
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        if !process.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        // It may have ended since.
        let Ok(status) = std::fs::read_to_string(process.path().join("status")) else { continue };
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        if field("Uid:") == Some(u64::from(uid)) {
            threads += field("Threads:").unwrap_or(1);
        }
    }
    Some(threads)
}

/// Compares with what a job of `total` ranks needs that has `here` of them on this node (0 counts as 1). What is not known is
/// left out.
///
/// ```
/// use aeolian_net::limits::{Raw, judge};
/// let raw = Raw { nofile: Some(256), nofile_hard: Some(4096), ..Raw::default() };
/// let files = |ranks| judge(&raw, ranks, ranks).into_iter().find(|l| l.name.contains("open files")).unwrap();
/// assert!(files(8).verdict.is_ok());
/// assert!(!files(100).verdict.is_ok());
/// ```
pub fn judge(raw: &Raw, here: usize, total: usize) -> Vec<Limit> {
    let here = here.max(1) as u64;
    let ranks = here.max(total as u64);
    let mut all = Vec::new();
    let mut add = |name: &str, unit, value, needed, verdict| {
        all.push(Limit { name: name.into(), unit, value, needed, verdict });
    };
    let below = |value: Option<u64>, needed: u64| value.is_some_and(|v| v < needed);

    let files = FILES_OF_A_RANK + FILES_PER_PEER * ranks;
    let verdict = if below(raw.nofile, files) {
        let help = if below(raw.nofile_hard, files) {
            let hard = raw.nofile_hard.unwrap_or(0);
            format!(
                "only the administrator can raise it beyond {hard} (limits.conf, LimitNOFILE of slurmd or sshd)"
            )
        } else {
            // Round figures can be remembered.
            let wanted = files.next_power_of_two().max(4096);
            format!("ulimit -n {}", raw.nofile_hard.map_or(wanted, |hard| hard.min(wanted)))
        };
        let allowed = raw.nofile.unwrap_or(0);
        Verdict::warn(
            format!("a process may open {allowed} files, and {} may need {files} each", ranks_text(ranks)),
            help,
        )
    } else {
        Verdict::Ok
    };
    add("open files (nofile)", Unit::Count, raw.nofile, Some(files), verdict);

    let more = THREADS_OF_A_RANK * here + raw.cpus.unwrap_or(1).max(here);
    let threads = raw.threads_now.unwrap_or(0) + more;
    let verdict = if below(raw.nproc, threads) {
        Verdict::warn(
            format!(
                "the user may have {} processes and threads and has {} now; {} need about {more} more",
                raw.nproc.unwrap_or(0),
                raw.threads_now.map_or_else(|| "some".into(), |n| n.to_string()),
                ranks_text(here)
            ),
            "raise it with ulimit -u (or ask the administrator), or use fewer ranks",
        )
    } else {
        Verdict::Ok
    };
    add("processes and threads (nproc)", Unit::Count, raw.nproc, Some(threads), verdict);

    let verdict = if raw.rdma && below(raw.memlock, 64 * MIB) {
        Verdict::warn(
            format!(
                "only {} can be locked into memory: MPI over InfiniBand will be slow or refuse to start",
                Bytes(raw.memlock.unwrap_or(0))
            ),
            "ulimit -l unlimited; in jobs the administrator has to allow it (limits.conf, LimitMEMLOCK of slurmd)",
        )
    } else {
        Verdict::Ok
    };
    add("locked memory (memlock)", Unit::Bytes, raw.memlock, raw.rdma.then_some(64 * MIB), verdict);

    let verdict = if below(raw.stack, MIB) {
        Verdict::warn(
            format!("the main thread's stack has only {}", Bytes(raw.stack.unwrap_or(0))),
            "ulimit -s 8192",
        )
    } else {
        Verdict::Ok
    };
    add("stack", Unit::Bytes, raw.stack, Some(MIB), verdict);
    add("core file", Unit::Bytes, raw.core, None, Verdict::Ok);

    if let Some(ports) = raw.ports {
        let needed = PORTS_OF_A_RANK * here + 64;
        let verdict = if ports < needed {
            Verdict::warn(
                format!("the system gives out {ports} ports, and {} may need {needed}", ranks_text(here)),
                "as administrator: sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\"",
            )
        } else {
            Verdict::Ok
        };
        add("ephemeral ports", Unit::Count, Some(ports), Some(needed), verdict);
    }
    if let Some(somaxconn) = raw.somaxconn {
        let needed = ranks.min(BACKLOG);
        let verdict = if somaxconn < needed {
            Verdict::warn(
                format!("only {somaxconn} connections may wait at a listener: ranks may join slowly"),
                "as administrator: sysctl -w net.core.somaxconn=4096",
            )
        } else {
            Verdict::Ok
        };
        add("waiting connections (somaxconn)", Unit::Count, Some(somaxconn), Some(needed), verdict);
    }
    // Aeolian's own shared memory is memfd, which has no such limit; what an MPI does with /dev/shm is its business.
    for (name, value) in [("/dev/shm (for MPI), size", raw.shm), ("/dev/shm (for MPI), free", raw.shm_free)] {
        if value.is_some() {
            add(name, Unit::Bytes, value, None, Verdict::Ok);
        }
    }
    all
}

fn ranks_text(ranks: u64) -> String {
    if ranks == 1 { "1 rank".into() } else { format!("{ranks} ranks") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plenty() -> Raw {
        Raw {
            threads_now: Some(100),
            cpus: Some(8),
            ports: Some(28232),
            shm: Some(1 << 30),
            shm_free: Some(1 << 29),
            somaxconn: Some(4096),
            rdma: true,
            ..Raw::default()
        }
    }

    /// The names of what is too little, with help.
    fn low(raw: &Raw, ranks: usize) -> Vec<(String, String)> {
        let warned = judge(raw, ranks, ranks).into_iter().filter_map(|l| match l.verdict {
            Verdict::Warn { help, .. } => Some((l.name, help)),
            Verdict::Ok => None,
        });
        warned.collect()
    }

    #[test]
    fn no_limit_is_no_problem() {
        assert_eq!(judge(&plenty(), 1000, 1000).len(), 9);
        assert_eq!(low(&plenty(), 1000), []);
        assert_eq!(low(&plenty(), 0), []);
    }

    #[test]
    fn each_has_its_border() {
        // (what is set, ranks, the least that is enough, the limit's name)
        type Set = fn(&mut Raw, u64);
        let cases: [(Set, usize, u64, &str); 6] = [
            (|r, v| r.nofile = Some(v), 100, 464, "nofile"),
            (|r, v| r.nproc = Some(v), 4, 100 + 16 + 8, "nproc"),
            (|r, v| r.memlock = Some(v), 1, 64 << 20, "memlock"),
            (|r, v| r.stack = Some(v), 1, 1 << 20, "stack"),
            (|r, v| r.ports = Some(v), 100, 264, "ports"),
            (|r, v| r.somaxconn = Some(v), 100, 100, "somaxconn"),
        ];
        for (set, ranks, enough, name) in cases {
            let mut raw = plenty();
            set(&mut raw, enough);
            assert_eq!(low(&raw, ranks), [], "{name}");
            set(&mut raw, enough - 1);
            let warned = low(&raw, ranks);
            assert_eq!(warned.len(), 1, "{name}: {warned:?}");
            assert!(warned[0].0.contains(name) && !warned[0].1.is_empty(), "{warned:?}");
        }
        // Threads and ports are those of this node, descriptors those of the whole job.
        let raw = Raw { nproc: Some(4096), nofile: Some(4096), ports: Some(1000), ..plenty() };
        assert!(judge(&raw, 50, 1000).iter().all(|l| l.verdict.is_ok()));
        assert_eq!(judge(&raw, 50, 2000).iter().filter(|l| !l.verdict.is_ok()).count(), 1);
        // An old system's queue is too short for many ranks; more ranks than we let wait have their turn anyway.
        let wait = |somaxconn, ranks| {
            judge(&Raw { somaxconn: Some(somaxconn), ..plenty() }, 8, ranks)
                .iter()
                .any(|l| l.name.contains("somaxconn") && !l.verdict.is_ok())
        };
        assert!(wait(128, 1000) && wait(4095, 5000) && !wait(4096, 5000) && !wait(128, 128));
        // Nobody locks memory without such a device.
        assert_eq!(low(&Raw { memlock: Some(0), rdma: false, ..plenty() }, 1), []);
    }

    #[test]
    fn help_says_what_the_user_may_do() {
        let help =
            |soft, hard| low(&Raw { nofile: Some(soft), nofile_hard: hard, ..plenty() }, 100)[0].1.clone();
        assert_eq!(help(256, None), "ulimit -n 4096");
        assert_eq!(help(256, Some(1000)), "ulimit -n 1000");
        assert!(help(256, Some(300)).contains("administrator"));
    }

    #[test]
    fn what_the_system_says_is_believed() {
        let raw = read();
        // Of this very process, and /proc says the same.
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits.lines().find(|l| l.starts_with("Max open files")).unwrap();
        let soft = line.split_whitespace().nth(3).unwrap();
        assert_eq!(raw.nofile.map_or("unlimited".into(), |n| n.to_string()), soft);
        assert!(raw.threads_now.unwrap() >= 1 && raw.ports.unwrap() > 0);
        assert!(raw.shm_free <= raw.shm);
    }

    #[test]
    fn port_ranges() {
        assert_eq!(ports("32768\t60999\n"), Some(28232));
        for bad in ["", "1", "5 4", "a b"] {
            assert_eq!(ports(bad), None, "{bad}");
        }
    }
}
