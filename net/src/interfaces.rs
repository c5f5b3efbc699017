//! The network interfaces of the node and their addresses (`getifaddrs`).

use crate::NetError;
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// The address by which other hosts reach this one: of the interface `wanted` (a name, or an address), else that of the host's own name, else of the first interface that is up and not loopback.
pub fn reachable_address(wanted: Option<&str>) -> Result<IpAddr, NetError> {
    let all = interfaces()?;
    let usable: Vec<_> = all.iter().filter(|i| i.up && !i.loopback).collect();
    if let Some(wanted) = wanted {
        let fits = |i: &Interface| i.name == wanted || i.address.to_string() == wanted;
        return all.iter().filter(|i| i.up).find(|i| fits(i)).map(|i| i.address).ok_or_else(|| {
            let there: Vec<_> = usable.iter().map(|i| format!("{} ({})", i.name, i.address)).collect();
            NetError::Config {
                what: format!(
                    "interface {wanted}: {} has no such interface that is up",
                    crate::node::host_name()
                ),
                help: format!("choose one of {}", there.join(", ")),
            }
        });
    }
    use std::net::ToSocketAddrs;
    let named: Vec<IpAddr> = (crate::node::host_name().as_str(), 0)
        .to_socket_addrs()
        .map_or(vec![], |a| a.map(|a| a.ip()).collect());
    let own = named.iter().find(|a| usable.iter().any(|i| i.address == **a)).copied();
    let routable = |a: &IpAddr| match a {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 != 0xfe80,
    };
    own.or_else(|| usable.iter().map(|i| i.address).filter(routable).min_by_key(|a| a.is_ipv6())).ok_or_else(
        || NetError::Config {
            what: format!(
                "{} has no network interface but loopback, and the ranks are on several nodes",
                crate::node::host_name()
            ),
            help: "name the interface with AEOLIAN_INTERFACE (--interface)".into(),
        },
    )
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
    #[test]
    fn loopback_flag_agrees_with_the_address() {
        for i in super::interfaces().unwrap() {
            assert!(!i.name.is_empty());
            assert!(!i.address.is_loopback() || i.loopback, "{i:?}");
        }
    }
}
