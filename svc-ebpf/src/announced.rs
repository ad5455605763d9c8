//! Answers ARP requests and neighbor solicitations for the load-balancer addresses of this node, and falls silent when
//! another node of the cluster announces one of them. This goes on while the daemon does not run.

use svc_common::abi::{Announced, AnnouncedKey, AnnouncedState, NodeMac};
use svc_common::addr::{AddrV4, AddrV6};
use svc_common::wire::cursor::Cursor as _;
use svc_common::wire::ip::ETH_LEN;

use crate::hook::PacketAccess;
use crate::maps;

/// Ethernet type (RFC 826).
pub const ARP: u16 = 0x0806;
const ARP_REQUEST: u16 = 1_u16.to_be();
const ARP_REPLY: u16 = 2_u16.to_be();
/// Ethernet, IPv4, and the lengths of their addresses.
const ARP_OF_IPV4: [u16; 3] = [1_u16.to_be(), 0x0800_u16.to_be(), 0x0604_u16.to_be()];

const IPV6_LEN: usize = 40;
/// Offset in the IPv6 header.
const NEXT_HEADER: usize = 6;
const ICMPV6: u8 = 58;
/// Type and code (RFC 4861 sections 4.3 and 4.4).
const SOLICITATION: u16 = 0x8700_u16.to_be();
const ADVERTISEMENT: u16 = 0x8800_u16.to_be();
/// The flags "solicited" and "override".
const ANSWER_FLAGS: u16 = 0x6000_u16.to_be();
/// Type and length of the options with the link-layer address of the sender and of the target.
const SOURCE_MAC: u16 = 0x0101_u16.to_be();
const TARGET_MAC: u16 = 0x0201_u16.to_be();
/// Octets of such a message with its one option.
const DISCOVERY_LEN: u16 = 32;
/// A packet with a lower hop limit has passed a router (RFC 4861 section 7.1).
const HOP_LIMIT: u8 = 255;

/// Offset of the second half of an address in such a frame, or of the part after the first sixteen octets.
const HALF: usize = 16;

/// Answers an ARP frame, or passes it on.
#[inline(never)]
pub fn arp<M: PacketAccess>(m: &M) -> i32 {
    let frame = m.frame();
    let (Some(eth), Some(first), Some(second)) =
        (frame.at::<[u16; 6]>(0), frame.at::<[u16; 8]>(ETH_LEN), frame.at::<[u16; 6]>(ETH_LEN + HALF))
    else {
        return m.pass();
    };
    // SAFETY: `at` checked the bounds, and no helper moves the packet while the pointers are in use.
    let (eth, first, second) = unsafe { (&mut *eth, &mut *first, &mut *second) };
    if first[0] != ARP_OF_IPV4[0] || first[1] != ARP_OF_IPV4[1] || first[2] != ARP_OF_IPV4[2] {
        return m.pass();
    }
    let (sender, target) = ([first[7], second[0]], [second[4], second[5]]);
    let is_announcement = sender[0] == target[0] && sender[1] == target[1];
    let sender_mac = [first[4], first[5], first[6]];
    if first[3] == ARP_REPLY || is_announcement {
        yield_to(&AnnouncedKey::v4(address(sender), m.ifindex()), sender_mac);
        return m.pass();
    }
    if first[3] != ARP_REQUEST {
        return m.pass();
    }
    let Some(mac) = answered(&AnnouncedKey::v4(address(target), m.ifindex())) else { return m.pass() };
    (eth[0], eth[1], eth[2]) = (eth[3], eth[4], eth[5]);
    (eth[3], eth[4], eth[5]) = (mac[0], mac[1], mac[2]);
    first[3] = ARP_REPLY;
    (first[4], first[5], first[6]) = (mac[0], mac[1], mac[2]);
    (second[1], second[2], second[3]) = (sender_mac[0], sender_mac[1], sender_mac[2]);
    (first[7], second[0]) = (target[0], target[1]);
    (second[4], second[5]) = (sender[0], sender[1]);
    m.redirect(m.ifindex())
}

/// Answers a neighbor solicitation. Other packets are recognised by one octet. This call comes before the pipeline:
/// within it the verifier would walk every path that leads here.
#[inline(always)]
pub fn answers<M: PacketAccess>(m: &M) -> bool {
    m.frame().read::<u8>(ETH_LEN + NEXT_HEADER) == Some(ICMPV6) && discovery(m)
}

/// Turns a solicitation of a load-balancer address into its answer and reports true, or leaves the packet as it is.
#[inline(never)]
fn discovery<M: PacketAccess>(m: &M) -> bool {
    let frame = m.frame();
    let ip = ETH_LEN;
    let message = ETH_LEN + IPV6_LEN;
    if frame.read::<u16>(ip + 4) != Some(DISCOVERY_LEN.to_be()) || frame.read::<u8>(ip + 7) != Some(HOP_LIMIT)
    {
        return false;
    }
    let (Some(eth), Some(src), Some(dst), Some(first), Some(second)) = (
        frame.at::<[u16; 6]>(0),
        frame.at::<[u16; 8]>(ip + 8),
        frame.at::<[u16; 8]>(ip + 24),
        frame.at::<[u16; 8]>(message),
        frame.at::<[u16; 8]>(message + HALF),
    ) else {
        return false;
    };
    // SAFETY: `at` checked the bounds, and no helper moves the packet while the pointers are in use.
    let (eth, src, dst, first, second) =
        unsafe { (&mut *eth, &mut *src, &mut *dst, &mut *first, &mut *second) };
    let target = [first[4], first[5], first[6], first[7], second[0], second[1], second[2], second[3]];
    let key = AnnouncedKey::v6(
        AddrV6::from_be([
            word([target[0], target[1]]),
            word([target[2], target[3]]),
            word([target[4], target[5]]),
            word([target[6], target[7]]),
        ]),
        m.ifindex(),
    );
    if first[0] == ADVERTISEMENT && second[4] == TARGET_MAC {
        yield_to(&key, [second[5], second[6], second[7]]);
        return false;
    }
    // A solicitation without the sender's link-layer address is another host's search for duplicates.
    if first[0] != SOLICITATION || second[4] != SOURCE_MAC {
        return false;
    }
    let Some(mac) = answered(&key) else { return false };
    (eth[0], eth[1], eth[2]) = (eth[3], eth[4], eth[5]);
    (eth[3], eth[4], eth[5]) = (mac[0], mac[1], mac[2]);
    (first[0], first[2], first[3]) = (ADVERTISEMENT, ANSWER_FLAGS, 0);
    (second[4], second[5], second[6], second[7]) = (TARGET_MAC, mac[0], mac[1], mac[2]);
    // The target is in the sum twice: in the message, and as the source.
    let mut sum = ADVERTISEMENT as u32 + ANSWER_FLAGS as u32 + TARGET_MAC as u32;
    sum += mac[0] as u32 + mac[1] as u32 + mac[2] as u32;
    sum += DISCOVERY_LEN.to_be() as u32 + (ICMPV6 as u16).to_be() as u32;
    for i in 0..8 {
        sum += 2 * target[i] as u32 + src[i] as u32;
        dst[i] = src[i];
        src[i] = target[i];
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    first[1] = !(sum as u16);
    true
}

/// The link-layer address to answer with.
#[inline(always)]
fn answered(key: &AnnouncedKey) -> Option<[u16; 3]> {
    // SAFETY: an entry that is replaced meanwhile is freed after this program has ended (no preallocation).
    let entry = unsafe { maps::ANNOUNCED.get(key) }?;
    (entry.state == AnnouncedState::ARMED).then(|| words(entry))
}

/// Another node has announced the address: this one answers no longer.
#[inline(always)]
fn yield_to(key: &AnnouncedKey, mac: [u16; 3]) {
    let Some(entry) = maps::ANNOUNCED.get_ptr_mut(key) else { return };
    // SAFETY: as above; the state is one octet.
    let entry = unsafe { &mut *entry };
    let own = words(entry);
    if own[0] == mac[0] && own[1] == mac[1] && own[2] == mac[2] {
        return;
    }
    let ([a, b], [c, d], [e, f]) = (mac[0].to_ne_bytes(), mac[1].to_ne_bytes(), mac[2].to_ne_bytes());
    let node = NodeMac { octets: [a, b, c, d, e, f], _pad: [0; 2] };
    // SAFETY: the value is not read.
    if unsafe { maps::NODE_MACS.get(&node) }.is_some() {
        entry.state = AnnouncedState::YIELDED;
    }
}

#[inline(always)]
const fn words(entry: &Announced) -> [u16; 3] {
    let [a, b, c, d, e, f] = entry.mac;
    [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]), u16::from_ne_bytes([e, f])]
}

#[inline(always)]
const fn address(pair: [u16; 2]) -> AddrV4 {
    AddrV4::from_be(word(pair))
}

#[inline(always)]
const fn word(pair: [u16; 2]) -> u32 {
    let ([a, b], [c, d]) = (pair[0].to_ne_bytes(), pair[1].to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}
