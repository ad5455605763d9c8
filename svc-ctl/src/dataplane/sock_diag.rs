//! Lists and ends connected UDP sockets of the calling thread's network namespace, by sock_diag netlink.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::netlink::{NLM_F_ACK, NLM_F_DUMP, exchange, message};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// Sockets in state ESTABLISHED; a connected datagram socket is in that state.
const ESTABLISHED: u32 = 1 << 1;
/// Octets of `struct inet_diag_sockid`, and its offset in `struct inet_diag_msg`.
const ID: usize = 48;
const ID_AT: usize = 4;

/// A connected UDP socket, as the kernel identifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    family: u8,
    /// `struct inet_diag_sockid`: ports, addresses, interface, cookie.
    id: [u8; ID],
}

impl Connected {
    /// Unique over all namespaces until the machine restarts; the same as `bpf_get_socket_cookie`.
    pub fn cookie(&self) -> u64 {
        self.id.last_chunk().map_or(0, |b| u64::from_ne_bytes(*b))
    }

    /// The peer. An IPv4-mapped peer of an IPv6 socket is returned as IPv4.
    pub fn peer(&self) -> SocketAddr {
        let [_, _, high, low, ..] = self.id;
        let address: [u8; 16] = self.id.get(20..).and_then(|b| b.first_chunk().copied()).unwrap_or_default();
        let [a, b, c, d, ..] = address;
        let ip = match i32::from(self.family) {
            libc::AF_INET => IpAddr::from(Ipv4Addr::new(a, b, c, d)),
            _ => IpAddr::from(Ipv6Addr::from(address)).to_canonical(),
        };
        (ip, u16::from_be_bytes([high, low])).into()
    }
}

/// Every connected UDP socket of this namespace.
pub fn connected() -> io::Result<Vec<Connected>> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let request = request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, family as u8, &[0; ID]);
        exchange(libc::NETLINK_SOCK_DIAG, &request, |_, body| found.extend(parse(body)))?;
    }
    Ok(found)
}

/// Ends a socket: its owner's next call fails with ECONNABORTED, and it is no longer connected. An error of the kind
/// `NotFound` or ESTALE means that the socket was closed in the meantime.
pub fn end(socket: &Connected) -> io::Result<()> {
    let request = request(SOCK_DESTROY, NLM_F_ACK, socket.family, &socket.id);
    exchange(libc::NETLINK_SOCK_DIAG, &request, |_, _| {})
}

/// `struct inet_diag_req_v2`.
fn request(kind: u16, flags: u16, family: u8, id: &[u8; ID]) -> Vec<u8> {
    let mut body = vec![family, libc::IPPROTO_UDP as u8, 0, 0];
    body.extend(ESTABLISHED.to_ne_bytes());
    body.extend(id);
    message(kind, flags, &body)
}

fn parse(body: &[u8]) -> Option<Connected> {
    Some(Connected { family: *body.first()?, id: *body.get(ID_AT..)?.first_chunk()? })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    /// A socket connected from `local` to `peer`, and the kernel's list of such sockets.
    fn listed(local: &str, peer: SocketAddr) -> (UdpSocket, Vec<Connected>) {
        let socket = UdpSocket::bind(local).unwrap();
        socket.connect(peer).unwrap();
        let port = socket.local_addr().unwrap().port().to_be_bytes();
        let all = connected().unwrap();
        (socket, all.into_iter().filter(|s| s.id.starts_with(&port)).collect())
    }

    #[test]
    fn connected_sockets_are_listed_with_their_peers() {
        for (local, server) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:0", "[::1]:0")] {
            let server = UdpSocket::bind(server).unwrap();
            let peer = server.local_addr().unwrap();
            let (_socket, found) = listed(local, peer);
            assert!(found.iter().any(|s| s.peer() == peer && s.cookie() != 0), "{peer}: {found:?}");
        }
    }

    #[test]
    fn a_mapped_peer_is_ipv4() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = server.local_addr().unwrap();
        let mapped = (Ipv4Addr::LOCALHOST.to_ipv6_mapped(), peer.port()).into();
        let (_socket, found) = listed("[::]:0", mapped);
        assert!(found.iter().any(|s| s.peer() == peer), "{found:?}");
    }

    #[test]
    fn requests_have_the_kernels_layout() {
        let request = request(SOCK_DESTROY, NLM_F_ACK, 10, &[7; ID]);
        assert_eq!((request.len(), request.get(4..8)), (16 + 56, Some(&[21, 0, 5, 0][..])));
        assert_eq!(request.get(16..24), Some(&[10, 17, 0, 0, 2, 0, 0, 0][..]));
        assert_eq!(parse(&[2; 51]), None);
    }
}
