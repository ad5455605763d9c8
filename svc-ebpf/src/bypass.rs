//! Connections of the node itself, and those of pods that its conntrack masquerades, may have a NodePort as their source
//! port. What answers them is no client of the Service, whatever its destination port.
//!
//! Asked only where a packet without record would begin a flow at an address of the node.

use aya_ebpf::helpers::generated::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp};
use svc_common::abi::*;
use svc_common::addr::{Port, Proto};
use svc_common::datapath::state::age;
use svc_common::wire::ip::tcp;
use svc_common::wire::parse::Packet;

use crate::give_way;
use crate::hook::Medium;
use crate::maps::CONFIG;
use crate::other::wildcard_record;
use crate::pipeline::{Net, is_syn};
use crate::tables::{is_own, now};

/// `BPF_F_CURRENT_NETNS`: sockets of the network namespace that the packet is in.
const CURRENT_NETNS: u64 = u64::MAX;
/// `BPF_TCP_LISTEN` (linux/bpf.h).
const TCP_LISTEN: u32 = 10;
/// Ticks without a packet after which the answers to a datagram are expected no more: nf_conntrack's time for a stream.
const DATAGRAM_LIFETIME: u32 = 120;

/// The record of a packet that leaves and whose tuple has none: a datagram from any address of the node. If there is no such
/// record either, the packet may be of a connection of the node's own, which is remembered.
#[inline(always)]
pub fn leaving_record<F: Net, M: Medium>(
    m: &M,
    packet: &Packet<F::Addr>,
) -> Option<&'static mut FlowRecord<F::Addr>> {
    let key = &packet.key;
    let is_datagram = key.proto == Proto::UDP;
    // What was redirected is translated already, and leaves with an address of the node all the same.
    if !(is_datagram || is_syn(packet)) || m.is_redirected() || !is_own::<F>(&key.src) {
        return None;
    }
    let record = if is_datagram { wildcard_record::<F>(key, F::flow) } else { None };
    if record.is_none() {
        // nf_conntrack may have masqueraded it from the port of a client's flow to the same backend.
        if is_datagram && is_snat_port(key.sport) {
            give_way::to_direct::<F>(key);
        }
        remember::<F>(key);
    }
    record
}

#[inline(always)]
fn is_snat_port(port: Port) -> bool {
    let config = CONFIG.load();
    port.number().wrapping_sub(config.snat_first) < config.snat_count
}

/// Remembers that the node sends from a NodePort by itself: the SYN of a connection or a datagram, without a record, from
/// an address of the node. The table of conntrack, where masqueraded connections are, cannot be asked from here.
#[inline(never)]
fn remember<F: Net>(key: &FlowKey<F::Addr>) -> u32 {
    let (port, proto) = (key.sport, key.proto);
    let node_port = FrontendKey { addr: F::Addr::default(), port, proto, scope: Scope::NODE_PORT };
    if F::frontend(&node_port).is_none() {
        return 0;
    }
    let Some(scratch) = F::scratch() else { return 0 };
    let answer = &mut scratch.reverse_key;
    // Field by field: a whole one becomes a call of memcpy, which has a stack of its own.
    (answer.src, answer.dst) = (key.dst, key.src);
    (answer.sport, answer.dport) = (key.dport, key.sport);
    (answer.proto, answer._pad) = (key.proto, [0; 3]);
    F::put_bypass(answer, now());
    0
}

/// The packet answers a connection of the node, or one that the node masquerades.
#[inline(never)]
pub fn is_answer<F: Net, M: Medium>(m: &M, packet: &Packet<F::Addr>) -> bool {
    let key = &packet.key;
    if !is_own::<F>(&key.dst) {
        return false;
    }
    // Clients of Services do not accept connections.
    if key.proto == Proto::TCP && packet.tcp_flags & tcp::SYN != 0 {
        return true;
    }
    if let Some(stamp) = F::bypass(key) {
        if key.proto == Proto::TCP || age(now(), *stamp) <= DATAGRAM_LIFETIME {
            *stamp = now();
            return true;
        }
    }
    has_socket::<F, M>(m, key)
}

/// A connected socket of the node gets such packets.
#[inline(always)]
fn has_socket<F: Net, M: Medium>(m: &M, key: &FlowKey<F::Addr>) -> bool {
    // A key begins like `struct bpf_sock_tuple`: source, destination, ports.
    let tuple = (&raw const *key).cast_mut().cast();
    let octets = 2 * F::ADDR_LEN as u32 + 4;
    // SAFETY: the context is this program's own; the key is as long as told. A socket is released as soon as it is read.
    unsafe {
        if key.proto == Proto::TCP {
            let socket = bpf_skc_lookup_tcp(m.ctx(), tuple, octets, CURRENT_NETNS, 0);
            if socket.is_null() {
                return false;
            }
            let state = (&raw const (*socket).state).read_volatile();
            bpf_sk_release(socket.cast());
            state != TCP_LISTEN
        } else if key.proto == Proto::UDP {
            let socket = bpf_sk_lookup_udp(m.ctx(), tuple, octets, CURRENT_NETNS, 0);
            if socket.is_null() {
                return false;
            }
            // Of an unconnected one it is zero.
            let peer = (&raw const (*socket).dst_port).read_volatile();
            bpf_sk_release(socket.cast());
            peer == key.sport.be()
        } else {
            false
        }
    }
}
