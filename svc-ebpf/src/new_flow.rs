//! Begins a flow: chooses the backend of a packet without a record, and makes the flow's records.

use svc_common::abi::*;
use svc_common::addr::Proto;
use svc_common::datapath::flow::{Translation, forward};
use svc_common::datapath::placement::{Placement, Situation};
use svc_common::datapath::presence::of_record;
use svc_common::datapath::state::{is_expired, observe};
use svc_common::wire::parse::Packet;

use crate::affinity;
use crate::extent::NO_BACKEND;
use crate::fib::{self, Route};
use crate::hook::PacketAccess;
use crate::lease::may_have_pod_sockets;
use crate::maps::{CONFIG, Chosen, Scratch};
use crate::net::Net;
use crate::outcome::Outcome;
use crate::record::is_syn;
use crate::tables::{count, count_service, iface, mark_presence, now, spend_new_flow};

/// Chooses a backend for a packet without a record and begins a flow. These are calls side by side: their stack
/// frames together with that of the established path do not fit into 512 octets. The verifier walks each call without
/// the state of the paths through the one before.
#[inline(always)]
pub fn new_flow<F: Net, M: PacketAccess>(m: &M, role: Role, packet: &Packet<F::Addr>) -> u32 {
    let Some(scratch) = F::scratch() else { return Outcome::PASS };
    scratch.packet = *packet;
    let outcome = match m.choose_backend::<F>() {
        Outcome::CHOSEN => m.begin::<F>(role),
        Outcome::DIRECT => F::begin_direct(),
        outcome => outcome,
    };
    if outcome == Outcome::BEGUN_FIRST { F::begin_second() } else { outcome }
}

/// Begins a flow to the backend in the scratch space.
#[inline(always)]
pub fn begin<F: Net, M: PacketAccess>(m: &M, role: Role) -> u32 {
    let Some(Scratch { packet, .. }) = F::scratch() else { return Outcome::PASS };
    let (key, now) = (&packet.key, now());
    let Some(scratch) = F::scratch() else { return Outcome::PASS };
    let Chosen { backend: id, flags, service, is_pod, .. } = scratch.chosen;
    let Some(backend) = (if id == NO_BACKEND { None } else { F::backend(id) }) else {
        count(Counter::DropNoBackend);
        return Outcome::DROP;
    };
    if M::BEFORE_STACK && backend.locality != Locality::REMOTE {
        return Outcome::PASS;
    }
    let record = &mut scratch.record;
    let own = iface(m.ifindex());
    let bridge = own.map_or(0, |i| i.bridge);
    let in_flags = own.map_or(IfaceFlags::NONE, |i| i.flags);
    let is_hairpin = role == Role::POD && key.src == backend.addr;
    let client_bit =
        if is_pod != 0 { FrontendFlags::MASQUERADE_PODS } else { FrontendFlags::MASQUERADE_OTHERS };
    let masquerades = flags.has(client_bit)
        && (backend.locality == Locality::REMOTE || flags.has(FrontendFlags::MASQUERADE_TO_LOCAL));
    record.oif = 0;
    let past_stack = in_flags.has(IfaceFlags::LOCAL_PAST_STACK) && role == Role::UPLINK;
    let local_past_stack = past_stack && backend.locality == Locality::LOCAL;
    // The next hop also shows whether client and backend share a bridge.
    if (masquerades || bridge != 0 || local_past_stack) && !is_hairpin && backend.locality != Locality::HOST {
        record.direction = Direction::FORWARD;
        (record.dst, record.dport) = (backend.addr, backend.port);
        match fib::next_hop::<F>(m.ctx(), m.ifindex(), key, record) {
            Route::RESOLVED | Route::UNRESOLVED => {}
            // The stack will report the missing route.
            _ if !masquerades => {}
            Route::NO_ROUTE => {
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
        same_bridge: bridge != 0
            && record.oif == bridge
            && (role != Role::POD || !in_flags.has(IfaceFlags::BRIDGE_FILTERED)),
        through_stack: in_flags.has(IfaceFlags::THROUGH_STACK)
            || (masquerades
                && key.proto == Proto::UDP
                && in_flags.has(IfaceFlags::NARROWED_THROUGH_STACK)
                && fib::narrows::<F>(m.ctx(), m.ifindex(), record)),
        local_past_stack: past_stack && (record.oif != 0 || backend.locality == Locality::HOST),
    }
    .placement();
    if M::BEFORE_STACK && place.exit.is_stack() {
        return Outcome::PASS;
    }
    let mut to = Translation { src: key.src, dst: backend.addr, sport: key.sport, dport: backend.port };
    if place.snat {
        // The route's preferred source if the kernel returns it, else the interface's SNAT address (SEM-087).
        if place.exit != Exit::HAIRPIN && CONFIG.load().fib_source != 0 {
            to.src = fib::preferred_source::<F>();
        } else {
            let out = if place.exit == Exit::HAIRPIN { own } else { iface(record.oif) };
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
    let in_two_steps = place.snat && place.exit == Exit::STACK;
    if in_two_steps {
        scratch.masquerade = to.src;
        to.src = key.src;
    }
    let wildcard_source = backend.locality == Locality::HOST && key.proto == Proto::UDP;
    forward::<F>(key, &to, place, wildcard_source, service, now, record);
    // A flow picked up in mid-flow gets its state from its first packet.
    record.state = observe(FlowState::NEW, Direction::FORWARD, key.proto, packet.tcp_flags);
    // The socket hooks may have connected another socket of the pod to the backend directly, from the same port.
    let may_meet_direct = role == Role::POD && may_have_pod_sockets();
    if !claim_for::<F>(key, (place.snat && !in_two_steps) || may_meet_direct, now) {
        count(Counter::DropSnatExhausted);
        return Outcome::DROP;
    }
    let Some(scratch) = F::scratch() else { return Outcome::DROP };
    if put_forward::<F>(key, &scratch.record) == 0 {
        count(Counter::FlowTableFull);
        return Outcome::DROP;
    }
    spend_new_flow();
    // A segment in mid-flow does not open a connection.
    let Chosen { affinity: seconds, .. } = scratch.chosen;
    let is_midstream = key.proto == Proto::TCP && !is_syn(packet);
    if seconds != 0 && !is_midstream {
        affinity::remember_backend::<F>(&scratch.client, id, seconds, true);
    }
    count(if is_midstream { Counter::FlowMidstream } else { Counter::FlowNew });
    count_service(service, 1, 0, 0);
    if !in_two_steps {
        return Outcome::BEGUN;
    }
    // Through the scratch space instead of a parameter: the caller's stack has no room.
    let client = &mut scratch.packet.key;
    (client.src, client.dst) = (key.src, key.dst);
    (client.sport, client.dport) = (key.sport, key.dport);
    (client.proto, client._pad) = (key.proto, [0; 3]);
    scratch.first.hook =
        if backend.locality == Locality::REMOTE { Hook::UPLINK_EGRESS } else { Hook::POD_EGRESS };
    Outcome::BEGUN_FIRST
}

/// Begins a flow from a client to a backend that the client dials directly, with a source port of the masquerade. The
/// scratch space has the forward record of a Service's flow between the two: both go the same way.
#[inline(always)]
pub fn begin_direct<F: Net>() -> u32 {
    let Some(Scratch { record, packet, .. }) = F::scratch() else { return Outcome::DROP };
    let (key, now) = (&packet.key, now());
    let to = Translation { src: key.src, dst: key.dst, sport: key.sport, dport: key.dport };
    let place = Placement { snat: false, exit: record.exit, reverse_hook: record.twin_hook };
    let wildcard_source = record.wildcard_source != 0;
    forward::<F>(key, &to, place, wildcard_source, ServicePortId(0), now, record);
    record.state = observe(FlowState::NEW, Direction::FORWARD, key.proto, packet.tcp_flags);
    if !claim_for::<F>(key, true, now) {
        count(Counter::DropSnatExhausted);
        return Outcome::DROP;
    }
    let Some(Scratch { record, .. }) = F::scratch() else { return Outcome::DROP };
    // The backend's own mark lets only first packets through.
    let (place, marks) = of_record::<F>(key, record);
    mark_presence(place, marks);
    if put_forward::<F>(key, record) == 0 {
        count(Counter::FlowTableFull);
        return Outcome::DROP;
    }
    count(Counter::FlowDirect);
    Outcome::BEGUN
}

/// Begins the second flow of a masquerade through the stack: from the client to the backend, as the stack sees them.
/// Its packets are matched at egress. The first flow has its key and record in the scratch space, and its record is
/// still there afterwards.
#[inline(always)]
pub fn begin_second<F: Net>() -> u32 {
    let Some(Scratch { record, first, masquerade, packet: Packet { key: client, .. }, .. }) = F::scratch()
    else {
        return Outcome::DROP;
    };
    // On the stack: `bpf_loop` passes only this pointer to its callback.
    let FlowRecord { src, dst, sport, dport, stamp: now, .. } = *record;
    let key = &FlowKey { src, dst, sport, dport, proto: client.proto, _pad: [0; 3] };
    let hook = first.hook;
    // The first flow may have lost its records while the second flow still has its own.
    if let Some(known) = F::flow(key)
        && known.hook == hook
        && !known.state.is_closing(key.proto)
        && !is_expired(key.proto, known.state, now, known.stamp)
    {
        return Outcome::BEGUN;
    }
    *first = *record;
    let to = Translation { src: *masquerade, dst, sport, dport };
    let place = Placement { snat: true, exit: Exit::STACK, reverse_hook: Hook::INGRESS };
    // The first flow counts packets for the Service, so this one does not.
    forward::<F>(key, &to, place, false, ServicePortId(0), now, record);
    record.hook = hook;
    record.state = first.state;
    let has_port = claim_for::<F>(key, true, now);
    let Some(Scratch { record, first, packet, .. }) = F::scratch() else { return Outcome::DROP };
    let is_begun = has_port && put_forward::<F>(key, record) != 0;
    *record = *first;
    if !is_begun {
        // Without the second flow the client's next packets would leave with the client's address.
        F::remove_flow(&packet.key);
        count(if has_port { Counter::FlowTableFull } else { Counter::DropSnatExhausted });
        return Outcome::DROP;
    }
    Outcome::BEGUN
}

/// Inserts the forward record. A call of its own, because its caller has no stack left.
#[inline(never)]
fn put_forward<F: Net>(key: &FlowKey<F::Addr>, record: &FlowRecord<F::Addr>) -> u32 {
    F::put_flow(key, record) as u32
}

/// [`claim`](crate::source_port::claim) for the flow with this key.
#[inline(always)]
fn claim_for<F: Net>(key: &FlowKey<F::Addr>, takes_port: bool, now: u32) -> bool {
    let Some(Scratch { claim, .. }) = F::scratch() else { return false };
    (claim.key.src, claim.key.dst) = (key.src, key.dst);
    (claim.key.sport, claim.key.dport) = (key.sport, key.dport);
    (claim.key.proto, claim.key._pad) = (key.proto, [0; 3]);
    F::claim(takes_port as u32, now) != 0
}
