//! The programs' result for one packet: the backend that it reaches, or how it ends.

use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use svc_common::abi::Counter;
use svc_tests::model::network::is_node;
use svc_tests::model::packet::{ACK, ETH, Packet, SYN, Shape, tuple_in};
use svc_tests::model::world::{Proto, Tuple};
use svc_tests::packet::kernel::{self, Kernel};
use svc_tests::packet::place;
use svc_tests::packet::row::At;

/// Offset of the protocol field in an IP header, and the header's length; for each family.
const PROTOCOL: [(usize, usize); 2] = [(9, 20), (6, 40)];
/// Type and code of "port unreachable".
const PORT_UNREACHABLE: [[u8; 2]; 2] = [[3, 3], [1, 4]];

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum PacketOutcome {
    Reaches {
        backend: SocketAddr,
        /// The backend sees an address of the node.
        is_masqueraded: bool,
    },
    /// The sender gets an error.
    Refused,
    Dropped,
    Untouched,
}

impl fmt::Display for PacketOutcome {
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

/// The hook at which a packet comes in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    Pod,
    /// Through XDP first.
    OutsideByXdp,
    Outside,
}

/// The first packet of a connection.
pub fn first(kernel: &Kernel, origin: Origin, tuple: Tuple) -> Result<PacketOutcome> {
    ask(kernel, origin, tuple, Shape { flags: SYN, payload: 0, ..Shape::default() })
}

/// A packet in mid-flow.
pub fn later(kernel: &Kernel, origin: Origin, tuple: Tuple) -> Result<PacketOutcome> {
    ask(kernel, origin, tuple, Shape { flags: ACK, ..Shape::default() })
}

fn ask(kernel: &Kernel, origin: Origin, tuple: Tuple, shape: Shape) -> Result<PacketOutcome> {
    let packet = Packet { tuple, shape, quotes: None };
    loop {
        let (tick, limited) = (kernel::now(), kernel.store.0.counter(Counter::RejectLimited));
        let outcome = run(kernel, origin, &packet).with_context(|| format!("{tuple:?}"))?;
        if outcome != PacketOutcome::Dropped || kernel.store.0.counter(Counter::RejectLimited) == limited {
            return Ok(outcome);
        }
        // Beyond the limit of errors for a tick: wait for the next one.
        while kernel::now() == tick {
            std::thread::yield_now();
        }
    }
}

fn run(kernel: &Kernel, origin: Origin, packet: &Packet) -> Result<PacketOutcome> {
    let (interface, hook) = match origin {
        Origin::Pod => ("pod0", At::PodIngress),
        Origin::OutsideByXdp | Origin::Outside => ("up0", At::UplinkIngress),
    };
    let (own, peer) = place::macs(interface);
    let frame = packet.octets(own, peer);
    if origin == Origin::OutsideByXdp {
        let ran = kernel.run(At::Xdp, interface, 0, &frame, 0)?;
        match ran.verdict {
            1 => return Ok(PacketOutcome::Dropped),
            2 => ensure!(ran.packet == frame, "XDP hands up a packet that it has changed"),
            3 | 4 => return read(packet, &ran.packet),
            code => bail!("XDP: verdict {code}"),
        }
    }
    let ran = kernel.run(hook, interface, 0, &frame, 0)?;
    match ran.verdict {
        2 => Ok(PacketOutcome::Dropped),
        -1 if ran.packet == frame => Ok(PacketOutcome::Untouched),
        -1 | 7 => read(packet, &ran.packet),
        code => bail!("{hook:?}: verdict {code}"),
    }
}

/// The result, read from a changed packet.
fn read(packet: &Packet, octets: &[u8]) -> Result<PacketOutcome> {
    let sent = packet.tuple;
    let family = usize::from(sent.dst.is_ipv6());
    let (protocol, header) = PROTOCOL[family];
    if sent.proto != Proto::Icmp && matches!(octets.get(ETH + protocol), Some(1 | 58)) {
        let kind = octets.get(ETH + header..ETH + header + 2);
        ensure!(kind == Some(&PORT_UNREACHABLE[family]), "an ICMP message {kind:?}");
        return Ok(PacketOutcome::Refused);
    }
    let now = tuple_in(octets, packet).context("a packet without a tuple")?;
    let is_masqueraded = now.src.ip() != sent.src.ip();
    ensure!(!is_masqueraded || is_node(now.src.ip()), "it comes from {}, which is not the node", now.src);
    Ok(PacketOutcome::Reaches { backend: now.dst, is_masqueraded })
}
