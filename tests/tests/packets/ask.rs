//! What the programs make of one packet, in a word: whom it reaches, or how it ends.

use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use svc_common::abi::Counter;
use svc_tests::model::ground::is_node;
use svc_tests::model::packet::{ACK, ETH, Packet, SYN, Shape, tuple_in};
use svc_tests::model::world::{Proto, Tuple};
use svc_tests::packet::kernel::{self, Kernel};
use svc_tests::packet::place;
use svc_tests::packet::row::At;

/// The octet of an IP header that names what is behind it, and how long that header is; of either family.
const PROTOCOL: [(usize, usize); 2] = [(9, 20), (6, 40)];
/// Type and code of "port unreachable".
const PORT_UNREACHABLE: [[u8; 2]; 2] = [[3, 3], [1, 4]];

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fate {
    Reaches {
        backend: SocketAddr,
        /// The backend sees an address of the node.
        is_masqueraded: bool,
    },
    /// The sender is told.
    Refused,
    Dropped,
    Untouched,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reaches { backend, is_masqueraded: true } => write!(f, "{backend} from the node"),
            Self::Reaches { backend, is_masqueraded: false } => write!(f, "{backend}"),
            Self::Refused => f.write_str("refused"),
            Self::Dropped => f.write_str("dropped"),
            Self::Untouched => f.write_str("untouched"),
        }
    }
}

/// By which way a packet comes in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    Pod,
    /// Met by XDP first.
    OutsideByXdp,
    Outside,
}

/// The first packet of a connection.
pub fn first(kernel: &Kernel, origin: Origin, tuple: Tuple) -> Result<Fate> {
    ask(kernel, origin, tuple, Shape { flags: SYN, payload: 0, ..Shape::default() })
}

/// A packet in mid-flow.
pub fn later(kernel: &Kernel, origin: Origin, tuple: Tuple) -> Result<Fate> {
    ask(kernel, origin, tuple, Shape { flags: ACK, ..Shape::default() })
}

fn ask(kernel: &Kernel, origin: Origin, tuple: Tuple, shape: Shape) -> Result<Fate> {
    let packet = Packet { tuple, shape, quotes: None };
    loop {
        let (tick, limited) = (kernel::now(), kernel.store.0.counter(Counter::RejectLimited));
        let fate = run(kernel, origin, &packet).with_context(|| format!("{tuple:?}"))?;
        if fate != Fate::Dropped || kernel.store.0.counter(Counter::RejectLimited) == limited {
            return Ok(fate);
        }
        // One error too many: in the next tick there are more.
        while kernel::now() == tick {
            std::thread::yield_now();
        }
    }
}

fn run(kernel: &Kernel, origin: Origin, packet: &Packet) -> Result<Fate> {
    let (interface, hook) = match origin {
        Origin::Pod => ("pod0", At::PodIngress),
        Origin::OutsideByXdp | Origin::Outside => ("up0", At::UplinkIngress),
    };
    let (own, peer) = place::macs(interface);
    let frame = packet.octets(own, peer);
    if origin == Origin::OutsideByXdp {
        let ran = kernel.run(At::Xdp, interface, 0, &frame, 0)?;
        match ran.verdict {
            1 => return Ok(Fate::Dropped),
            2 => ensure!(ran.packet == frame, "XDP hands up a packet that it has changed"),
            3 | 4 => return read(packet, &ran.packet),
            code => bail!("XDP: verdict {code}"),
        }
    }
    let ran = kernel.run(hook, interface, 0, &frame, 0)?;
    match ran.verdict {
        2 => Ok(Fate::Dropped),
        -1 if ran.packet == frame => Ok(Fate::Untouched),
        -1 | 7 => read(packet, &ran.packet),
        code => bail!("{hook:?}: verdict {code}"),
    }
}

/// What a packet says that has been changed.
fn read(packet: &Packet, octets: &[u8]) -> Result<Fate> {
    let sent = packet.tuple;
    let family = usize::from(sent.dst.is_ipv6());
    let (protocol, header) = PROTOCOL[family];
    if sent.proto != Proto::Icmp && matches!(octets.get(ETH + protocol), Some(1 | 58)) {
        let kind = octets.get(ETH + header..ETH + header + 2);
        ensure!(kind == Some(&PORT_UNREACHABLE[family]), "an ICMP message {kind:?}");
        return Ok(Fate::Refused);
    }
    let now = tuple_in(octets, packet).context("a packet without a tuple")?;
    let is_masqueraded = now.src.ip() != sent.src.ip();
    ensure!(!is_masqueraded || is_node(now.src.ip()), "it comes from {}, which is not the node", now.src);
    Ok(Fate::Reaches { backend: now.dst, is_masqueraded })
}
