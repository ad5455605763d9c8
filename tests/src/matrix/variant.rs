//! Variants of topology and flags for the matrix. A variant runs all of the matrix or the part that it affects.

use super::cell::{Cell, Client, Frontend};
use super::pairs;
use crate::daemon::Flags;
use crate::topology::{Between, Forwards, Offloads, Options, Shape};

/// A named variant and its cells.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub name: &'static str,
    pub options: Options,
    pub flags: Flags,
    /// The variant includes this combination.
    pub has: fn(&Cell) -> bool,
}

impl Variant {
    /// Its cells: all, or a part with each pair of their values.
    pub fn cells(&self, all: bool) -> Vec<Cell> {
        let cells: Vec<_> = Cell::all_meaningful().into_iter().filter(self.has).collect();
        if all { cells } else { pairs::part(&cells).into_iter().collect() }
    }
}

const TCX: Flags = Flags { xdp: "off", pod_sockets: false };
const NATIVE: Flags = Flags { xdp: "native", ..TCX };
const GENERIC: Flags = Flags { xdp: "generic", ..TCX };
const POD_SOCKETS: Flags = Flags { pod_sockets: true, ..TCX };

const ROUTED: Options = Options {
    shape: Shape::Routed,
    offloads: Offloads::Default,
    between: Between::Lan,
    forwards: Forwards::Valid,
    bridge_nf: true,
    card_in_bridge: false,
    pod_prefix: "veth",
};
const BRIDGED: Options = Options { shape: Shape::Bridged, ..ROUTED };
const BRIDGED_NO_NF: Options = Options { bridge_nf: false, ..BRIDGED };

const fn whole(name: &'static str, options: Options) -> Variant {
    Variant { name, options, flags: TCX, has: |_| true }
}

/// Checksums are computed before the receiver, and FORWARD accepts by default: packets for pods of the node pass the stack,
/// which they go past otherwise.
const fn tx_off(options: Options) -> Options {
    Options { offloads: Offloads::TxOff, forwards: Forwards::ByDefault, ..options }
}

/// XDP runs only on uplinks, so it affects only clients from outside.
const fn xdp(name: &'static str, options: Options, flags: Flags) -> Variant {
    let options = Options { offloads: Offloads::ForXdp, ..options };
    Variant { name, options, flags, has: |cell| matches!(cell.client, Client::Outside) }
}

const fn two_uplinks(name: &'static str, options: Options) -> Variant {
    let options = Options { between: Between::OwnUplink, ..tx_off(options) };
    Variant { name, options, flags: TCX, has: |cell| matches!(cell.frontend, Frontend::NodePort) }
}

const fn pod_sockets(name: &'static str, options: Options) -> Variant {
    Variant { name, options, flags: POD_SOCKETS, has: |cell| matches!(cell.client, Client::Pod) }
}

const fn between(between: Between) -> Options {
    Options { between, ..ROUTED }
}

pub const VARIANTS: [Variant; 19] = [
    whole("routed", ROUTED),
    whole("routed, tx off", tx_off(ROUTED)),
    whole("bridged", BRIDGED),
    whole("bridged, tx off", tx_off(BRIDGED)),
    whole("bridged, nf-call 0", BRIDGED_NO_NF),
    whole("bridged, nf-call 0, tx off", tx_off(BRIDGED_NO_NF)),
    two_uplinks("two uplinks", ROUTED),
    xdp("routed, native XDP", ROUTED, NATIVE),
    xdp("routed, generic XDP", ROUTED, GENERIC),
    xdp("bridged, native XDP", BRIDGED, NATIVE),
    xdp("bridged, generic XDP", BRIDGED, GENERIC),
    pod_sockets("routed, pod sockets", ROUTED),
    pod_sockets("bridged, pod sockets", BRIDGED),
    whole("tunnel", between(Between::Tunnel)),
    whole("VXLAN", between(Between::Vxlan)),
    whole("two uplinks, pods by source", between(Between::OwnUplinkBySource)),
    whole("card in a bridge", Options { card_in_bridge: true, ..BRIDGED }),
    whole("FORWARD accepts pods only", Options { forwards: Forwards::OfPods, ..BRIDGED }),
    whole("foreign interface names", Options { pod_prefix: "eni", ..ROUTED }),
];
