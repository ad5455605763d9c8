//! The two records of a flow, each made from the other.

use crate::abi::{Direction, FlowKey, FlowRecord, FlowState, Hook, ServicePortId};
use crate::addr::{Port, Proto};
use crate::datapath::placement::Placement;
use crate::family::{Family, addr_delta};
use crate::wire::checksum::port_delta;

/// Fields of the client's packet that a flow's forward translation replaces.
#[derive(Clone, Copy, Debug)]
pub struct Translation<A> {
    pub src: A,
    pub dst: A,
    pub sport: Port,
    pub dport: Port,
}

/// Makes the forward record of a new flow: the client's tuple with `to` in its place. Written field by field into
/// `record`, because a returned value would be built on the BPF stack, which has 512 octets.
#[inline(always)]
pub fn forward<F: Family>(
    key: &FlowKey<F::Addr>,
    to: &Translation<F::Addr>,
    place: Placement,
    wildcard_source: bool,
    service: ServicePortId,
    now: u32,
    record: &mut FlowRecord<F::Addr>,
) {
    record.src = to.src;
    record.dst = to.dst;
    record.sport = to.sport;
    record.dport = to.dport;
    record.addr_delta = addr_delta::<F>((key.src, key.dst), (to.src, to.dst));
    record.port_delta = port_delta((key.sport, key.dport), (to.sport, to.dport));
    record.service = service;
    record.stamp = now;
    record.state = FlowState::NEW;
    record.direction = Direction::FORWARD;
    record.hook = Hook::INGRESS;
    record.exit = place.exit;
    record.twin_hook = place.reverse_hook;
    record.wildcard_source = wildcard_source as u8;
}

/// The key of the reverse record of this record: the tuple of the other direction's packets.
#[inline(always)]
pub fn twin_key<F: Family>(proto: Proto, record: &FlowRecord<F::Addr>) -> FlowKey<F::Addr> {
    let is_wild = record.wildcard_source != 0 && record.direction == Direction::FORWARD;
    FlowKey {
        src: if is_wild { F::Addr::default() } else { record.dst },
        dst: record.src,
        sport: record.dport,
        dport: record.sport,
        proto,
        _pad: [0; 3],
    }
}

/// Makes the record of the other direction, without a next hop. A reverse record whose key has no source address
/// cannot make the forward record: only the forward record knows the backend's address.
#[inline(always)]
pub fn twin<F: Family>(key: &FlowKey<F::Addr>, record: &FlowRecord<F::Addr>, twin: &mut FlowRecord<F::Addr>) {
    twin.src = key.dst;
    twin.dst = key.src;
    twin.sport = key.dport;
    twin.dport = key.sport;
    twin.addr_delta = record.addr_delta.negated();
    twin.port_delta = record.port_delta.negated();
    twin.service = record.service;
    twin.stamp = record.stamp;
    twin.oif = 0;
    twin.mtu = 0;
    twin.smac = [0; 6];
    twin.dmac = [0; 6];
    twin.state = record.state;
    twin.direction =
        if record.direction == Direction::FORWARD { Direction::REVERSE } else { Direction::FORWARD };
    twin.hook = record.twin_hook;
    twin.exit = record.exit;
    twin.twin_hook = record.hook;
    twin.wildcard_source = record.wildcard_source;
}

/// [`twin`] can be made from this record.
#[inline(always)]
pub fn can_make_twin<A>(record: &FlowRecord<A>) -> bool {
    record.wildcard_source == 0 || record.direction == Direction::FORWARD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Exit;
    use crate::addr::AddrV4;
    use crate::family::V4;

    #[test]
    fn each_record_makes_the_other() {
        let addr = |last| AddrV4::new([10, 0, 0, last]);
        let key = FlowKey {
            src: addr(1),
            dst: addr(2),
            sport: Port::new(1000),
            dport: Port::new(80),
            proto: Proto::TCP,
            _pad: [0; 3],
        };
        let to = Translation { src: addr(3), dst: addr(4), sport: Port::new(2000), dport: Port::new(8080) };
        let place = Placement { snat: true, exit: Exit::REDIRECT, reverse_hook: Hook::INGRESS };
        let mut there = FlowRecord::default();
        forward::<V4>(&key, &to, place, false, ServicePortId(7), 42, &mut there);
        let back_key = twin_key::<V4>(Proto::TCP, &there);
        let mut back = FlowRecord::default();
        twin::<V4>(&key, &there, &mut back);
        assert_eq!((back_key.src, back_key.dst), (addr(4), addr(3)));
        assert_eq!(
            (back.src, back.dst, back.sport, back.dport),
            (addr(2), addr(1), Port::new(80), Port::new(1000))
        );
        assert_eq!(twin_key::<V4>(Proto::TCP, &back), key);
        let mut again = FlowRecord::default();
        twin::<V4>(&back_key, &back, &mut again);
        assert_eq!(again, there);
    }

    #[test]
    fn a_reply_from_any_address_of_the_node_has_a_key_without_source() {
        let key = FlowKey::<AddrV4> { proto: Proto::UDP, ..FlowKey::default() };
        let to =
            Translation { src: key.src, dst: AddrV4::new([10, 0, 0, 1]), sport: key.sport, dport: key.dport };
        let place = Placement { snat: false, exit: Exit::STACK, reverse_hook: Hook::POD_EGRESS };
        let (mut there, mut back) = (FlowRecord::default(), FlowRecord::default());
        forward::<V4>(&key, &to, place, true, ServicePortId(0), 0, &mut there);
        twin::<V4>(&key, &there, &mut back);
        assert_eq!(twin_key::<V4>(Proto::UDP, &there).src, AddrV4::default());
        assert!(can_make_twin(&there) && !can_make_twin(&back));
    }
}
