//! `aeolian run` over a real ssh: an sshd of our own on loopback addresses, with keys of its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use common::{aeolian, assert_gone, run, start, wait_for, wait_for_lines};
use rustix::process::Signal;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// An sshd on 127.0.0.2 and 127.0.0.3, ended when dropped.
struct Sshd {
    dir: tempfile::TempDir,
    child: Child,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Sshd {
    /// Starts it; `None` (with a word why) where that is not possible.
    fn start() -> Option<Sshd> {
        let sshd = Path::new("/usr/sbin/sshd");
        if !sshd.exists() || !rustix::process::geteuid().is_root() {
            common::site::skip("needs /usr/sbin/sshd (apt install openssh-server) and root");
            return None;
        }
        std::fs::create_dir_all("/run/sshd").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path().display().to_string();
        for key in ["host", "id", "other"] {
            let file = format!("{d}/{key}");
            assert!(
                Command::new("ssh-keygen")
                    .args(["-q", "-t", "ed25519", "-N", "", "-f", &file])
                    .status()
                    .unwrap()
                    .success()
            );
        }
        let port = TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.2\nListenAddress 127.0.0.3\nHostKey {d}/host\nAuthorizedKeysFile {d}/id.pub\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\nLogLevel ERROR\n"
        );
        std::fs::write(dir.path().join("sshd.conf"), config).unwrap();
        let public = std::fs::read_to_string(dir.path().join("host.pub")).unwrap();
        let public = public.split(' ').take(2).collect::<Vec<_>>().join(" ");
        std::fs::write(dir.path().join("known"), format!("[127.0.0.2]:{port},[127.0.0.3]:{port} {public}\n"))
            .unwrap();
        std::fs::write(dir.path().join("nobody"), "").unwrap();
        for (name, known, id) in
            [("good", "known", "id"), ("stranger", "nobody", "id"), ("keyless", "known", "other")]
        {
            let text = format!(
                "Host *\n Port {port}\n IdentityFile {d}/{id}\n IdentitiesOnly yes\n IdentityAgent none\n \
                 UserKnownHostsFile {d}/{known}\n GlobalKnownHostsFile /dev/null\n"
            );
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let child = Command::new(sshd)
            .args(["-D", "-f", &format!("{d}/sshd.conf"), "-E", &format!("{d}/log")])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("sshd", || TcpStream::connect(("127.0.0.3", port)).ok());
        Some(Sshd { dir, child })
    }

    /// The option for the configuration `name`.
    fn option(&self, name: &str) -> String {
        format!("--ssh=ssh -F '{}/{name}'", self.dir.path().display())
    }
}

#[test]
fn ranks_on_three_hosts_with_input_output_and_codes() {
    let Some(sshd) = Sshd::start() else { return };
    let args = ["run", &sshd.option("good"), "--host", "127.0.0.2,localhost,127.0.0.3:2", "--tag-output"];
    let done = common::run_with(
        &[&args[..], &["sh", "-c", "cat; echo $SSH_CONNECTION | cut -d' ' -f3"]].concat(),
        b"in\n",
    );
    let want = [
        "[0@127.0.0.2] 127.0.0.2",
        "[0@127.0.0.2] in",
        "[1@localhost] ",
        "[2@127.0.0.3] 127.0.0.3",
        "[3@127.0.0.3] 127.0.0.3",
    ];
    assert_eq!(done.sorted(), want, "{}", done.err);
    let done = run(&[&args[..], &["sh", "-c", "exit $((AEOLIAN_RANK * 7))"]].concat());
    assert!([7, 14, 21].contains(&done.code()), "{}", done.err);
    assert_eq!(done.err.matches("error").count(), 1, "{}", done.err);
}

#[test]
fn host_keys_are_checked_and_nothing_is_asked() {
    let Some(sshd) = Sshd::start() else { return };
    for (config, words) in [("stranger", "Host key verification failed"), ("keyless", "Permission denied")] {
        let done = run(&["run", &sshd.option(config), "--host", "127.0.0.2,127.0.0.3", "true"]);
        assert_eq!(done.code(), 68, "{}", done.err);
        assert_eq!(done.err.matches(words).count(), 2, "both hosts, in ssh's words: {}", done.err);
    }
    let args =
        ["run", &sshd.option("good"), "--host", "127.0.0.2", "--remote-aeolian", "/no where/aeolian", "true"];
    let done = run(&args);
    assert!(done.code() == 68 && done.err.contains("/no where/aeolian"), "{}", done.err);
}

#[test]
fn a_killed_launcher_leaves_nothing_on_other_hosts() {
    let Some(sshd) = Sshd::start() else { return };
    for signal in [Signal::KILL, Signal::TERM, Signal::INT] {
        let file = sshd.dir.path().join(format!("ranks-{}", signal.as_raw()));
        let script = "echo $AEOLIAN_JOB >> $0; sleep 1000 & sleep 1000";
        let args = ["run", &sshd.option("good"), "--host", "127.0.0.2:2,127.0.0.3", "sh", "-c", script];
        let running = start(&mut aeolian(&[&args[..], &[file.to_str().unwrap()]].concat()));
        let job = wait_for_lines(&file, 3)[0].clone();
        // dash loses a SIGINT that comes while it starts a command.
        std::thread::sleep(std::time::Duration::from_millis(500));
        running.signal(signal);
        let done = running.finish();
        assert_eq!(
            done.status.code(),
            (signal != Signal::KILL).then_some(128 + signal.as_raw()),
            "{}",
            done.err
        );
        assert_gone(&job);
    }
}
