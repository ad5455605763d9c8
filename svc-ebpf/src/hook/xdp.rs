//! The XDP program of uplinks: an accelerator that hands everything it cannot finish up to the stack untouched.

use core::ffi::c_void;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_xdp_get_buff_len};
use aya_ebpf::programs::XdpContext;
use svc_common::abi::{FlowKey, FlowRecord, Iface, IfaceFlags, Role};
use svc_common::addr::Proto;
use svc_common::family::{Family, V4, V6};
use svc_common::wire::checksum::Wsum;
use svc_common::wire::cursor::Cursor as _;
use svc_common::wire::ip::{ETH_LEN, SCTP_LEN, checksum_offset};

use super::PacketAccess;
use crate::frame::Frame;
use crate::kernel_structs::Neighbor;
use crate::net::Net;
use crate::pipeline;
use crate::sctp::is_to_be_completed;
use crate::tables::iface;

/// A packet at the XDP hook.
pub struct Xdp<'a>(&'a XdpContext);

impl<'a> Xdp<'a> {
    #[inline(always)]
    pub const fn new(ctx: &'a XdpContext) -> Self {
        Self(ctx)
    }
}

#[inline(always)]
pub fn ingress(ctx: &XdpContext) -> i32 {
    let packet = Xdp(ctx);
    match packet.frame().read::<u16>(ETH_LEN - 2).map(u16::from_be) {
        Some(V4::ETHERTYPE) => pipeline::ingress::<V4, _>(&packet, Role::UPLINK),
        Some(V6::ETHERTYPE) => pipeline::ingress::<V6, _>(&packet, Role::UPLINK),
        _ => XDP_PASS as i32,
    }
}

impl PacketAccess for Xdp<'_> {
    const BEFORE_STACK: bool = true;
    const L3: usize = ETH_LEN;

    #[inline(always)]
    fn frame(&self) -> Frame {
        Frame { data: self.0.data(), end: self.0.data_end(), skb: core::ptr::null() }
    }

    #[inline(always)]
    fn choose_backend<F: Net>(&self) -> u32 {
        F::choose_at_xdp(self.0.ctx)
    }

    #[inline(always)]
    fn begin<F: Net>(&self, role: Role) -> u32 {
        F::begin_at_xdp(self.0.ctx, role.0)
    }

    #[inline(always)]
    fn refresh<F: Net>(&self, key: &FlowKey<F::Addr>, record: &mut FlowRecord<F::Addr>) {
        F::refresh_at_xdp(self.0.ctx, key, record);
    }

    #[inline(always)]
    fn ctx(&self) -> *mut c_void {
        self.0.as_ptr().cast()
    }

    #[inline(always)]
    fn is_complete(&self, len: u32) -> bool {
        let frame = self.frame();
        let wanted = ETH_LEN as u64 + len as u64;
        // Call the helper only for a packet of several buffers.
        // SAFETY: the context is this program's own.
        (frame.end - frame.data) as u64 >= wanted || unsafe { bpf_xdp_get_buff_len(self.0.ctx) } >= wanted
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the context is this program's own.
        unsafe { (*self.0.ctx).ingress_ifindex }
    }

    #[inline(always)]
    fn exceeds(&self, len: u32, _headers: u32, mtu: u16) -> bool {
        // SAFETY: the context is this program's own.
        len > mtu as u32 && mtu != 0 && unsafe { bpf_xdp_get_buff_len(self.0.ctx) } > mtu as u64
    }

    /// Frames at this hook have complete checksums: it is attached only to drivers that deliver them.
    #[inline(always)]
    fn fix_checksum<F: Family>(&self, l4: usize, proto: Proto, addr: Wsum, port: Wsum, _hops: u8) -> bool {
        let Some(check) = self.frame().at::<u16>(l4 + checksum_offset(proto)) else { return false };
        // SAFETY: `at` checked the bounds.
        unsafe {
            let stored = check.read();
            if proto == Proto::UDP && stored == 0 {
                return true;
            }
            let sum = addr.plus(port).apply(stored);
            // Zero means "no checksum" (RFC 768). 0xffff is the same number and does not.
            check.write(if proto == Proto::UDP && sum == 0 { 0xffff } else { sum });
        }
        true
    }

    #[inline(always)]
    fn fix_crc(&self, l4: usize, flip: u32, _others: Wsum) -> bool {
        let Some(header) = self.frame().at::<[u16; SCTP_LEN / 2]>(l4) else { return false };
        let [a, b, c, d] = flip.to_ne_bytes();
        // SAFETY: `at` checked the bounds.
        let words = unsafe { &mut *header };
        if !is_to_be_completed(words) {
            words[4] ^= u16::from_ne_bytes([a, b]);
            words[5] ^= u16::from_ne_bytes([c, d]);
        }
        true
    }

    #[inline(always)]
    fn fix_sum<F: Family>(&self, _addr: Wsum, _hops: u8) {}

    /// Rare packets are left to the TC hook.
    #[inline(always)]
    fn load_octets<T: Copy>(&self, _offset: usize, _to: &mut T, _octets: usize) -> bool {
        false
    }

    #[inline(always)]
    fn store_octets<T: Copy>(&self, _offset: usize, _from: &T, _octets: usize) -> bool {
        false
    }

    #[inline(always)]
    fn is_redirected(&self) -> bool {
        false
    }

    #[inline(always)]
    fn add_link_header<F: Family>(&self) -> bool {
        true
    }

    /// Network cards drop frames for other machines. On a promiscuous card the check for new flows catches them.
    #[inline(always)]
    fn is_ours(&self, _role: Role) -> bool {
        true
    }

    #[inline(always)]
    fn is_addressed_to(&self, iface: &Iface) -> bool {
        let Some([a, b, c]) = self.frame().read::<[u16; 6]>(0).map(|[a, b, c, ..]| [a, b, c]) else {
            return false;
        };
        let m = iface.mac;
        let h = |x: u8, y: u8| u16::from_ne_bytes([x, y]);
        (a ^ h(m[0], m[1])) | (b ^ h(m[2], m[3])) | (c ^ h(m[4], m[5])) == 0
    }

    /// Interfaces with native XDP. Frames to the veths and bridges of pods, and to devices without `ndo_xdp_xmit`,
    /// would vanish.
    #[inline(always)]
    fn reaches(&self, oif: u32) -> bool {
        oif == self.ifindex() || matches!(iface(oif), Some(i) if i.flags.has(IfaceFlags::TAKES_XDP))
    }

    #[inline(always)]
    fn pass(&self) -> i32 {
        XDP_PASS as i32
    }

    #[inline(always)]
    fn drop(&self) -> i32 {
        XDP_DROP as i32
    }

    #[inline(always)]
    fn redirect(&self, oif: u32) -> i32 {
        if oif == self.ifindex() {
            return XDP_TX as i32;
        }
        // SAFETY: plain helper call.
        unsafe { bpf_redirect(oif, 0) as i32 }
    }

    #[inline(always)]
    fn redirect_neigh(&self, _oif: u32, _neighbor: Option<&Neighbor>) -> i32 {
        self.pass()
    }
}
