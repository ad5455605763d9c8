//! The way of a packet without record: its service, its backend, the records of its flow.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_loop};
use svc_common::abi::*;
use svc_common::addr::{Port, Proto};
use svc_common::datapath::flow::{Translation, forward, twin, twin_key};
use svc_common::datapath::placement::Situation;
use svc_common::datapath::select::{client_hash, index, snat_port, tuple_hash};
use svc_common::datapath::state::is_expired;
use svc_common::wire::checksum::Wsum;
use svc_common::wire::parse::Packet;

use crate::affinity;
use crate::fib::{self, Answer};
use crate::hook::Medium;
use crate::maps::{CONFIG, Claim, Scratch};
use crate::pipeline::{Net, is_syn};
use crate::tables::{ALWAYS, IF_ABSENT, count, count_service, iface, selected};

/// What became of a packet without record; a small number, because it crosses a call.
pub struct Outcome;

impl Outcome {
    pub const PASS: u32 = 0;
    /// A flow was begun; its forward record lies in the scratch space.
    pub const BEGUN: u32 = 1;
    pub const NO_ENDPOINT: u32 = 2;
    pub const DROP: u32 = 3;
}

/// Finds the service of a packet without record and begins a flow. A call of its own: its stack frame and the one of
/// the established path do not fit into 512 octets together.
#[inline(never)]
pub fn new_flow<F: Net, M: Medium>(m: &M, role: Role, packet: &Packet<F::Addr>, now: u32) -> u32 {
    let key = &packet.key;
    let Some(frontend) = lookup_frontend::<F>(key) else {
        // Any datagram may be the first of its socket, which the socket hooks may have connected to the backend.
        if (is_syn(packet) || key.proto == Proto::UDP) && !M::BEFORE_STACK {
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
    scratch.backend = id;
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
    // The pod's other sockets may be connected to the backend itself, by the socket hooks, from the very same port.
    let may_meet_direct = role == Role::POD && CONFIG.load().pod_sockets != 0;
    if !claim::<F>(key, place.snat || may_meet_direct, now) {
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
        affinity::keep::<F>(&scratch.client, scratch.backend, seconds, true);
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
/// (SEM-080). The first candidate is the client's own port, or a fixed function of the client where one of the SNAT
/// range is to be taken.
#[inline(always)]
fn claim<F: Net>(key: &FlowKey<F::Addr>, takes_port: bool, now: u32) -> bool {
    let config = CONFIG.load();
    let Some(scratch) = F::scratch() else { return false };
    scratch.claim = Claim {
        port_delta: scratch.record.port_delta,
        hash: client_hash::<F>(key),
        now,
        first: config.snat_first,
        count: config.snat_count,
        takes_port: takes_port as u8,
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
    if claim.takes_port != 0 || attempt > 0 {
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

/// A direct connection or datagram to a backend from a port that has a translated flow to it: its replies would be
/// translated, so the flow gives way. A call of its own for the sake of its stack.
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
