//! Clients with open connections: each is one socket, which goes on or stays idle while a flood runs.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use svc_tests::netns::Netns;

/// Time for an answer on an open connection: TCP repairs a loss.
const PATIENCE: Duration = Duration::from_secs(10);
/// Datagrams until one is answered, and the time for each.
const DATAGRAMS: u32 = 10;
const DATAGRAM_PATIENCE: Duration = Duration::from_millis(500);

/// One open connection or datagram socket.
pub struct Client {
    socket: Socket,
    /// The answer to its first request: the server's name and the address that it sees.
    first: String,
}

enum Socket {
    Tcp(BufReader<TcpStream>),
    Udp(UdpSocket),
}

impl Client {
    pub fn tcp(netns: &Netns, to: SocketAddr) -> Result<Self> {
        let stream = netns.within(|| Ok(TcpStream::connect_timeout(&to, PATIENCE)?))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Self::assured(Socket::Tcp(BufReader::new(stream)))
    }

    pub fn udp(netns: &Netns, to: SocketAddr) -> Result<Self> {
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = netns.within(|| Ok(UdpSocket::bind((any, 0))?))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(DATAGRAM_PATIENCE))?;
        Self::assured(Socket::Udp(socket))
    }

    /// Two requests: the second one assures a flow of datagrams.
    fn assured(socket: Socket) -> Result<Self> {
        let mut client = Self { socket, first: String::new() };
        client.first = client.ask()?;
        client.goes_on()?;
        Ok(client)
    }

    fn ask(&mut self) -> Result<String> {
        let mut answer = String::new();
        match &mut self.socket {
            Socket::Tcp(stream) => {
                stream.get_mut().write_all(b"who\n")?;
                stream.read_line(&mut answer)?;
            }
            // A datagram may be lost at the server, whose socket the flood fills too.
            Socket::Udp(socket) => {
                let mut buffer = [0; 256];
                let asked = (0..DATAGRAMS).find_map(|_| {
                    socket.send(b"who").ok()?;
                    socket.recv(&mut buffer).ok()
                });
                let length = asked.with_context(|| format!("no answer to {DATAGRAMS} datagrams"))?;
                answer.push_str(&String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()));
            }
        }
        Ok(answer.trim_end().to_owned())
    }

    /// The same server answers, and sees the same address and port.
    pub fn goes_on(&mut self) -> Result<()> {
        let answer = self.ask().with_context(|| format!("after {:?}", self.first))?;
        ensure!(answer == self.first, "{answer:?} after {:?}", self.first);
        Ok(())
    }
}

/// Clients that do not go on, as text.
pub fn lost<'a>(clients: impl IntoIterator<Item = &'a mut Client>) -> Vec<String> {
    clients
        .into_iter()
        .filter_map(|client| client.goes_on().err().map(|error| format!("{error:#}")))
        .collect()
}

/// Attempts of new connections, of which so many were answered in time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Honest {
    pub tried: u32,
    pub answered: u32,
}

impl Honest {
    /// Opens a connection and asks once, in this time.
    pub fn attempt(&mut self, netns: &Netns, to: SocketAddr, limit: Duration) -> Result<()> {
        self.tried += 1;
        let stream = netns.within(|| Ok(TcpStream::connect_timeout(&to, limit)));
        if let Ok(stream) = stream? {
            stream.set_read_timeout(Some(limit))?;
            let mut stream = BufReader::new(stream);
            let mut answer = String::new();
            let is_asked = stream.get_mut().write_all(b"who\n").is_ok();
            self.answered += u32::from(is_asked && stream.read_line(&mut answer).is_ok_and(|n| n > 0));
        }
        Ok(())
    }
}

/// The flows of a daemon's answer to `get flows`, without what a packet changes.
pub fn tuples(flows: &serde_json::Value) -> BTreeSet<String> {
    let fields = ["proto", "from", "to", "becomes_from", "becomes_to", "direction"];
    let tuple = |flow: &serde_json::Value| fields.map(|field| flow[field].to_string()).join(" ");
    let is_answered =
        |flow: &&serde_json::Value| flow["state"].as_str().is_some_and(|state| state.contains("replied"));
    flows.as_array().into_iter().flatten().filter(is_answered).map(tuple).collect()
}
