//! UPDATE messages as octets. Another implementation reads them.

use bgpkit_parser::models::{AsPath, Asn, AsnLength, BgpMessage, BgpUpdateMessage, MetaCommunity};
use bgpkit_parser::parser::bgp::parse_bgp_message;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::*;

const HOP_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const HOP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

fn speaker(is_internal: bool, has_four_octets: bool) -> Speaker {
    let next_hops = NextHops { v4: Some(HOP_V4), v6: Some(HOP_V6), link_local: None };
    Speaker { local_as: 4_200_000_001, is_internal, has_four_octets, next_hops }
}

fn nets(text: &str) -> Vec<IpNet> {
    text.split_whitespace().map(|net| net.parse().unwrap()).collect()
}

fn attributes(communities: &str, local_preference: Option<u32>) -> Attributes {
    let communities = communities.split_whitespace().map(|text| text.parse().unwrap()).collect();
    Attributes { communities, local_preference }
}

fn hex(message: &[u8]) -> String {
    assert_eq!(message[..16], [0xFF; 16]);
    assert_eq!(usize::from(u16::from_be_bytes([message[16], message[17]])), message.len());
    message[18..].iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn updates_are_these_octets() {
    let none = attributes("", None);
    let two_octets = Speaker { local_as: 64_512, ..speaker(false, false) };
    let announced = |speaker: &Speaker, family, attributes: &Attributes, prefixes: &str| {
        let all = announce(speaker, family, attributes, &nets(prefixes));
        all.iter().map(|message| hex(message)).collect::<Vec<_>>().join(" ")
    };
    let squeezed = |text: &str| text.replace(char::is_whitespace, "");
    for (found, expected) in [
        (
            announced(&speaker(false, true), IpFamily::V4, &none, "203.0.113.7/32 198.51.100.0/25"),
            // ORIGIN, AS_PATH, NEXT_HOP, then the prefixes.
            "02 0000 0014  40 01 01 00  40 02 06 02 01 fa56ea01  40 03 04 c0000201  20 cb007107  19 c6336400",
        ),
        (
            announced(
                &two_octets,
                IpFamily::V4,
                &attributes("64512:7 no-export large:1:2:3", None),
                "203.0.113.7/32",
            ),
            "02 0000 002c  40 01 01 00  40 02 04 02 01 fc00  c0 08 08 fc000007 ffffff01  c0 20 0c 00000001 00000002 00000003 \
             40 03 04 c0000201  20 cb007107",
        ),
        // A peer with numbers of two octets sees AS_TRANS, and the real one beside it.
        (
            announced(&speaker(false, false), IpFamily::V4, &none, "203.0.113.7/32"),
            "02 0000 001b  40 01 01 00  40 02 04 02 01 5ba0  c0 11 06 02 01 fa56ea01  40 03 04 c0000201  20 cb007107",
        ),
        // Within the autonomous system: an empty path, and the local preference.
        (
            announced(&speaker(true, true), IpFamily::V4, &attributes("", Some(200)), "203.0.113.7/32"),
            "02 0000 0015  40 01 01 00  40 02 00  40 05 04 000000c8  40 03 04 c0000201  20 cb007107",
        ),
        (
            announced(&speaker(false, true), IpFamily::V6, &none, "2001:db8:64::7/128"),
            "02 0000 0036  80 0e 26 0002 01 10 20010db8000000000000000000000001 00 80 20010db8006400000000000000000007 \
             40 01 01 00  40 02 06 02 01 fa56ea01",
        ),
    ] {
        assert_eq!(found, squeezed(expected));
    }
    let withdrawn = |family, prefixes: &str| hex(&withdraw(family, &nets(prefixes))[0]);
    assert_eq!(withdrawn(IpFamily::V4, "203.0.113.7/32"), squeezed("02 0005 20 cb007107 0000"));
    assert_eq!(
        withdrawn(IpFamily::V6, "2001:db8:64::/64"),
        squeezed("02 0000 000f 80 0f 0c 0002 01 40 20010db800640000")
    );
    assert_eq!(hex(&end_of_rib(IpFamily::V4)), "0200000000");
    assert_eq!(hex(&end_of_rib(IpFamily::V6)), squeezed("02 0000 0006 80 0f 03 0002 01"));
}

#[test]
fn a_family_without_a_next_hop_is_not_announced() {
    let none = Speaker { next_hops: NextHops::default(), ..speaker(false, true) };
    for (family, prefix) in [(IpFamily::V4, "203.0.113.7/32"), (IpFamily::V6, "2001:db8::7/128")] {
        assert_eq!(announce(&none, family, &attributes("", None), &nets(prefix)), Vec::<Vec<u8>>::new());
    }
}

fn parsed(message: &[u8], length: AsnLength) -> BgpUpdateMessage {
    match parse_bgp_message(&mut message.to_vec().into(), false, &length) {
        Ok(BgpMessage::Update(update)) => update,
        other => panic!("{other:?}"),
    }
}

/// Prefixes that another implementation reads.
fn read(messages: &[Vec<u8>], length: AsnLength, is_announced: bool) -> Vec<IpNet> {
    let all = messages.iter().map(|message| parsed(message, length));
    let prefixes = all.flat_map(|update| {
        let mp = match is_announced {
            true => update.attributes.get_reachable_nlri().cloned(),
            false => update.attributes.get_unreachable_nlri().cloned(),
        };
        let plain = if is_announced { update.announced_prefixes } else { update.withdrawn_prefixes };
        plain.into_iter().chain(mp.into_iter().flat_map(|nlri| nlri.prefixes))
    });
    prefixes.map(|prefix| prefix.prefix).collect()
}

fn prefixes(family: IpFamily) -> impl Strategy<Value = Vec<IpNet>> {
    let one = (any::<u128>(), 1..=128_u8).prop_map(move |(number, length)| match family {
        IpFamily::V4 => IpNet::new(Ipv4Addr::from(number as u32).into(), length.min(32)).unwrap().trunc(),
        IpFamily::V6 => IpNet::new(Ipv6Addr::from(number).into(), length).unwrap().trunc(),
    });
    proptest::collection::btree_set(one, 1..700).prop_map(|set: BTreeSet<IpNet>| set.into_iter().collect())
}

fn one_community() -> impl Strategy<Value = Community> {
    prop_oneof![
        any::<u32>().prop_map(Community::Standard),
        any::<(u32, u32, u32)>().prop_map(|(a, b, c)| Community::Large(a, b, c)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn another_implementation_reads_what_was_written(
        (family, prefixes) in prop_oneof![Just(IpFamily::V4), Just(IpFamily::V6)].prop_flat_map(|f| (Just(f), prefixes(f))),
        communities in proptest::collection::btree_set(one_community(), 0..250),
        local_preference in proptest::option::of(any::<u32>()),
        is_internal: bool, has_four_octets: bool,
    ) {
        let speaker = speaker(is_internal, has_four_octets);
        let attributes = Attributes { communities, local_preference };
        let messages = announce(&speaker, family, &attributes, &prefixes);
        let length = if has_four_octets { AsnLength::Bits32 } else { AsnLength::Bits16 };
        prop_assert!(messages.iter().all(|message| message.len() <= LONGEST));
        prop_assert_eq!(&read(&messages, length, true), &prefixes);
        for message in &messages {
            let update = parsed(message, length);
            let path = match is_internal {
                true => AsPath::new(),
                false => AsPath::from_sequence([4_200_000_001]),
            };
            prop_assert_eq!(update.attributes.effective_as_path(), Some(path));
            let preference = is_internal.then(|| local_preference.unwrap_or(100));
            prop_assert_eq!(update.attributes.local_preference(), preference);
            let hop = match family {
                IpFamily::V4 => update.attributes.next_hop(),
                IpFamily::V6 => update.attributes.get_reachable_nlri().and_then(|nlri| nlri.next_hop).map(|hop| hop.addr()),
            };
            let own = if family == IpFamily::V4 { IpAddr::from(HOP_V4) } else { HOP_V6.into() };
            prop_assert_eq!(hop, Some(own));
            let read: BTreeSet<Community> = update.attributes.iter_communities().map(|community| community_of(&community)).collect();
            prop_assert_eq!(&read, &attributes.communities);
        }
        let withdrawn = withdraw(family, &prefixes);
        prop_assert!(withdrawn.iter().all(|message| message.len() <= LONGEST));
        prop_assert_eq!(read(&withdrawn, length, false), prefixes);
    }
}

fn community_of(read: &MetaCommunity) -> Community {
    let number = |asn: &Asn| asn.to_u32();
    match read {
        MetaCommunity::Plain(bgpkit_parser::models::Community::Custom(asn, value)) => {
            Community::Standard(number(asn) << 16 | u32::from(*value))
        }
        MetaCommunity::Plain(other) => match other.to_string().as_str() {
            "no-export" => Community::Standard(0xFFFF_FF01),
            "no-advertise" => Community::Standard(0xFFFF_FF02),
            _ => Community::Standard(0xFFFF_FF03),
        },
        MetaCommunity::Large(large) => {
            Community::Large(large.global_admin, large.local_data[0], large.local_data[1])
        }
        other => panic!("{other:?}"),
    }
}
