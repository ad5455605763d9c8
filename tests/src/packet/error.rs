//! The expected ICMP error for a packet, octet by octet, and a comparison of two packets.

use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::{Result, ensure};

use super::octets::ip_len;
use super::place::Family;
use super::row::Problem;
use super::sums::{fold, pseudo, sum};
use super::wire::{L4, number};

/// Octets of an Ethernet header.
const ETH: usize = 14;

/// An error message to the sender of a packet without IP options.
#[derive(Clone, Copy, Debug)]
pub struct IcmpError {
    pub from: IpAddr,
    pub to: IpAddr,
    /// Transport of the packet.
    pub l4: L4,
    pub problem: Problem,
}

impl IcmpError {
    /// The message that quotes `input`. Two checksums in it have no single correct value and are taken from `got`
    /// after a check: the quoted checksum may be any value that keeps the message's checksum correct, whether or not
    /// a card completes it later (CHECKSUM_PARTIAL).
    pub fn to_octets(self, input: &[u8], got: &[u8]) -> Result<Vec<u8>> {
        let Self { from, to, l4, problem } = self;
        let family = if from.is_ipv4() { Family::V4 } else { Family::V6 };
        let ip = ip_len(family);
        let (l4_len, check) = match l4 {
            L4::Tcp => (20, Some(16)),
            L4::Udp => (8, Some(6)),
            L4::Sctp | L4::Icmp | L4::Either => (8, None),
        };
        let mut want = [&input[6..12], &input[..6], &input[12..14]].concat();
        let quoted = &input[ETH..ETH + ip + l4_len];
        let (kind, mtu) = match (family, problem) {
            (Family::V4, Problem::PortUnreachable) => ([3, 3], 0),
            (Family::V4, Problem::TooBig(mtu)) => ([3, 4], mtu),
            (Family::V4, Problem::TimeExceeded) => ([11, 0], 0),
            (Family::V6, Problem::TimeExceeded) => ([3, 0], 0),
            (Family::V6, Problem::PortUnreachable) => ([1, 4], 0),
            (Family::V6, Problem::TooBig(mtu)) => ([2, 0], mtu),
        };
        let [hi, lo] = mtu.to_be_bytes();
        let body = [&kind[..], &[0, 0, 0, 0, hi, lo], quoted].concat();
        let number = number(L4::Icmp, family);
        let len = (body.len() + if family == Family::V4 { ip } else { 0 }) as u16;
        let [len_hi, len_lo] = len.to_be_bytes();
        want.extend(match family {
            Family::V4 => vec![0x45, 0xc0, len_hi, len_lo, 0, 0, 0, 0, 64, number, 0, 0],
            Family::V6 => vec![0x60, 0, 0, 0, len_hi, len_lo, number, 64],
        });
        for addr in [from, to] {
            match addr {
                IpAddr::V4(a) => want.extend(a.octets()),
                IpAddr::V6(a) => want.extend(a.octets()),
            }
        }
        if family == Family::V4 {
            let sum = !fold(sum(&want[ETH..]));
            want[ETH + 10..ETH + 12].copy_from_slice(&sum.to_be_bytes());
        }
        want.extend(body);
        if got.len() != want.len() {
            return Ok(want);
        }
        let start = ETH + ip;
        let quoted_at = start + 8 + ip;
        let pseudo = if family == Family::V6 { pseudo(from, to, want.len() - start, number) } else { 0 };
        let holds = |message: &[u8]| fold(pseudo + sum(&message[start..])) == 0xffff;
        ensure!(holds(got), "the checksum of the ICMP error is wrong{}", compare(&want, got));
        want[start + 2..start + 4].copy_from_slice(&got[start + 2..start + 4]);
        let Some(check) = check else { return Ok(want) };
        let mut completed = got.to_vec();
        let sum = !fold(sum(&got[quoted_at..]));
        completed[quoted_at + check..][..2].copy_from_slice(&sum.to_be_bytes());
        ensure!(holds(&completed), "the ICMP error breaks when a card completes the quoted checksum");
        let at = quoted_at + check;
        want[at..at + 2].copy_from_slice(&got[at..at + 2]);
        Ok(want)
    }
}

/// Two packets, sixteen octets per line, differing lines marked.
pub fn compare(want: &[u8], got: &[u8]) -> String {
    let mut text = format!(" ({} octets wanted, {} got)", want.len(), got.len());
    let lines = want.len().max(got.len()).div_ceil(16);
    let slice = |packet: &[u8], i: usize| {
        let end = packet.len().min(16 * (i + 1));
        packet.get(16 * i..end).map_or(String::new(), |b| format!("{b:02x?}"))
    };
    for i in 0..lines.min(12) {
        let (a, b) = (slice(want, i), slice(got, i));
        if a != b {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n {:4} want {a}\n      got  {b}", 16 * i);
        }
    }
    text
}
