//! Translates ICMP errors that quote a translated packet: the sender sees the packet as it sent it, and path MTU
//! discovery works through a Service (SEM-079; RFC 5508 section 4).
//!
//! Rare: parts of the packet are copied, changed and stored by helpers in the scratch space, without the stack.

use svc_common::abi::*;
use svc_common::addr::{Port, Proto};
use svc_common::wire::checksum::Wsum;
use svc_common::wire::icmp::{ICMP_LEN, quote_delta};
use svc_common::wire::ip::{Ports, TCP_CHECKSUM, UDP_CHECKSUM};

use crate::hook::PacketAccess;
use crate::maps::InnerPacket;
use crate::net::Net;
use crate::no_ports::{Verdict, headers, resolve_next_hop};
use crate::record::{record_at, record_by};
use crate::send::forward_out;
use crate::tables::{count, count_service};

/// Finds the record that translates an ICMP error. The quoted packet went in the opposite direction, so the record is
/// that of the error's own direction. Leaves the record's key and the parts of the error in the scratch space.
/// [`translate`] is called next, beside this call and not below it, because the stack is short. Without a record the verdict is
/// [`Verdict::NO_FLOW`].
#[inline(never)]
pub fn find<F: Net, M: PacketAccess>(m: &M, hook: Hook, role: Role) -> i32 {
    let Some(ip) = headers::<F, M>(m, role) else { return m.pass() };
    let Some(scratch) = F::scratch() else { return m.pass() };
    let InnerPacket { icmp, header, ports, .. } = &mut scratch.inner;
    let inner_l3 = ip.l4 + ICMP_LEN;
    if !m.load(ip.l4, icmp) || !m.load_octets(inner_l3, header, F::IP_LEN) {
        return Verdict::NO_FLOW;
    }
    let (length, proto) = F::quoted(header);
    if length == 0 || !m.load(inner_l3 + length, ports) {
        return Verdict::NO_FLOW;
    }
    let key = &mut scratch.packet.key;
    F::addresses(header, &mut key.dst, &mut key.src);
    (key.sport, key.dport, key.proto) = (Port::from_be(ports.dst), Port::from_be(ports.src), proto);
    let Some(record) = record_at::<F>(key, hook) else { return Verdict::NO_FLOW };
    if F::is_redirect(icmp) {
        // A redirect names a gateway for the backend, which the sender would use for the Service. nf_conntrack drops
        // it, too.
        return m.drop();
    }
    if record.exit == Exit::REDIRECT && ip.ttl <= 1 {
        count(Counter::DropTtl);
        return m.drop();
    }
    resolve_next_hop::<F, M>(m, key, record);
    Verdict::QUOTES
}

/// Translates an ICMP error and the packet that it quotes, after [`find`].
#[inline(never)]
pub fn translate<F: Net, M: PacketAccess>(m: &M, hook: Hook, role: Role) -> i32 {
    let Some(ip) = headers::<F, M>(m, role) else { return m.pass() };
    let Some(scratch) = F::scratch() else { return m.pass() };
    // `find` has carried the record over if necessary.
    let found = record_by::<F>(&scratch.packet.key, hook, F::present_flow);
    let Some(record) = found else { return m.pass() };
    let InnerPacket { icmp, header, ports, check, .. } = &mut scratch.inner;
    let (icmp_at, inner_l3) = (ip.l4, ip.l4 + ICMP_LEN);
    let (length, proto) = F::quoted(header);
    let inner_l4 = inner_l3 + length;
    let hops = (record.exit == Exit::REDIRECT) as u8;
    // The quoted packet gets the tuple that its sender knows.
    let addr = F::readdress(header, &record.dst, &record.src, 0);
    let port = record.port_delta;
    *ports = Ports { src: record.dport.be(), dst: record.sport.be() };
    let mut is_stored = m.store_octets(inner_l3, header, F::IP_LEN) && m.store(inner_l4, ports);
    let check_at = inner_l4 + if proto == Proto::TCP { TCP_CHECKSUM } else { UDP_CHECKSUM };
    // SCTP's checksum is no sum; TCP's may be beyond the quoted part; a datagram without a checksum keeps none.
    let has_check = proto != Proto::SCTP && m.load(check_at, check) && (*check != 0 || proto == Proto::TCP);
    if has_check {
        *check = addr.plus(port).apply(*check);
        is_stored = is_stored && m.store(check_at, check);
    }
    // The source of the error itself: a backend's becomes its Service's, a router's stays.
    is_stored = is_stored && m.load_octets(M::L3, header, F::IP_LEN);
    F::addresses(header, &mut scratch.client.addr, &mut scratch.fragment.dst);
    let is_from_backend = scratch.client.addr == scratch.packet.key.src;
    let outer = if is_from_backend {
        F::readdress(header, &record.src, &record.dst, hops)
    } else {
        F::readdress(header, &scratch.client.addr, &record.dst, hops)
    };
    icmp[1] = quote_delta::<F>(addr, port, has_check, outer).apply(icmp[1]);
    if !is_stored || !m.store_octets(M::L3, header, F::IP_LEN) || !m.store(icmp_at, icmp) {
        count(Counter::DropRewrite);
        return m.drop();
    }
    m.fix_sum::<F>(Wsum::ZERO, hops);
    count(Counter::IcmpTranslated);
    count_service(record.service, 0, 1, ip.len as u64);
    forward_out::<F, M>(m, record)
}
