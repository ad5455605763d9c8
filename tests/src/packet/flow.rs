//! Flow records as text. Expected records and the table's records are written as lines and compared, so that a
//! difference is readable.

use std::net::IpAddr;

use svc_common::abi::{Direction, Exit, FlowKey, FlowRecord, FlowState, Hook, MapAddr, ServicePortId};
use svc_common::addr::{AddrV4, AddrV6, Port, Proto};
use svc_common::family::{Family as _, V4, V6};
use svc_common::wire::checksum::Wsum;

use super::place;
use super::wire::{Case, L4, endpoint, number};

/// The service of every record in a row.
pub const SERVICE: ServicePortId = ServicePortId(7);

/// A flow: `from` is the client's tuple, `to` the backend's, each `SRC:PORT > DST:PORT`.
#[derive(Clone, Debug)]
pub struct Flow {
    from: String,
    to: String,
    l4: L4,
    exit: Exit,
    hooks: [Hook; 2],
    is_counted: bool,
    /// Next hop of each direction, if known.
    hops: [Option<&'static str>; 2],
    unresolved: Option<&'static str>,
    states: [FlowState; 2],
    is_host_udp: bool,
    ages: [u32; 2],
    has: [bool; 2],
}

pub fn flow(from: impl Into<String>, to: impl Into<String>) -> Flow {
    Flow {
        from: from.into(),
        to: to.into(),
        l4: L4::Either,
        exit: Exit::STACK,
        hooks: [Hook::INGRESS, Hook::POD_EGRESS],
        is_counted: true,
        hops: [None; 2],
        unresolved: None,
        states: [FlowState::NEW; 2],
        is_host_udp: false,
        ages: [0; 2],
        has: [true; 2],
    }
}

impl Flow {
    pub fn tcp(self) -> Self {
        Self { l4: L4::Tcp, ..self }
    }

    pub fn udp(self) -> Self {
        Self { l4: L4::Udp, ..self }
    }

    pub fn sctp(self) -> Self {
        Self { l4: L4::Sctp, ..self }
    }

    /// Through the stack; replies are translated at this hook.
    pub fn reversed_at(self, reverse_hook: Hook) -> Self {
        Self { hooks: [Hook::INGRESS, reverse_hook], ..self }
    }

    /// The second flow of a masquerade through the stack, translated at this hook. Its packets have been counted
    /// already.
    pub fn second_at(self, hook: Hook) -> Self {
        Self { hooks: [hook, Hook::INGRESS], is_counted: false, ..self }
    }

    /// Of a client that dials the backend itself, so no Service counts it.
    pub fn direct(self) -> Self {
        Self { is_counted: false, ..self }
    }

    /// Past the stack, both directions at ingress.
    pub fn redirected(self) -> Self {
        Self { exit: Exit::REDIRECT, hooks: [Hook::INGRESS; 2], ..self }
    }

    /// Hairpin.
    pub fn hairpin(self) -> Self {
        Self { exit: Exit::HAIRPIN, hooks: [Hook::INGRESS; 2], ..self }
    }

    /// The forward record has this next hop.
    pub fn next_hop(self, host: &'static str) -> Self {
        Self { hops: [Some(host), self.hops[1]], ..self }
    }

    /// The reverse record has this next hop.
    pub fn reverse_next_hop(self, host: &'static str) -> Self {
        Self { hops: [self.hops[0], Some(host)], ..self }
    }

    /// The forward record has the interface, but neither MAC nor MTU yet.
    pub fn unresolved(self, interface: &'static str) -> Self {
        Self { unresolved: Some(interface), ..self }
    }

    /// Events in the state of both records.
    pub fn state(self, bits: &[FlowState]) -> Self {
        let state = bits.iter().fold(FlowState::NEW, |s, b| s.with(*b));
        Self { states: [state; 2], ..self }
    }

    /// The backend is the node itself, which may answer UDP from another of its addresses.
    pub fn on_the_node(self) -> Self {
        Self { is_host_udp: true, ..self }
    }

    /// The last packets were that many ticks ago.
    pub fn aged(self, ticks: u32) -> Self {
        Self { ages: [ticks; 2], ..self }
    }

    /// The reverse record's last packet was that many ticks ago.
    pub fn aged_back(self, ticks: u32) -> Self {
        Self { ages: [self.ages[0], ticks], ..self }
    }

    pub fn forward_only(self) -> Self {
        Self { has: [true, false], ..self }
    }

    pub fn reverse_only(self) -> Self {
        Self { has: [false, true], ..self }
    }

    /// The records as in the tables.
    pub fn records(&self, case: Case, now: u32, ifindex: &dyn Fn(&str) -> u32) -> Vec<Line> {
        let l4 = if self.l4 == L4::Either { case.l4 } else { self.l4 };
        let wildcard_source = self.is_host_udp && l4 == L4::Udp;
        let (from, to) = (pair(&self.from, case), pair(&self.to, case));
        let line = |i: usize, src: AddrPort, dst: AddrPort, new: (AddrPort, AddrPort)| Line {
            proto: number(l4, case.family),
            key: (src, dst),
            new,
            direction: i,
            exit: self.exit,
            hook: self.hooks[i],
            twin_hook: self.hooks[1 - i],
            is_counted: self.is_counted,
            state: self.states[i],
            wildcard_source,
            stamp: now.wrapping_sub(self.ages[i]),
            hop: match (self.hops[i].map(place::hop), self.unresolved) {
                (Some(hop), _) => (ifindex(hop.interface), hop.mtu, hop.smac, hop.dmac),
                (None, Some(interface)) if i == 0 => (ifindex(interface), 0, [0; 6], [0; 6]),
                (None, _) => (0, 0, [0; 6], [0; 6]),
            },
        };
        let wild = if wildcard_source { (place::address("any", case.family), to.1.1) } else { to.1 };
        let both = [line(0, from.0, from.1, to), line(1, wild, to.0, (from.1, from.0))];
        both.into_iter().zip(self.has).filter_map(|(line, has)| has.then_some(line)).collect()
    }
}

/// Address and port.
pub type AddrPort = (IpAddr, u16);

fn pair(text: &str, case: Case) -> (AddrPort, AddrPort) {
    let Some((src, dst)) = text.split_once(" > ") else { panic!("{text}: want SRC:PORT > DST:PORT") };
    (endpoint(src, case), endpoint(dst, case))
}

/// One record, independent of its family.
#[derive(Clone, Debug)]
pub struct Line {
    pub proto: u8,
    pub key: (AddrPort, AddrPort),
    new: (AddrPort, AddrPort),
    direction: usize,
    exit: Exit,
    hook: Hook,
    twin_hook: Hook,
    state: FlowState,
    wildcard_source: bool,
    /// It counts for the row's Service; else for none.
    is_counted: bool,
    stamp: u32,
    hop: (u32, u16, [u8; 6], [u8; 6]),
}

impl Line {
    /// The record as text, including whether its deltas are correct.
    pub fn to_text(&self, now: u32) -> String {
        let hook = |hook: Hook| match hook {
            Hook::INGRESS => "ingress",
            Hook::POD_EGRESS => "pod-egress",
            Hook::UPLINK_EGRESS => "uplink-egress",
            _ => "nowhere",
        };
        let exit = match self.exit {
            Exit::STACK => "by the stack",
            Exit::REDIRECT => "redirected",
            Exit::HAIRPIN => "back",
            _ => "nohow",
        };
        // Only a redirected packet uses the next hop, and only if it has a MAC.
        let hop = match self.hop {
            _ if self.exit != Exit::REDIRECT => String::new(),
            (oif, mtu, _, [0, 0, 0, 0, 0, 0]) => format!(" hop={oif}/{mtu}/unresolved"),
            (oif, mtu, smac, dmac) => format!(" hop={oif}/{mtu}/{smac:x?}/{dmac:x?}"),
        };
        let to = |(src, dst): (AddrPort, AddrPort)| format!("{} > {}", to_text(src), to_text(dst));
        format!(
            "{} {} {} becomes {} at {} {exit} (twin at {}) state={:#x}{}{} age={}{hop}",
            match self.proto {
                6 => "tcp",
                17 => "udp",
                _ => "sctp",
            },
            if self.direction == 0 { "forward" } else { "reverse" },
            to(self.key),
            to(self.new),
            hook(self.hook),
            hook(self.twin_hook),
            // The effect of this bit shows at the next packet.
            self.state.0 & !FlowState::NEXT_HOP_DUE.0,
            if self.wildcard_source { " wildcard-source" } else { "" },
            if self.is_counted { "" } else { " uncounted" },
            now.wrapping_sub(self.stamp),
        )
    }
}

fn to_text((addr, port): AddrPort) -> String {
    format!("{}:{port}", place::name(addr))
}

/// Converts between lines and the tables of one family.
pub trait LineCodec: MapAddr + Default + PartialEq + std::fmt::Debug {
    fn from_ip(addr: IpAddr) -> Self;
    fn to_ip(self) -> IpAddr;
    fn sum(self) -> Wsum;
}

impl LineCodec for AddrV4 {
    fn from_ip(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(a) => Self::new(a.octets()),
            IpAddr::V6(_) => panic!("{addr} is not IPv4"),
        }
    }
    fn to_ip(self) -> IpAddr {
        self.octets().into()
    }
    fn sum(self) -> Wsum {
        V4::sum(self)
    }
}

impl LineCodec for AddrV6 {
    fn from_ip(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V6(a) => Self::new(a.octets()),
            IpAddr::V4(_) => panic!("{addr} is not IPv6"),
        }
    }
    fn to_ip(self) -> IpAddr {
        self.octets().into()
    }
    fn sum(self) -> Wsum {
        V6::sum(self)
    }
}

/// The deltas of a translation: over addresses, over ports.
fn deltas<A: LineCodec>(key: &FlowKey<A>, record: &FlowRecord<A>) -> [Wsum; 2] {
    let ports = |a: Port, b: Port| Wsum(u32::from(a.be()) + u32::from(b.be()));
    [
        record.src.sum().plus(record.dst.sum()).minus(key.src.sum()).minus(key.dst.sum()),
        ports(record.sport, record.dport).minus(ports(key.sport, key.dport)),
    ]
}

/// Converts a line to key and value of a table.
pub fn encode<A: LineCodec>(line: &Line) -> (FlowKey<A>, FlowRecord<A>) {
    let ((src, sport), (dst, dport)) = line.key;
    let key = FlowKey {
        src: A::from_ip(src),
        dst: A::from_ip(dst),
        sport: Port::new(sport),
        dport: Port::new(dport),
        proto: Proto(line.proto),
        _pad: [0; 3],
    };
    let ((src, sport), (dst, dport)) = line.new;
    let (oif, mtu, smac, dmac) = line.hop;
    let mut record = FlowRecord {
        src: A::from_ip(src),
        dst: A::from_ip(dst),
        sport: Port::new(sport),
        dport: Port::new(dport),
        addr_delta: Wsum::ZERO,
        port_delta: Wsum::ZERO,
        service: if line.is_counted { SERVICE } else { ServicePortId(0) },
        stamp: line.stamp,
        oif,
        mtu,
        smac,
        dmac,
        state: line.state,
        direction: if line.direction == 0 { Direction::FORWARD } else { Direction::REVERSE },
        hook: line.hook,
        exit: line.exit,
        twin_hook: line.twin_hook,
        wildcard_source: line.wildcard_source.into(),
    };
    [record.addr_delta, record.port_delta] = deltas(&key, &record);
    (key, record)
}

/// Converts a table's entry to a line. Fails if fields that a line does not show are wrong.
pub fn decode<A: LineCodec>(key: &FlowKey<A>, record: &FlowRecord<A>) -> Result<Line, String> {
    let same = |a: Wsum, b: Wsum| a.fold() % 0xffff == b.fold() % 0xffff;
    let [addr, port] = deltas(key, record);
    // With a wildcard source the delta depends on the packet.
    let is_wild = record.wildcard_source != 0 && record.direction == Direction::REVERSE;
    if !(is_wild || same(addr, record.addr_delta)) || !same(port, record.port_delta) {
        return Err(format!("wrong checksum deltas in {record:?}"));
    }
    if ![SERVICE, ServicePortId(0)].contains(&record.service) {
        return Err(format!("another service in {record:?}"));
    }
    let at = |addr: A, port: Port| (addr.to_ip(), port.number());
    Ok(Line {
        proto: key.proto.0,
        key: (at(key.src, key.sport), at(key.dst, key.dport)),
        new: (at(record.src, record.sport), at(record.dst, record.dport)),
        direction: record.direction.0.into(),
        exit: record.exit,
        hook: record.hook,
        twin_hook: record.twin_hook,
        state: record.state,
        wildcard_source: record.wildcard_source != 0,
        is_counted: record.service == SERVICE,
        stamp: record.stamp,
        hop: (record.oif, record.mtu, record.smac, record.dmac),
    })
}
