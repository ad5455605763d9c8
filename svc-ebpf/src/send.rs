//! Sends a rewritten packet.

use svc_common::abi::{Counter, Exit, FlowRecord};

use crate::fib;
use crate::hook::PacketAccess;
use crate::net::Net;
use crate::tables::count;

/// Sends the packet as its record says.
#[inline(always)]
pub fn forward_out<F: Net, M: PacketAccess>(m: &M, record: &FlowRecord<F::Addr>) -> i32 {
    if record.exit.is_stack() {
        return m.pass();
    }
    if record.exit != Exit::REDIRECT {
        return if swap_macs(m) { m.redirect(m.ifindex()) } else { drop_unwritable(m) };
    }
    if !m.add_link_header::<F>() {
        return drop_unwritable(m);
    }
    let (oif, smac, dmac) = (record.oif, record.smac, record.dmac);
    if record.is_resolved() {
        if write_macs(m, dmac, smac) { m.redirect(oif) } else { drop_unwritable(m) }
    } else {
        m.redirect_neigh(oif, fib::neighbor_of::<F>(record))
    }
}

#[inline(always)]
pub fn drop_unwritable<M: PacketAccess>(m: &M) -> i32 {
    count(Counter::DropRewrite);
    m.drop()
}

#[inline(always)]
fn write_macs<M: PacketAccess>(m: &M, dmac: [u8; 6], smac: [u8; 6]) -> bool {
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
fn swap_macs<M: PacketAccess>(m: &M) -> bool {
    let Some(p) = m.frame().at::<[u16; 6]>(0) else { return false };
    // SAFETY: `at` checked the bounds.
    unsafe {
        let [a, b, c, d, e, f] = p.read();
        p.write([d, e, f, a, b, c]);
    }
    true
}
