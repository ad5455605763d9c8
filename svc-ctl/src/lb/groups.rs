//! Link-layer multicast groups of the IPv6 addresses that this node answers for. A network card with a filter passes
//! neighbor solicitations only for groups that its host has joined.
//!
//! The kernel keeps these memberships until they are ended (SIOCADDMULTI, `ip maddr`), so the address is answered while
//! the daemon does not run. A socket's membership would end with the daemon.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;

use anyhow::Context as _;
use socket2::{Domain, Socket, Type};

use super::claim::{Mac, mac_text};
use super::frames::solicited_mac;
use super::report::Report;
use crate::dataplane::announced::Place;

/// An interface, by its index, and a group on it.
type Membership = (u32, Mac);

/// The memberships of this node.
pub struct Groups {
    socket: Socket,
    joined: BTreeSet<Membership>,
}

impl Groups {
    /// `old`: places for which an earlier daemon has joined groups.
    pub fn open(old: impl Iterator<Item = Place>) -> anyhow::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).context("a socket for multicast groups")?;
        Ok(Self { socket, joined: groups(old) })
    }

    /// Joins the groups of these places and leaves all others. Needs CAP_NET_ADMIN. `renew` joins known ones too: joining twice
    /// is joining once, and a membership that another program has ended comes back. One that fails does not stop the others;
    /// the first error is returned.
    pub fn follow(&mut self, places: impl Iterator<Item = Place>, renew: bool) -> anyhow::Result<()> {
        let wanted = groups(places);
        let mut result = Ok(());
        for old in self.joined.difference(&wanted).copied().collect::<Vec<_>>() {
            match self.request(libc::SIOCDELMULTI, old) {
                Ok(()) => drop(self.joined.remove(&old)),
                Err(error) => result = result.and(Err(error).context(format!("leaving {}", mac_text(old.1)))),
            }
        }
        for new in wanted.into_iter().filter(|new| renew || !self.joined.contains(new)).collect::<Vec<_>>() {
            match self.request(libc::SIOCADDMULTI, new) {
                Ok(()) => drop(self.joined.insert(new)),
                Err(error) => result = result.and(Err(error).context(format!("joining {}", mac_text(new.1)))),
            }
        }
        result
    }

    fn request(&self, request: libc::Ioctl, (index, group): Membership) -> io::Result<()> {
        // SAFETY: a structure of integers and arrays of them may be all zero.
        let mut wanted: libc::ifreq = unsafe { std::mem::zeroed() };
        // SAFETY: the name has room for IF_NAMESIZE octets.
        if unsafe { libc::if_indextoname(index, wanted.ifr_name.as_mut_ptr()) }.is_null() {
            return harmless(io::Error::last_os_error());
        }
        let mut address = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
        for (to, from) in address.sa_data.iter_mut().zip(group) {
            *to = from as libc::c_char;
        }
        wanted.ifr_ifru.ifru_hwaddr = address;
        // SAFETY: the kernel reads the structure, which outlives the call.
        match unsafe { libc::ioctl(self.socket.as_raw_fd(), request, &raw const wanted) } {
            0 => Ok(()),
            _ => harmless(io::Error::last_os_error()),
        }
    }
}

/// Leaves the groups that a daemon which is gone has joined for the addresses of its report.
pub fn leave_all(report: Report) -> anyhow::Result<()> {
    let places = report.addresses.into_iter().filter_map(|row| {
        let name = CString::new(row.interface).ok()?;
        // SAFETY: the kernel reads the name, which ends with a zero octet. Index 0 is no interface.
        Some((row.address, unsafe { libc::if_nametoindex(name.as_ptr()) }))
    });
    Groups::open(places.filter(|(_, index)| *index != 0))?.follow(std::iter::empty(), false)
}

/// An interface that is gone has no memberships, one without a filter (EINVAL) needs none, and what has never been joined
/// need not be left.
fn harmless(error: io::Error) -> io::Result<()> {
    match error.raw_os_error() {
        Some(libc::ENXIO | libc::ENODEV | libc::EINVAL | libc::ENOENT) => Ok(()),
        _ => Err(error),
    }
}

/// Addresses with the same last three octets share a group.
fn groups(places: impl Iterator<Item = Place>) -> BTreeSet<Membership> {
    let membership = |(address, index): Place| match address {
        IpAddr::V6(ip) => Some((index, solicited_mac(ip))),
        IpAddr::V4(_) => None,
    };
    places.filter_map(membership).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_is_joined_once_on_each_interface_and_by_ipv6_alone() {
        let place = |address: &str, index| (address.parse().unwrap(), index);
        let places = [
            place("2001:db8:1::12:3456", 2),
            place("2001:db8:2::12:3456", 2),
            place("2001:db8:1::12:3456", 3),
            place("192.0.2.1", 2),
        ];
        let group = [0x33, 0x33, 0xff, 0x12, 0x34, 0x56];
        assert_eq!(groups(places.into_iter()), BTreeSet::from([(2, group), (3, group)]));
    }
}
