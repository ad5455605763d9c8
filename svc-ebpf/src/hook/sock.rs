//! Socket load balancing at the node's cgroup: the only translation for host processes, an accelerator for pods.

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_get_socket_cookie, bpf_set_retval,
};
use aya_ebpf::programs::{SockAddrContext, SockContext};
use svc_common::abi::*;
use svc_common::addr::{AddrV4, AddrV6, Port, Proto};
use svc_common::datapath::choose::{
    accepts_node_port, admits_node, is_backend_left_to_packets, is_left_to_packets,
};
use svc_common::datapath::select::{index, mix};
use svc_common::family::{Family as _, V4, V6};

use crate::affinity;
use crate::choose::verdict_without_frontend;
use crate::extent::{NO_BACKEND, member};
use crate::lease::{remember_pod_socket, serves_sockets_of};
use crate::maps::CONFIG;
use crate::net::Net;
use crate::outcome::Outcome;
use crate::tables::{Tables, count, count_service};

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;
const ECONNREFUSED: i32 = 111;

/// Families as a socket address carries them.
pub trait SockFamily: Net {
    /// The hook's own family is IPv6: its addresses may be mapped IPv4.
    const MAY_BE_MAPPED: bool;
    fn read(ctx: *mut bpf_sock_addr) -> Self::Addr;
    fn write(ctx: *mut bpf_sock_addr, addr: Self::Addr);
}

impl SockFamily for V4 {
    const MAY_BE_MAPPED: bool = false;

    #[inline(always)]
    fn read(ctx: *mut bpf_sock_addr) -> AddrV4 {
        // SAFETY: the context is this program's own.
        AddrV4::from_be(unsafe { (*ctx).user_ip4 })
    }

    #[inline(always)]
    fn write(ctx: *mut bpf_sock_addr, addr: AddrV4) {
        // SAFETY: as above.
        unsafe { (*ctx).user_ip4 = addr.be() }
    }
}

impl SockFamily for V6 {
    const MAY_BE_MAPPED: bool = true;

    #[inline(always)]
    fn read(ctx: *mut bpf_sock_addr) -> AddrV6 {
        // SAFETY: the context is this program's own. Word by word, as the verifier wants it.
        unsafe {
            let p = &raw const (*ctx).user_ip6;
            let w = |i: usize| p.cast::<u32>().add(i).read_volatile();
            AddrV6::from_be([w(0), w(1), w(2), w(3)])
        }
    }

    #[inline(always)]
    fn write(ctx: *mut bpf_sock_addr, addr: AddrV6) {
        let words = addr.be();
        // SAFETY: as above.
        unsafe {
            let p = (&raw mut (*ctx).user_ip6).cast::<u32>();
            p.write_volatile(words[0]);
            p.add(1).write_volatile(words[1]);
            p.add(2).write_volatile(words[2]);
            p.add(3).write_volatile(words[3]);
        }
    }
}

/// Seconds for which an unconnected socket keeps its backend after its last datagram: nf_conntrack's timeout for a stream.
const SOCKET_STAYS: u32 = 120;

/// How a call chooses its backend.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// Once for a connection.
    Random,
    /// Once per socket and frontend: all datagrams of an unconnected socket go to one backend while that one serves.
    Sticky,
}

#[inline(always)]
pub fn connect<F: SockFamily>(ctx: &SockAddrContext) -> i32 {
    dispatch::<F>(ctx.sock_addr, Choice::Random)
}

#[inline(always)]
pub fn sendmsg<F: SockFamily>(ctx: &SockAddrContext) -> i32 {
    dispatch::<F>(ctx.sock_addr, Choice::Sticky)
}

#[inline(always)]
fn dispatch<F: SockFamily>(ctx: *mut bpf_sock_addr, choice: Choice) -> i32 {
    if F::MAY_BE_MAPPED {
        if let Some(v4) = V6::read(ctx).to_mapped_v4() {
            return translate::<V4>(ctx, v4, choice, |ctx, addr| {
                V6::write(ctx, AddrV6::from_mapped_v4(addr))
            });
        }
    }
    translate::<F>(ctx, F::read(ctx), choice, F::write)
}

/// Replaces the address that a socket dials by a backend's, if a service answers there.
#[inline(always)]
fn translate<F: Net>(
    ctx: *mut bpf_sock_addr,
    addr: F::Addr,
    choice: Choice,
    write: impl FnOnce(*mut bpf_sock_addr, F::Addr),
) -> i32 {
    // SAFETY: the context is this program's own.
    let (port, proto) = unsafe { (Port::from_be((*ctx).user_port as u16), Proto((*ctx).protocol as u8)) };
    let config = CONFIG.load();
    // SAFETY: the context is this program's own.
    let netns = unsafe { bpf_get_netns_cookie(ctx.cast()) };
    let is_host = netns as u32 == config.host_netns[0] && (netns >> 32) as u32 == config.host_netns[1];
    if !is_host && !serves_sockets_of(netns) {
        return ALLOW;
    }
    let mut wanted = FrontendKey { addr, port, proto, scope: Scope::ADDRESS };
    let mut frontend = F::frontend(&wanted);
    let mut address = AddressFlags::default();
    if frontend.is_none() {
        address = F::address(&addr).unwrap_or_default();
        // Only NodePorts of this node are translated here, and never another node's (SEM-107).
        if accepts_node_port(address, is_host) {
            wanted.addr = F::Addr::default();
            wanted.scope = Scope::NODE_PORT;
            frontend = F::frontend(&wanted);
        }
    }
    let Some(frontend) = frontend else {
        return match verdict_without_frontend::<F>(address, &addr) {
            Outcome::PASS => ALLOW,
            Outcome::UNKNOWN_PORT => refuse(),
            _ => REFUSE,
        };
    };
    let flags = frontend.flags;
    if !is_host && is_left_to_packets(flags) {
        return ALLOW;
    }
    if !admits_node(flags) {
        count(Counter::DropSourceRange);
        return REFUSE;
    }
    let extent = &frontend.cluster;
    if extent.count == 0 {
        if flags.has(FrontendFlags::USABLE_ELSEWHERE) {
            count(Counter::DropNoLocalEndpoint);
            return REFUSE;
        }
        return refuse();
    }
    // SAFETY: the context is this program's own.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.cast()) };
    let cookie = [cookie as u32, (cookie >> 32) as u32];
    let is_sticky = choice == Choice::Sticky && affinity::seconds(frontend) == 0;
    let client = if is_sticky {
        AffinityKey::of_socket(frontend.service, cookie, addr)
    } else {
        // The socket has no source address yet, so a network namespace counts as one client (SEM-237).
        AffinityKey {
            service: frontend.service,
            netns: [netns as u32, (netns >> 32) as u32],
            addr: F::Addr::default(),
        }
    };
    let stays = is_sticky || affinity::seconds(frontend) != 0;
    let kept = if stays { affinity::sticky_backend::<F>(&client, extent) } else { NO_BACKEND };
    let id = if kept != NO_BACKEND {
        kept
    } else {
        let number = match choice {
            // SAFETY: no arguments.
            Choice::Random => unsafe { bpf_get_prandom_u32() },
            Choice::Sticky => mix(cookie[0] ^ F::fold(addr), port.be() as u32),
        };
        member(extent, index(number, extent.count))
    };
    let Some(backend) = (if id == NO_BACKEND { None } else { F::backend(id) }) else {
        count(Counter::DropNoBackend);
        return REFUSE;
    };
    let key = SockKey { cookie, addr: backend.addr, port: backend.port, _pad: [0; 2] };
    let is_new = F::socket(&key).is_none_or(|v| v.addr != addr || v.port != port);
    let seconds = affinity::seconds(frontend);
    if is_sticky {
        affinity::remember_backend::<F>(&client, id, SOCKET_STAYS, true);
    } else if seconds != 0 {
        affinity::remember_backend::<F>(&client, id, seconds, is_new);
    }
    if !is_host && is_backend_left_to_packets(proto, backend.locality) {
        return ALLOW;
    }
    if is_new {
        if !is_host {
            remember_pod_socket();
        }
        F::insert_socket(&key, &SockValue { addr, port, _pad: [0; 2] });
        count_service(frontend.service, 1, 0, 0);
        count(Counter::SocketConnect);
    }
    write(ctx, backend.addr);
    // SAFETY: as above.
    unsafe { (*ctx).user_port = backend.port.be() as u32 };
    ALLOW
}

/// The call fails with ECONNREFUSED, as if the backend had refused.
#[inline(always)]
fn refuse() -> i32 {
    count(Counter::SocketRefused);
    if CONFIG.load().set_retval != 0 {
        // SAFETY: plain helper call; below 5.18 the branch is dead code to the verifier.
        unsafe { bpf_set_retval(-ECONNREFUSED) };
    }
    REFUSE
}

/// Forgets the frontend of a connected socket that closes, so that the table has room for open ones. The entries of an
/// unconnected socket are left to the table's eviction: it may have dialled any frontends.
#[inline(always)]
pub fn release(ctx: &SockContext) -> i32 {
    let sock = ctx.sock;
    // SAFETY: the context is this program's own. Word by word, as the verifier wants it.
    let (family, port) = unsafe {
        ((&raw const (*sock).family).read_volatile(), (&raw const (*sock).dst_port).read_volatile())
    };
    if port == 0 {
        return ALLOW;
    }
    // SAFETY: as above.
    let cookie = unsafe { bpf_get_socket_cookie(sock.cast()) };
    let (cookie, port) = ([cookie as u32, (cookie >> 32) as u32], Port::from_be(port));
    if family == u32::from(V4::AF) {
        // SAFETY: as above.
        let addr = AddrV4::from_be(unsafe { (&raw const (*sock).dst_ip4).read_volatile() });
        V4::remove_socket(&SockKey { cookie, addr, port, _pad: [0; 2] });
        return ALLOW;
    }
    if family != u32::from(V6::AF) {
        return ALLOW;
    }
    // SAFETY: as above.
    let addr = AddrV6::from_be(unsafe {
        let words = (&raw const (*sock).dst_ip6).cast::<u32>();
        let word = |i: usize| words.add(i).read_volatile();
        [word(0), word(1), word(2), word(3)]
    });
    match addr.to_mapped_v4() {
        Some(addr) => V4::remove_socket(&SockKey { cookie, addr, port, _pad: [0; 2] }),
        None => V6::remove_socket(&SockKey { cookie, addr, port, _pad: [0; 2] }),
    }
    ALLOW
}

/// Shows a socket the frontend that it dialled instead of the backend (recvmsg, getpeername).
#[inline(always)]
pub fn reverse<F: SockFamily>(ctx: &SockAddrContext) -> i32 {
    let ctx = ctx.sock_addr;
    if F::MAY_BE_MAPPED {
        if let Some(v4) = V6::read(ctx).to_mapped_v4() {
            restore::<V4>(ctx, v4, |ctx, addr| V6::write(ctx, AddrV6::from_mapped_v4(addr)));
            return ALLOW;
        }
    }
    restore::<F>(ctx, F::read(ctx), F::write);
    ALLOW
}

#[inline(always)]
fn restore<F: Tables>(
    ctx: *mut bpf_sock_addr,
    addr: F::Addr,
    write: impl FnOnce(*mut bpf_sock_addr, F::Addr),
) {
    // SAFETY: the context is this program's own.
    let (cookie, port) =
        unsafe { (bpf_get_socket_cookie(ctx.cast()), Port::from_be((*ctx).user_port as u16)) };
    let key = SockKey { cookie: [cookie as u32, (cookie >> 32) as u32], addr, port, _pad: [0; 2] };
    if let Some(dialled) = F::socket(&key) {
        write(ctx, dialled.addr);
        // SAFETY: as above.
        unsafe { (*ctx).user_port = dialled.port.be() as u32 };
    }
}
