//! Host files and `--host`, in mpirun's grammar.
//!
//! One host a line: `name`, `name slots=4`, `name slots=4 max_slots=8`, or MPICH's `name:4`. `#` starts a comment. A
//! host without a number has one slot, and a host named again adds to the slots it has, so a file with one line a slot
//! means what it says.

use super::error::{LaunchError, Result};
use std::path::Path;

/// A host and how many ranks it may get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// Name or address, as `ssh` takes it.
    pub(crate) name: String,
    /// Ranks that it gets before the next host's turn.
    pub(crate) slots: u32,
    /// Ranks that it never gets more than, `--oversubscribe` or not.
    pub(crate) max: Option<u32>,
}

impl Host {
    /// True if ranks there are started by fork rather than by `ssh`.
    pub(crate) fn is_local(&self) -> bool {
        is_local(&self.name)
    }
}

/// The largest number of slots of one host that is believed to be meant.
const MOST_SLOTS: u32 = 65_536;

/// Reads a host file.
pub(crate) fn read(path: &Path) -> Result<Vec<Host>> {
    let bytes = std::fs::read(path).map_err(|source| LaunchError::File {
        path: path.into(),
        source,
        help: "--hostfile wants a file with one host a line: `name slots=4`".into(),
    })?;
    parse(&String::from_utf8_lossy(&bytes), &path.display().to_string())
}

/// Reads the text of a host file; `file` is its name in messages.
pub(crate) fn parse(text: &str, file: &str) -> Result<Vec<Host>> {
    let mut hosts = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        let place = format!("{file}:{}", number + 1);
        add(&mut hosts, parse_line(line, &place)?);
    }
    if hosts.is_empty() {
        return Err(bad(file, "names no host", "one host a line: `name slots=4`"));
    }
    Ok(hosts)
}

/// Reads the value of `--host`: `a:4,b:4` or `a,a,b`.
pub(crate) fn parse_list(list: &str) -> Result<Vec<Host>> {
    let mut hosts = Vec::new();
    for item in list.split(',') {
        let item = item.trim();
        if item.is_empty() {
            return Err(bad("--host", &format!("an empty name in `{list}`"), "--host a:4,b:4"));
        }
        let (name, slots) = name_and_slots(item, "--host")?;
        add(&mut hosts, Host { name, slots: slots.unwrap_or(1), max: None });
    }
    Ok(hosts)
}

/// Adds `host` to the slots of the same name, or as a new one; the order of first mention is kept.
pub(crate) fn add(hosts: &mut Vec<Host>, host: Host) {
    match hosts.iter_mut().find(|h| h.name == host.name) {
        Some(known) => {
            known.max = known.max.or(host.max);
            let most = known.max.unwrap_or(u32::MAX);
            known.slots = known.slots.saturating_add(host.slots).min(most);
        }
        None => hosts.push(host),
    }
}

fn parse_line(line: &str, place: &str) -> Result<Host> {
    // mpirun allows blanks around the equals sign.
    let line = line.replace('=', " = ");
    let mut words = line.split_whitespace();
    let (name, mut slots) = name_and_slots(words.next().unwrap_or(""), place)?;
    let mut max = None;
    while let Some(key) = words.next() {
        let known = matches!(key, "slots" | "cpus" | "count" | "max_slots" | "max-slots");
        if !known {
            return Err(bad(place, &format!("`{key}` is not a known word"), "`name slots=4 max_slots=8`"));
        }
        if words.next() != Some("=") {
            return Err(bad(place, &format!("`{key}` without `=NUMBER`"), &format!("`{name} {key}=4`")));
        }
        let value = count(words.next().unwrap_or(""), key, place)?;
        match key {
            "max_slots" | "max-slots" => max = Some(value),
            _ if slots.is_some() => {
                return Err(bad(place, &format!("the slots of {name} are given twice"), "give them once"));
            }
            _ => slots = Some(value),
        }
    }
    let slots = slots.or(max).unwrap_or(1);
    if max.is_some_and(|max| max < slots) {
        return Err(bad(place, &format!("max_slots of {name} is less than its slots"), "max_slots >= slots"));
    }
    Ok(Host { name, slots, max })
}

/// Splits `name`, `name:4`, `[::1]:4`, `user@name:4`.
fn name_and_slots(item: &str, place: &str) -> Result<(String, Option<u32>)> {
    let (name, slots) = if let Some(rest) = item.strip_prefix('[') {
        let Some((address, after)) = rest.split_once(']') else {
            return Err(bad(place, &format!("`{item}` has no closing bracket"), "`[::1]:4`"));
        };
        match after.strip_prefix(':') {
            Some(n) => (address, Some(n)),
            None if after.is_empty() => (address, None),
            None => return Err(bad(place, &format!("`{after}` after the address in `{item}`"), "`[::1]:4`")),
        }
    } else if item.matches(':').count() > 1 {
        // A bare IPv6 address.
        (item, None)
    } else {
        match item.split_once(':') {
            Some((name, n)) => (name, Some(n)),
            None => (item, None),
        }
    };
    check_name(name)
        .map_err(|what| bad(place, &what, "a name or address as ssh takes it: `n1`, `user@n1`"))?;
    let slots = slots.map(|n| count(n, "the number after the colon", place)).transpose()?;
    Ok((name.to_string(), slots))
}

/// Refuses what could be an option of ssh, or more than a name.
///
/// A name goes into an argument vector and never through a shell here, but ssh expands it in its own configuration
/// (`ProxyCommand %h`), so nothing outside the letters of names and addresses is let through.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("an empty host name".into());
    }
    if name.len() > 255 {
        return Err("a host name longer than 255 letters".into());
    }
    // ssh takes what is behind the last one for the host.
    for part in name.split('@') {
        if part.is_empty() || part.starts_with('-') {
            return Err(format!(
                "`{}` is not a host name: it is empty or starts with a dash",
                name.escape_debug()
            ));
        }
    }
    let odd = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@' | ':' | '%'));
    match name.chars().find(|c| odd(*c)) {
        Some(c) => Err(format!("`{}` is not a host name: it has a {c:?}", name.escape_debug())),
        None => Ok(()),
    }
}

fn count(text: &str, what: &str, place: &str) -> Result<u32> {
    match text.parse::<u32>() {
        Ok(n) if (1..=MOST_SLOTS).contains(&n) => Ok(n),
        _ => Err(bad(place, &format!("{what} is `{text}`"), &format!("a number from 1 to {MOST_SLOTS}"))),
    }
}

fn bad(place: &str, what: &str, help: &str) -> LaunchError {
    LaunchError::Hosts { place: place.into(), what: what.into(), help: help.into() }
}

/// True if `name` means this host: `localhost`, 127.0.0.1, ::1, or the host's own name with or without its domain. Other
/// addresses, even of our own (127.0.0.2), are reached by ssh as asked; so is anything with a user name.
pub(crate) fn is_local(name: &str) -> bool {
    if name.contains('@') {
        return false;
    }
    if matches!(name, "localhost" | "127.0.0.1" | "::1") {
        return true;
    }
    let own = own_name();
    let short = |n: &str| n.split('.').next().unwrap_or("").to_string();
    name == own || (!own.is_empty() && (name == short(&own) || (short(name) == own && !own.contains('.'))))
}

/// The name of this host.
pub(crate) fn own_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, slots: u32) -> Host {
        Host { name: name.into(), slots, max: None }
    }

    #[test]
    fn mpiruns_grammar() {
        let text = "# our nodes\nn1 slots=4\n\nn2:2   # MPICH style\n n3 slots = 2 max_slots=3\nn4\nn4\r\nu@n5 max-slots=2\n";
        let hosts = parse(text, "f").unwrap();
        assert_eq!(
            hosts,
            [
                host("n1", 4),
                host("n2", 2),
                Host { name: "n3".into(), slots: 2, max: Some(3) },
                host("n4", 2),
                Host { name: "u@n5".into(), slots: 2, max: Some(2) },
            ]
        );
        let twice = parse("n1 slots=1 max_slots=1\nn1 slots=1 max_slots=1\n", "f").unwrap();
        assert_eq!(twice, [Host { name: "n1".into(), slots: 1, max: Some(1) }]);
        assert_eq!(parse_list("a:4,b:4,a,b").unwrap(), [host("a", 5), host("b", 5)]);
        assert_eq!(parse_list("[fe80::1]:3,::1").unwrap(), [host("fe80::1", 3), host("::1", 1)]);
    }

    #[test]
    fn errors_name_file_and_line() {
        for (text, line, word) in [
            ("n1\nn2 slots=x", 2, "`x`"),
            ("n1 slots=0", 1, "`0`"),
            ("n1 slots", 1, "without"),
            ("n1 slats=3", 1, "slats"),
            ("n1\n\n-oProxyCommand=x", 3, "dash"),
            ("n1:4 slots=4", 1, "twice"),
            ("n1:", 1, "``"),
            ("n1 slots=4 max_slots=2", 1, "less"),
            ("a;b", 1, "';'"),
            ("$(x)", 1, "'$'"),
            ("u@-x", 1, "dash"),
            ("a@b@-x", 1, "dash"),
            ("[::1", 1, "bracket"),
            ("n1 slots=99999999999999", 1, "99999999999999"),
        ] {
            let e = parse(text, "hosts").unwrap_err().to_string();
            assert!(e.starts_with(&format!("hosts:{line}: ")) && e.contains(word), "{text:?} gave {e}");
        }
        assert!(parse("# nobody\n", "hosts").unwrap_err().to_string().contains("names no host"));
        assert!(parse_list("a,,b").is_err());
        assert!(parse_list("-x").is_err());
        let e = read(Path::new("/nowhere/hosts")).unwrap_err();
        assert_eq!(
            (e.exit_code(), e.to_string().contains("/nowhere/hosts")),
            (aeolian_net::exit::NO_INPUT, true)
        );
    }

    #[test]
    fn local_names() {
        assert!(is_local("localhost") && is_local("127.0.0.1") && is_local("::1") && is_local(&own_name()));
        assert!(!is_local("user@localhost") && !is_local("127.0.0.2") && !is_local("no-such-host-here"));
    }
}
