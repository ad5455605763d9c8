//! Asks the kernel's routing table for the next hop of a redirected packet.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_check_mtu, bpf_fib_lookup};
use svc_common::abi::{Direction, FlowKey, FlowRecord};
use svc_common::addr::{AddrV4, AddrV6};
use svc_common::family::{Family, V4, V6};

use crate::kernel_structs::{FibParams, Neighbor};
use crate::maps::CONFIG;
use crate::tables::{Tables, iface};

/// `BPF_FIB_LOOKUP_SRC` (Linux 6.7).
const FIB_LOOKUP_SRC: u32 = 1 << 4;

/// The next hop that this CPU found last, if it was for this record's destination: another CPU may have marked the record
/// as unresolved since this packet looked.
#[inline(always)]
pub fn neighbor_of<F: FibWords + Tables>(record: &FlowRecord<F::Addr>) -> Option<&'static Neighbor> {
    let scratch = F::scratch()?;
    (scratch.neighbor.family != 0 && scratch.neighbor_of == record.dst).then_some(&scratch.neighbor)
}

/// Result of a look-up in the routing table; a small number, because it crosses a call.
pub struct Route;

impl Route {
    /// The next hop's MAC is known.
    pub const RESOLVED: u32 = 0;
    /// The interface is known, the MAC is not.
    pub const UNRESOLVED: u32 = 1;
    pub const NO_ROUTE: u32 = 2;
    pub const FORWARDING_OFF: u32 = 3;
}

/// Addresses in the words of `struct bpf_fib_lookup`.
pub trait FibWords: Family {
    fn words(addr: Self::Addr) -> [u32; 4];
    fn from_words(words: &[u32; 4]) -> Self::Addr;
}

impl FibWords for V4 {
    #[inline(always)]
    fn words(addr: AddrV4) -> [u32; 4] {
        [addr.be(), 0, 0, 0]
    }

    #[inline(always)]
    fn from_words(words: &[u32; 4]) -> AddrV4 {
        AddrV4::from_be(words[0])
    }
}

impl FibWords for V6 {
    #[inline(always)]
    fn words(addr: AddrV6) -> [u32; 4] {
        addr.be()
    }

    #[inline(always)]
    fn from_words(words: &[u32; 4]) -> AddrV6 {
        AddrV6::from_be(*words)
    }
}

/// Looks up the next hop of a record for packets that came in by `ifindex` with the tuple `key`, and stores it in the
/// record. The record needs its direction and its destination, in the reverse direction also its source. Packets of a
/// client are routed by the client's address and port even if their source is translated, as in kube-proxy: ip rules may
/// match them, and routes with several next hops hash them (`fib_multipath_hash_policy`).
#[inline(never)]
pub fn next_hop<F: FibWords + Tables>(
    ctx: *mut c_void,
    ifindex: u32,
    key: &FlowKey<F::Addr>,
    record: &mut FlowRecord<F::Addr>,
) -> u32 {
    let Some(scratch) = F::scratch() else { return Route::NO_ROUTE };
    let (src, sport) = if record.direction == Direction::FORWARD {
        (key.src, key.sport)
    } else {
        (record.src, record.sport)
    };
    let params = &mut scratch.fib;
    *params = FibParams {
        family: F::AF,
        l4_proto: key.proto.0,
        sport: sport.be(),
        dport: record.dport.be(),
        tot_len_mtu: 1,
        ifindex,
        tos_flow: 0,
        src: F::words(src),
        dst: F::words(record.dst),
        vlan: [0; 2],
        smac: [0; 6],
        dmac: [0; 6],
    };
    let flags = if CONFIG.load().fib_source != 0 { FIB_LOOKUP_SRC } else { 0 };
    // SAFETY: the struct has the kernel's layout and size; the context is this program's own.
    let answer =
        unsafe { bpf_fib_lookup(ctx, (&raw mut *params).cast(), size_of::<FibParams>() as i32, flags) };
    scratch.neighbor.family = 0;
    match answer {
        0 => {
            record.oif = params.ifindex;
            record.mtu = params.tot_len_mtu;
            record.smac = params.smac;
            record.dmac = params.dmac;
            if !record.is_resolved() {
                // A device without neighbors.
                record.dmac = FlowRecord::<F::Addr>::NO_LINK_HEADER;
            }
            Route::RESOLVED
        }
        // BPF_FIB_LKUP_RET_NO_NEIGH
        7 => {
            record.oif = params.ifindex;
            scratch.neighbor = Neighbor { family: params.family as u32, address: params.dst };
            scratch.neighbor_of = record.dst;
            if iface(params.ifindex).is_some_and(|out| !out.has_link_header()) {
                record.mtu = device_mtu(ctx, params.ifindex);
                record.smac = [0; 6];
                record.dmac = FlowRecord::<F::Addr>::NO_LINK_HEADER;
                return Route::RESOLVED;
            }
            // The kernel returns the MTU only together with the neighbor.
            record.mtu = 0;
            record.dmac = [0; 6];
            Route::UNRESOLVED
        }
        // BPF_FIB_LKUP_RET_FWD_DISABLED
        5 => Route::FORWARDING_OFF,
        _ => Route::NO_ROUTE,
    }
}

/// The record's next hop has a smaller MTU than the interface by which the packets come in. IPv4 only: no router
/// fragments IPv6.
#[inline(always)]
pub fn narrows<F: FibWords + Tables>(ctx: *mut c_void, ifindex: u32, record: &FlowRecord<F::Addr>) -> bool {
    if F::AF != V4::AF {
        return false;
    }
    let there = if record.mtu != 0 { record.mtu } else { device_mtu(ctx, record.oif) };
    there != 0 && there < device_mtu(ctx, ifindex)
}

/// MTU of a device; 0 if the kernel does not return it.
#[inline(always)]
fn device_mtu(ctx: *mut c_void, ifindex: u32) -> u16 {
    // In: the length to check, any that fits. Out: the device's MTU.
    let mut mtu = 1;
    // SAFETY: plain helper call that writes one word of ours.
    let answer = unsafe { bpf_check_mtu(ctx, ifindex, &raw mut mtu, 0, 0) };
    if answer != 0 || mtu > u16::MAX as u32 { 0 } else { mtu as u16 }
}

/// The source address that the kernel prefers for the route last looked up on this CPU.
#[inline(always)]
pub fn preferred_source<F: FibWords + Tables>() -> F::Addr {
    match F::scratch() {
        Some(scratch) => F::from_words(&scratch.fib.src),
        None => F::Addr::default(),
    }
}
