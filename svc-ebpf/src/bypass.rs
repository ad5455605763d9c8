//! Connections with packets to a frontend that are not for its Service.
//!
//! Connections of the node itself, and those of pods that its conntrack masquerades, may have a NodePort as source
//! port. Replies to them are not for the Service, whatever their destination port. When a frontend begins, the daemon
//! stores the connections that conntrack translates already.
//!
//! Asked only for a packet without a record that would begin a flow and is no SYN: a datagram at an address of the node,
//! or a segment.

use aya_ebpf::helpers::generated::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp};
use svc_common::abi::*;
use svc_common::addr::{Port, Proto};
use svc_common::datapath::state::age;
use svc_common::wire::ip::tcp;
use svc_common::wire::parse::Packet;

use crate::hook::PacketAccess;
use crate::maps::CONFIG;
use crate::net::Net;
use crate::record::{is_syn, wildcard_record};
use crate::tables::{is_own, now};
use crate::tuple_conflict;

/// `BPF_F_CURRENT_NETNS`: look in the packet's own network namespace.
const CURRENT_NETNS: u64 = u64::MAX;
/// `BPF_TCP_LISTEN` (linux/bpf.h).
const TCP_LISTEN: u32 = 10;
/// Ticks without a packet after which replies to a datagram are no longer expected: nf_conntrack's timeout for a
/// stream.
const DATAGRAM_LIFETIME: u32 = 120;

/// The wildcard record (a datagram from any address of the node) for a leaving packet whose tuple has no record.
/// Without one, the packet may belong to a connection of the node itself, which is stored.
#[inline(always)]
pub fn leaving_record<F: Net, M: PacketAccess>(
    m: &M,
    packet: &Packet<F::Addr>,
) -> Option<&'static mut FlowRecord<F::Addr>> {
    let key = &packet.key;
    let is_datagram = key.proto == Proto::UDP;
    // A redirected packet is translated already, though it leaves with an address of the node.
    if !(is_datagram || is_syn(packet)) || m.is_redirected() || !is_own::<F>(&key.src) {
        return None;
    }
    let record = if is_datagram { wildcard_record::<F>(key, F::flow) } else { None };
    if record.is_none() {
        // nf_conntrack may have given it the source port of a client's flow to the same backend.
        if is_datagram && is_snat_port(key.sport) {
            tuple_conflict::release_for_direct::<F>(key);
        }
        remember::<F>(key);
    }
    record
}

/// The stack resets a connection that it does not know, from a source port of the masquerade: a reply came whose record
/// was evicted. The client's next packet makes the record again, if the backend does not see the reset. A segment that
/// acknowledges is answered with a reset that does not (RFC 9293, section 3.5.2); a socket's own reset acknowledges.
#[inline(always)]
pub fn is_stray_reset<F: Net, M: PacketAccess>(m: &M, packet: &Packet<F::Addr>) -> bool {
    packet.key.proto == Proto::TCP
        && packet.tcp_flags & (tcp::RST | tcp::ACK) == tcp::RST
        && is_snat_port(packet.key.sport)
        && !m.is_redirected()
        && is_own::<F>(&packet.key.src)
}

#[inline(always)]
fn is_snat_port(port: Port) -> bool {
    let config = CONFIG.load();
    port.number().wrapping_sub(config.snat_first) < config.snat_count
}

/// Stores that the node itself sends from a NodePort: a SYN or a datagram without a record, from an address of the
/// node. The conntrack table, which has the masqueraded connections, cannot be asked from here.
#[inline(never)]
fn remember<F: Net>(key: &FlowKey<F::Addr>) -> u32 {
    let (port, proto) = (key.sport, key.proto);
    let node_port = FrontendKey { addr: F::Addr::default(), port, proto, scope: Scope::NODE_PORT };
    if F::frontend(&node_port).is_none() {
        return 0;
    }
    let Some(scratch) = F::scratch() else { return 0 };
    let answer = &mut scratch.reverse_key;
    // Field by field: a whole assignment becomes a call of memcpy, which needs its own stack frame.
    (answer.src, answer.dst) = (key.dst, key.src);
    (answer.sport, answer.dport) = (key.dport, key.sport);
    (answer.proto, answer._pad) = (key.proto, [0; 3]);
    F::put_bypass(answer, now());
    0
}

/// The packet belongs to a connection that conntrack translates, or answers one of the node. `is_external`: its
/// frontend is at an address of the node, or at one outside of the cluster.
#[inline(never)]
pub fn goes_past<F: Net, M: PacketAccess>(m: &M, packet: &Packet<F::Addr>, is_external: bool) -> bool {
    let key = &packet.key;
    let is_datagram = key.proto == Proto::UDP;
    let is_at_node = is_external && is_own::<F>(&key.dst);
    if (is_at_node || !is_datagram)
        && let Some(stamp) = F::bypass(key)
        && (!is_datagram || age(now(), *stamp) <= DATAGRAM_LIFETIME)
    {
        *stamp = now();
        return true;
    }
    if !is_at_node {
        return false;
    }
    // A SYN-ACK: clients of Services do not accept connections.
    (key.proto == Proto::TCP && packet.tcp_flags & tcp::SYN != 0) || has_socket::<F, M>(m, key)
}

/// The node has a connected socket for such packets.
#[inline(always)]
fn has_socket<F: Net, M: PacketAccess>(m: &M, key: &FlowKey<F::Addr>) -> bool {
    // A key begins like `struct bpf_sock_tuple`: source, destination, ports.
    let tuple = (&raw const *key).cast_mut().cast();
    let octets = 2 * F::ADDR_LEN as u32 + 4;
    // SAFETY: the context is this program's own, and `octets` is the tuple's size. A socket is released after one
    // read.
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
            // Zero for an unconnected socket.
            let peer = (&raw const (*socket).dst_port).read_volatile();
            bpf_sk_release(socket.cast());
            peer == key.sport.be()
        } else {
            false
        }
    }
}
