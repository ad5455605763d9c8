//! The clients of a played case: three kinds with addresses of their own, and the addresses that they dial.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use svc_tests::model::network;
use svc_tests::model::world::{Proto, Tuple};

use crate::ask::Origin;

/// A network of clients, distinguished by the last octet of their addresses.
#[derive(Clone, Copy, Debug)]
pub struct Clients {
    name: &'static str,
    pub is_pod: bool,
    net: [u8; 3],
    first: u8,
}

/// Clients outside are inside and outside of the source ranges in the cases.
pub const ALL: [Clients; 3] = [
    Clients { name: "a pod", is_pod: true, net: [10, 8, 0], first: 1 },
    Clients { name: "a client", is_pod: false, net: [203, 0, 113], first: 1 },
    Clients { name: "a client beyond 203.0.113.128", is_pod: false, net: [203, 0, 113], first: 129 },
];

/// Number of addresses in a network.
const COUNT: usize = 120;

impl Clients {
    pub fn addr(&self, number: usize, is_v4: bool) -> IpAddr {
        let [a, b, c] = self.net;
        network::at([a, b, c, self.first + (number % COUNT) as u8], is_v4)
    }

    /// Every second client outside goes through XDP.
    pub fn origin(&self, number: usize) -> Origin {
        match (self.is_pod, number % 2) {
            (true, _) => Origin::Pod,
            (false, 0) => Origin::OutsideByXdp,
            (false, _) => Origin::Outside,
        }
    }
}

impl fmt::Display for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A destination of clients: the address of a frontend, or one of the node for a NodePort.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Destination {
    pub to: SocketAddr,
    /// As in rendered tables.
    pub proto: &'static str,
}

impl Destination {
    /// The two possible frontends, as in rendered tables: this address, the node.
    pub fn names(&self) -> [String; 2] {
        let Self { to, proto } = self;
        let family = if to.is_ipv4() { "IPv4" } else { "IPv6" };
        [format!("{to}/{proto}"), format!("node-port:{}/{proto}/{family}", to.port())]
    }

    pub fn dialled_from(&self, src: SocketAddr) -> Tuple {
        let proto = match self.proto {
            "TCP" => Proto::Tcp,
            "UDP" => Proto::Udp,
            _ => Proto::Sctp,
        };
        Tuple { proto, src, dst: self.to }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.to, self.proto)
    }
}
