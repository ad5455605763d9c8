//! TCP to a peer: its password, source address, and the limits of its distance.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd as _;

use anyhow::Context as _;
use nix::net::if_::if_nametoindex;
use socket2::SockAddr;
use tokio::net::{TcpSocket, TcpStream};

use super::settings::{Distance, Password, PasswordSource, Peer};

/// linux/in.h and linux/in6.h; libc has the second one only for some targets.
const IP_MINTTL: libc::c_int = 21;
const IPV6_MINHOPCOUNT: libc::c_int = 73;
/// TTL of a packet whose number of hops the receiver checks (RFC 5082).
const GREATEST_TTL: u8 = 255;
/// Class of service of routing protocols: internetwork control.
const CLASS: u32 = 0xC0;

/// `struct tcp_md5sig` (linux/tcp.h).
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: libc::c_int,
    key: [u8; 80],
}

/// Connects. `is_internal`: the peer is certainly of the own autonomous system.
pub async fn connect(peer: &Peer, is_internal: bool) -> anyhow::Result<TcpStream> {
    let to = endpoint(peer)?;
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.context("a socket")?;
    if let Some(password) = peer.password.as_ref().map(read).transpose()? {
        set_password(&socket, to, &password).context("setting the password (TCP_MD5SIG)")?;
    }
    let ttl = match (peer.distance, is_internal) {
        (Distance::Security(hops), _) => {
            set_least_ttl(&socket, to, GREATEST_TTL - hops + 1).context("limiting the number of hops")?;
            GREATEST_TTL
        }
        (Distance::MultiHop, _) | (Distance::Usual, true) => GREATEST_TTL,
        (Distance::Usual, false) => 1,
    };
    set_ttl(&socket, to, ttl).context("setting the number of hops")?;
    // A router's queue may prefer it; a kernel that refuses it harms no session.
    let _ = match to {
        SocketAddr::V4(_) => set(&socket, libc::IPPROTO_IP, libc::IP_TOS, &CLASS),
        SocketAddr::V6(_) => set(&socket, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &CLASS),
    };
    if let Some(source) = peer.source {
        socket.bind(SocketAddr::new(source, 0)).with_context(|| format!("sourceAddress {source}"))?;
    }
    let stream = socket.connect(to).await.with_context(|| format!("connecting to {to}"))?;
    stream.set_nodelay(true).context("TCP_NODELAY")?;
    Ok(stream)
}

fn endpoint(peer: &Peer) -> anyhow::Result<SocketAddr> {
    match (peer.address, &peer.interface) {
        (IpAddr::V6(ip), Some(interface)) => {
            let index =
                if_nametoindex(interface.as_str()).with_context(|| format!("interface {interface}"))?;
            Ok(SocketAddrV6::new(ip, peer.port, 0, index).into())
        }
        _ => Ok(peer.endpoint()),
    }
}

fn read(source: &PasswordSource) -> anyhow::Result<Password> {
    match source {
        PasswordSource::Literal(password) => Ok(password.clone()),
        PasswordSource::File(path) => {
            let named = || format!("passwordFile {}", path.display());
            let text = std::fs::read_to_string(path).with_context(named)?;
            Password::new(text.trim_end_matches(['\r', '\n']).to_owned()).with_context(named)
        }
    }
}

fn set_password(socket: &TcpSocket, to: SocketAddr, password: &Password) -> io::Result<()> {
    // SAFETY: all of its fields may be zero.
    let mut signature: TcpMd5Sig = unsafe { std::mem::zeroed() };
    let address = SockAddr::from(to);
    // SAFETY: the address has at most as many octets as the storage, and is no part of it.
    unsafe {
        std::ptr::copy_nonoverlapping(
            address.as_ptr().cast::<u8>(),
            (&raw mut signature.address).cast::<u8>(),
            address.len() as usize,
        );
    }
    let key = password.octets();
    signature.key_length = key.len() as u16;
    signature.key[..key.len()].copy_from_slice(key);
    set(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &signature)
}

fn set_least_ttl(socket: &TcpSocket, to: SocketAddr, ttl: u8) -> io::Result<()> {
    let ttl = libc::c_int::from(ttl);
    match to {
        SocketAddr::V4(_) => set(socket, libc::IPPROTO_IP, IP_MINTTL, &ttl),
        SocketAddr::V6(_) => set(socket, libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT, &ttl),
    }
}

fn set_ttl(socket: &TcpSocket, to: SocketAddr, ttl: u8) -> io::Result<()> {
    let ttl = libc::c_int::from(ttl);
    match to {
        SocketAddr::V4(_) => set(socket, libc::IPPROTO_IP, libc::IP_TTL, &ttl),
        SocketAddr::V6(_) => set(socket, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, &ttl),
    }
}

fn set<T>(socket: &TcpSocket, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads as many octets as the value has.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
