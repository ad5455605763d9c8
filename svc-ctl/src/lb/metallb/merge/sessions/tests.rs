//! Peers, advertisements and communities of MetalLB in, sessions and complaints out.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::bgp::settings::{Distance, PeerAs};
use crate::lb::metallb::OfKind;
use crate::lb::metallb::merge::Merge;
use crate::lb::selector::Labels;
use crate::lb::settings::{Announce, LoadBalancerSettings};

const POOLS: &str =
    "front: {addresses: [198.51.100.0/24, '2001:db8::/120']}\nback: {addresses: [203.0.113.8-203.0.113.9]}";
const PEER: &str = "{myASN: 64512, peerASN: 64500, peerAddress: 192.0.2.254}";

fn file(section: &str) -> LoadBalancerSettings {
    LoadBalancerSettings::read(serde_yaml_ng::from_str(section).unwrap()).0
}

/// Objects as `name: spec`, a line each.
fn of_kind(yaml: &str) -> OfKind {
    let specs: BTreeMap<String, serde_json::Value> = serde_yaml_ng::from_str(yaml).unwrap_or_default();
    let object = |spec| Object { namespace: "metallb-system".to_owned(), spec, ..Object::default() };
    specs.into_iter().map(|(name, spec)| (name, object(spec))).collect()
}

fn objects(peers: &str, advertisements: &str, communities: &str) -> Objects {
    let mut all = Objects::none();
    all.set(Kind::Pool, of_kind(POOLS));
    all.set(Kind::BgpPeer, of_kind(peers));
    all.set(Kind::BgpAdvertisement, of_kind(advertisements));
    all.set(Kind::Community, of_kind(communities));
    all
}

/// A line for each peer and each advertisement to it.
fn words(settings: &LoadBalancerSettings) -> Vec<String> {
    let mut lines = Vec::new();
    for peer in settings.bgp.iter().flat_map(|bgp| &bgp.peers) {
        let mut line = format!("{} {} as {}", peer.name, peer.endpoint(), peer.local_as);
        for ad in
            settings.bgp.iter().flat_map(|bgp| &bgp.advertisements).filter(|ad| ad.is_to_peer(&peer.name))
        {
            let pools = settings.pools.iter().filter(|pool| ad.is_of_pool(&pool.name));
            let prefixes = pools.flat_map(|pool| pool.ends().map(|ip| ad.prefix(ip).to_string()).take(1));
            let communities = ad.communities.iter().map(ToString::to_string);
            line += &format!(", {}", prefixes.chain(communities).collect::<Vec<_>>().join(" "));
        }
        lines.push(line);
    }
    lines
}

/// A sentence, peers, advertisements, communities, the expected sessions, and the complaints.
type TableCase<'a> = (&'a str, &'a str, &'a str, &'a str, &'a [&'a str], &'a [&'a str]);

#[test]
fn sessions_are_those_of_metallbs_objects() {
    let cases: &[TableCase<'_>] = &[
        ("without peers there is nothing", "", "all: {}", "", &[], &[]),
        (
            "an empty advertisement is for all pools and peers",
            "r: {myASN: 64512, peerASN: 64500, peerAddress: 192.0.2.254, peerPort: 1790}\ns: {myASN: 64512, dynamicASN: external, peerAddress: '2001:db8::fe'}",
            "all: {}",
            "",
            &[
                "r 192.0.2.254:1790 as 64512, 203.0.113.8/32 198.51.100.0/32",
                "s [2001:db8::fe]:179 as 64512, 203.0.113.8/32 198.51.100.0/32",
            ],
            &[],
        ),
        (
            "one for a pool, aggregated, with communities by name and by number",
            &format!("r: {PEER}"),
            "a: {ipAddressPools: [front, gone], aggregationLength: 24, aggregationLengthV6: 120, communities: [blue, 'large:1:2:3'], localPref: 200}",
            "names: {communities: [{name: blue, value: '64512:7'}]}",
            &["r 192.0.2.254:179 as 64512, 198.51.100.0/24 64512:7 large:1:2:3"],
            &[],
        ),
        (
            "one for no pool announces nothing",
            &format!("r: {PEER}"),
            "a: {ipAddressPools: [gone]}",
            "",
            &["r 192.0.2.254:179 as 64512"],
            &[],
        ),
        (
            "a faulty peer and a faulty advertisement harm no other",
            &format!(
                "r: {PEER}\ns: {{myASN: 0, peerASN: 64500, peerAddress: 192.0.2.253}}\nt: {{myASN: 1, peerASN: 64500, peerAddress: 192.0.2.252, holdTime: soon}}"
            ),
            "a: {peers: [r], ipAddressPools: [back], aggregationLength: 24}\nb: {peers: [r], ipAddressPools: [front], communities: [green]}\nc: {peers: [r], ipAddressPools: [front]}",
            "",
            &["r 192.0.2.254:179 as 64512, 198.51.100.0/32"],
            &[
                "BGPPeer metallb-system/t: spec.holdTime: \"soon\" is no duration of whole seconds (1m30s)",
                "BGPPeer metallb-system/s: spec.myASN: 0 is no number of an autonomous system that may speak BGP (1 to 4294967294 without 23456 and 65535)",
                "BGPAdvertisement metallb-system/a: spec.aggregationLength: 203.0.113.0/24 has addresses outside of the pool \"back\": the routers would send them here",
                "BGPAdvertisement metallb-system/b: spec.communities: \"green\" is neither \"AS:NUMBER\" nor \"large:AS:NUMBER:NUMBER\" nor a well-known community's name",
            ],
        ),
        (
            "sessions that would be others than is meant are refused, and other fields named",
            "p: {myASN: 1, peerASN: 2, peerAddress: 192.0.2.1, passwordSecret: {name: s}}\nq: {myASN: 1, peerASN: 2, interface: eth0}\nr: {myASN: 1, peerASN: 2, peerAddress: 192.0.2.3, vrf: red}\ns: {myASN: 1, peerASN: 2, peerAddress: 192.0.2.4, bfdProfile: fast, passwordSecret: {}, vrf: ''}",
            "",
            "",
            &["s 192.0.2.4:179 as 1"],
            &[
                "BGPPeer metallb-system/p: spec.passwordSecret: svc reads no Secret: write the peer into svc's file, with passwordFile",
                "BGPPeer metallb-system/q: spec.interface: svc needs an address: write the peer into svc's file, as fe80::1%interface",
                "BGPPeer metallb-system/r: spec.vrf: svc has sessions only outside of VRFs",
                "BGPPeer metallb-system/s: spec.bfdProfile: svc does not know this field: it has no effect",
            ],
        ),
    ];
    for (sentence, peers, advertisements, communities, lines, complaints) in cases {
        let (settings, found) =
            Merge::default().settings(&file("{}"), &objects(peers, advertisements, communities));
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!((words(&settings), found), (strings(lines), strings(complaints)), "{sentence}");
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[test]
fn every_field_of_a_peer_counts() {
    let peer = "r: {myASN: 64512, localASN: 64513, dynamicASN: internal, peerAddress: 192.0.2.254, sourceAddress: 192.0.2.1, holdTime: 1m30s, keepaliveTime: 9s,
        connectTime: 5s, routerID: 192.0.2.9, password: secret, ebgpMultiHop: true, enableGracefulRestart: true, nodeSelectors: [{matchLabels: {rack: a}}]}";
    let (settings, found) = Merge::default().settings(&file("{}"), &objects(peer, "", ""));
    assert_eq!(found, []);
    let bgp = settings.bgp.unwrap();
    assert_eq!(bgp.router_id, Some([192, 0, 2, 9].into()));
    let peer = &bgp.peers[0];
    let seconds = Duration::from_secs;
    assert_eq!((peer.local_as, peer.peer_as, peer.distance), (64_513, PeerAs::Internal, Distance::MultiHop));
    assert_eq!(
        (peer.times.hold, peer.times.keepalive, peer.connect_retry),
        (seconds(90), seconds(9), seconds(5))
    );
    assert!(peer.restart_time > 0 && peer.password.is_some() && peer.source.is_some());
    let rack = |name: &str| Labels::from([("rack".to_owned(), name.to_owned())]);
    assert_eq!([peer.is_of_node(&rack("a")), peer.is_of_node(&rack("b"))], [true, false]);
    // Without the field sessions restart as MetalLB's do: not gracefully.
    let (settings, _) = Merge::default().settings(&file("{}"), &objects(&format!("r: {PEER}"), "", ""));
    assert_eq!(settings.bgp.unwrap().peers[0].restart_time, 0);
}

#[test]
fn an_object_that_is_broken_while_the_daemon_runs_counts_in_its_earlier_form() {
    let (good, ad) = (format!("r: {PEER}"), "a: {ipAddressPools: [front]}");
    let expected = ["r 192.0.2.254:179 as 64512, 198.51.100.0/32"];
    for (peers, ads) in [
        ("r: {myASN: 0, peerASN: 64500, peerAddress: 192.0.2.254}", ad),
        ("r: {myASN: many}", ad),
        (&good, "a: {ipAddressPools: [front], communities: [x]}"),
        (&good, "a: {ipAddressPools: 7}"),
    ] {
        let mut merge = Merge::default();
        assert_eq!(words(&merge.settings(&file("{}"), &objects(&good, ad, "")).0), expected);
        for _ in 0..2 {
            let (settings, found) = merge.settings(&file("{}"), &objects(peers, ads, ""));
            assert_eq!(words(&settings), expected, "{peers} {ads}");
            assert!(
                found.len() == 1 && found[0].reason.ends_with("its earlier form stays in force"),
                "{found:?}"
            );
        }
        assert_eq!(words(&merge.settings(&file("{}"), &objects("", ad, "")).0), [""; 0]);
    }
}

#[test]
fn the_files_pools_are_announced_as_the_file_says_and_metallbs_as_its_objects_say() {
    let pool = "pools: [{name: own, addresses: [192.0.2.0/28]}]";
    let with_peer = format!(
        "{{{pool}, bgp: {{localAS: 64512, peers: [{{name: r, address: 192.0.2.254, peerAS: 64500}}], advertisements: [{{pools: [own]}}]}}}}"
    );
    let l2 = "x: {ipAddressPools: [front]}";
    for (own, peers, l2, announce, in_l2, complaints) in [
        (format!("{{{pool}}}"), "", l2, Announce::L2, &["own", "front"][..], 0),
        (format!("{{{pool}}}"), "s", l2, Announce::Both, &["own", "front"], 0),
        (format!("{{{pool}}}"), "s", "", Announce::Both, &["own"], 0),
        (with_peer.clone(), "s", "", Announce::Bgp, &[], 0),
        // The file's pools stay out of layer 2.
        (with_peer.clone(), "", l2, Announce::Both, &["front"], 0),
        // The file has a peer of this name.
        (with_peer, "r", "", Announce::Bgp, &[], 1),
        (format!("{{{pool}, announce: none}}"), "s", l2, Announce::None, &[], 0),
    ] {
        let peers = if peers.is_empty() {
            String::new()
        } else {
            format!("{peers}: {{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1}}")
        };
        let mut all = objects(&peers, "a: {}", "");
        all.set(Kind::L2Advertisement, of_kind(l2));
        let (settings, found) = Merge::default().settings(&file(&own), &all);
        assert_eq!((settings.announce, found.len()), (announce, complaints), "{own} {peers} {l2}: {found:?}");
        let in_l2: BTreeSet<&str> = in_l2.iter().copied().collect();
        let is_in_l2 = |name: &&str| settings.announce.is_by_l2() && settings.l2.announce(name);
        let found: BTreeSet<&str> = ["own", "front"].into_iter().filter(is_in_l2).collect();
        assert_eq!(found, in_l2, "{own} {peers} {l2}");
    }
}
