//! Global functions: the verifier walks each of them once per program, for every state of its callers. A context, scalars
//! and pointers to whole values go in, a scalar comes out, and all else is in the scratch space.
//!
//! Symbols cannot be generic: what depends on the address family or on the hook has a function for each, and the
//! programs reach it by the traits [`Global`] and [`PacketAccess`](crate::hook::PacketAccess).

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::programs::{TcContext, XdpContext};
use svc_common::abi::{FlowKey, FlowRecord, Role};
use svc_common::addr::{AddrV4, AddrV6};
use svc_common::family::{V4, V6, addr_delta};
use svc_common::wire::crc32c;
use svc_common::wire::icmp::Problem;
use svc_common::wire::ip::ETH_LEN;

use crate::hook::tc::Tc;
use crate::hook::xdp::Xdp;
use crate::net::Global;
use crate::{choose, icmp, new_flow, record, source_port};

/// The same for both families.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sctp_delta(flipped: u32, length: u32) -> u32 {
    crc32c::delta(flipped, length)
}

/// The functions of one address family. Packets have an Ethernet header, except where a name says `tunnel`.
macro_rules! functions {
    ($family:ty, $addr:ty, $choose_at_tc:ident, $choose_at_xdp:ident, $begin_at_tc:ident, $begin_at_xdp:ident, $begin_direct:ident, $begin_second:ident, $claim:ident, $reject_at_tc:ident, $reject_at_tunnel:ident, $refresh_at_tc:ident, $refresh_at_xdp:ident, $wildcard_delta:ident) => {
        impl Global for $family {
            #[inline(always)]
            fn choose_at_tc(skb: *mut __sk_buff) -> u32 {
                $choose_at_tc(skb)
            }
            #[inline(always)]
            fn choose_at_xdp(frame: *mut xdp_md) -> u32 {
                $choose_at_xdp(frame)
            }
            #[inline(always)]
            fn begin_at_tc(skb: *mut __sk_buff, role: u32) -> u32 {
                $begin_at_tc(skb, role)
            }
            #[inline(always)]
            fn begin_at_xdp(frame: *mut xdp_md, role: u32) -> u32 {
                $begin_at_xdp(frame, role)
            }
            #[inline(always)]
            fn begin_direct() -> u32 {
                $begin_direct()
            }
            #[inline(always)]
            fn begin_second() -> u32 {
                $begin_second()
            }
            #[inline(always)]
            fn claim(takes_port: u32, now: u32) -> u32 {
                $claim(takes_port, now)
            }
            #[inline(always)]
            fn reject_at_tc(skb: *mut __sk_buff, problem: u32) -> i32 {
                $reject_at_tc(skb, problem)
            }
            #[inline(always)]
            fn reject_at_tunnel(skb: *mut __sk_buff, problem: u32) -> i32 {
                $reject_at_tunnel(skb, problem)
            }
            #[inline(always)]
            fn refresh_at_tc(skb: *mut __sk_buff, key: &FlowKey<$addr>, record: &mut FlowRecord<$addr>) {
                $refresh_at_tc(skb, key, record);
            }
            #[inline(always)]
            fn refresh_at_xdp(frame: *mut xdp_md, key: &FlowKey<$addr>, record: &mut FlowRecord<$addr>) {
                $refresh_at_xdp(frame, key, record);
            }
            #[inline(always)]
            fn sctp_delta(flipped: u32, length: u32) -> u32 {
                sctp_delta(flipped, length)
            }
            #[inline(always)]
            fn wildcard_delta(key: &FlowKey<$addr>, record: &FlowRecord<$addr>) -> u32 {
                $wildcard_delta(key, record)
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $choose_at_tc(skb: *mut __sk_buff) -> u32 {
            choose::choose_backend::<$family, _>(&Tc::<ETH_LEN>::new(&TcContext::new(skb)))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $choose_at_xdp(frame: *mut xdp_md) -> u32 {
            choose::choose_backend::<$family, _>(&Xdp::new(&XdpContext::new(frame)))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $begin_at_tc(skb: *mut __sk_buff, role: u32) -> u32 {
            new_flow::begin::<$family, _>(&Tc::<ETH_LEN>::new(&TcContext::new(skb)), Role(role))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $begin_at_xdp(frame: *mut xdp_md, role: u32) -> u32 {
            new_flow::begin::<$family, _>(&Xdp::new(&XdpContext::new(frame)), Role(role))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $begin_direct() -> u32 {
            new_flow::begin_direct::<$family>()
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $begin_second() -> u32 {
            new_flow::begin_second::<$family>()
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $claim(takes_port: u32, now: u32) -> u32 {
            source_port::claim::<$family>(takes_port != 0, now) as u32
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $reject_at_tc(skb: *mut __sk_buff, problem: u32) -> i32 {
            icmp::report::<$family, ETH_LEN>(&Tc::new(&TcContext::new(skb)), Problem(problem))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $reject_at_tunnel(skb: *mut __sk_buff, problem: u32) -> i32 {
            icmp::report::<$family, 0>(&Tc::new(&TcContext::new(skb)), Problem(problem))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $refresh_at_tc(
            skb: *mut __sk_buff,
            key: *const FlowKey<$addr>,
            record: *mut FlowRecord<$addr>,
        ) -> u32 {
            // SAFETY: callers pass references; the verifier takes a pointer to be null or to a whole value.
            match unsafe { (key.as_ref(), record.as_mut()) } {
                (Some(key), Some(record)) => {
                    record::refresh::<$family, _>(&Tc::<ETH_LEN>::new(&TcContext::new(skb)), key, record)
                }
                _ => 0,
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $refresh_at_xdp(
            frame: *mut xdp_md,
            key: *const FlowKey<$addr>,
            record: *mut FlowRecord<$addr>,
        ) -> u32 {
            // SAFETY: callers pass references; the verifier takes a pointer to be null or to a whole value.
            match unsafe { (key.as_ref(), record.as_mut()) } {
                (Some(key), Some(record)) => {
                    record::refresh::<$family, _>(&Xdp::new(&XdpContext::new(frame)), key, record)
                }
                _ => 0,
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $wildcard_delta(
            key: *const FlowKey<$addr>,
            record: *const FlowRecord<$addr>,
        ) -> u32 {
            // SAFETY: as above.
            match unsafe { (key.as_ref(), record.as_ref()) } {
                (Some(key), Some(record)) => {
                    addr_delta::<$family>((key.src, key.dst), (record.src, record.dst)).0
                }
                _ => 0,
            }
        }
    };
}

functions! {
    V4, AddrV4, choose_at_tc4, choose_at_xdp4, begin_at_tc4, begin_at_xdp4, begin_direct4, begin_second4, claim4,
    reject_at_tc4, reject_at_tunnel4, refresh_at_tc4, refresh_at_xdp4, wildcard_delta4
}
functions! {
    V6, AddrV6, choose_at_tc6, choose_at_xdp6, begin_at_tc6, begin_at_xdp6, begin_direct6, begin_second6, claim6,
    reject_at_tc6, reject_at_tunnel6, refresh_at_tc6, refresh_at_xdp6, wildcard_delta6
}
