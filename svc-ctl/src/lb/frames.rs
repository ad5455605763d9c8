//! Frames of ARP (RFC 826) and neighbor discovery (RFC 4861), as octets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::claim::Mac;

const BROADCAST: Mac = [0xff; 6];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ARP_REQUEST: u8 = 1;
const ARP_REPLY: u8 = 2;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const OVERRIDE: u8 = 0x20;
const ICMPV6: u8 = 58;

/// A request from this link-layer address for the host that has an address. The IPv4 request has no sender address (RFC
/// 5227), so that no host learns from it. The IPv6 request comes from an address of the interface, because the answer
/// goes there.
pub fn probe(address: IpAddr, mac: Mac, from: Option<Ipv6Addr>) -> Option<Vec<u8>> {
    match address {
        IpAddr::V4(ip) => Some(arp(BROADCAST, ARP_REQUEST, (mac, Ipv4Addr::UNSPECIFIED), ([0; 6], ip))),
        IpAddr::V6(ip) => Some(solicitation(ip, mac, from?)),
    }
}

/// Frames that announce the link-layer address of an address. For IPv4 these are a request and a reply, because some
/// hosts accept only one of the two.
pub fn announcements(address: IpAddr, mac: Mac) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(ip) => vec![
            arp(BROADCAST, ARP_REQUEST, (mac, ip), ([0; 6], ip)),
            arp(BROADCAST, ARP_REPLY, (mac, ip), (BROADCAST, ip)),
        ],
        IpAddr::V6(ip) => {
            let message = discovery(ADVERTISEMENT, OVERRIDE, ip, 2, mac);
            vec![ipv6([0x33, 0x33, 0, 0, 0, 1], mac, ip, ALL_NODES, message)]
        }
    }
}

/// The link-layer address of the group at which an IPv6 address is solicited.
pub fn solicited_mac(address: Ipv6Addr) -> Mac {
    let [.., a, b, c] = address.octets();
    [0x33, 0x33, 0xff, a, b, c]
}

fn solicited_group(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let low = u16::from_be_bytes([b, c]);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), low)
}

fn solicitation(target: Ipv6Addr, mac: Mac, from: Ipv6Addr) -> Vec<u8> {
    let message = discovery(SOLICITATION, 0, target, 1, mac);
    ipv6(solicited_mac(target), mac, from, solicited_group(target), message)
}

fn arp(to: Mac, operation: u8, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut frame = [&to[..], &sender.0, &[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, operation]].concat();
    for (mac, ip) in [sender, target] {
        frame.extend(mac);
        frame.extend(ip.octets());
    }
    frame
}

/// A message with one option, that of a link-layer address. Its checksum is zero.
fn discovery(kind: u8, flags: u8, target: Ipv6Addr, option: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 0, 0, 0, flags, 0, 0, 0][..], &target.octets(), &[option, 1], &mac].concat()
}

fn ipv6(to: Mac, mac: Mac, src: Ipv6Addr, dst: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let length = message.len() as u16;
    let pseudo =
        [&src.octets()[..], &dst.octets(), &[0, 0], &length.to_be_bytes(), &[0, 0, 0, ICMPV6]].concat();
    let sum = checksum(&[&pseudo[..], &message].concat());
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let header = [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[ICMPV6, 255]].concat();
    [&to[..], &mac, &[0x86, 0xdd], &header, &src.octets(), &dst.octets(), &message].concat()
}

/// RFC 1071, of an even number of octets.
pub fn checksum(octets: &[u8]) -> u16 {
    let words = octets.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 7];

    #[test]
    fn frames_of_arp() {
        let ip = "192.0.2.9".parse().unwrap();
        let hex = |frame: &[u8]| frame.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
        let probe = probe(ip, MAC, None).unwrap();
        assert_eq!(
            hex(&probe),
            "ffffffffffff02000000000708060001080006040001020000000007000000000000000000\
            00c0000209"
                .replace(' ', "")
        );
        let frames: Vec<String> = announcements(ip, MAC).iter().map(|frame| hex(frame)).collect();
        assert_eq!(
            frames,
            [
                "ffffffffffff02000000000708060001080006040001020000000007c0000209000000000000c0000209",
                "ffffffffffff02000000000708060001080006040002020000000007c0000209ffffffffffffc0000209",
            ]
        );
    }

    #[test]
    fn frames_of_neighbor_discovery_have_a_right_checksum() {
        let ip: Ipv6Addr = "2001:db8::12:3456".parse().unwrap();
        let from = "2001:db8::1".parse().unwrap();
        assert_eq!(probe(ip.into(), MAC, None), None, "there is no address to ask from");
        let asked = probe(ip.into(), MAC, Some(from)).unwrap();
        assert_eq!(asked[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        let announced = announcements(ip.into(), MAC).remove(0);
        for frame in [asked, announced] {
            assert_eq!(frame.len(), 86);
            let pseudo = [&frame[22..54], &[0, 0, 0, 32, 0, 0, 0, ICMPV6]].concat();
            assert_eq!(checksum(&[&pseudo[..], &frame[54..]].concat()), 0);
        }
    }
}
