//! A request that must be refused: returns the failing call, its errno and the time.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::address::unspecified;
use super::protocol::{Refusal, Via};

const LIMIT: Duration = Duration::from_secs(3);

pub(super) fn probe(via: Via, to: SocketAddr) -> Result<Refusal> {
    let start = Instant::now();
    let (call, error) = match via {
        Via::Tcp | Via::Http => match TcpStream::connect_timeout(&to, LIMIT) {
            Ok(stream) => bail!("connected to {}", stream.peer_addr()?),
            Err(error) => ("connect", error),
        },
        Via::UdpConnected => connected_datagram(to)?,
        Via::UdpUnconnected => ("sendto", datagram(to)?),
    };
    let elapsed_ms = u64::try_from(start.elapsed().as_millis())?;
    // The timeout error of connect_timeout has no errno.
    let errno = error.raw_os_error().unwrap_or(libc::ETIMEDOUT);
    Ok(Refusal { errno, call: call.into(), elapsed_ms })
}

/// An unconnected socket gets an error from the call itself or never: ICMP errors are not reported to it.
fn datagram(to: SocketAddr) -> Result<io::Error> {
    match UdpSocket::bind(unspecified(to.ip()))?.send_to(b"who", to) {
        Ok(_) => bail!("sendto {to} says nothing of a refusal"),
        Err(error) => Ok(error),
    }
}

fn connected_datagram(to: SocketAddr) -> Result<(&'static str, io::Error)> {
    let socket = UdpSocket::bind(unspecified(to.ip()))?;
    socket.set_read_timeout(Some(LIMIT))?;
    if let Err(error) = socket.connect(to) {
        return Ok(("connect", error));
    }
    if let Err(error) = socket.send(b"who") {
        return Ok(("send", error));
    }
    match socket.recv(&mut [0; 256]) {
        Ok(_) => bail!("{to} answered"),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Ok(("recv", io::Error::from_raw_os_error(libc::ETIMEDOUT)))
        }
        Err(error) => Ok(("recv", error)),
    }
}
