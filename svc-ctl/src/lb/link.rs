//! Sockets for frames of ARP and messages of neighbor discovery: receives the messages of other hosts about an address,
//! and sends those of this host.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;

use anyhow::Context as _;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::claim::Mac;

const ETH_P_ARP: u16 = libc::ETH_P_ARP as u16;
/// linux/icmpv6.h: a filter of 256 bits, those set are not received.
const ICMP6_FILTER: libc::c_int = 1;
const ADVERTISEMENT: u8 = 136;
/// Octets of a frame of ARP from Ethernet on, and of an advertisement with the target's link-layer address.
const ARP_LEN: usize = 42;
const ADVERTISEMENT_LEN: usize = 32;

/// A message of a host that it has an address, with its link-layer address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Announcement {
    pub address: IpAddr,
    pub mac: Mac,
}

/// The sockets.
pub struct Link {
    arp: AsyncFd<Socket>,
    advertisements: AsyncFd<Socket>,
}

impl Link {
    /// Needs CAP_NET_RAW.
    pub fn open() -> anyhow::Result<Self> {
        let protocol = Protocol::from(i32::from(ETH_P_ARP.to_be()));
        let arp = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).context("a socket for ARP")?;
        arp.set_nonblocking(true)?;
        let advertisements = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))
            .context("a socket for neighbor discovery")?;
        advertisements.set_nonblocking(true)?;
        let mut filter = [u32::MAX; 8];
        filter[usize::from(ADVERTISEMENT) / 32] &= !(1 << (ADVERTISEMENT % 32));
        // SAFETY: the kernel reads the eight words of the filter.
        let set = unsafe {
            libc::setsockopt(
                advertisements.as_raw_fd(),
                libc::IPPROTO_ICMPV6,
                ICMP6_FILTER,
                filter.as_ptr().cast(),
                size_of_val(&filter) as libc::socklen_t,
            )
        };
        if set != 0 {
            return Err(io::Error::last_os_error()).context("filtering messages of neighbor discovery");
        }
        // SAFETY: each socket owns its descriptor, and nothing closes it before the socket is dropped.
        let (arp, advertisements) = unsafe { (AsyncFd::register(arp), AsyncFd::register(advertisements)) };
        Ok(Self {
            arp: arp.context("waiting for ARP")?,
            advertisements: advertisements.context("waiting for neighbor discovery")?,
        })
    }

    /// Sends a whole frame by an interface.
    pub fn send(&self, interface: u32, frame: &[u8]) -> io::Result<()> {
        let to = by_interface(interface)?;
        self.arp.get_ref().send_to(frame, &to).map(drop)
    }

    /// The next announcement of another host.
    pub async fn hear(&self) -> io::Result<Announcement> {
        loop {
            let said = tokio::select! {
                frame = receive(&self.arp) => of_arp(&frame?),
                message = receive(&self.advertisements) => of_advertisement(&message?),
            };
            if let Some(said) = said {
                return Ok(said);
            }
        }
    }
}

async fn receive(socket: &AsyncFd<Socket>) -> io::Result<Vec<u8>> {
    loop {
        let mut guard = socket.readable().await?;
        let read = guard.try_io(|socket| {
            let mut buffer = [MaybeUninit::<u8>::uninit(); 256];
            let length = socket.get_ref().recv(&mut buffer)?;
            // SAFETY: the kernel has written that many octets.
            Ok(buffer.iter().take(length).map(|octet| unsafe { octet.assume_init() }).collect())
        });
        if let Ok(read) = read {
            return read;
        }
    }
}

/// The sender of an answer or of an announcement. A host that only asks for an address does not claim it.
fn of_arp(frame: &[u8]) -> Option<Announcement> {
    let frame: &[u8; ARP_LEN] = frame.first_chunk()?;
    if frame[14..20] != [0, 1, 0x08, 0, 6, 4] {
        return None;
    }
    let [_, operation] = [frame[20], frame[21]];
    let (sender, target) = (&frame[28..32], &frame[38..42]);
    if operation != 2 && sender != target {
        return None;
    }
    let address: [u8; 4] = sender.try_into().ok()?;
    Some(Announcement { address: Ipv4Addr::from(address).into(), mac: frame[22..28].try_into().ok()? })
}

/// The target of an advertisement, if its link-layer address is in it.
fn of_advertisement(message: &[u8]) -> Option<Announcement> {
    let message: &[u8; ADVERTISEMENT_LEN] = message.first_chunk()?;
    if message[0] != ADVERTISEMENT || message[24..26] != [2, 1] {
        return None;
    }
    let address: [u8; 16] = message[8..24].try_into().ok()?;
    Some(Announcement { address: Ipv6Addr::from(address).into(), mac: message[26..32].try_into().ok()? })
}

/// `sockaddr_ll` of an interface.
fn by_interface(index: u32) -> io::Result<SockAddr> {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: a sockaddr_ll fits into the storage, and any octets are a valid one.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ETH_P_ARP.to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the family is AF_PACKET and the length that of its address.
    Ok(unsafe { SockAddr::new(storage, length) })
}

#[cfg(test)]
mod tests {
    use super::super::frames;
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 7];

    #[test]
    fn an_announcement_is_heard_and_a_question_is_not() {
        let ip: IpAddr = "192.0.2.9".parse().unwrap();
        for frame in frames::announcements(ip, MAC) {
            assert_eq!(of_arp(&frame), Some(Announcement { address: ip, mac: MAC }));
        }
        assert_eq!(of_arp(&frames::probe(ip, MAC, None).unwrap()), None);
        let six: IpAddr = "2001:db8::9".parse().unwrap();
        let frame = frames::announcements(six, MAC).remove(0);
        assert_eq!(of_advertisement(&frame[54..]), Some(Announcement { address: six, mac: MAC }));
        let asked = frames::probe(six, MAC, Some("2001:db8::1".parse().unwrap())).unwrap();
        assert_eq!(of_advertisement(&asked[54..]), None);
    }

    #[test]
    fn whatever_arrives_harms_nothing() {
        for length in 0..64 {
            for octet in [0, 1, 2, 136, 255] {
                let octets = vec![octet; length];
                assert_eq!((of_arp(&octets), of_advertisement(&octets)), (None, None));
            }
        }
    }
}
