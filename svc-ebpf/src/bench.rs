//! Programs that only `cargo xtask bench` loads: a wrapper that restores a packet before each run, and minimal
//! programs as a lower bound for the product's.
//!
//! BPF_PROG_TEST_RUN does not restore the packet between repeats. The wrapper writes the packet's first 80 octets
//! from a template, its source address and ports from a list, and tail-calls the program under test.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod frame;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::{Array, LruHashMap, ProgramArray};
use aya_ebpf::programs::{TcContext, XdpContext};
use svc_common::abi::{FlowKey, FlowRecord, limits};
use svc_common::addr::{AddrV4, AddrV6, Port, Proto};
use svc_common::family::{Family as _, V4, V6};
use svc_common::wire::cursor::Cursor as _;
use svc_common::wire::ip::{ETH_LEN, Ipv4Header, Ipv6Header, Ports, addr_v4, addr_v6};

use frame::Frame;

/// Octets of a packet: a TCP segment of IPv6 fits.
const OCTETS: usize = 80;

/// `TCX_NEXT` and `TC_ACT_SHOT`.
const NEXT: i32 = -1;
const SHOT: i32 = 2;

/// The wrapper's position in its list. User space writes it before a case, the wrapper at each packet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Progress {
    /// Packets so far.
    pub count: u32,
    /// Index of the case's first variant, and the number of variants (a power of two) less one.
    pub base: u32,
    pub mask: u32,
    /// 1: the source address changes after the last variant, so that no packet repeats.
    pub fresh: u32,
    /// Index of the program under test.
    pub program: u32,
}

/// Fields that differ between one packet of a case and the next.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Variant {
    /// Last four octets of the source address.
    pub addr: [u16; 2],
    pub sport: u16,
    pub dport: u16,
}

#[map]
static PROGRESS: Array<Progress> = Array::with_max_entries(1, 0);
#[map]
static TEMPLATE: Array<[u64; OCTETS / 8]> = Array::with_max_entries(1, 0);
#[map]
static VARIANTS: Array<Variant> = Array::with_max_entries(16 * 65_536, 0);
#[map]
static UNDER_TEST: ProgramArray = ProgramArray::with_max_entries(64, 0);
/// The same for TC: a program array holds programs of one kind.
#[map]
static UNDER_TEST_TC: ProgramArray = ProgramArray::with_max_entries(64, 0);

#[map]
static LOOKUP4: LruHashMap<FlowKey<AddrV4>, FlowRecord<AddrV4>> =
    LruHashMap::with_max_entries(limits::FLOWS, 0);
#[map]
static LOOKUP6: LruHashMap<FlowKey<AddrV6>, FlowRecord<AddrV6>> =
    LruHashMap::with_max_entries(limits::FLOWS, 0);
#[map]
static INSERT4: LruHashMap<FlowKey<AddrV4>, FlowRecord<AddrV4>> =
    LruHashMap::with_max_entries(limits::FLOWS, 0);
#[map]
static INSERT6: LruHashMap<FlowKey<AddrV6>, FlowRecord<AddrV6>> =
    LruHashMap::with_max_entries(limits::FLOWS, 0);

#[xdp(frags)]
pub fn restore4(ctx: XdpContext) -> u32 {
    if let Some(program) = restore::<SRC4, PORTS4>(&packet(&ctx)) {
        // SAFETY: the program array holds XDP programs; without one at the index the call falls through.
        let _ = unsafe { UNDER_TEST.tail_call(&ctx, program) };
    }
    XDP_ABORTED
}

#[xdp(frags)]
pub fn restore6(ctx: XdpContext) -> u32 {
    if let Some(program) = restore::<SRC6, PORTS6>(&packet(&ctx)) {
        // SAFETY: as above.
        let _ = unsafe { UNDER_TEST.tail_call(&ctx, program) };
    }
    XDP_ABORTED
}

#[classifier]
pub fn restore_tc4(ctx: TcContext) -> i32 {
    if let Some(program) = restore::<SRC4, PORTS4>(&skb(&ctx)) {
        // SAFETY: as above, with TC programs.
        let _ = unsafe { UNDER_TEST_TC.tail_call(&ctx, program) };
    }
    SHOT
}

#[classifier]
pub fn restore_tc6(ctx: TcContext) -> i32 {
    if let Some(program) = restore::<SRC6, PORTS6>(&skb(&ctx)) {
        // SAFETY: as above.
        let _ = unsafe { UNDER_TEST_TC.tail_call(&ctx, program) };
    }
    SHOT
}

/// Offsets of the last four octets of the source address, and of the ports.
const SRC4: usize = ETH_LEN + 12;
const PORTS4: usize = ETH_LEN + V4::IP_LEN;
const SRC6: usize = ETH_LEN + 20;
const PORTS6: usize = ETH_LEN + V6::IP_LEN;

/// Writes the next packet of the case, and returns the index of the program under test.
#[inline(always)]
fn restore<const ADDR: usize, const PORTS: usize>(frame: &Frame) -> Option<u32> {
    let (progress, template) = (PROGRESS.get_ptr_mut(0)?, TEMPLATE.get(0)?);
    // SAFETY: one packet at a time: the bench is the only user.
    let progress = unsafe { &mut *progress };
    let count = progress.count;
    progress.count = count.wrapping_add(1);
    let variant = VARIANTS.get(progress.base + (count & progress.mask))?;
    if frame.data + OCTETS > frame.end {
        return None;
    }
    // Changes the third of the four octets.
    let epoch = if progress.fresh != 0 { (count >> 16) as u16 & 0xff } else { 0 };
    // SAFETY: all lies within the octets that are there; the machines of the bench read and write words anywhere.
    unsafe {
        (frame.data as *mut [u64; OCTETS / 8]).write(*template);
        ((frame.data + ADDR) as *mut [u16; 2]).write([variant.addr[0], variant.addr[1] ^ epoch]);
        ((frame.data + PORTS) as *mut [u16; 2]).write([variant.sport, variant.dport]);
    }
    Some(progress.program)
}

/// The wrapper's own cost.
#[xdp(frags)]
pub fn empty(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Parse and send back: the least that a forwarding program does.
#[xdp(frags)]
pub fn turn4(ctx: XdpContext) -> u32 {
    if key4(&packet(&ctx)).is_some() { turn(&ctx) } else { XDP_ABORTED }
}

#[xdp(frags)]
pub fn turn6(ctx: XdpContext) -> u32 {
    if key6(&packet(&ctx)).is_some() { turn(&ctx) } else { XDP_ABORTED }
}

/// One bare look-up of the packet's tuple.
#[xdp(frags)]
pub fn lookup4(ctx: XdpContext) -> u32 {
    let Some(key) = key4(&packet(&ctx)) else { return XDP_ABORTED };
    if LOOKUP4.get_ptr_mut(&key).is_some() { turn(&ctx) } else { XDP_DROP }
}

#[xdp(frags)]
pub fn lookup6(ctx: XdpContext) -> u32 {
    let Some(key) = key6(&packet(&ctx)) else { return XDP_ABORTED };
    if LOOKUP6.get_ptr_mut(&key).is_some() { turn(&ctx) } else { XDP_DROP }
}

/// One bare insert under the packet's tuple.
#[xdp(frags)]
pub fn insert4(ctx: XdpContext) -> u32 {
    let Some(key) = key4(&packet(&ctx)) else { return XDP_ABORTED };
    if INSERT4.insert(&key, FlowRecord::default(), 0).is_ok() { turn(&ctx) } else { XDP_DROP }
}

#[xdp(frags)]
pub fn insert6(ctx: XdpContext) -> u32 {
    let Some(key) = key6(&packet(&ctx)) else { return XDP_ABORTED };
    if INSERT6.insert(&key, FlowRecord::default(), 0).is_ok() { turn(&ctx) } else { XDP_DROP }
}

/// The wrapper's own cost at TC.
#[classifier]
pub fn empty_tc(_ctx: TcContext) -> i32 {
    NEXT
}

/// One bare look-up of the packet's tuple at TC.
#[classifier]
pub fn lookup_tc4(ctx: TcContext) -> i32 {
    let Some(key) = key4(&skb(&ctx)) else { return SHOT };
    if LOOKUP4.get_ptr_mut(&key).is_some() { NEXT } else { SHOT }
}

#[classifier]
pub fn lookup_tc6(ctx: TcContext) -> i32 {
    let Some(key) = key6(&skb(&ctx)) else { return SHOT };
    if LOOKUP6.get_ptr_mut(&key).is_some() { NEXT } else { SHOT }
}

/// The fewest checks that the verifier accepts; the product's parser has more.
#[inline(always)]
fn key4(frame: &Frame) -> Option<FlowKey<AddrV4>> {
    let (ip, ports) = (frame.read::<Ipv4Header>(ETH_LEN)?, frame.read::<Ports>(ETH_LEN + V4::IP_LEN)?);
    let key = key(addr_v4(ip.src), addr_v4(ip.dst), ports, ip.proto);
    (frame.read::<u16>(ETH_LEN - 2)? == V4::ETHERTYPE.to_be() && ip.version_ihl == 0x45).then_some(key)
}

#[inline(always)]
fn key6(frame: &Frame) -> Option<FlowKey<AddrV6>> {
    let (ip, ports) = (frame.read::<Ipv6Header>(ETH_LEN)?, frame.read::<Ports>(ETH_LEN + V6::IP_LEN)?);
    let key = key(addr_v6(ip.src), addr_v6(ip.dst), ports, ip.next_header);
    (frame.read::<u16>(ETH_LEN - 2)? == V6::ETHERTYPE.to_be()).then_some(key)
}

#[inline(always)]
fn key<A>(src: A, dst: A, ports: Ports, proto: u8) -> FlowKey<A> {
    let (sport, dport) = (Port::from_be(ports.src), Port::from_be(ports.dst));
    FlowKey { src, dst, sport, dport, proto: Proto(proto), _pad: [0; 3] }
}

/// Sends the packet back to its sender.
#[inline(always)]
fn turn(ctx: &XdpContext) -> u32 {
    let Some(macs) = packet(ctx).at::<[u16; 6]>(0) else { return XDP_ABORTED };
    // SAFETY: `at` checked the bounds.
    unsafe {
        let [a, b, c, d, e, f] = *macs;
        *macs = [d, e, f, a, b, c];
    }
    XDP_TX
}

#[inline(always)]
fn packet(ctx: &XdpContext) -> Frame {
    Frame { data: ctx.data(), end: ctx.data_end(), skb: core::ptr::null() }
}

#[inline(always)]
fn skb(ctx: &TcContext) -> Frame {
    Frame { data: ctx.data(), end: ctx.data_end(), skb: ctx.skb.skb }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Loops for ever, so that the verifier refuses a program in which a panic can be reached.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
