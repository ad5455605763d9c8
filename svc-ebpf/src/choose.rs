//! Chooses a backend for a packet without a record: finds the frontend, then selects one of its backends.

use svc_common::abi::*;
use svc_common::addr::Proto;
use svc_common::datapath::choose::{
    WithoutFrontend, accepts_node_port, chooses_local, has_table, without_frontend,
};
use svc_common::datapath::presence::is_service;
use svc_common::datapath::select::{index, maglev_place, tuple_hash};

use crate::affinity;
use crate::bypass;
use crate::extent::{NO_BACKEND, member};
use crate::hook::PacketAccess;
use crate::maps::{CONFIG, Chosen, MAGLEV, Scratch};
use crate::net::Net;
use crate::outcome::Outcome;
use crate::record::{begins_connection, is_syn};
use crate::resume::resume;
use crate::tables::{count, iface, may_begin_flow, presence};
use crate::tuple_conflict;

/// How a packet's backend is chosen, a set of bits.
pub struct Choice;

impl Choice {
    /// Select from the `local` extent instead of the `cluster` extent.
    pub const LOCAL: u32 = 1;
    /// Select by the frontend's Maglev table.
    pub const MAGLEV: u32 = 2;
}

/// Finds the frontend of the packet in the scratch space, which has no record, and chooses a backend, which it leaves in
/// the scratch space.
#[inline(always)]
pub fn choose_backend<F: Net, M: PacketAccess>(m: &M) -> u32 {
    let Some(Scratch { packet, .. }) = F::scratch() else { return Outcome::PASS };
    let outcome = resume::<F, M>(m, packet);
    if outcome != Outcome::UNKNOWN {
        return outcome;
    }
    let key = &packet.key;
    // The packet may be a reply whose record belongs to another hook, for example to egress.
    let Some(presence) = presence() else { return Outcome::PASS };
    if !is_service::<F>(key, begins_connection::<F, M>(packet), presence) && !is_unallocated::<F>(&key.dst) {
        return Outcome::PASS;
    }
    let frontend = match lookup_frontend::<F>(key) {
        Ok(frontend) => frontend,
        Err(_) if M::BEFORE_STACK => return Outcome::PASS,
        Err(address) => {
            let outcome = verdict_without_frontend::<F>(address, &key.dst);
            // Any datagram may be the first of its socket, and the socket hooks may have connected that socket to the
            // backend.
            if outcome == Outcome::PASS && (is_syn(packet) || key.proto == Proto::UDP) {
                return tuple_conflict::direct::<F>(key);
            }
            return outcome;
        }
    };
    let own = iface(m.ifindex());
    if own.is_some_and(|i| !m.is_addressed_to(i)) {
        return Outcome::PASS;
    }
    let flags = frontend.flags;
    if !is_syn(packet) && bypass::goes_past::<F, M>(m, packet, flags.has(FrontendFlags::EXTERNAL)) {
        return Outcome::PASS;
    }
    // Before all that a flood would pay for.
    if !may_begin_flow() {
        count(Counter::DropNewFlowLimit);
        return Outcome::DROP;
    }
    if flags.has(FrontendFlags::SOURCE_RANGES)
        && !F::is_listed(PrefixList::sources_of(frontend.service), &key.src)
    {
        count(Counter::DropSourceRange);
        return Outcome::DROP;
    }
    let is_pod = is_local_pod::<F>(own, &key.src);
    let chooses_local = chooses_local(flags, is_pod);
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
    let Some(scratch) = F::scratch() else { return Outcome::PASS };
    let Chosen { service, flags: copied, affinity, is_pod: pod, .. } = &mut scratch.chosen;
    (*service, *copied, *affinity, *pod) = (frontend.service, flags, frontend.affinity, is_pod as u32);
    let has_table = has_table(frontend, chooses_local);
    let choice =
        (if chooses_local { Choice::LOCAL } else { 0 }) | (if has_table { Choice::MAGLEV } else { 0 });
    scratch.chosen.choice = choice;
    choose::<F>(frontend, key);
    Outcome::CHOSEN
}

/// Leaves a backend's id for a tuple in the scratch space: the client's backend by session affinity, else a new one.
/// A call of its own, so that the verifier walks it without the state of each path to it.
#[inline(never)]
fn choose<F: Net>(frontend: &FrontendValue, key: &FlowKey<F::Addr>) -> u32 {
    let Some(Scratch { chosen, client, .. }) = F::scratch() else { return 0 };
    let choice = chosen.choice;
    let extent = if choice & Choice::LOCAL != 0 { &frontend.local } else { &frontend.cluster };
    if chosen.affinity != 0 {
        client.service = frontend.service;
        client.netns = [0; 2];
        client.addr = key.src;
        chosen.backend = affinity::sticky_backend::<F>(client, extent);
        if chosen.backend != NO_BACKEND {
            return 0;
        }
    }
    let by_table = choice & Choice::MAGLEV != 0;
    // By the hash of the tuple, so that a lost record is made again with the same backend, also by another hook; with a
    // table, also by another node (SEM-067).
    let number = tuple_hash::<F>(key);
    let at = if by_table { maglev_index(&frontend.maglev, number) } else { index(number, extent.count) };
    chosen.backend = member(extent, at);
    0
}

/// The exact address first, then NodePort on an address that accepts it (SEM-024). Without a frontend: the address's
/// flags.
#[inline(always)]
fn lookup_frontend<F: Net>(key: &FlowKey<F::Addr>) -> Result<&'static FrontendValue, AddressFlags> {
    let mut wanted = FrontendKey { addr: key.dst, port: key.dport, proto: key.proto, scope: Scope::ADDRESS };
    if let Some(frontend) = F::frontend(&wanted) {
        return Ok(frontend);
    }
    let address = F::address(&key.dst).unwrap_or_default();
    if accepts_node_port(address, false) {
        wanted.addr = F::Addr::default();
        wanted.scope = Scope::NODE_PORT;
        if let Some(frontend) = F::frontend(&wanted) {
            return Ok(frontend);
        }
    }
    // A look-up may miss an entry that is being replaced, so it is repeated. The presence filter let the packet in, so
    // a frontend most likely exists.
    if address.has(AddressFlags::OF_FRONTENDS)
        && let Some(frontend) = F::frontend(&wanted)
    {
        return Ok(frontend);
    }
    Err(address)
}

/// Verdict for a packet or call without a frontend, which is counted if it is dropped (SEM-095, SEM-096).
#[inline(always)]
pub fn verdict_without_frontend<F: Net>(address: AddressFlags, dst: &F::Addr) -> u32 {
    let is_in_service_cidr =
        || CONFIG.load().service_cidrs != 0 && F::is_listed(PrefixList::SERVICE_CIDRS, dst);
    match without_frontend(address, CONFIG.load().drops_unknown_ports != 0, is_in_service_cidr) {
        WithoutFrontend::Own | WithoutFrontend::NoService => Outcome::PASS,
        WithoutFrontend::UnknownPort => Outcome::UNKNOWN_PORT,
        WithoutFrontend::UnknownExternalPort => {
            count(Counter::DropUnknownPort);
            Outcome::DROP
        }
        WithoutFrontend::Unallocated => {
            count(Counter::DropUnallocated);
            Outcome::DROP
        }
    }
}

/// The address may be in a Service CIDR and belong to no Service (SEM-095). The presence filter knows only addresses of
/// Services.
#[inline(always)]
pub fn is_unallocated<F: Net>(dst: &F::Addr) -> bool {
    CONFIG.load().service_cidrs != 0 && is_in_service_cidr::<F>(dst) != 0
}

/// A call of its own: the key of the prefix table needs stack that the callers do not have.
#[inline(never)]
fn is_in_service_cidr<F: Net>(dst: &F::Addr) -> u32 {
    F::is_listed(PrefixList::SERVICE_CIDRS, dst) as u32
}

/// Passes a packet that belongs to no Service. A packet from outside for an unused address of a load-balancer pool is
/// dropped, because the stack would send it back to the router (SEM-315).
#[inline(always)]
pub fn pass_unserved<F: Net, M: PacketAccess>(m: &M, role: Role, dst: &F::Addr) -> i32 {
    let is_asked = !M::BEFORE_STACK && role == Role::UPLINK && CONFIG.load().pools != 0;
    if is_asked && is_unused_of_pool::<F>(dst) != 0 && m.is_ours(role) {
        count(Counter::DropUnallocated);
        return m.drop();
    }
    m.pass()
}

/// A call of its own, like [`is_in_service_cidr`]. An address without flags is neither the node's nor a Service's.
#[inline(never)]
fn is_unused_of_pool<F: Net>(dst: &F::Addr) -> u32 {
    (F::is_listed(PrefixList::POOLS, dst) && F::address(dst).is_none()) as u32
}

/// By the interface or by the source address of the packet (SEM-090).
#[inline(always)]
fn is_local_pod<F: Net>(own: Option<&Iface>, src: &F::Addr) -> bool {
    if CONFIG.load().pods_by_source != 0 {
        return F::is_listed(PrefixList::LOCAL_PODS, src);
    }
    own.is_some_and(|i| i.flags.has(IfaceFlags::LOCAL_PODS))
}

/// The index at the hash's place of a Maglev table. If there is no such page: an index beyond every extent.
#[inline(always)]
fn maglev_index(table: &Extent, hash: u32) -> u32 {
    let place = maglev_place(hash, table.count);
    let Some(page) = MAGLEV.get_ptr(table.first.wrapping_add(place.page)) else { return u32::MAX };
    let octets = page.cast::<u8>();
    // SAFETY: `maglev_place` keeps offsets below a page's size, and wide ones even; the verifier checks it again.
    unsafe {
        if place.is_wide {
            octets.add((place.offset & (MaglevPage::OCTETS - 2)) as usize).cast::<u16>().read().into()
        } else {
            octets.add((place.offset & (MaglevPage::OCTETS - 1)) as usize).read().into()
        }
    }
}
