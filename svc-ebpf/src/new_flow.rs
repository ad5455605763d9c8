//! The way of a packet without record: its service, its backend, the records of its flow.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_loop};
use svc_common::abi::*;
use svc_common::addr::{Port, Proto};
use svc_common::datapath::flow::{Translation, forward, twin, twin_key};
use svc_common::datapath::placement::Situation;
use svc_common::datapath::select::{client_hash, index, snat_port, tuple_hash};
use svc_common::datapath::state::{is_expired, observe};
use svc_common::wire::checksum::Wsum;
use svc_common::wire::parse::Packet;

use crate::affinity;
use crate::fib::{self, Answer};
use crate::give_way;
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
    pub const UNKNOWN_PORT: u32 = 4;
}

/// Finds the service of a packet without record and begins a flow. A call of its own: its stack frame and the one of
/// the established path do not fit into 512 octets together.
#[inline(never)]
pub fn new_flow<F: Net, M: Medium>(m: &M, role: Role, packet: &Packet<F::Addr>, now: u32) -> u32 {
    let key = &packet.key;
    let frontend = match lookup_frontend::<F>(key) {
        Ok(frontend) => frontend,
        Err(_) if M::BEFORE_STACK => return Outcome::PASS,
        Err(address) => {
            let outcome = nobodys::<F>(address, &key.dst);
            // Any datagram may be the first of its socket, which the socket hooks may have connected to the backend.
            if outcome == Outcome::PASS && (is_syn(packet) || key.proto == Proto::UDP) {
                give_way::to_direct::<F>(key);
            }
            return outcome;
        }
    };
    let own = iface(m.ifindex());
    if own.is_some_and(|i| !m.is_addressed_to(i)) {
        return Outcome::PASS;
    }
    let flags = frontend.flags;
    if flags.has(FrontendFlags::SOURCE_RANGES)
        && !F::is_listed(PrefixList::sources_of(frontend.service), &key.src)
    {
        count(Counter::DropSourceRange);
        return Outcome::DROP;
    }
    let is_pod = is_local_pod::<F>(own, &key.src);
    let is_local_only = flags.has(FrontendFlags::LOCAL_ONLY);
    let chooses_local = is_local_only && !is_pod;
    let extent = if chooses_local { &frontend.local } else { &frontend.cluster };
    if extent.count == 0 {
        if M::BEFORE_STACK {
            return Outcome::PASS;
        }
        if flags.has(FrontendFlags::USABLE_ELSEWHERE) {
            count(Counter::DropNoLocalEndpoint);
            return Outcome::DROP;
        }
        return Outcome::NO_ENDPOINT;
    }
    let is_midstream = key.proto == Proto::TCP && !is_syn(packet);
    let kept =
        if affinity::seconds(frontend) == 0 { affinity::NOBODY } else { kept::<F>(frontend, key, extent) };
    let id = if kept != affinity::NOBODY {
        kept
    } else {
        // By Maglev where the frontend has a table, so that other nodes choose the same and a lost record is made again
        // the same; else at random (SEM-067), but nothing in mid-flow.
        let has_table = frontend.maglev.count != 0 && (chooses_local || !is_local_only);
        let places = if has_table { &frontend.maglev } else { extent };
        let number = if has_table || is_midstream {
            tuple_hash::<F>(key)
        } else {
            // SAFETY: no arguments.
            unsafe { bpf_get_prandom_u32() }
        };
        selected(places.first.wrapping_add(index(number, places.count))).unwrap_or(affinity::NOBODY)
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
    let bridge = own.map_or(0, |i| i.bridge);
    let is_hairpin = role == Role::POD && key.src == backend.addr;
    let client_bit = if is_pod { FrontendFlags::MASQUERADE_PODS } else { FrontendFlags::MASQUERADE_OTHERS };
    let masquerades = flags.has(client_bit)
        && (backend.locality == Locality::REMOTE || flags.has(FrontendFlags::MASQUERADE_TO_LOCAL));
    record.oif = 0;
    // The next hop also tells whether client and backend share a bridge.
    if (masquerades || bridge != 0) && !is_hairpin && backend.locality != Locality::HOST {
        match fib::next_hop::<F>(m.ctx(), m.ifindex(), &key.src, &backend.addr, record) {
            Answer::RESOLVED | Answer::UNRESOLVED => {}
            // The stack will say so.
            _ if !masquerades => {}
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
        masquerades,
        backend: backend.locality,
        is_hairpin,
        same_bridge: bridge != 0 && record.oif == bridge,
    }
    .placement();
    if M::BEFORE_STACK && place.way == Way::STACK {
        return Outcome::PASS;
    }
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
    // What is picked up in mid-flow lives by what its first packet says.
    record.state = observe(FlowState::NEW, Direction::FORWARD, key.proto, packet.tcp_flags);
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
    // Field by field: a whole one becomes a call of memmove, one frame more than Linux 6.1 allows here.
    let back = twin_key::<F>(key.proto, record);
    reverse_key.src = back.src;
    reverse_key.dst = back.dst;
    (reverse_key.sport, reverse_key.dport) = (back.sport, back.dport);
    (reverse_key.proto, reverse_key._pad) = (back.proto, [0; 3]);
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

/// Exact address first, then NodePort on an address that accepts it (SEM-024); else what is known of the address.
#[inline(always)]
fn lookup_frontend<F: Net>(key: &FlowKey<F::Addr>) -> Result<&'static FrontendValue, AddressFlags> {
    let mut wanted = FrontendKey { addr: key.dst, port: key.dport, proto: key.proto, scope: Scope::ADDRESS };
    if let Some(frontend) = F::frontend(&wanted) {
        return Ok(frontend);
    }
    let address = F::address(&key.dst).unwrap_or_default();
    if address.has(AddressFlags::NODE_PORT) {
        wanted.addr = F::Addr::default();
        wanted.scope = Scope::NODE_PORT;
        if let Some(frontend) = F::frontend(&wanted) {
            return Ok(frontend);
        }
    }
    Err(address)
}

/// What becomes of a packet to no frontend: refused at a ClusterIP (V11), dropped at a Service's address that no Service
/// has (V12), else left alone. An address that the node has as well is the node's to answer for.
#[inline(always)]
pub fn nobodys<F: Net>(address: AddressFlags, dst: &F::Addr) -> u32 {
    if address.has(AddressFlags::LOCAL) {
        return Outcome::PASS;
    }
    if address.has(AddressFlags::CLUSTER_IP) {
        return Outcome::UNKNOWN_PORT;
    }
    if CONFIG.load().service_cidrs != 0 && F::is_listed(PrefixList::SERVICE_CIDRS, dst) {
        count(Counter::DropUnallocated);
        return Outcome::DROP;
    }
    Outcome::PASS
}

/// By the interface it came by, or by its source (SEM 4.3).
#[inline(always)]
fn is_local_pod<F: Net>(own: Option<&Iface>, src: &F::Addr) -> bool {
    if CONFIG.load().pods_by_source != 0 {
        return F::is_listed(PrefixList::LOCAL_PODS, src);
    }
    own.is_some_and(|i| i.flags.has(IfaceFlags::LOCAL_PODS))
}
