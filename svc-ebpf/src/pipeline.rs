//! The way of a packet: its record, or a new flow's; then rewrite and go on. Nothing is written to a packet before
//! its verdict is known.

use svc_common::abi::*;
use svc_common::addr::{Port, Proto};
use svc_common::datapath::flow::{Translation, forward, knows_twin, twin, twin_key};
use svc_common::datapath::placement::Situation;
use svc_common::datapath::select::{client_hash, index, snat_port, tuple_hash};
use svc_common::datapath::state::{is_expired, observe};
use svc_common::wire::checksum::{Wsum, addr_delta};
use svc_common::wire::icmp::{Icmp, Problem};
use svc_common::wire::ip::{ETH_LEN, Ports, tcp};
use svc_common::wire::parse::Packet;

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_loop};

use crate::affinity;
use crate::fib::{self, Answer, FibWords};
use crate::hook::Medium;
use crate::icmp::Reject;
use crate::maps::{CONFIG, Claim, Scratch};
use crate::tables::{ALWAYS, IF_ABSENT, Tables, count, count_service, iface, now, selected};

/// What a family brings to the kernel.
pub trait Net: Tables + FibWords + Icmp {}
impl<F: Tables + FibWords + Icmp> Net for F {}

/// A packet that came in by a pod interface or an uplink.
#[inline(always)]
pub fn ingress<F: Net, M: Medium + Reject>(m: &M, role: Role) -> i32 {
    let Ok(packet) = F::parse(&m.frame(), M::L3) else { return m.pass() };
    if !m.has_arrived(packet.len) || !m.is_ours(role) {
        return m.pass();
    }
    let now = now();
    let known = match F::flow(&packet.key) {
        Some(record) if record.hook == Hook::INGRESS && !gives_way(&packet, record, now) => Some(record),
        _ => None,
    };
    let record = match known {
        Some(record) => {
            if M::BEFORE_STACK && record.way != Way::REDIRECT {
                return m.pass();
            }
            touch::<F, M>(m, &packet, record, now);
            record
        }
        None => match new_flow::<F, M>(m, role, &packet, now) {
            Outcome::BEGUN => match F::scratch() {
                Some(scratch) => &mut scratch.record,
                None => return m.pass(),
            },
            Outcome::PASS => return m.pass(),
            Outcome::NO_ENDPOINT => return m.reject::<F>(&packet, Problem::NO_ENDPOINT),
            _ => return m.drop(),
        },
    };
    send::<F, M>(m, &packet, record)
}

/// What became of a packet without record; a small number, because it crosses a call.
struct Outcome;

impl Outcome {
    const PASS: u32 = 0;
    /// A flow was begun; its forward record lies in the scratch space.
    const BEGUN: u32 = 1;
    const NO_ENDPOINT: u32 = 2;
    const DROP: u32 = 3;
}

/// A packet on its way to a pod or to the outside: a reply of a local backend, or nothing of ours.
#[inline(always)]
pub fn egress<F: Net, M: Medium>(m: &M, hook: Hook) -> i32 {
    let Ok(packet) = F::parse(&m.frame(), M::L3) else { return m.pass() };
    let mut record = F::flow(&packet.key);
    // A server on the node that is bound to the wildcard address answers from whichever address the route prefers.
    if record.is_none() && packet.key.proto == Proto::UDP && F::node_addr(&packet.key.src).is_some() {
        record = F::flow(&FlowKey { src: F::Addr::default(), ..packet.key });
    }
    match record {
        Some(record) if record.hook == hook => {
            let now = now();
            // A datagram flow that has expired counts as absent, also where nobody has removed it.
            let proto = packet.key.proto;
            if proto != Proto::TCP && is_expired(proto, record.state, now, record.stamp) {
                return m.pass();
            }
            touch::<F, M>(m, &packet, record, now);
            if rewrite::<F, M>(m, &packet, record, 0) { m.pass() } else { failed(m) }
        }
        _ => m.pass(),
    }
}

/// A new connection may take the tuple of one that is over.
#[inline(always)]
fn gives_way<A>(packet: &Packet<A>, record: &FlowRecord<A>, now: u32) -> bool {
    let proto = packet.key.proto;
    if proto == Proto::TCP {
        is_syn(packet) && (record.state.is_closing() || is_expired(proto, record.state, now, record.stamp))
    } else {
        is_expired(proto, record.state, now, record.stamp)
    }
}

#[inline(always)]
fn is_syn<A>(packet: &Packet<A>) -> bool {
    packet.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN
}

/// Keeps the record's state and, once a tick, its stamp, its next hop and its twin.
#[inline(always)]
fn touch<F: Net, M: Medium>(m: &M, packet: &Packet<F::Addr>, record: &mut FlowRecord<F::Addr>, now: u32) {
    let state = observe(record.state, record.direction, packet.key.proto, packet.tcp_flags);
    let is_unresolved = record.way == Way::REDIRECT && !record.is_resolved();
    if state != record.state || record.stamp != now || is_unresolved {
        record.state = state;
        record.stamp = now;
        refresh::<F>(m.ctx(), m.ifindex(), &packet.key, record);
    }
}

/// The rare part of a touch. Takes the next hop from the routing table anew; both records of the flow learn what
/// either has seen; and a missing one is made again. A call of its own for the sake of its stack.
#[inline(never)]
fn refresh<F: Net>(
    ctx: *mut c_void,
    ifindex: u32,
    key: &FlowKey<F::Addr>,
    record: &mut FlowRecord<F::Addr>,
) -> u32 {
    if record.way == Way::REDIRECT {
        // An answer without a route leaves the old next hop: better late than dropped.
        fib::next_hop::<F>(ctx, ifindex, &{ record.src }, &{ record.dst }, record);
    }
    let other_key = twin_key::<F>(key.proto, record);
    if let Some(other) = F::flow(&other_key) {
        // Another flow may have taken the place since; a server on the node may answer from another address.
        let is_twin = (other.dst == key.src || record.any_source != 0)
            && other.dport == key.sport
            && other.src == key.dst
            && other.sport == key.dport;
        if !is_twin {
            return 0;
        }
        let state = FlowState(other.state.0 | record.state.0);
        other.state = state;
        record.state = state;
        // One clock for both directions, as nf_conntrack: a stream that only one side feeds lives (SEM-123).
        other.stamp = record.stamp;
    } else if knows_twin(record)
        && let Some(scratch) = F::scratch()
    {
        twin::<F>(key, record, &mut scratch.reverse);
        if F::insert_flow(&other_key, &scratch.reverse, IF_ABSENT) {
            count(Counter::FlowTwinRestored);
        }
    }
    0
}

/// Rewrites a packet by its record and sends it the record's way.
#[inline(always)]
fn send<F: Net, M: Medium + Reject>(m: &M, packet: &Packet<F::Addr>, record: &FlowRecord<F::Addr>) -> i32 {
    if record.way == Way::STACK {
        return if rewrite::<F, M>(m, packet, record, 0) { m.pass() } else { failed(m) };
    }
    let is_resolved = record.is_resolved();
    let is_redirect = record.way == Way::REDIRECT;
    if is_redirect {
        if M::BEFORE_STACK && !(is_resolved && m.reaches(record.oif)) {
            return m.pass();
        }
        if m.exceeds(packet.len, (packet.l4 - M::L3) as u32 + packet.l4_len as u32, record.mtu) {
            return m.reject::<F>(packet, Problem::too_big(record.mtu));
        }
        if packet.ttl <= 1 {
            count(Counter::DropTtl);
            return m.drop();
        }
    }
    let (oif, smac, dmac) = (record.oif, record.smac, record.dmac);
    if !rewrite::<F, M>(m, packet, record, is_redirect as u8) {
        return failed(m);
    }
    if !is_redirect {
        return if swap_macs(m) { m.redirect(m.ifindex()) } else { failed(m) };
    }
    if is_resolved && M::L3 == ETH_LEN {
        if write_macs(m, dmac, smac) { m.redirect(oif) } else { failed(m) }
    } else {
        m.redirect_neigh(oif)
    }
}

#[inline(always)]
fn failed<M: Medium>(m: &M) -> i32 {
    count(Counter::DropRewrite);
    m.drop()
}

/// Writes the record's tuple into the packet, and counts it for its service.
#[inline(always)]
fn rewrite<F: Net, M: Medium>(
    m: &M,
    packet: &Packet<F::Addr>,
    record: &FlowRecord<F::Addr>,
    hops: u8,
) -> bool {
    // The key of such a reverse record does not say which source the packet has.
    let addr: Wsum = if record.any_source != 0 && record.direction == Direction::REVERSE {
        addr_delta::<F>((packet.key.src, packet.key.dst), (record.src, record.dst))
    } else {
        record.addr_delta
    };
    let port = record.port_delta;
    let frame = m.frame();
    let (Some(ip), Some(ports)) = (frame.at::<F::Header>(M::L3), frame.at::<Ports>(packet.l4)) else {
        return false;
    };
    // SAFETY: `at` checked the bounds of both; they do not overlap.
    unsafe {
        F::rewrite(&mut *ip, record.src, record.dst, addr, hops);
        ports.write(Ports { src: record.sport.be(), dst: record.dport.be() });
    }
    count_service(record.service, 0, 1, packet.len as u64);
    m.fix_checksum::<F>(packet.l4, packet.key.proto, addr, port, hops)
}

#[inline(always)]
fn write_macs<M: Medium>(m: &M, dmac: [u8; 6], smac: [u8; 6]) -> bool {
    let Some(p) = m.frame().at::<[u16; 6]>(0) else { return false };
    let h = |a: u8, b: u8| u16::from_ne_bytes([a, b]);
    // SAFETY: `at` checked the bounds.
    unsafe {
        p.write([
            h(dmac[0], dmac[1]),
            h(dmac[2], dmac[3]),
            h(dmac[4], dmac[5]),
            h(smac[0], smac[1]),
            h(smac[2], smac[3]),
            h(smac[4], smac[5]),
        ]);
    }
    true
}

#[inline(always)]
fn swap_macs<M: Medium>(m: &M) -> bool {
    let Some(p) = m.frame().at::<[u16; 6]>(0) else { return false };
    // SAFETY: `at` checked the bounds.
    unsafe {
        let [a, b, c, d, e, f] = p.read();
        p.write([d, e, f, a, b, c]);
    }
    true
}

/// Finds the service of a packet without record and begins a flow. A call of its own: its stack frame and the one of
/// the established path do not fit into 512 octets together.
#[inline(never)]
fn new_flow<F: Net, M: Medium>(m: &M, role: Role, packet: &Packet<F::Addr>, now: u32) -> u32 {
    let key = &packet.key;
    let Some(frontend) = lookup_frontend::<F>(key) else {
        if is_syn(packet) && !M::BEFORE_STACK {
            give_way_to_direct::<F>(key);
        }
        return Outcome::PASS;
    };
    let is_local_only = frontend.flags.has(FrontendFlags::LOCAL_ONLY);
    let extent = if is_local_only && role == Role::UPLINK { &frontend.local } else { &frontend.cluster };
    if extent.count == 0 {
        if M::BEFORE_STACK {
            return Outcome::PASS;
        }
        if frontend.flags.has(FrontendFlags::USABLE_ELSEWHERE) {
            count(Counter::DropNoLocalEndpoint);
            return Outcome::DROP;
        }
        return Outcome::NO_ENDPOINT;
    }
    let is_midstream = key.proto == Proto::TCP && !is_syn(packet);
    let is_external = frontend.flags.has(FrontendFlags::EXTERNAL);
    let kept =
        if affinity::seconds(frontend) == 0 { affinity::NOBODY } else { kept::<F>(frontend, key, extent) };
    let id = if kept != affinity::NOBODY {
        kept
    } else {
        // North-south by hash, so that a lost record is made again the same; in the cluster at random (SEM-067).
        let number = if is_external || is_midstream {
            tuple_hash::<F>(key)
        } else {
            // SAFETY: no arguments.
            unsafe { bpf_get_prandom_u32() }
        };
        selected(extent.first.wrapping_add(index(number, extent.count))).unwrap_or(affinity::NOBODY)
    };
    let Some(backend) = (if id == affinity::NOBODY { None } else { F::backend(id) }) else {
        count(Counter::DropNoBackend);
        return Outcome::DROP;
    };
    if M::BEFORE_STACK && backend.locality != Locality::REMOTE {
        return Outcome::PASS;
    }
    let Some(scratch) = F::scratch() else { return Outcome::PASS };
    let record = &mut scratch.record;
    // The next hop also tells whether client and backend share a bridge.
    let own = iface(m.ifindex());
    let bridge = match own {
        Some(i) if !m.is_addressed_to(i) => return Outcome::PASS,
        Some(i) => i.bridge,
        None => 0,
    };
    let is_hairpin = role == Role::POD && key.src == backend.addr;
    let may_redirect = backend.locality == Locality::REMOTE || bridge != 0;
    record.oif = 0;
    if may_redirect && !is_hairpin && backend.locality != Locality::HOST {
        match fib::next_hop::<F>(m.ctx(), m.ifindex(), &key.src, &backend.addr, record) {
            Answer::RESOLVED | Answer::UNRESOLVED => {}
            Answer::NO_ROUTE => {
                count(Counter::DropNoRoute);
                return Outcome::DROP;
            }
            _ => {
                count(Counter::DropForwardingOff);
                return Outcome::DROP;
            }
        }
    }
    let place = Situation {
        client: role,
        masquerades: is_external && !is_local_only,
        backend: backend.locality,
        is_hairpin,
        same_bridge: bridge != 0 && record.oif == bridge,
    }
    .placement();
    let mut to = Translation { src: key.src, dst: backend.addr, sport: key.sport, dport: backend.port };
    if place.snat {
        // The route's own preferred source where the kernel tells it, else the interface's (SEM-087).
        if place.way != Way::BACK && CONFIG.load().fib_source != 0 {
            to.src = fib::preferred_source::<F>();
        } else {
            let out = if place.way == Way::BACK { own } else { iface(record.oif) };
            to.src = match out {
                Some(out) => *F::snat_addr(out),
                None => F::Addr::default(),
            };
        }
        if to.src == F::Addr::default() {
            count(Counter::DropNoSnatAddress);
            return Outcome::DROP;
        }
    }
    let any_source = backend.locality == Locality::HOST && key.proto == Proto::UDP;
    forward::<F>(key, &to, place, any_source, frontend.service, now, record);
    if !claim::<F>(key, place.snat, now) {
        count(Counter::DropSnatExhausted);
        return Outcome::DROP;
    }
    let Some(scratch) = F::scratch() else { return Outcome::DROP };
    if !F::insert_flow(key, &scratch.record, ALWAYS) {
        count(Counter::FlowTableFull);
        return Outcome::DROP;
    }
    // A segment in mid-flow is no new connection.
    let seconds = affinity::seconds(frontend);
    if seconds != 0 && !is_midstream {
        affinity::keep::<F>(&scratch.client, id, seconds, true);
    }
    count(if is_midstream { Counter::FlowMidstream } else { Counter::FlowNew });
    count_service(frontend.service, 1, 0, 0);
    Outcome::BEGUN
}

/// The backend that the client of a new flow stays with. Leaves the client in the scratch space.
#[inline(always)]
fn kept<F: Net>(frontend: &FrontendValue, key: &FlowKey<F::Addr>, extent: &Extent) -> u32 {
    let Some(Scratch { client, .. }) = F::scratch() else { return affinity::NOBODY };
    client.service = frontend.service;
    client.netns = [0; 2];
    client.addr = key.src;
    affinity::kept::<F>(client, extent)
}

/// Inserts the reverse record under a key that no other live flow owns, taking other source ports until one is free
/// (SEM-080). The first candidate is the client's own port, or with SNAT a fixed function of the client.
#[inline(always)]
fn claim<F: Net>(key: &FlowKey<F::Addr>, snat: bool, now: u32) -> bool {
    let config = CONFIG.load();
    let Some(scratch) = F::scratch() else { return false };
    scratch.claim = Claim {
        port_delta: scratch.record.port_delta,
        hash: client_hash::<F>(key),
        now,
        first: config.snat_first,
        count: config.snat_count,
        snat: snat as u8,
        is_done: 0,
        _pad: [0; 2],
    };
    // By the helper and not a loop of ours: the verifier walks its body once, not once per attempt.
    // SAFETY: the callback has the helper's signature and gets the key, which outlives the call.
    unsafe {
        let step: extern "C" fn(u32, *mut c_void) -> i64 = claim_step::<F>;
        bpf_loop(limits::SNAT_TRIES, step as *mut c_void, (&raw const *key).cast_mut().cast(), 0);
    }
    // Taken anew: the compiler believes that nobody but a reference's holder writes behind it.
    F::scratch().is_some_and(|scratch| scratch.claim.is_done != 0)
}

/// One attempt; 1 ends the search.
extern "C" fn claim_step<F: Net>(attempt: u32, key: *mut c_void) -> i64 {
    // SAFETY: `claim` passes the client's key and waits.
    let key = unsafe { &*key.cast::<FlowKey<F::Addr>>() };
    let Some(Scratch { record, reverse, reverse_key, claim, .. }) = F::scratch() else { return 1 };
    if claim.snat != 0 || attempt > 0 {
        let port: Port = snat_port(claim.hash, attempt, claim.first, claim.count);
        record.sport = port;
        record.port_delta = claim.port_delta.plus(Wsum(port.be() as u32)).minus(Wsum(key.sport.be() as u32));
    }
    *reverse_key = twin_key::<F>(key.proto, record);
    twin::<F>(key, record, reverse);
    if F::insert_flow(reverse_key, reverse, IF_ABSENT) {
        claim.is_done = 1;
        return 1;
    }
    let may_take = match F::flow(reverse_key) {
        Some(owner) => {
            // This very client's, left over; or nobody's any more.
            let is_own = owner.dst == key.src
                && owner.dport == key.sport
                && owner.src == key.dst
                && owner.sport == key.dport;
            is_own || owner.state.is_closing() || is_expired(key.proto, owner.state, claim.now, owner.stamp)
        }
        None => true,
    };
    if may_take {
        claim.is_done = F::insert_flow(reverse_key, reverse, ALWAYS) as u8;
        return 1;
    }
    0
}

/// Exact address first, then NodePort on an address that accepts it (SEM-024).
#[inline(always)]
fn lookup_frontend<F: Net>(key: &FlowKey<F::Addr>) -> Option<&'static FrontendValue> {
    let mut wanted = FrontendKey { addr: key.dst, port: key.dport, proto: key.proto, scope: Scope::ADDRESS };
    if let Some(frontend) = F::frontend(&wanted) {
        return Some(frontend);
    }
    match F::node_addr(&key.dst) {
        Some(flags) if flags.has(NodeAddrFlags::NODE_PORT) => {
            wanted.addr = F::Addr::default();
            wanted.scope = Scope::NODE_PORT;
            F::frontend(&wanted)
        }
        _ => None,
    }
}

/// A direct connection to a backend from a port that has a translated flow to it: its replies would be translated,
/// so the flow gives way. A call of its own for the sake of its stack.
#[inline(never)]
fn give_way_to_direct<F: Net>(key: &FlowKey<F::Addr>) -> u32 {
    let Some(Scratch { reverse_key, forward_key, .. }) = F::scratch() else { return 0 };
    *reverse_key = key.swapped();
    let Some(record) = F::flow(reverse_key) else { return 0 };
    if record.direction == Direction::REVERSE {
        *forward_key = twin_key::<F>(key.proto, record);
        F::remove_flow(forward_key);
        F::remove_flow(reverse_key);
        count(Counter::FlowGaveWay);
    }
    0
}
