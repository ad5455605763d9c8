//! Frames with changed octets, cut short or extended. Whatever they are, they must be left alone, dropped, refused,
//! or translated completely. A translated one must have been a valid packet, and the error of its checksums must be
//! the same before and after.

use std::ops::Range;

use anyhow::{Result, ensure};
use svc_tests::model::packet::{ACK, ETH, Packet, SCTP_CHECKSUM, SYN, Shape, header};
use svc_tests::model::verdict::frontend;
use svc_tests::model::world::{Proto, World};
use svc_tests::packet::error::compare;
use svc_tests::packet::place;
use svc_tests::packet::sums::{crc32c, fold, sum};

use super::case::Case;
use super::rng::Rng;
use super::run::{ProgramOutcome, Verdict};

/// A frame of one of the case's flows, and the interface by which it comes.
pub fn frame(rng: &mut Rng, case: &Case) -> (&'static str, Vec<u8>) {
    let flow = rng.pick(&case.flows);
    let shape = Shape {
        flags: rng.pick(&[SYN, ACK, SYN | ACK]),
        payload: rng.below(80),
        has_options: rng.percent(20),
        has_no_sum: rng.percent(10),
        ..Shape::default()
    };
    let (own, peer) = place::macs(flow.interface);
    let mut frame = Packet { tuple: flow.tuple, shape, quotes: None }.octets(own, peer);
    for _ in 0..rng.below(4) {
        // Changes headers more often than the payload.
        let at = 12 + rng.below(frame.len().min(72) - 12);
        frame[at] = match rng.below(3) {
            0 => frame[at] ^ (1 << rng.below(8)),
            1 => rng.pick(&[0, 1, 4, 5, 6, 15, 17, 40, 44, 60, 132, 255]),
            _ => rng.next() as u8,
        };
    }
    match rng.below(8) {
        0 => frame.truncate(ETH + 1 + rng.below(frame.len() - ETH - 1)),
        1 => frame.extend((0..rng.below(40)).map(|i| i as u8)),
        _ => {}
    }
    (flow.interface, frame)
}

/// The contents of a frame's headers, if they are valid.
#[derive(Debug, Eq, PartialEq)]
struct ValidHeaders {
    is_v4: bool,
    l4: usize,
    /// End of the IP packet.
    end: usize,
    proto: Proto,
}

fn valid_headers(frame: &[u8]) -> Option<ValidHeaders> {
    let word = |at: usize| frame.get(at..at + 2).map(|w| usize::from(w[0]) << 8 | usize::from(w[1]));
    let (is_v4, mut next, mut l4, end) = match (word(12)?, frame.get(ETH)? >> 4) {
        // The first fragment has the ports.
        (0x0800, 4) if word(ETH + 6)? & 0x1fff == 0 => {
            let header = 4 * usize::from(frame[ETH] & 15);
            (header >= 20).then_some((true, *frame.get(ETH + 9)?, ETH + header, ETH + word(ETH + 2)?))?
        }
        (0x86dd, 6) => (false, *frame.get(ETH + 6)?, ETH + 40, ETH + 40 + word(ETH + 4)?),
        _ => return None,
    };
    while !is_v4 && matches!(next, 0 | 43 | 44 | 60) {
        let is_part = next == 44;
        if is_part && word(l4 + 2)? & 0xfff8 != 0 {
            return None;
        }
        let units = if is_part { 0 } else { *frame.get(l4 + 1)? };
        next = *frame.get(l4)?;
        l4 += 8 * (usize::from(units) + 1);
    }
    let proto = match next {
        6 => Proto::Tcp,
        17 => Proto::Udp,
        132 => Proto::Sctp,
        _ => return None,
    };
    (l4 + header(proto) <= end && end <= frame.len()).then_some(ValidHeaders { is_v4, l4, end, proto })
}

/// Errors of the checksums: of the IPv4 header, and of the transport with its pseudo-header.
fn sums(frame: &[u8], h: &ValidHeaders) -> [u32; 2] {
    let (addresses, header) = if h.is_v4 {
        (&frame[ETH + 12..ETH + 20], sum(&frame[ETH..ETH + 4 * usize::from(frame[ETH] & 15)]))
    } else {
        (&frame[ETH + 8..ETH + 40], 0)
    };
    let off = |sum| match fold(sum) {
        0xffff => 0,
        other => u32::from(other),
    };
    // The length and the protocol are the same before and after.
    let transport = match h.proto {
        Proto::Sctp => off_by_crc(&frame[h.l4..h.end]),
        Proto::Tcp | Proto::Udp | Proto::Icmp => off(sum(addresses) + sum(&frame[h.l4..h.end])),
    };
    [off(header), transport]
}

fn off_by_crc(packet: &[u8]) -> u32 {
    let mut packet = packet.to_vec();
    let mut stored = [0; 4];
    packet[SCTP_CHECKSUM..SCTP_CHECKSUM + 4].swap_with_slice(&mut stored);
    crc32c(&packet) ^ u32::from_le_bytes(stored)
}

/// Position of the transport checksum.
fn checksum(h: &ValidHeaders) -> Range<usize> {
    let (at, octets) = match h.proto {
        Proto::Tcp => (16, 2),
        Proto::Udp | Proto::Icmp => (6, 2),
        Proto::Sctp => (SCTP_CHECKSUM, 4),
    };
    h.l4 + at..h.l4 + at + octets
}

/// The outcome of the frame; fails if that is not allowed.
pub fn check(world: &World, input: &[u8], outcome: &ProgramOutcome) -> Result<&'static str> {
    let ProgramOutcome { verdict, octets } = outcome;
    if octets == input {
        ensure!(
            matches!(verdict, Verdict::Pass | Verdict::Drop),
            "{verdict:?} of a frame that is unchanged: {input:02x?}"
        );
        return Ok(if *verdict == Verdict::Pass { "frame left alone" } else { "frame dropped" });
    }
    let difference = || compare(input, octets);
    ensure!(*verdict != Verdict::Drop, "dropped, but changed first{}", difference());
    let is_v4 = input[12..14] == [0x08, 0x00];
    // An error goes to the frame's sender.
    let (kind, icmp, from, to) =
        if is_v4 { (ETH + 9, 1, 12..16, 16..20) } else { (ETH + 6, 58, 8..24, 24..40) };
    let is_back = octets.get(ETH + to.start..ETH + to.end) == input.get(ETH + from.start..ETH + from.end);
    if octets[kind] == icmp && is_back {
        return check_error(input, octets, is_v4).map(|()| "frame refused");
    }
    if is_later_part(input) {
        return check_part(input, octets, is_v4).map(|()| "fragment translated");
    }
    let Some(was) = valid_headers(input) else {
        anyhow::bail!("a frame that is no packet was changed{}", difference())
    };
    ensure!(valid_headers(octets).as_ref() == Some(&was), "the headers lie now{}", difference());
    let mut masked = [input.to_vec(), octets.clone()];
    for frame in &mut masked {
        let (ttl, addresses) = if was.is_v4 { (8, 12..20) } else { (7, 8..40) };
        frame[..12].fill(0);
        frame[ETH + ttl] = 0;
        frame[ETH + addresses.start..ETH + addresses.end].fill(0);
        frame[was.l4..was.l4 + 4].fill(0);
        frame[checksum(&was)].fill(0);
        if was.is_v4 {
            frame[ETH + 10..ETH + 12].fill(0);
        }
    }
    ensure!(masked[0] == masked[1], "more was written than a translation{}", difference());
    // The time to live is in the first octet of its pair (IPv4).
    let ttl = ETH + if was.is_v4 { 8 } else { 7 };
    ensure!(input[ttl].wrapping_sub(octets[ttl]) <= 1, "time to live{}", difference());
    let has_sum = was.proto != Proto::Udp || input[checksum(&was)] != [0, 0];
    let [before, after] = [sums(input, &was), sums(octets, &was)];
    ensure!(before[0] == after[0], "the sum of the IP header was off by another number{}", difference());
    ensure!(!has_sum || before[1] == after[1], "the checksum was off by another number{}", difference());
    ensure!(has_sum || octets[checksum(&was)] == [0, 0], "a checksum was made of none{}", difference());
    let to = destination(octets, &was);
    let is_endpoint = world.slices.iter().any(|s| {
        s.endpoints.iter().any(|e| e.addr == to.ip())
            && s.ports.iter().any(|(_, p, n)| (*p, *n) == (was.proto, to.port()))
    });
    ensure!(is_endpoint, "translated to {to}, which is no endpoint{}", difference());
    let dialled = destination(input, &was);
    // Only the source port of a direct connection may change.
    let is_dialled = dialled == to || frontend(world, dialled, was.proto).is_some();
    ensure!(is_dialled, "{dialled} is no frontend{}", difference());
    Ok("frame translated")
}

fn destination(frame: &[u8], h: &ValidHeaders) -> std::net::SocketAddr {
    let port = u16::from_be_bytes([frame[h.l4 + 2], frame[h.l4 + 3]]);
    if h.is_v4 {
        let mut octets = [0; 4];
        octets.copy_from_slice(&frame[ETH + 16..ETH + 20]);
        (octets, port).into()
    } else {
        let mut octets = [0; 16];
        octets.copy_from_slice(&frame[ETH + 24..ETH + 40]);
        (octets, port).into()
    }
}

/// A later fragment.
fn is_later_part(frame: &[u8]) -> bool {
    match frame.get(12..ETH + 8) {
        Some([0x08, 0x00, ip @ ..]) => (u16::from(ip[6]) << 8 | u16::from(ip[7])) & 0x1fff != 0,
        // Somewhere in the chain of headers, which may be invalid.
        Some(_) => valid_headers(frame).is_none(),
        None => false,
    }
}

/// Only addresses, time to live and MACs may change.
fn check_part(input: &[u8], got: &[u8], is_v4: bool) -> Result<()> {
    let mut masked = [input.to_vec(), got.to_vec()];
    for frame in &mut masked {
        frame[..12].fill(0);
        let (ttl, addresses) = if is_v4 { (8, 12..20) } else { (7, 8..40) };
        frame[ETH + ttl] = 0;
        frame[ETH + addresses.start..ETH + addresses.end].fill(0);
        if is_v4 {
            frame[ETH + 10..ETH + 12].fill(0);
        }
    }
    ensure!(masked[0] == masked[1], "more of a fragment was written{}", compare(input, got));
    Ok(())
}

/// An ICMP error to the sender: its checksums are correct and it quotes the frame's IP header.
fn check_error(input: &[u8], got: &[u8], is_v4: bool) -> Result<()> {
    let difference = || compare(input, got);
    let ip = if is_v4 { 20 } else { 40 };
    ensure!(got.len() >= ETH + ip + 8 + ip + 8, "a short ICMP error{}", difference());
    let pseudo = if is_v4 { 0 } else { sum(&got[ETH + 8..ETH + 40]) + (got.len() - ETH - ip) as u32 + 58 };
    ensure!(!is_v4 || fold(sum(&got[ETH..ETH + 20])) == 0xffff, "the error's IP header{}", difference());
    ensure!(fold(pseudo + sum(&got[ETH + ip..])) == 0xffff, "the error's checksum{}", difference());
    ensure!(
        got[ETH + ip + 8..ETH + ip + 8 + ip] == input[ETH..ETH + ip],
        "it quotes another{}",
        difference()
    );
    Ok(())
}
