//! The section of the configuration file: sentences for each part that cannot be used.

use super::*;
use crate::lb::settings::LoadBalancerSettings;

fn read(bgp: &str) -> (BgpSettings, Vec<String>) {
    let section = format!(
        "{{pools: [{{name: a, addresses: [192.0.2.0/25, '2001:db8::/120']}}, {{name: b, addresses: [198.51.100.7-198.51.100.9]}}], bgp: {bgp}}}"
    );
    let section = serde_yaml_ng::from_str(&section).unwrap();
    let (settings, problems) = LoadBalancerSettings::read(section);
    assert_eq!(settings.is_whole, problems.is_empty(), "{bgp}");
    let problems = problems.into_iter().map(|(field, reason)| {
        format!("{}: {reason}", field.strip_prefix("loadBalancer.bgp.").unwrap_or(&field))
    });
    (settings.bgp.unwrap(), problems.collect())
}

#[test]
fn a_part_that_cannot_be_used_is_named_and_the_rest_is_used() {
    let peer =
        |fields: &str| format!("{{localAS: 64512, peers: [{{name: r, address: 192.0.2.254, {fields}}}]}}");
    let advertised = |fields: &str| format!("{{localAS: 64512, advertisements: [{{{fields}}}]}}");
    for (yaml, expected) in [
        (peer("peerAS: 64500"), None),
        (peer("peerAS: internal, holdTime: 3, keepaliveTime: 1, password: a"), None),
        (peer("peerAS: 4200000000, ttlSecurity: 1, gracefulRestartTime: 0"), None),
        ("{localAS: 1, peers: [{name: r, address: 'fe80::1%eth0', peerAS: external}]}".to_owned(), None),
        (peer("peerAS: 0"), Some("peers[0].peerAS: 0 is no number of an autonomous system")),
        (peer("peerAS: 23456"), Some("peers[0].peerAS: 23456 is no number")),
        (peer("peerAS: both"), Some("peers[0].peerAS: \"both\" is neither a number of an autonomous system nor")),
        (peer("port: 1790"), Some("peers[0].peerAS: it is missing")),
        (peer("peerAS: 1, localAS: 65535"), Some("peers[0].localAS: 65535 is no number")),
        (peer("peerAS: 1, holdTime: 2"), Some("peers[0].holdTime: 2 seconds: it must be 0")),
        (
            peer("peerAS: 1, keepaliveTime: 90"),
            Some("peers[0].keepaliveTime: 90 seconds: it must be at least 1 and less than the hold time of 90 seconds"),
        ),
        (peer("peerAS: 1, ttlSecurity: 255"), Some("peers[0].ttlSecurity: 255 hops")),
        (
            peer("peerAS: 1, ttlSecurity: 2, ebgpMultiHop: true"),
            Some("peers[0].ttlSecurity: it excludes ebgpMultiHop"),
        ),
        (peer("peerAS: 1, password: ''"), Some("peers[0].password: a password has 1 to 80 octets")),
        (
            peer("peerAS: 1, password: a, passwordFile: b"),
            Some("peers[0].passwordFile: it excludes password"),
        ),
        (
            peer("peerAS: 1, sourceAddress: '2001:db8::1'"),
            Some("peers[0].sourceAddress: 2001:db8::1 is of the other family"),
        ),
        (peer("peerAS: 1, gracefulRestartTime: 4096"), Some("peers[0].gracefulRestartTime: 4096 seconds")),
        (peer("peerAS: 1, colour: red"), Some("peers[0].colour: unknown field `colour`")),
        (
            "{localAS: 1, peers: [{name: r, address: 'fe80::1', peerAS: 1}]}".to_owned(),
            Some("peers[0].address: fe80::1 is no address of a host"),
        ),
        (
            "{peers: [{name: r, address: 192.0.2.254, peerAS: 1}]}".to_owned(),
            Some("peers[0].localAS: sessions need localAS"),
        ),
        (
            "{localAS: 1, peers: [{name: r, address: 192.0.2.253, peerAS: 1}, {name: r, address: 192.0.2.254, peerAS: 1}]}"
                .to_owned(),
            Some("peers[1].name: a second peer of the name \"r\""),
        ),
        (
            "{localAS: 1, peers: [{name: r, address: 192.0.2.254, peerAS: 1}, {name: s, address: 192.0.2.254, peerAS: 1}]}"
                .to_owned(),
            Some("peers[1].address: a second peer at 192.0.2.254:179"),
        ),
        (
            advertised("aggregationLength: 33"),
            Some("advertisements[0].aggregationLength: 33 bits: an IPv4 prefix has 1 to 32"),
        ),
        (advertised("pools: [a], aggregationLength: 25, aggregationLengthV6: 120"), None),
        (
            advertised("pools: [a], aggregationLength: 24"),
            Some("advertisements[0].aggregationLength: 192.0.2.0/24 has addresses outside of the pool \"a\""),
        ),
        (
            advertised("pools: [b], aggregationLength: 31"),
            Some("advertisements[0].aggregationLength: 198.51.100.6/31 has addresses outside of the pool \"b\""),
        ),
        (advertised("pools: [c]"), Some("advertisements[0].pools: there is no pool \"c\"")),
        (advertised("peers: [c]"), Some("advertisements[0].peers: there is no peer \"c\"")),
        (
            advertised("communities: ['64512:65536']"),
            Some("advertisements[0].communities: \"64512:65536\" is neither"),
        ),
        (advertised("communities: ['64512:1', no-export, 'large:1:2:3']"), None),
        ("{routes: {table: 255}}".to_owned(), Some("routes.table: table 255 is the kernel's own")),
        ("{routes: {protocol: 2}}".to_owned(), Some("routes.protocol: protocol 2 is the kernel's own")),
        ("{mode: nothing}".to_owned(), Some("mode: unknown variant `nothing`")),
        ("{localAS: -1}".to_owned(), Some("localAS: invalid value: integer `-1`")),
    ] {
        let found = read(&yaml).1;
        match expected {
            None => assert_eq!(found, Vec::<String>::new(), "{yaml}"),
            Some(text) => assert!(found.len() == 1 && found[0].starts_with(text), "{yaml}: {found:?}"),
        }
    }
}

#[test]
fn a_faulty_peer_leaves_the_others() {
    let (settings, problems) = read(
        "{localAS: 1, peers: [{name: r, address: nowhere, peerAS: 1}, {name: s, address: 192.0.2.254, peerAS: 1}], advertisements: [{peers: [r]}, {}]}",
    );
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(settings.peers.iter().map(|peer| peer.name.as_str()).collect::<Vec<_>>(), ["s"]);
    assert_eq!(settings.advertisements.len(), 2);
}

#[test]
fn a_password_is_never_shown() {
    let settings =
        read("{localAS: 1, peers: [{name: r, address: 192.0.2.254, peerAS: 1, password: secret}]}").0;
    assert!(!format!("{settings:?}").contains("secret"));
}
