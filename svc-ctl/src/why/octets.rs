//! The first packet of a connection, or a later one, as octets on the wire.

use svc_common::abi::FlowKey;
use svc_common::addr::Proto;
use svc_common::family::Family;

use crate::dataplane::encode::Encode;
use crate::dataplane::reach::octets;
use crate::lb::frames::checksum;

const SYN: u8 = 2;
const ACK: u8 = 16;
const HOPS: u8 = 64;
/// Ethernet address of the sender: any will do.
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Octets of a datagram's payload. Kernels refuse test runs of packets without any.
const PAYLOAD: usize = 8;

/// A whole frame to the interface with this address. `begins`: it is the first of a connection.
pub fn frame<F: Family<Addr: Encode>>(key: &FlowKey<F::Addr>, mac: [u8; 6], begins: bool) -> Vec<u8> {
    let transport = transport(key.sport.number(), key.dport.number(), key.proto, begins);
    let mut frame = [mac, SENDER].concat();
    frame.extend(F::ETHERTYPE.to_be_bytes());
    let addresses = [octets(key.src.to_ip()), octets(key.dst.to_ip())].concat();
    match F::ADDR_LEN {
        4 => frame.extend(ipv4(&addresses, key.proto, transport.len())),
        _ => frame.extend(ipv6(&addresses, key.proto, transport.len())),
    }
    let at = frame.len();
    frame.extend(transport);
    if let Some(place) = checksum_place(key.proto) {
        let pseudo = [(frame.len() - at) as u16, u16::from(key.proto.0)].map(u16::to_be_bytes).concat();
        let sum = checksum(&[&addresses[..], &pseudo[..], frame.get(at..).unwrap_or_default()].concat());
        write(&mut frame, at + place, sum);
    }
    frame
}

fn ipv4(addresses: &[u8], proto: Proto, payload: usize) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend((20 + payload as u16).to_be_bytes());
    // No identification; must not be fragmented.
    header.extend([0, 0, 0x40, 0, HOPS, proto.0, 0, 0]);
    header.extend(addresses);
    let sum = checksum(&header);
    write(&mut header, 10, sum);
    header
}

fn ipv6(addresses: &[u8], proto: Proto, payload: usize) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend((payload as u16).to_be_bytes());
    header.extend([proto.0, HOPS]);
    header.extend(addresses);
    header
}

fn transport(source: u16, destination: u16, proto: Proto, begins: bool) -> Vec<u8> {
    let mut octets = [source, destination].map(u16::to_be_bytes).concat();
    match proto {
        Proto::TCP => {
            let flags = if begins { SYN } else { ACK };
            // Sequence and acknowledgement, five words of header, flags, window, checksum, urgent pointer.
            octets.extend([0, 0, 0, 1, 0, 0, 0, u8::from(!begins), 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        }
        Proto::UDP => octets.extend([0, 8 + PAYLOAD as u8, 0, 0]),
        // A tag and a checksum of zeros: the program computes with the change alone.
        _ => octets.extend([0; 8]),
    }
    if proto != Proto::TCP {
        octets.extend([0; PAYLOAD]);
    }
    octets
}

const fn checksum_place(proto: Proto) -> Option<usize> {
    match proto {
        Proto::TCP => Some(16),
        Proto::UDP => Some(6),
        _ => None,
    }
}

fn write(octets: &mut [u8], at: usize, word: u16) {
    octets.iter_mut().skip(at).zip(word.to_be_bytes()).for_each(|(to, from)| *to = from);
}

#[cfg(test)]
mod tests {
    use svc_common::addr::{AddrV4, AddrV6, Port};
    use svc_common::family::{V4, V6};
    use svc_common::wire::ip::ETH_LEN;
    use svc_common::wire::parse::Parse;

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

    /// The parser of the programs reads the tuple and the flags of TCP.
    fn is_read_back<F: Parse<Addr: Encode>>(src: F::Addr, dst: F::Addr) {
        for proto in [Proto::TCP, Proto::UDP, Proto::SCTP] {
            for begins in [true, false] {
                let (sport, dport) = (Port::new(50_000), Port::new(80));
                let key = FlowKey { src, dst, sport, dport, proto, _pad: [0; 3] };
                let frame = frame::<F>(&key, MAC, begins);
                let Ok(packet) = F::parse(&frame[..], ETH_LEN) else { panic!("{key:?} is not parsed") };
                let flags = if begins { SYN } else { ACK };
                assert_eq!((packet.key, packet.len as usize), (key, frame.len() - ETH_LEN));
                assert_eq!(packet.tcp_flags, if proto == Proto::TCP { flags } else { 0 });
            }
        }
    }

    #[test]
    fn the_programs_parser_reads_a_frame_as_it_was_meant() {
        is_read_back::<V4>(AddrV4::new([10, 0, 0, 1]), AddrV4::new([10, 96, 0, 10]));
        is_read_back::<V6>(AddrV6::new([0xfd; 16]), AddrV6::new([0xfe; 16]));
    }

    #[test]
    fn a_checksum_verifies_to_zero() {
        let header = ipv4(&[10, 0, 0, 1, 10, 96, 0, 10], Proto::TCP, 20);
        assert_eq!(checksum(&header), 0);
    }
}
