//! Writes the octets of a described packet. Checksums are computed in full over the finished octets; no code is
//! shared with the datapath.

use std::net::IpAddr;

use super::place::{self, Family};
use super::sums::{crc32c, fold, pseudo, sum};
use super::wire::{Case, Complaint, L4, Packet, UdpSum, endpoint, number};

impl Packet {
    /// The octets at an interface, at its ingress or egress.
    pub fn bytes(&self, case: Case, interface: &str, is_ingress: bool) -> Vec<u8> {
        let l4 = if self.l4 == L4::Either { case.l4 } else { self.l4 };
        let ((src, sport), (dst, dport)) = (endpoint(self.src, case), endpoint(self.dst, case));
        let mut frame = self.ethernet(case.family, interface, is_ingress);
        let mut body = match (&self.quotes, self.fragment) {
            (Some((what, about, octets)), _) => quotation(*what, about, *octets, case),
            // Only the first fragment has a transport header.
            (None, Some((offset, _))) if offset != 0 => (0..24).collect(),
            (None, _) => self.transport(l4, case.family, sport, dport, self.last_pair(l4, case)),
        };
        let proto = number(l4, case.family);
        let pseudo = pseudo(src, dst, body.len(), proto);
        if self.fragment.is_none_or(|(offset, _)| offset == 0) {
            self.set_checksum(l4, case.family, &mut body, pseudo);
        }
        let ip = match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.ipv4(src.octets(), dst.octets(), proto, body.len()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.ipv6(src.octets(), dst.octets(), proto, body.len()),
            _ => panic!("a packet of two families"),
        };
        let fixed = frame.len() + ip_len(case.family);
        frame.extend(ip);
        frame.extend(body);
        if let Some(octets) = self.cut {
            frame.truncate(fixed + octets);
        }
        frame
    }

    fn ethernet(&self, family: Family, interface: &str, is_ingress: bool) -> Vec<u8> {
        let (own, peer) = place::macs(interface);
        let (dmac, smac) = match self.via.map(place::hop) {
            Some(hop) => (hop.dmac, hop.smac),
            None if is_ingress != self.is_turned => (own, peer),
            None => (peer, own),
        };
        let kind = match family {
            Family::V4 => [0x08, 0x00],
            Family::V6 => [0x86, 0xdd],
        };
        let tags: Vec<u8> = self.tags.iter().flat_map(|tag| tag.octets()).collect();
        [dmac.as_slice(), &smac, &tags, &kind].concat()
    }

    fn transport(&self, l4: L4, family: Family, sport: u16, dport: u16, last: u16) -> Vec<u8> {
        let mut body = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
        let mut payload: Vec<u8> = (0..self.payload).map(|i| (i % 251) as u8).collect();
        if self.zero_sum_between.is_some() {
            payload.truncate(self.payload.saturating_sub(2));
            payload.extend(last.to_be_bytes());
        }
        match l4 {
            L4::Tcp => {
                body.extend([0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0]);
                body.extend([0x50, self.flags, 0x20, 0x00, 0, 0, 0, 0]);
            }
            L4::Udp => {
                body.extend((8 + payload.len() as u16).to_be_bytes());
                body.extend([0, 0]);
            }
            // The echo request's checksum is at the offset of a port.
            L4::Icmp => body[..4].copy_from_slice(&[if family == Family::V4 { 8 } else { 128 }, 0, 0, 0]),
            // Verification tag, checksum.
            L4::Sctp => body.extend([9, 8, 7, 6, 0, 0, 0, 0]),
            L4::Either => {}
        }
        body.extend(payload);
        body
    }

    /// The last two octets of the payload that make the sum zero; the payload has an even length.
    fn last_pair(&self, l4: L4, case: Case) -> u16 {
        let Some((src, dst)) = self.zero_sum_between else { return 0 };
        let ((src, sport), (dst, dport)) = (endpoint(src, case), endpoint(dst, case));
        let body = self.transport(l4, case.family, sport, dport, 0);
        !fold(pseudo(src, dst, body.len(), number(l4, case.family)) + sum(&body))
    }

    fn set_checksum(&self, l4: L4, family: Family, body: &mut [u8], pseudo: u32) {
        // ICMP has no pseudo-header, ICMPv6 has (RFC 792, RFC 4443 section 2.3).
        let pseudo = if l4 == L4::Icmp && family == Family::V4 { 0 } else { pseudo };
        let at = match l4 {
            L4::Icmp => 2,
            L4::Tcp => 16,
            L4::Udp if self.udp_sum == UdpSum::Right => 6,
            L4::Sctp if self.has_no_checksum() => return,
            L4::Sctp => {
                let check = crc32c(body).to_le_bytes();
                return body[8..12].copy_from_slice(&check);
            }
            L4::Udp | L4::Either => return,
        };
        let check = !fold(pseudo + sum(body));
        let check = if l4 == L4::Udp && check == 0 { 0xffff } else { check };
        body[at..at + 2].copy_from_slice(&check.to_be_bytes());
    }

    fn ipv4(&self, src: [u8; 4], dst: [u8; 4], proto: u8, body: usize) -> Vec<u8> {
        let header = if self.has_options { 28 } else { 20 };
        let len = self.claimed_len.unwrap_or((header + body) as u16).to_be_bytes();
        let place = self.fragment.map_or(0x4000, |(offset, more)| offset | u16::from(more) << 13);
        let [hi, lo] = place.to_be_bytes();
        let mut ip = vec![0x40 | (header / 4) as u8, 0, len[0], len[1], 0, 1, hi, lo, self.ttl, proto, 0, 0];
        ip.extend(src);
        ip.extend(dst);
        // No-operation options up to the end.
        ip.resize(header, 1);
        let check = !fold(sum(&ip));
        ip[10..12].copy_from_slice(&check.to_be_bytes());
        ip
    }

    fn ipv6(&self, src: [u8; 16], dst: [u8; 16], proto: u8, body: usize) -> Vec<u8> {
        // Destination options (one PadN of six octets), fragment header.
        let mut chain: Vec<(u8, Vec<u8>)> = Vec::new();
        if self.has_options {
            chain.push((60, vec![0, 0, 1, 4, 0, 0, 0, 0]));
        }
        if let Some((offset, more)) = self.fragment {
            let [hi, lo] = (offset << 3 | u16::from(more)).to_be_bytes();
            chain.push((44, vec![0, 0, hi, lo, 0, 0, 0, 1]));
        }
        let kinds: Vec<u8> = chain.iter().map(|(kind, _)| *kind).chain([proto]).collect();
        let len = self.claimed_len.unwrap_or((8 * chain.len() + body) as u16).to_be_bytes();
        let mut ip = vec![0x60, 0, 0, 0, len[0], len[1], kinds[0], self.ttl];
        ip.extend(src);
        ip.extend(dst);
        for ((_, mut header), next) in chain.into_iter().zip(&kinds[1..]) {
            header[0] = *next;
            ip.extend(header);
        }
        ip
    }
}

impl Complaint {
    /// Type, code, and the last two octets of the header.
    const fn header(self, family: Family) -> ([u8; 2], u16) {
        match (self, family) {
            (Self::PortUnreachable, Family::V4) => ([3, 3], 0),
            (Self::PortUnreachable, Family::V6) => ([1, 4], 0),
            (Self::TooBig(mtu), Family::V4) => ([3, 4], mtu),
            (Self::TooBig(mtu), Family::V6) => ([2, 0], mtu),
            (Self::TimeExceeded, Family::V4) => ([11, 0], 0),
            (Self::TimeExceeded, Family::V6) => ([3, 0], 0),
            (Self::Redirect, Family::V4) => ([5, 1], 0),
            (Self::Redirect, Family::V6) => panic!("IPv6 announces a better route by a neighbor message"),
        }
    }
}

/// The octets of an ICMP error after its IP header, without checksum.
fn quotation(what: Complaint, about: &Packet, octets: usize, case: Case) -> Vec<u8> {
    let ([kind, code], mtu) = what.header(case.family);
    let [high, low] = mtu.to_be_bytes();
    let frame = about.bytes(case, "up0", true);
    let behind = 14 + ip_len(case.family) + if about.has_options { 8 } else { 0 };
    let quoted = frame.get(14..(behind + octets).min(frame.len())).unwrap_or_default();
    [&[kind, code, 0, 0, 0, 0, high, low], quoted].concat()
}

pub fn ip_len(family: Family) -> usize {
    match family {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}
