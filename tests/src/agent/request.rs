//! One small request from a socket of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Socket, Type};

use super::address::unspecified;
use super::protocol::{Answer, Sockets, Via};

/// Less than the second after which TCP repeats a SYN, so that the repetition does not hide a lost first packet.
pub const LIMIT: Duration = Duration::from_millis(950);

/// Timeout for a reply on an open connection: TCP repairs losses, and a busy machine is slow.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(10);

pub(super) fn once(via: Via, to: SocketAddr) -> Result<Answer> {
    match via {
        Via::Tcp => tcp(to),
        Via::Http => http(to),
        Via::UdpConnected | Via::UdpUnconnected => udp(via, to),
    }
}

/// The nanoseconds that the requests take.
pub(super) fn time(via: Via, to: SocketAddr, count: u32, sockets: Sockets) -> Result<u64> {
    let began;
    match (sockets, via) {
        (Sockets::Fresh, _) => {
            began = Instant::now();
            (0..count).try_for_each(|_| once(via, to).map(drop))?;
        }
        (Sockets::Unused, Via::Tcp | Via::Http) => bail!("a TCP socket that connects is used"),
        (Sockets::Unused, Via::UdpConnected | Via::UdpUnconnected) => {
            began = Instant::now();
            (0..count).try_for_each(|_| UdpSocket::bind(unspecified(to.ip()))?.connect(to))?;
        }
        (Sockets::Shared, Via::Tcp | Via::Http) => {
            let mut stream = connect(to)?;
            ask(&mut stream, to, "who")?;
            began = Instant::now();
            (0..count).try_for_each(|_| ask(&mut stream, to, "who").map(drop))?;
        }
        (Sockets::Shared, Via::UdpConnected | Via::UdpUnconnected) => {
            let socket = Datagrams::open(via, to)?;
            socket.ask_once()?;
            began = Instant::now();
            (0..count).try_for_each(|_| socket.ask_once().map(drop))?;
        }
    }
    u64::try_from(began.elapsed().as_nanos()).context("too long")
}

/// A datagram of that many octets; the reply is as long.
pub(super) fn long(via: Via, to: SocketAddr, octets: usize) -> Result<Answer> {
    Datagrams::open(via, to)?.ask(&"long".repeat(octets.div_ceil(4)))
}

pub(super) fn from_one_port(via: Via, to: &[SocketAddr]) -> Result<Vec<Answer>> {
    let kind = if via == Via::Tcp { Type::STREAM } else { Type::DGRAM };
    let mut port = 0;
    let mut sockets = Vec::new();
    for to in to {
        let socket = Socket::new(Domain::for_address(*to), kind, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(unspecified(to.ip()).ip(), port).into())?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.connect_timeout(&(*to).into(), LIMIT).with_context(|| format!("connect {to}"))?;
        port = socket.local_addr()?.as_socket().context("a socket of the Internet")?.port();
        sockets.push((socket, *to));
    }
    let mut answers = Vec::new();
    for round in 0..2 {
        for (socket, to) in &sockets {
            let answer = match via {
                Via::Tcp | Via::Http => ask(&mut TcpStream::from(socket.try_clone()?), *to, "who"),
                Via::UdpConnected | Via::UdpUnconnected => {
                    let socket = UdpSocket::from(socket.try_clone()?);
                    Datagrams { socket, to: *to, connected: true }.ask("who")
                }
            };
            answers.push(answer.with_context(|| format!("round {round}"))?);
        }
    }
    Ok(answers)
}

fn tcp(to: SocketAddr) -> Result<Answer> {
    ask(&mut connect(to)?, to, "who")
}

fn http(to: SocketAddr) -> Result<Answer> {
    get(&mut connect(to)?, to)
}

/// An HTTP request like curl's, after which the server closes the connection. The body is parsed by [`parse`].
pub(super) fn get(stream: &mut TcpStream, to: SocketAddr) -> Result<Answer> {
    let request = format!("GET / HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).with_context(|| format!("write to {to}"))?;
    let mut response = String::new();
    stream.read_to_string(&mut response).with_context(|| format!("read from {to}"))?;
    let (head, body) = response.split_once("\r\n\r\n").context("a response without an end of its header")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "response {head:?}");
    parse(body, "GET")
}

pub(super) fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, LIMIT).with_context(|| format!("connect {to}"))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?;
    ensure!(peer == to, "getpeername says {peer}, dialled {to}");
    Ok(stream)
}

/// Sends a line on an open connection and reads the reply.
pub(super) fn ask(stream: &mut TcpStream, to: SocketAddr, line: &str) -> Result<Answer> {
    // One write: two small ones would leave as two segments.
    stream.write_all(format!("{line}\n").as_bytes()).with_context(|| format!("write to {to}"))?;
    let mut answer = String::new();
    let count = BufReader::new(stream).read_line(&mut answer).with_context(|| format!("read from {to}"))?;
    ensure!(count > 0, "{to} closed the connection instead of answering");
    parse(&answer, line)
}

fn udp(via: Via, to: SocketAddr) -> Result<Answer> {
    Datagrams::open(via, to)?.ask_once()
}

/// `NAME PEER LINE`: the line must be the one that was sent.
fn parse(answer: &str, sent: &str) -> Result<Answer> {
    let mut words = answer.trim_end().splitn(3, ' ');
    let (server, peer, said) = (words.next(), words.next(), words.next());
    ensure!(said == Some(sent), "answer {answer:?} to {sent:?}");
    Ok(Answer { server: server.unwrap_or_default().into(), seen_from: peer.unwrap_or_default().parse()? })
}

/// A UDP client socket that checks the source of replies, connected or not.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: UdpSocket,
    to: SocketAddr,
    connected: bool,
}

impl Datagrams {
    pub(super) fn open(via: Via, to: SocketAddr) -> Result<Self> {
        Self::open_from(unspecified(to.ip()), via, to)
    }

    pub(super) fn open_from(from: SocketAddr, via: Via, to: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind(from)?;
        socket.set_read_timeout(Some(LIMIT))?;
        let connected = via == Via::UdpConnected;
        if connected {
            socket.connect(to).with_context(|| format!("connect {to}"))?;
            let peer = socket.peer_addr()?;
            ensure!(peer == to, "getpeername says {peer}, dialled {to}");
        }
        Ok(Self { socket, to, connected })
    }

    pub(super) fn set_limit(&self, limit: Duration) -> Result<()> {
        Ok(self.socket.set_read_timeout(Some(limit))?)
    }

    /// Sends a unique word and reads its reply; late replies to earlier words are ignored.
    pub(super) fn ask(&self, word: &str) -> Result<Answer> {
        self.send(word.as_bytes())?;
        loop {
            let mut buffer = vec![0; usize::from(u16::MAX)];
            let length = self.receive(&mut buffer)?;
            let answer = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            if !answer.contains(" tick-") || answer.ends_with(&format!(" {word}")) {
                return parse(&answer, word);
            }
        }
    }

    /// The only request of a socket.
    pub(super) fn ask_once(&self) -> Result<Answer> {
        self.ask(&format!("who-{}", self.socket.local_addr()?.port()))
    }

    pub(super) fn send(&self, datagram: &[u8]) -> Result<()> {
        let sent =
            if self.connected { self.socket.send(datagram) } else { self.socket.send_to(datagram, self.to) };
        sent.with_context(|| format!("send to {}", self.to))?;
        Ok(())
    }

    /// Receives one datagram, whose source must be the dialled address.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Result<usize> {
        let context = || format!("receive from {} on {:?}", self.to, self.socket.local_addr());
        if self.connected {
            return self.socket.recv(buffer).with_context(context);
        }
        let (length, from) = self.socket.recv_from(buffer).with_context(context)?;
        ensure!(from == self.to, "answer came from {from}, dialled {}", self.to);
        Ok(length)
    }
}
