//! The network interfaces of the node and their addresses (`getifaddrs`).

use crate::NetError;
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};

/// One address of a network interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Interface {
    /// Name: `eth0`, `ib0`.
    pub name: String,
    /// An IPv4 or IPv6 address; an interface with several stands in the list several times.
    pub address: IpAddr,
    /// Whether it is up and running.
    pub up: bool,
    /// Whether it only reaches this node.
    pub loopback: bool,
}

/// All interfaces with an address, in ascending order of name and address.
///
/// # Errors
/// [`NetError::Os`] if the system does not list them.
pub fn interfaces() -> Result<Vec<Interface>, NetError> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `list` is a valid place for the result.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return Err(NetError::os("listing the network interfaces")(std::io::Error::last_os_error()));
    }
    let mut found = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: an entry of the list, which is not freed before the end of this function.
        let entry = unsafe { &*next };
        next = entry.ifa_next;
        // SAFETY: `ifa_addr` is null or a socket address of the kind its family says.
        let Some(address) = (unsafe { ip(entry.ifa_addr) }) else { continue };
        // SAFETY: `ifa_name` is a C string that lives as long as the list.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy().into_owned();
        let has = |flag: libc::c_int| entry.ifa_flags & flag as libc::c_uint != 0;
        let up = has(libc::IFF_UP) && has(libc::IFF_RUNNING);
        found.push(Interface { name, address, up, loopback: has(libc::IFF_LOOPBACK) });
    }
    // SAFETY: from getifaddrs, freed once, and no reference into it is left.
    unsafe { libc::freeifaddrs(list) };
    found.sort();
    Ok(found)
}

/// The address by which other hosts reach this one, and why this one.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reachable {
    /// The interface.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Why it was chosen, as a phrase.
    pub why: String,
}

/// The address by which other hosts reach this one: of the interface that `AEOLIAN_INTERFACE` names (or the address that
/// it is), else that of the host's own name, else of the first interface that is up and not loopback.
///
/// # Errors
/// [`NetError::Config`] if `AEOLIAN_INTERFACE` fits none that is up, or there is nothing but loopback.
pub fn reachable() -> Result<Reachable, NetError> {
    let host = crate::node::host_name();
    let own_name = || {
        let found = (host.as_str(), 0).to_socket_addrs();
        found.map_or(vec![], |all| all.map(|a| a.ip()).collect())
    };
    choose(&interfaces()?, std::env::var("AEOLIAN_INTERFACE").ok().as_deref(), &host, own_name)
}

/// The choice itself. `own_name` resolves the host's name; it is asked only where its answer matters, since it may wait for
/// a name server.
fn choose(
    all: &[Interface],
    wanted: Option<&str>,
    host: &str,
    own_name: impl FnOnce() -> Vec<IpAddr>,
) -> Result<Reachable, NetError> {
    let this = |i: &Interface, why: &str| Reachable {
        name: i.name.clone(),
        address: i.address,
        why: why.to_owned(),
    };
    let usable: Vec<_> = all.iter().filter(|i| i.up && !i.loopback).collect();
    if let Some(wanted) = wanted.filter(|w| !w.is_empty()) {
        let fits = |i: &&Interface| i.up && (i.name == wanted || i.address.to_string() == wanted);
        return all.iter().find(fits).map(|i| this(i, "AEOLIAN_INTERFACE names it")).ok_or_else(|| {
            let there: Vec<_> = usable.iter().map(|i| format!("{} ({})", i.name, i.address)).collect();
            NetError::Config {
                what: format!("AEOLIAN_INTERFACE={wanted}: {host} has no such interface that is up"),
                help: match there.is_empty() {
                    true => "unset it: there is no interface but loopback".into(),
                    false => format!("choose one of {}", there.join(", ")),
                },
            }
        });
    }
    if !usable.is_empty()
        && let Some(own) = own_name().iter().find_map(|a| usable.iter().find(|i| i.address == *a))
    {
        return Ok(this(own, "the host's own name leads to it"));
    }
    let routable = |a: &IpAddr| match a {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 != 0xfe80,
    };
    let first = usable.into_iter().filter(|i| routable(&i.address)).min_by_key(|i| i.address.is_ipv6());
    first.map(|i| this(i, "the first that is up")).ok_or_else(|| NetError::Config {
        what: format!("{host} has no network interface but loopback, and the ranks are on several nodes"),
        help: "name the interface with AEOLIAN_INTERFACE (--interface)".into(),
    })
}

/// # Safety
/// `address` is null or points to a socket address as long as its family asks.
unsafe fn ip(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: every socket address begins with its family.
    match libc::c_int::from(unsafe { (*address).sa_family }) {
        libc::AF_INET => {
            // SAFETY: of this family, so it is a `sockaddr_in`; read without asking for its alignment.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, a `sockaddr_in6`.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_one_then_the_hosts_own_then_the_first() {
        let interface = |name: &str, address: &str, up, loopback| Interface {
            name: name.into(),
            address: address.parse().unwrap(),
            up,
            loopback,
        };
        let all = [
            interface("eth0", "fe80::1", true, false),
            interface("eth0", "fd00::1", true, false),
            interface("eth1", "10.0.0.1", true, false),
            interface("ib0", "10.1.0.1", true, false),
            interface("ib1", "10.2.0.1", false, false),
            interface("lo", "127.0.0.1", true, true),
        ];
        let chosen = |wanted, own: &[&str]| {
            let own = own.iter().map(|a| a.parse().unwrap()).collect();
            choose(&all, wanted, "h", || own).map(|r| r.address.to_string()).map_err(|e| e.to_string())
        };
        assert_eq!(chosen(Some("ib0"), &["10.0.0.1"]).unwrap(), "10.1.0.1");
        assert_eq!(chosen(Some("127.0.0.1"), &[]).unwrap(), "127.0.0.1");
        assert!(chosen(Some("ib1"), &[]).unwrap_err().contains("choose one of eth0"));
        assert_eq!(chosen(None, &["127.0.1.1", "10.1.0.1"]).unwrap(), "10.1.0.1");
        assert_eq!(chosen(None, &["127.0.1.1"]).unwrap(), "10.0.0.1");
        let alone = choose(&all[5..], None, "h", || panic!("nobody needs the name")).unwrap_err();
        assert!(alone.to_string().contains("no network interface but loopback"));
    }

    #[test]
    fn loopback_flag_agrees_with_the_address() {
        for i in interfaces().unwrap() {
            assert!(!i.name.is_empty());
            assert!(!i.address.is_loopback() || i.loopback, "{i:?}");
        }
    }
}
