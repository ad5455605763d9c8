//! Messages as octets, and octets that are none. Another implementation reads what this one writes.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use bgpkit_parser::models::{AsnLength, BgpMessage};
use bgpkit_parser::parser::bgp::parse_bgp_message;
use proptest::prelude::*;

use super::*;
use crate::bgp::stream::Stream;

/// Octets as hexadecimal text; blanks are for the reader.
fn octets(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn message(rest: &str) -> Vec<u8> {
    [vec![0xFF; 16], octets(rest)].concat()
}

fn open() -> Open {
    Open {
        asn: 4_200_000_001,
        hold: 90,
        router_id: Ipv4Addr::new(192, 0, 2, 1),
        families: Some([IpFamily::V4, IpFamily::V6].into()),
        has_four_octets: true,
        is_refreshing: true,
        restart: Some(Restart {
            has_restarted: true,
            time: 120,
            families: [(IpFamily::V4, true), (IpFamily::V6, true)].into(),
        }),
    }
}

#[test]
fn messages_are_these_octets() {
    for (text, value) in [
        ("0013 04", Message::Keepalive),
        ("0017 05 0002 00 01", Message::RouteRefresh(Some(IpFamily::V6))),
        (
            "0017 03 02 02 cafe",
            Message::Notification(Notification { code: 2, subcode: 2, data: vec![0xCA, 0xFE] }),
        ),
        (
            "003f 01 04 5ba0 005a c0000201 22 02 20 \
             01 04 0001 00 01  01 04 0002 00 01  02 00  40 0a 8078 0001 01 80 0002 01 80  41 04 fa56ea01",
            Message::Open(open()),
        ),
        (
            "001d 01 04 fde8 0000 c0000201 00",
            Message::Open(Open {
                asn: 65_000,
                hold: 0,
                router_id: Ipv4Addr::new(192, 0, 2, 1),
                families: None,
                has_four_octets: false,
                is_refreshing: false,
                restart: None,
            }),
        ),
    ] {
        assert_eq!(value.encode(), message(text), "{value:?}");
        assert_eq!(Message::decode(&message(text)), Ok(Some((value, message(text).len()))), "{text}");
    }
}

#[test]
fn octets_that_are_no_message_are_refused_with_the_codes_of_the_rfc() {
    let open_with = |parameters: &str, length: u8| {
        message(&format!(
            "{:04x} 01 04 fde8 005a c0000201 {length:02x} {parameters}",
            29 + octets(parameters).len()
        ))
    };
    for (bytes, fault) in [
        (vec![0; 19], Fault::NotSynchronized),
        (b"GET / HTTP/1.1\r\n".to_vec(), Fault::NotSynchronized),
        (vec![0xFF, 0xFF, 0], Fault::NotSynchronized),
        (message("0013 06"), Fault::MessageType(6)),
        (message("0012 04"), Fault::Length(18)),
        (message("0014 04"), Fault::Length(20)),
        (message("1001 02"), Fault::Length(4_097)),
        (message("0016 02"), Fault::Length(22)),
        (message("001c 01"), Fault::Length(28)),
        (message("001d 01 03 fde8 005a c0000201 00"), Fault::Version),
        (message("001d 01 04 0000 005a c0000201 00"), Fault::PeerAs),
        (message("001d 01 04 fde8 0002 c0000201 00"), Fault::HoldTime),
        (message("001d 01 04 fde8 005a 00000000 00"), Fault::Identifier),
        (open_with("", 1), Fault::Open),
        (open_with("01 00", 2), Fault::OptionalParameter),
        (open_with("02 02 41 04", 4), Fault::Open),
        (open_with("02 03 41 01 00", 5), Fault::Open),
        (open_with("02 06 41 04 00000000", 8), Fault::PeerAs),
        (message("0017 02 0001 0000"), Fault::AttributeList),
        (message("0017 02 0000 0001"), Fault::AttributeList),
    ] {
        assert_eq!(Message::decode(&bytes), Err(fault), "{bytes:02x?}");
    }
    for (bytes, value) in [
        // Lengths of two octets (RFC 9072), and a capability that this speaker does not know.
        (open_with("ff 0009 02 0006 80 00 41 02 0001", 255), Err(Fault::Open)),
        (open_with("ff 0007 02 0004 80 00 02 00", 255), Ok(true)),
        (open_with("02 02 02 00 02 02 46 00", 8), Ok(true)),
    ] {
        let refreshes = Message::decode(&bytes).map(|message| match message {
            Some((Message::Open(open), _)) => open.is_refreshing,
            other => panic!("{other:?}"),
        });
        assert_eq!(refreshes, value, "{bytes:02x?}");
    }
}

#[test]
fn an_errors_name_and_the_other_operators_text_are_shown() {
    let shown = |code, subcode, data: &[u8]| Notification { code, subcode, data: data.to_vec() }.to_string();
    assert_eq!(shown(2, 2, &[]), "OPEN message error: bad peer AS (2/2)");
    assert_eq!(shown(6, 2, b"\x05later"), "cease: administrative shutdown (6/2), \"later\"");
    assert_eq!(shown(6, 2, b"\xfflater"), "cease: administrative shutdown (6/2)");
    assert_eq!(shown(77, 1, b"\x05later"), "unknown error (77/1)");
}

#[test]
fn another_implementation_reads_the_open_message() {
    let parsed = parse_bgp_message(&mut Message::Open(open()).encode().into(), false, &AsnLength::Bits32);
    let Ok(BgpMessage::Open(parsed)) = parsed else { panic!("{parsed:?}") };
    assert_eq!((parsed.version, parsed.asn.to_u32(), parsed.hold_time), (4, 23_456, 90));
    assert_eq!(parsed.bgp_identifier, Ipv4Addr::new(192, 0, 2, 1));
    // Its capabilities are shown as text, since the crate does not read the values of all.
    let shown = format!("{:?}", parsed.opt_params);
    for part in
        ["MULTIPROTOCOL", "ROUTE_REFRESH", "restart_state: true", "restart_time: 120", "asn: 4200000001"]
    {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
}

fn families() -> impl Strategy<Value = BTreeSet<IpFamily>> {
    proptest::collection::btree_set(prop_oneof![Just(IpFamily::V4), Just(IpFamily::V6)], 0..=2)
}

prop_compose! {
    fn opens()(
        asn in 1..=u32::MAX, hold in prop_oneof![Just(0), 3..=u16::MAX], id in 1..=u32::MAX, is_refreshing: bool,
        restart in proptest::option::of((any::<bool>(), 0..4_096_u16, families(), any::<bool>())),
        families in proptest::option::of(families().prop_filter("a capability names one", |f| !f.is_empty())),
        has_four_octets: bool,
    ) -> Open {
        let restart = restart.map(|(has_restarted, time, families, is_preserved)| Restart {
            has_restarted, time, families: families.into_iter().map(|family| (family, is_preserved)).collect(),
        });
        let has_four_octets = has_four_octets || asn > 65_535;
        Open { asn, hold, router_id: Ipv4Addr::from(id), families, has_four_octets, is_refreshing, restart }
    }
}

fn messages() -> impl Strategy<Value = Message> {
    prop_oneof![
        opens().prop_map(Message::Open),
        (any::<u8>(), any::<u8>(), proptest::collection::vec(any::<u8>(), 0..64))
            .prop_map(|(code, subcode, data)| Message::Notification(Notification { code, subcode, data })),
        Just(Message::Keepalive),
        Just(Message::Update),
        prop_oneof![Just(None), Just(Some(IpFamily::V4)), Just(Some(IpFamily::V6))]
            .prop_map(Message::RouteRefresh),
    ]
}

proptest! {
    #[test]
    fn a_message_is_read_as_it_was_written_however_it_is_cut(all in proptest::collection::vec(messages(), 1..5), at in 1..40_usize) {
        let octets: Vec<u8> = all.iter().flat_map(Message::encode).collect();
        let (mut stream, mut read) = (Stream::default(), Vec::new());
        for part in octets.chunks(at) {
            stream.push(part);
            while let Some(message) = stream.next_message().unwrap() {
                read.push(message);
            }
        }
        prop_assert_eq!(read, all);
    }

    /// The octets begin like a message, so that they reach all of the parser.
    #[test]
    fn any_octets_are_a_message_or_a_fault_with_a_code(
        kind in 0..8_u8, length in prop_oneof![Just(None), any::<u16>().prop_map(Some)],
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let length = length.unwrap_or(19 + body.len() as u16);
        let octets = [&[0xFF; 16], &length.to_be_bytes()[..], &[kind], &body].concat();
        match Message::decode(&octets) {
            Ok(Some((_, length))) => prop_assert!((19..=octets.len()).contains(&length)),
            Ok(None) => prop_assert!(usize::from(length) > octets.len()),
            Err(fault) => prop_assert!((1..=3).contains(&Notification::from(fault).code)),
        }
    }

    /// A valid OPEN with some octets changed.
    #[test]
    fn a_damaged_open_is_read_or_refused(open in opens(), damage in proptest::collection::vec((19..90_usize, any::<u8>()), 1..4)) {
        let mut octets = Message::Open(open).encode();
        for (at, value) in damage {
            if let Some(octet) = octets.get_mut(at) {
                *octet = value;
            }
        }
        if let Err(fault) = Message::decode(&octets) {
            prop_assert_eq!(Notification::from(fault).code, 2);
        }
    }

    #[test]
    fn any_octets_without_a_marker_are_refused_at_once(octets in proptest::collection::vec(0..0xFF_u8, 1..64)) {
        prop_assert_eq!(Message::decode(&octets), Err(Fault::NotSynchronized));
    }
}
