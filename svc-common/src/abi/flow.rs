//! The flow tables: one self-contained record per flow and direction.
//!
//! A flow begins in the table of flows that are not assured (`UNASSURED4`, `UNASSURED6`). The packet that assures it moves
//! its two records to the flow table (`FLOWS4`, `FLOWS6`). So a flood of packets that begin flows evicts only flows of its
//! own kind.

use super::{ServicePortId, bits, family_abi};
use crate::addr::{Port, Proto};
use crate::wire::checksum::Wsum;

/// A tuple as it is in the packet that looks its record up.
///
/// The reverse record of a UDP flow to a backend on the node itself has a zero source address: a server bound to the
/// wildcard address may answer from any address of the node.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FlowKey<A> {
    pub src: A,
    pub dst: A,
    pub sport: Port,
    pub dport: Port,
    pub proto: Proto,
    pub _pad: [u8; 3],
}

impl<A: Copy> FlowKey<A> {
    /// The tuple of the opposite direction.
    #[inline(always)]
    #[must_use]
    pub fn swapped(&self) -> Self {
        Self { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, ..*self }
    }
}

/// The hook at which a record applies; other hooks ignore it (ARCHITECTURE.md, "Where each packet is translated").
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Hook(pub u8);

impl Hook {
    /// Ingress of a pod interface or an uplink, XDP included.
    pub const INGRESS: Self = Self(1);
    /// Egress of a pod interface: towards the pod.
    pub const POD_EGRESS: Self = Self(2);
    /// Egress of an uplink: towards the outside.
    pub const UPLINK_EGRESS: Self = Self(3);
}

/// How a translated packet leaves.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Exit(pub u8);

impl Exit {
    /// Up into this node's stack (or on, at egress).
    pub const STACK: Self = Self(0);
    /// To the record's next hop by redirect, past the stack.
    pub const REDIRECT: Self = Self(1);
    /// Back out of the interface by which it came (hairpin).
    pub const HAIRPIN: Self = Self(2);
    /// Like `STACK`; the reply leaves by the route of the Service's address, and not by that of the backend's.
    pub const STACK_BY_SOURCE: Self = Self(4);

    /// The packet goes up into the stack at ingress. Only `STACK` and `STACK_BY_SOURCE` have neither of the two low
    /// bits, so established flows pay for one test.
    #[inline(always)]
    pub const fn is_stack(self) -> bool {
        self.0 & 3 == 0
    }
}

/// Direction of a record: each flow has two.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Direction(pub u8);

impl Direction {
    pub const FORWARD: Self = Self(0);
    pub const REVERSE: Self = Self(1);
}

/// Events that a flow has seen, a set of bits. They decide its lifetime. UDP uses `REPLIED`, `ESTABLISHED`, `LATER_TICK`
/// and `STREAM`; the last two have other names for TCP.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FlowState(pub u8);

impl FlowState {
    pub const NEW: Self = Self(0);
    /// A packet of the reverse direction was seen.
    pub const REPLIED: Self = Self(1);
    /// TCP: the client acknowledged the handshake. UDP, SCTP: the client sent again after a reply.
    pub const ESTABLISHED: Self = Self(2);
    /// TCP: the client sent FIN.
    pub const FIN_FORWARD: Self = Self(4);
    /// TCP: the backend sent FIN.
    pub const FIN_REVERSE: Self = Self(8);
    /// TCP: either side sent RST. UDP: the flow has ended, and its reverse record is left for replies that are under way.
    pub const RESET: Self = Self(16);
    /// UDP: a packet came one tick of the stamp after the previous one.
    pub const LATER_TICK: Self = Self(32);
    /// UDP: a packet came two ticks or more after the first one (nf_conntrack calls such a flow a stream).
    pub const STREAM: Self = Self(64);
    /// TCP: the client sent a segment without RST after an RST of either side.
    pub const CLIENT_AFTER_RESET: Self = Self(32);
    /// TCP: the backend sent a segment without RST after an RST of either side.
    pub const BACKEND_AFTER_RESET: Self = Self(64);
    /// The record's next packet must look up the next hop again. A packet of the other direction sets this bit when it
    /// updates this record's stamp. The two records do not share this bit.
    pub const NEXT_HOP_DUE: Self = Self(128);

    /// Both sides have spoken and the client has heard the backend: nf_conntrack's ASSURED. A backend that answers a stray
    /// segment with a reset assures nothing.
    #[inline(always)]
    pub const fn is_assured(self, proto: Proto) -> bool {
        const BOTH: u8 = FlowState::REPLIED.0 | FlowState::ESTABLISHED.0;
        self.0 & BOTH == BOTH && !self.is_closing(proto)
    }

    /// The connection is closed, or its endpoint is gone (UDP). A new one may take its tuple.
    #[inline(always)]
    pub const fn is_closing(self, proto: Proto) -> bool {
        self.is_reset(proto) || (self.has(Self::FIN_FORWARD) && self.has(Self::FIN_REVERSE))
    }

    /// An RST ended the flow. It did not if both sides go on: then the RST had a sequence number outside of the
    /// window, so its receiver ignored it (RFC 5961 section 3).
    #[inline(always)]
    pub const fn is_reset(self, proto: Proto) -> bool {
        let goes_on = self.has(Self::CLIENT_AFTER_RESET) && self.has(Self::BACKEND_AFTER_RESET);
        self.has(Self::RESET) && (proto.0 != Proto::TCP.0 || !goes_on)
    }
}

/// All that one direction of a flow needs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FlowRecord<A> {
    /// The tuple after translation.
    pub src: A,
    pub dst: A,
    pub sport: Port,
    pub dport: Port,
    /// Change of a ones'-complement sum over the addresses (pseudo-header, IPv4 header) by the translation.
    pub addr_delta: Wsum,
    /// Change of a sum over the ports.
    pub port_delta: Wsum,
    pub service: ServicePortId,
    /// Time of the last packet, in units of 2^30 ns of the coarse monotonic clock.
    pub stamp: u32,
    /// Next hop of `Exit::REDIRECT`: interface, largest packet (octets, IP header included), MACs. A zero destination
    /// MAC means unresolved; where packets leave without an Ethernet header it is [`Self::NO_LINK_HEADER`].
    pub oif: u32,
    pub mtu: u16,
    pub smac: [u8; 6],
    pub dmac: [u8; 6],
    pub state: FlowState,
    pub direction: Direction,
    pub hook: Hook,
    pub exit: Exit,
    /// The hook of the other direction's record, so that it can be made again.
    pub twin_hook: Hook,
    /// The key of the reverse record has a zero source address (see [`FlowKey`]).
    pub wildcard_source: u8,
}

impl<A> FlowRecord<A> {
    /// Destination MAC of a next hop behind a device without an Ethernet header. No neighbor has to be resolved
    /// there, and the kernel removes the header before such a device, so any address that no neighbor has will do.
    pub const NO_LINK_HEADER: [u8; 6] = [2, 0, 0, 0, 0, 0];

    /// Its packets leave by the record's next hop.
    #[inline(always)]
    pub const fn has_next_hop(&self) -> bool {
        self.exit.0 == Exit::REDIRECT.0
            || (self.exit.0 == Exit::STACK_BY_SOURCE.0 && self.direction.0 == Direction::REVERSE.0)
    }

    /// The MAC of the next hop is known.
    #[inline(always)]
    pub fn is_resolved(&self) -> bool {
        let m = &self.dmac;
        m[0] | m[1] | m[2] | m[3] | m[4] | m[5] != 0
    }
}

family_abi! { FlowKey = 16, 40; FlowRecord = 52, 76 }
bits! { FlowState }
