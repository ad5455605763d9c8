//! Entry points of the kernel programs. Each is one call: context in, action out.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod affinity;
mod announced;
mod bypass;
mod choose;
mod entries;
mod extent;
mod fib;
mod frame;
mod global;
mod hook;
mod icmp;
mod icmp_inner;
mod instructions;
mod kernel_structs;
mod lease;
mod maps;
mod net;
mod new_flow;
mod no_ports;
mod outcome;
mod pipeline;
mod record;
mod resume;
mod sctp;
mod send;
mod source_port;
mod tables;
mod tuple_conflict;
mod twin;

use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr, classifier, xdp};
use aya_ebpf::programs::{SockAddrContext, SockContext, TcContext, XdpContext};
use svc_common::abi::{Hook, Role};
use svc_common::family::{V4, V6};
use svc_common::wire::ip::ETH_LEN;

use hook::{sock, tc, xdp as xdp_hook};

/// Packets from a pod.
#[classifier]
pub fn pod_ingress(ctx: TcContext) -> i32 {
    tc::ingress::<ETH_LEN>(&ctx, Role::POD)
}

/// Packets towards a pod.
#[classifier]
pub fn pod_egress(ctx: TcContext) -> i32 {
    tc::egress::<ETH_LEN>(&ctx, Hook::POD_EGRESS)
}

/// Packets from the outside.
#[classifier]
pub fn uplink_ingress(ctx: TcContext) -> i32 {
    tc::ingress::<ETH_LEN>(&ctx, Role::UPLINK)
}

/// Packets towards the outside.
#[classifier]
pub fn uplink_egress(ctx: TcContext) -> i32 {
    tc::egress::<ETH_LEN>(&ctx, Hook::UPLINK_EGRESS)
}

/// Packets from a device without an Ethernet header (a tunnel).
#[classifier]
pub fn tunnel_ingress(ctx: TcContext) -> i32 {
    tc::ingress::<0>(&ctx, Role::UPLINK)
}

/// Packets towards a device without an Ethernet header.
#[classifier]
pub fn tunnel_egress(ctx: TcContext) -> i32 {
    tc::egress::<0>(&ctx, Hook::UPLINK_EGRESS)
}

/// Packets from the outside, before the stack has seen them.
#[xdp(frags)]
pub fn uplink_xdp(ctx: XdpContext) -> u32 {
    xdp_hook::ingress(&ctx) as u32
}

/// The same for generic mode, without support for fragments: with it the kernel (seen on 6.18) copies the packet into a
/// buffer that leaves the TC hooks after it without an Ethernet header.
#[xdp]
pub fn uplink_xdp_skb(ctx: XdpContext) -> u32 {
    xdp_hook::ingress(&ctx) as u32
}

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    sock::connect::<V4>(&ctx)
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    sock::connect::<V6>(&ctx)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    sock::sendmsg::<V4>(&ctx)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    sock::sendmsg::<V6>(&ctx)
}

#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    sock::reverse::<V4>(&ctx)
}

#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    sock::reverse::<V6>(&ctx)
}

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    sock::reverse::<V4>(&ctx)
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    sock::reverse::<V6>(&ctx)
}

#[cgroup_sock(sock_release)]
pub fn sock_release(ctx: SockContext) -> i32 {
    sock::release(&ctx)
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
