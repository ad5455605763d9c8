//! The packets of a flood, and the one thread that sends them as fast as it can.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etherparse::PacketBuilder;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};
use svc_tests::netns::Netns;

/// Offsets in an Ethernet frame.
const IP: usize = 14;
const L4: usize = IP + 20;
const L4_V6: usize = IP + 40;

/// A kind of packet. All of them have false source addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Syn,
    Datagram,
    /// An acknowledgement of no connection.
    Ack,
    /// The first fragment of a datagram. In IPv6 a whole datagram.
    Fragment,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Syn, Self::Datagram, Self::Ack, Self::Fragment];
}

/// The link that a flood comes by.
pub struct Link<'a> {
    pub netns: &'a Netns,
    pub interface: &'a str,
    pub source: [u8; 6],
    pub destination: [u8; 6],
}

/// A frame whose source address and port change from one packet to the next, with right checksums.
#[derive(Clone)]
struct Template {
    frame: Vec<u8>,
    /// The varying word of the source address.
    addr: usize,
    /// The source port.
    port: usize,
    /// Checksums over the address, and whether they cover the port.
    checks: Vec<(usize, bool)>,
}

impl Template {
    /// `from` has zeros in its last two octets and as port.
    fn new(kind: Kind, link: &Link<'_>, from: SocketAddr, to: SocketAddr) -> Result<Self> {
        let ethernet = PacketBuilder::ethernet2(link.source, link.destination);
        let (builder, l4) = match (from.ip(), to.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => (ethernet.ipv4(src.octets(), dst.octets(), 64), L4),
            (IpAddr::V6(src), IpAddr::V6(dst)) => (ethernet.ipv6(src.octets(), dst.octets(), 64), L4_V6),
            _ => anyhow::bail!("{from} and {to} are of two families"),
        };
        let payload = [0x5a; 16];
        let mut frame = Vec::new();
        match kind {
            Kind::Syn => builder.tcp(from.port(), to.port(), 1, 65_535).syn().write(&mut frame, &[])?,
            Kind::Ack => builder.tcp(from.port(), to.port(), 1, 65_535).ack(1).write(&mut frame, &[])?,
            Kind::Datagram | Kind::Fragment => {
                builder.udp(from.port(), to.port()).write(&mut frame, &payload)?;
            }
        }
        let l4_check = l4 + if matches!(kind, Kind::Syn | Kind::Ack) { 16 } else { 6 };
        let mut checks = vec![(l4_check, true)];
        let addr = if l4 == L4 { IP + 14 } else { IP + 22 };
        if l4 == L4 {
            checks.push((IP + 10, false));
        }
        let mut template = Self { frame, addr, port: l4, checks };
        if kind == Kind::Fragment && l4 == L4 {
            // "More fragments"; the header's sum changes by as much.
            template.add(IP + 6, 0x2000);
            template.lessen(IP + 10, 0x2000);
        }
        Ok(template)
    }

    fn word(&self, at: usize) -> u16 {
        let octets = self.frame.get(at..at + 2).unwrap_or(&[0, 0]);
        octets.iter().fold(0, |word, octet| word << 8 | u16::from(*octet))
    }

    fn put(&mut self, at: usize, word: u16) {
        if let Some(octets) = self.frame.get_mut(at..at + 2) {
            octets.copy_from_slice(&word.to_be_bytes());
        }
    }

    fn add(&mut self, at: usize, more: u16) {
        self.put(at, self.word(at).wrapping_add(more));
    }

    /// Updates a checksum for words that have grown by that much (RFC 1624).
    fn lessen(&mut self, check: usize, growth: u16) {
        let sum = u32::from(!self.word(check)) + u32::from(growth);
        self.put(check, !((sum & 0xffff) + (sum >> 16)) as u16);
    }

    /// The `number`-th packet.
    fn vary(&mut self, fresh: &Self, number: u32) {
        let (addr, port) = (number as u16, 1_024 + (number >> 16) as u16);
        self.frame.copy_from_slice(&fresh.frame);
        self.put(self.addr, addr);
        self.put(self.port, port);
        for &(check, covers_port) in &fresh.checks {
            self.lessen(check, addr);
            if covers_port {
                self.lessen(check, port);
            }
        }
    }
}

/// Sends packets with ever new sources for that long; returns their number.
pub fn send(kind: Kind, link: &Link<'_>, from: IpAddr, to: SocketAddr, time: Duration) -> Result<u32> {
    let fresh = Template::new(kind, link, (from, 0).into(), to)?;
    link.netns.within(|| {
        // With the protocol number 0 the socket receives nothing.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        let by = by_interface(link.interface)?;
        let mut template = fresh.clone();
        let end = Instant::now() + time;
        let mut sent = 0;
        while Instant::now() < end {
            for _ in 0..256 {
                template.vary(&fresh, sent);
                // A full queue loses the packet, as a card does.
                let _ = socket.send_to(&template.frame, &by);
                sent += 1;
            }
        }
        Ok(sent)
    })
}

/// The address of an interface of this thread's network namespace, for frames.
fn by_interface(interface: &str) -> Result<SockAddr> {
    let index = if_nametoindex(interface).with_context(|| format!("no interface {interface}"))?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: a sockaddr_ll fits into the storage, and any octets are a valid one.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = i32::try_from(index)?;
    // SAFETY: the family is AF_PACKET and the length that of its address.
    Ok(unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) })
}

/// The MAC of an interface.
pub fn mac_of(netns: &Netns, interface: &str) -> Result<[u8; 6]> {
    netns.within(|| {
        let mut links = getifaddrs()?.filter(|link| link.interface_name == interface);
        let mac = links.find_map(|link| link.address?.as_link_addr()?.addr());
        mac.with_context(|| format!("{interface} has no MAC"))
    })
}
