//! Rows PAR-160 to PAR-182 and PAR-080 to PAR-088.

use std::collections::BTreeSet;

use super::*;

const NODE: &str = "test-node";

/// One endpoint: `NUMBER[L][nr|st|t][{HINT,..}]`. L: on this node; nr: not ready; st: serving and terminating;
/// t: terminating only. A hint in lower case is a zone, in upper case a node (N: this one).
fn endpoint(text: &str) -> Endpoint {
    let (head, hints) = text.split_once('{').unwrap_or((text, "}"));
    let hints: Vec<&str> = hints.trim_end_matches('}').split(',').filter(|h| !h.is_empty()).collect();
    let number: String = head.chars().take_while(char::is_ascii_digit).collect();
    let rest = &head[number.len()..];
    let (local, state) = rest.strip_prefix('L').map_or((false, rest), |s| (true, s));
    let (ready, serving, terminating) = match state {
        "" => (true, true, false),
        "nr" => (false, false, false),
        "st" => (false, true, true),
        "t" => (false, false, true),
        other => panic!("unknown state {other:?}"),
    };
    let node_name = |h: &str| if h == "N" { NODE.into() } else { h.into() };
    let is_node = |h: &str| h.chars().all(char::is_uppercase);
    Endpoint {
        addr: format!("10.0.0.{number}").parse().unwrap(),
        ready,
        serving,
        terminating,
        node: Some(if local { NODE.into() } else { "other".into() }),
        zone_hints: hints
            .iter()
            .filter(|h| !is_node(h))
            .map(|h| format!("zone-{h}").as_str().into())
            .collect(),
        node_hints: hints.iter().filter(|h| is_node(h)).map(|h| node_name(h)).collect::<BTreeSet<_>>(),
    }
}

/// `i`: internal policy Local; `e`: external policy Local; `x`: externally accessible.
fn policy(text: &str) -> Policy {
    Policy {
        internal_local: text.contains('i'),
        external_local: text.contains('e'),
        externally_accessible: text.contains('x'),
    }
}

fn numbers(list: &[PortEndpoint<'_>]) -> String {
    let last = |e: &PortEndpoint<'_>| e.endpoint.addr.to_string().rsplit('.').next().unwrap_or("").to_owned();
    list.iter().map(last).collect::<Vec<_>>().join(" ")
}

#[test]
fn endpoints_are_categorised_as_kube_proxy_does() {
    // row, policy, zone, endpoints, cluster list, local list, usable anywhere
    type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str, bool);
    let rows: &[Row] = &[
        ("PAR-160", "", "a", "3{a} 4{b} 5{c} 6{a}", "3 6", "", true),
        ("PAR-161", "ex", "a", "3L{a} 4L{b} 5{c} 6{a}", "3 6", "3 4", true),
        ("PAR-162", "ix", "a", "3L{a} 4L{b} 5{c} 6{a}", "3 6", "3 4", true),
        ("PAR-163", "", "", "3{a}", "3", "", true),
        ("PAR-164", "", "b", "3{a}", "3", "", true),
        ("PAR-165", "", "a", "3{a} 4{b} 5{c} 6nr{a}", "3", "", true),
        ("PAR-166", "", "a", "3nr{a} 4{b} 5{c} 6nr{a}", "4 5", "", true),
        ("PAR-167", "", "a", "3{a} 4{b} 5 6{a}", "3 4 5 6", "", true),
        ("PAR-168", "", "c", "3{a,b,c} 4{b,c} 5{b,d} 6{c}", "3 4 6", "", true),
        ("PAR-169", "i", "a", "", "", "", false),
        ("PAR-170", "i", "a", "0 1", "", "", true),
        ("PAR-171", "i", "a", "0L 1", "", "0", true),
        ("PAR-172", "", "a", "0nr 1nr", "", "", false),
        ("PAR-173", "", "a", "0Lst 1st", "0 1", "", true),
        ("PAR-174", "ix", "a", "0L 1", "0 1", "0", true),
        ("PAR-175", "ex", "a", "0L 1", "0 1", "0", true),
        ("PAR-176", "iex", "a", "0st 1st", "0 1", "", true),
        ("PAR-177", "ex", "a", "0 1Lnr 2Lst 3st", "0", "2", true),
        ("PAR-178", "e", "a", "0 1L", "0 1", "", true),
        ("PAR-179", "i", "a", "0 1L", "", "1", true),
        ("PAR-180", "", "a", "1{N} 2{M}", "1", "", true),
        ("PAR-181", "", "a", "1{M,a} 2{O,b}", "1", "", true),
        ("PAR-182", "", "a", "1{N,a} 2{a} 3{M,b}", "1 2", "", true),
        ("PAR-080", "ex", "", "1L 2L 3Lst 4Lt 5", "1 2 5", "1 2", true),
        ("PAR-081", "ex", "", "2Lst 3Lst 4Lt 5", "5", "2 3", true),
        ("PAR-082", "ex", "", "5st", "5", "", true),
        ("PAR-083", "ex", "", "5Lt 6t", "", "", false),
        ("PAR-084", "ex", "", "", "", "", false),
        ("PAR-085", "x", "", "1L 2L 3st 4t 5", "1 2 5", "", true),
        ("PAR-086", "x", "", "2Lst 3Lst 4t 5st", "2 3 5", "", true),
        ("PAR-087", "x", "", "5st", "5", "", true),
        ("PAR-088", "x", "", "1Lt 2t", "", "", false),
        ("hints without a ready endpoint", "", "a", "1st{b} 2st{a}", "1 2", "", true),
        ("a node without a zone label", "", "", "3{a} 4{b}", "3 4", "", true),
    ];
    for (row, flags, zone, list, cluster, local, usable) in rows {
        let node = NodeInfo {
            zone: (!zone.is_empty()).then(|| format!("zone-{zone}").as_str().into()),
            ..NodeInfo::named(NODE)
        };
        let endpoints: Vec<Endpoint> = list.split(' ').filter(|e| !e.is_empty()).map(endpoint).collect();
        let endpoints: Vec<_> =
            endpoints.iter().map(|endpoint| PortEndpoint { port: 80, endpoint }).collect();
        let found = plan_categories(&endpoints, policy(flags), &node);
        assert_eq!(numbers(&found.cluster), *cluster, "{row}: cluster");
        assert_eq!(numbers(&found.local), *local, "{row}: local");
        assert_eq!(found.usable_anywhere, *usable, "{row}: usable anywhere");
    }
}
