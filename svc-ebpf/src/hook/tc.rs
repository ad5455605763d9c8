//! tcx and clsact programs.

use core::ffi::c_void;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{
    bpf_csum_update, bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh, bpf_skb_change_head,
    bpf_skb_load_bytes, bpf_skb_store_bytes, bpf_skb_vlan_pop,
};
use aya_ebpf::programs::TcContext;
use svc_common::abi::{FlowKey, FlowRecord, Hook, Iface, Role};
use svc_common::addr::Proto;
use svc_common::family::{Family, V4, V6};
use svc_common::wire::checksum::Wsum;
use svc_common::wire::ip::{ETH_LEN, SCTP_LEN, UDP_LEN, checksum_offset};

use super::PacketAccess;
use crate::frame::Frame;
use crate::kernel_structs::Neighbor;
use crate::net::Net;
use crate::sctp::is_to_be_completed;
use crate::{announced, maps, pipeline};

const TCX_NEXT: i32 = -1;
const TC_ACT_SHOT: i32 = 2;
/// linux/if_packet.h
const PACKET_OTHERHOST: u32 = 3;

/// Ethernet type of a frame with a VLAN tag, and the mask of the VLAN id in the tag (IEEE 802.1Q).
const ETH_P_8021Q: u16 = 0x8100;
const VLAN_ID: u32 = 0x0fff;

const BPF_F_PSEUDO_HDR: u64 = 1 << 4;
const BPF_F_MARK_MANGLED_0: u64 = 1 << 5;
/// `BPF_F_IPV6` of `bpf_l4_csum_replace`, from Linux 6.16.
const BPF_F_IPV6: u64 = 1 << 7;

/// Value of `tc_index` in a redirected packet. Only old queueing disciplines read this field, and the packet keeps it
/// until it leaves.
const REDIRECTED: u32 = 0x7376;

/// Value of `gso_size` for SCTP, whose segments have no common size (linux/skbuff.h).
const GSO_BY_FRAGS: u32 = 0xffff;

/// Octets that must be linear: Ethernet, IPv6, one extension header, TCP.
const HEADERS: u32 = 14 + 40 + 8 + 20;

/// A packet at a TC hook with its IP header at offset `L3`.
pub struct Tc<'a, const L3: usize>(&'a TcContext);

#[inline(always)]
pub fn ingress<const L3: usize>(ctx: &TcContext, role: Role) -> i32 {
    let packet = Tc::<L3>(ctx);
    match packet.family() {
        V4::ETHERTYPE => pipeline::ingress::<V4, _>(&packet, role),
        V6::ETHERTYPE if L3 == ETH_LEN && role == Role::UPLINK && announced::answers(&packet) => {
            packet.redirect(packet.ifindex())
        }
        V6::ETHERTYPE => pipeline::ingress::<V6, _>(&packet, role),
        announced::ARP if L3 == ETH_LEN && role == Role::UPLINK => announced::arp(&packet),
        _ => TCX_NEXT,
    }
}

#[inline(always)]
pub fn egress<const L3: usize>(ctx: &TcContext, hook: Hook) -> i32 {
    let packet = Tc::<L3>(ctx);
    match packet.family() {
        V4::ETHERTYPE => pipeline::egress::<V4, _>(&packet, hook),
        V6::ETHERTYPE => pipeline::egress::<V6, _>(&packet, hook),
        _ => TCX_NEXT,
    }
}

impl<'a, const L3: usize> Tc<'a, L3> {
    #[inline(always)]
    pub const fn new(ctx: &'a TcContext) -> Self {
        Self(ctx)
    }
}

impl<const L3: usize> Tc<'_, L3> {
    /// Makes the headers linear. Takes no octets from the later packets of a list that GRO has joined
    /// (`SKB_GSO_FRAGLIST`): kernels before 6.16 panic when such octets move into the first packet. If a packet cannot
    /// be made linear, its linear part is parsed.
    #[inline(always)]
    fn make_linear(&self, len: u32) {
        let skb = self.0.skb.skb;
        // SAFETY: the context is this program's own.
        let (segment, protocol) = unsafe { ((*skb).gso_size, (*skb).protocol as u16) };
        if segment == GSO_BY_FRAGS {
            return;
        }
        let mut wanted = if len < HEADERS { len } else { HEADERS };
        if segment != 0 {
            // The first packet is at least as long as the shortest headers and its payload.
            let ip = if u16::from_be(protocol) == V6::ETHERTYPE { 40 } else { 20 };
            let first = L3 as u32 + ip + UDP_LEN as u32 + segment;
            wanted = if first < wanted { first } else { wanted };
        }
        let _ = self.0.pull_data(wanted);
    }

    /// The Ethernet type, host order. Makes the headers linear first.
    #[inline(always)]
    fn family(&self) -> u16 {
        let frame = self.frame();
        let len = self.0.len();
        if frame.data + HEADERS as usize > frame.end && frame.end - frame.data < len as usize {
            self.make_linear(len);
        }
        let skb = self.0.skb.skb;
        // SAFETY: the context is this program's own.
        let (is_tagged, tag) = unsafe { ((*skb).vlan_present != 0, (*skb).vlan_tci) };
        // The card removed a tag from the frame. A VLAN has an interface of its own, whose programs see the packet
        // next. Id 0 is only a priority.
        if is_tagged && tag & VLAN_ID != 0 {
            return ETH_P_8021Q;
        }
        // SAFETY: as above.
        u16::from_be(unsafe { (*skb).protocol } as u16)
    }
}

impl<const L3: usize> PacketAccess for Tc<'_, L3> {
    const BEFORE_STACK: bool = false;
    const L3: usize = L3;

    #[inline(always)]
    fn frame(&self) -> Frame {
        Frame { data: self.0.data(), end: self.0.data_end(), skb: self.0.skb.skb }
    }

    #[inline(always)]
    fn choose_backend<F: Net>(&self) -> u32 {
        F::choose_at_tc(self.0.skb.skb)
    }

    #[inline(always)]
    fn begin<F: Net>(&self, role: Role) -> u32 {
        F::begin_at_tc(self.0.skb.skb, role.0)
    }

    #[inline(always)]
    fn refresh<F: Net>(&self, key: &FlowKey<F::Addr>, record: &mut FlowRecord<F::Addr>) {
        F::refresh_at_tc(self.0.skb.skb, key, record);
    }

    #[inline(always)]
    fn ctx(&self) -> *mut c_void {
        self.0.as_ptr().cast()
    }

    #[inline(always)]
    fn is_complete(&self, len: u32) -> bool {
        len + L3 as u32 <= self.0.len()
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the context is this program's own.
        unsafe { (*self.0.skb.skb).ifindex }
    }

    #[inline(always)]
    fn exceeds(&self, len: u32, headers: u32, mtu: u16) -> bool {
        // A length that leaves no room for the headers belongs to a packet too large for the field.
        if (len <= mtu as u32 && len >= headers) || mtu == 0 {
            return false;
        }
        // SAFETY: the context is this program's own.
        let segment = unsafe { (*self.0.skb.skb).gso_size };
        // SCTP segments have sizes of their own; their sender knows the path MTU.
        if segment == GSO_BY_FRAGS {
            return false;
        }
        if segment == 0 { len > mtu as u32 } else { segment + headers > mtu as u32 }
    }

    #[inline(always)]
    fn fix_crc(&self, l4: usize, flip: u32, others: Wsum) -> bool {
        let Some(header) = self.frame().at::<[u16; SCTP_LEN / 2]>(l4) else { return false };
        let [a, b, c, d] = flip.to_ne_bytes();
        let (high, low) = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
        // SAFETY: `at` checked the bounds; the helper does not move the packet.
        unsafe {
            let words = &mut *header;
            let before = Wsum(words[4] as u32 + words[5] as u32);
            if !is_to_be_completed(words) {
                words[4] ^= high;
                words[5] ^= low;
            }
            let after = Wsum(words[4] as u32 + words[5] as u32);
            bpf_csum_update(self.0.skb.skb, others.plus(after).minus(before).0);
        }
        true
    }

    /// In IPv4 the header checksum balances every change in the header.
    #[inline(always)]
    fn fix_sum<F: Family>(&self, addr: Wsum, hops: u8) {
        if !F::HAS_L3_CHECKSUM {
            let hop = Wsum::ZERO.minus(Wsum(u16::from_ne_bytes([0, hops]) as u32));
            // SAFETY: plain helper call; packets without a sum are left alone.
            unsafe { bpf_csum_update(self.0.skb.skb, hop.plus(addr).0) };
        }
    }

    #[inline(always)]
    fn load_octets<T: Copy>(&self, offset: usize, to: &mut T, octets: usize) -> bool {
        // SAFETY: callers name no more octets than the value has, which the verifier checks; the helper checks the
        // packet's length.
        let to = (&raw mut *to).cast();
        unsafe { bpf_skb_load_bytes(self.0.skb.skb.cast(), offset as u32, to, octets as u32) == 0 }
    }

    #[inline(always)]
    fn store_octets<T: Copy>(&self, offset: usize, from: &T, octets: usize) -> bool {
        let from = (&raw const *from).cast();
        // SAFETY: as above.
        unsafe { bpf_skb_store_bytes(self.0.skb.skb, offset as u32, from, octets as u32, 0) == 0 }
    }

    #[inline(always)]
    fn is_redirected(&self) -> bool {
        // SAFETY: the context is this program's own.
        unsafe { (*self.0.skb.skb).tc_index == REDIRECTED }
    }

    #[inline(always)]
    fn add_link_header<F: Family>(&self) -> bool {
        if L3 == ETH_LEN {
            return true;
        }
        // SAFETY: the context is this program's own; the frame is taken again afterwards.
        if unsafe { bpf_skb_change_head(self.0.skb.skb, ETH_LEN as u32, 0) } != 0 {
            return false;
        }
        let Some(kind) = self.frame().at::<u16>(ETH_LEN - 2) else { return false };
        // SAFETY: `at` checked the bounds.
        unsafe { kind.write(F::ETHERTYPE.to_be()) };
        true
    }

    /// On a pod's veth or bridge port, `PACKET_OTHERHOST` carries no information.
    #[inline(always)]
    fn is_ours(&self, role: Role) -> bool {
        // SAFETY: the context is this program's own.
        role != Role::UPLINK || unsafe { (*self.0.skb.skb).pkt_type } != PACKET_OTHERHOST
    }

    #[inline(always)]
    fn is_addressed_to(&self, _iface: &Iface) -> bool {
        true
    }

    #[inline(always)]
    fn fix_checksum<F: Family>(&self, l4: usize, proto: Proto, addr: Wsum, port: Wsum, hops: u8) -> bool {
        let skb = self.0.skb.skb;
        let at = (l4 + checksum_offset(proto)) as u32;
        let zero = if proto == Proto::UDP { BPF_F_MARK_MANGLED_0 } else { 0 };
        let has_flag = maps::CONFIG.load().csum_ipv6_flag != 0;
        let family = if !F::HAS_L3_CHECKSUM && has_flag { BPF_F_IPV6 } else { 0 };
        // SAFETY: helpers check offsets themselves.
        unsafe {
            if bpf_l4_csum_replace(skb, at, 0, addr.0 as u64, BPF_F_PSEUDO_HDR | zero | family) != 0 {
                return false;
            }
            // Only CHECKSUM_COMPLETE packets have a `skb->csum` to update. IPv6 has no header checksum to balance the
            // hop limit (second octet of its pair). Without the flag the helper subtracts the address delta, which is
            // right only if an IP header checksum changed too: add it again.
            if !F::HAS_L3_CHECKSUM && (hops != 0 || !has_flag) {
                let hop = Wsum::ZERO.minus(Wsum(u16::from_ne_bytes([0, hops]) as u32));
                bpf_csum_update(skb, if has_flag { hop } else { hop.plus(addr) }.0);
            }
            port.0 == 0 || bpf_l4_csum_replace(skb, at, 0, port.0 as u64, zero) == 0
        }
    }

    #[inline(always)]
    fn reaches(&self, _oif: u32) -> bool {
        true
    }

    #[inline(always)]
    fn pass(&self) -> i32 {
        TCX_NEXT
    }

    #[inline(always)]
    fn drop(&self) -> i32 {
        TC_ACT_SHOT
    }

    #[inline(always)]
    fn redirect(&self, oif: u32) -> i32 {
        self.untag();
        self.mark();
        // SAFETY: plain helper call.
        unsafe { bpf_redirect(oif, 0) as i32 }
    }

    #[inline(always)]
    fn redirect_neigh(&self, oif: u32, neighbor: Option<&Neighbor>) -> i32 {
        self.untag();
        self.mark();
        let (neighbor, octets) = match neighbor {
            Some(neighbor) => (core::ptr::from_ref(neighbor).cast_mut().cast(), size_of::<Neighbor>() as i32),
            None => (core::ptr::null_mut(), 0),
        };
        // SAFETY: the helper only reads; a null pointer with length zero asks for the kernel's own route.
        unsafe { bpf_redirect_neigh(oif, neighbor, octets, 0) as i32 }
    }
}

impl<const L3: usize> Tc<'_, L3> {
    /// A priority tag is valid only on the link by which the packet came. The stack forwards without it, too.
    #[inline(always)]
    fn untag(&self) {
        let skb = self.0.skb.skb;
        // SAFETY: the context is this program's own; no pointer into the packet is alive any more.
        unsafe {
            if (*skb).vlan_present != 0 {
                bpf_skb_vlan_pop(skb);
            }
        }
    }

    /// Tells the egress hook of the outgoing interface that the packet is not the node's own.
    #[inline(always)]
    fn mark(&self) {
        // SAFETY: the context is this program's own.
        unsafe { (*self.0.skb.skb).tc_index = REDIRECTED };
    }

    #[inline(always)]
    pub fn skb(&self) -> *mut aya_ebpf::bindings::__sk_buff {
        self.0.skb.skb
    }
}
