//! The keyed hash that chooses a client's source ports in the SNAT range. Without the node's secret nobody can find tuples
//! whose ports are tried in the same order, and so take all ports that another client tries.

use crate::abi::FlowKey;
use crate::family::Family;
use crate::half_sip::HalfSip;

/// Hash of a client: its address, port and protocol.
#[inline(always)]
pub fn port_hash<F: Family>(secret: u64, key: &FlowKey<F::Addr>) -> u32 {
    let last = key.sport.be() as u32 | (key.proto.0 as u32) << 16;
    F::absorb(HalfSip::new(secret), key.src).finish(F::ADDR_LEN as u32 + 3, last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{AddrV4, AddrV6, Port, Proto};
    use crate::family::{V4, V6};

    #[test]
    fn every_part_of_a_client_and_the_secret_count() {
        let v4 = FlowKey {
            src: AddrV4::new([192, 0, 2, 1]),
            sport: Port::new(1_000),
            proto: Proto::TCP,
            ..FlowKey::default()
        };
        let base = port_hash::<V4>(1, &v4);
        let others = [
            port_hash::<V4>(2, &v4),
            port_hash::<V4>(1 << 32, &v4),
            port_hash::<V4>(1, &FlowKey { src: AddrV4::new([192, 0, 2, 2]), ..v4 }),
            port_hash::<V4>(1, &FlowKey { sport: Port::new(1_001), ..v4 }),
            port_hash::<V4>(1, &FlowKey { proto: Proto::UDP, ..v4 }),
        ];
        assert!(others.iter().all(|other| *other != base), "{base:x} {others:x?}");
        // Words that cancel each other out in `Family::fold`.
        let v6 = |n: u8| {
            let mut octets = [0; 16];
            (octets[3], octets[7]) = (n, n);
            FlowKey { src: AddrV6::new(octets), ..FlowKey::default() }
        };
        assert_eq!(V6::fold(v6(1).src), V6::fold(v6(2).src));
        assert_ne!(port_hash::<V6>(1, &v6(1)), port_hash::<V6>(1, &v6(2)));
    }
}
