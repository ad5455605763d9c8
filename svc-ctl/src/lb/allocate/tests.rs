//! Cases of the allocator: a table of pools, Services, and their addresses before and after.

use std::collections::BTreeSet;

use svc_common::addr::Proto;

use super::*;
use crate::lb::selector::Labels;
use crate::lb::settings::LoadBalancerSettings;

const POOL: &str = "{name: a, addresses: [192.0.2.1-192.0.2.3, '2001:db8::1-2001:db8::3']}";

fn pools(yaml: &str) -> Pools {
    let section = serde_yaml_ng::from_str(&format!("pools: [{yaml}]")).unwrap();
    let labels = Labels::from([("team".to_owned(), "a".to_owned())]);
    let namespaces = [("shop".to_owned(), labels), ("other".to_owned(), Labels::new())];
    LoadBalancerSettings::read(section).0.pools.in_namespaces(&namespaces.into())
}

/// A Service as words: its name, then `4`, `6`, `46` (prefers both), `4+6` (needs both), `age=N`, `ask=IP`, `pool=NAME`,
/// `label=VALUE`, and `key=KEY:PORT[:SELECTOR]` for sharing.
fn request(text: &str) -> Request {
    let mut words = text.split(' ');
    let mut request = Request {
        service: ServiceName::new("shop", words.next().unwrap()),
        labels: BTreeMap::new(),
        created: None,
        families: vec![IpFamily::V4],
        needs_all: false,
        addresses: Vec::new(),
        pool: None,
        sharing: None,
    };
    for word in words {
        match word.split_once('=') {
            None => {
                let family = |c: char| if c == '4' { IpFamily::V4 } else { IpFamily::V6 };
                request.families = word.chars().filter(char::is_ascii_digit).map(family).collect();
                request.needs_all = word.contains('+');
            }
            Some(("age", age)) => request.created = Some(1_000 - age.parse::<i64>().unwrap()),
            Some(("ask", ip)) => request.addresses.push(ip.parse().unwrap()),
            Some(("pool", name)) => request.pool = Some(name.to_owned()),
            Some(("label", value)) => drop(request.labels.insert("app".to_owned(), value.to_owned())),
            Some(("key", text)) => {
                let parts: Vec<&str> = text.split(':').collect();
                let selector = parts.get(2).map(|s| BTreeMap::from([("app".to_owned(), (*s).to_owned())]));
                request.sharing = Some(Sharing {
                    key: parts[0].to_owned(),
                    ports: BTreeSet::from([(Proto::TCP, parts[1].parse().unwrap())]),
                    local_selector: selector,
                });
            }
            Some(other) => panic!("{other:?}"),
        }
    }
    request
}

/// `name: addresses` or `name: reason`, one line each.
fn lines(allocation: &Allocation) -> Vec<String> {
    let given = allocation.given.iter().map(|(service, ips)| {
        let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
        format!("{}: {}", service.name, ips.join(" "))
    });
    let reasons = allocation.reasons.iter().map(|(service, reason)| format!("{}: {reason}", service.name));
    let mut lines: Vec<String> = given.chain(reasons).collect();
    lines.sort();
    lines
}

fn play(pool: &str, previous: &[(&str, &[&str])], services: &[&str]) -> Vec<String> {
    let requests: Vec<Request> = services.iter().map(|text| request(text)).collect();
    let previous = previous.iter().map(|(name, ips)| {
        (ServiceName::new("shop", name), ips.iter().map(|ip| ip.parse().unwrap()).collect())
    });
    lines(&allocate(&requests, &pools(pool), &previous.collect(), &Foreign::new(), Order::Lowest))
}

/// A sentence, the pools, the addresses that Services had, the Services, and the expected lines.
type TableCase<'a> = (&'a str, &'a str, &'a [(&'a str, &'a [&'a str])], &'a [&'a str], &'a [&'a str]);

#[test]
fn sem_302_sem_303_sem_305_sem_306_sem_307_the_table_of_assignments() {
    let web = "{name: a, addresses: [192.0.2.1-192.0.2.3]}";
    let cases: &[TableCase<'_>] = &[
        (
            "the lowest free address, the oldest first",
            web,
            &[],
            &["x age=1", "y age=2"],
            &["x: 192.0.2.2", "y: 192.0.2.1"],
        ),
        (
            "present addresses are kept, also if another Service is older",
            web,
            &[("y", &["192.0.2.1"])],
            &["x age=9", "y age=1"],
            &["x: 192.0.2.2", "y: 192.0.2.1"],
        ),
        (
            "widening moves no Service",
            "{name: a, addresses: [192.0.2.0-192.0.2.9]}",
            &[("x", &["192.0.2.3"])],
            &["x"],
            &["x: 192.0.2.3"],
        ),
        (
            "shrinking moves only Services outside the pool",
            "{name: a, addresses: [192.0.2.2-192.0.2.3]}",
            &[("x", &["192.0.2.1"]), ("y", &["192.0.2.3"])],
            &["x", "y"],
            &["x: 192.0.2.2", "y: 192.0.2.3"],
        ),
        (
            "one that waits says why",
            "{name: a, addresses: [192.0.2.1/32]}",
            &[],
            &["x age=2", "y"],
            &["x: 192.0.2.1", "y: no address is free in \"a\""],
        ),
        ("no pool", "", &[], &["x"], &["x: no pool is for this Service"]),
        (
            "a pool only for Services that ask for it",
            "{name: a, autoAssign: false, addresses: [192.0.2.1/32]}",
            &[],
            &["x", "y pool=a"],
            &["x: no pool is for this Service", "y: 192.0.2.1"],
        ),
        ("a pool that is not there", web, &[], &["x pool=b"], &["x: there is no pool \"b\""]),
        (
            "a pool for Namespaces with labels goes before the others",
            "{name: a, addresses: [192.0.2.9/32]}, {name: b, addresses: [192.0.2.1/32], namespaceSelectors: [{matchLabels: {team: a}}]}",
            &[],
            &["x"],
            &["x: 192.0.2.1"],
        ),
        (
            "a pool for Namespaces by name or by labels",
            "{name: a, addresses: [192.0.2.1/32], namespaces: [shop], namespaceSelectors: [{matchLabels: {team: z}}]}",
            &[],
            &["x"],
            &["x: 192.0.2.1"],
        ),
        (
            "a pool for Namespaces with labels that no Namespace has is for no Service",
            "{name: a, addresses: [192.0.2.1/32], namespaceSelectors: [{matchLabels: {team: z}}]}",
            &[("x", &["192.0.2.1"])],
            &["x", "y pool=a"],
            &["x: no pool is for this Service", "y: the pool \"a\" is not for this Service"],
        ),
        (
            "a disabled pool keeps and gives nothing",
            "{name: a, disabled: true, addresses: [192.0.2.1-192.0.2.3]}",
            &[("x", &["192.0.2.2"])],
            &["x", "y", "z pool=a"],
            &[
                "x: 192.0.2.2",
                "y: no pool is for this Service",
                "z: the pool \"a\" is disabled and gives nothing new",
            ],
        ),
        (
            "avoidBuggyIPs",
            "{name: a, avoidBuggyIPs: true, addresses: [192.0.2.255-192.0.3.1]}",
            &[("x", &["192.0.2.255"])],
            &["x"],
            &["x: 192.0.3.1"],
        ),
        ("an address that is asked for", web, &[], &["x ask=192.0.2.3"], &["x: 192.0.2.3"]),
        ("one that no pool has", web, &[], &["x ask=198.51.100.1"], &["x: no pool has 198.51.100.1"]),
        (
            "one that another has",
            web,
            &[("x", &["192.0.2.3"])],
            &["x", "y ask=192.0.2.3 age=9"],
            &[
                "x: 192.0.2.3",
                "y: 192.0.2.3 is Service shop/x's, which does not share it: not both have a sharing key",
            ],
        ),
        (
            "another is asked for than is had",
            web,
            &[("x", &["192.0.2.1"])],
            &["x ask=192.0.2.3"],
            &["x: 192.0.2.3"],
        ),
        (
            "one of a family that the Service has not",
            POOL,
            &[],
            &["x ask=2001:db8::1"],
            &["x: 2001:db8::1 is of a family that the Service does not have, or a second one of its family"],
        ),
        (
            "two of one family",
            POOL,
            &[],
            &["x ask=192.0.2.1 ask=192.0.2.2"],
            &["x: 192.0.2.2 is of a family that the Service does not have, or a second one of its family"],
        ),
        (
            "both families from one pool",
            POOL,
            &[],
            &["x 4+6", "y 64"],
            &["x: 192.0.2.1 2001:db8::1", "y: 192.0.2.2 2001:db8::2"],
        ),
        (
            "both are needed and there is one",
            web,
            &[],
            &["x 4+6"],
            &["x: no pool has a free address of each family"],
        ),
        ("both are preferred and there is one", web, &[], &["x 64"], &["x: 192.0.2.1"]),
        (
            "the second comes from the pool of the first",
            POOL,
            &[("x", &["192.0.2.3"])],
            &["x 46"],
            &["x: 192.0.2.3 2001:db8::1"],
        ),
        (
            "an address of only one of two needed families is not kept",
            web,
            &[("x", &["192.0.2.3", "2001:db8::1"])],
            &["x 4+6"],
            &["x: no pool has a free address of each family"],
        ),
        (
            "pinned pools first, by priority",
            "{name: a, addresses: [192.0.2.1/32]}, {name: b, namespaces: [shop], addresses: [192.0.2.2/32]}, {name: c, namespaces: [shop], priority: 1, addresses: [192.0.2.3/32]}",
            &[],
            &["x age=3", "y age=2", "z age=1"],
            &["x: 192.0.2.3", "y: 192.0.2.2", "z: 192.0.2.1"],
        ),
        (
            "a pool of other namespaces",
            "{name: a, namespaces: [other], addresses: [192.0.2.1/32]}",
            &[("x", &["192.0.2.1"])],
            &["x", "y pool=a"],
            &["x: no pool is for this Service", "y: the pool \"a\" is not for this Service"],
        ),
        (
            "a pool by labels",
            "{name: a, serviceSelectors: [{matchExpressions: [{key: app, operator: In, values: [w, v]}]}], addresses: [192.0.2.1-192.0.2.9]}",
            &[],
            &["x label=w", "y label=u"],
            &["x: 192.0.2.1", "y: no pool is for this Service"],
        ),
        (
            "sharing",
            web,
            &[],
            &["x key=k:80", "y key=k:443", "z key=l:443"],
            &["x: 192.0.2.1", "y: 192.0.2.1", "z: 192.0.2.2"],
        ),
        (
            "the same port is not shared",
            web,
            &[],
            &["x key=k:80", "y key=k:80"],
            &["x: 192.0.2.1", "y: 192.0.2.2"],
        ),
        (
            "a shared address is refused with its reason",
            web,
            &[("x", &["192.0.2.1"])],
            &["x key=k:80", "y key=k:80 ask=192.0.2.1"],
            &[
                "x: 192.0.2.1",
                "y: 192.0.2.1 is Service shop/x's, which does not share it: both have the same port",
            ],
        ),
        (
            "Local with other endpoints is not shared",
            web,
            &[],
            &["x key=k:80:u", "y key=k:443:v", "z key=k:53:u"],
            &["x: 192.0.2.1", "y: 192.0.2.2", "z: 192.0.2.1"],
        ),
        (
            "two Services with one address that they cannot share: the older keeps it",
            web,
            &[("x", &["192.0.2.1"]), ("y", &["192.0.2.1"])],
            &["x age=1", "y age=2"],
            &["x: 192.0.2.2", "y: 192.0.2.1"],
        ),
        (
            "of overlapping pools the later is inactive",
            "{name: a, addresses: [192.0.2.1/32]}, {name: b, addresses: [192.0.2.0/24]}",
            &[],
            &["x", "y"],
            &["x: 192.0.2.1", "y: no address is free in \"a\""],
        ),
    ];
    for (what, pool, previous, services, expected) in cases {
        assert_eq!(play(pool, previous, services), *expected, "{what}");
    }
}

#[test]
fn a_waiting_service_is_served_when_room_appears() {
    let pool = pools("{name: a, addresses: [192.0.2.1/32]}");
    let both = [request("x age=2"), request("y")];
    let first = allocate(&both, &pool, &Given::new(), &Foreign::new(), Order::Lowest);
    assert_eq!(lines(&first), ["x: 192.0.2.1", "y: no address is free in \"a\""]);
    let after = allocate(&both[1..], &pool, &first.given, &Foreign::new(), Order::Lowest);
    assert_eq!(lines(&after), ["y: 192.0.2.1"]);
}

#[test]
fn by_name_every_node_finds_the_same_address_without_history() {
    let pool = pools("{name: a, addresses: [192.0.2.0/24]}");
    let alone = allocate(&[request("x")], &pool, &Given::new(), &Foreign::new(), Order::ByName).given;
    let many: Vec<Request> = ["x", "a", "b", "c"].map(request).to_vec();
    let all = allocate(&many, &pool, &Given::new(), &Foreign::new(), Order::ByName).given;
    let x = ServiceName::new("shop", "x");
    assert_eq!(alone[&x], all[&x]);
    assert_eq!(all.values().flatten().collect::<BTreeSet<_>>().len(), 4);
}

#[test]
fn a_pool_that_overlaps_the_service_cidr_gives_nothing_and_one_with_a_nodes_address_gives_the_others() {
    let pools = pools(
        "{name: a, addresses: [192.0.2.7-192.0.2.8, '2001:db8::1-2001:db8::2']}, {name: b, addresses: [10.96.1.0/24]},
         {name: c, addresses: [198.51.100.0/24]}",
    );
    let nodes = BTreeMap::from([
        ("192.0.2.7".parse().unwrap(), "n1".to_owned()),
        ("2001:db8::1".parse().unwrap(), "n2".to_owned()),
    ]);
    let (left, refused) = pools.without(&nodes, &["10.96.0.0/16".parse().unwrap()]);
    let named: Vec<String> = refused.iter().map(|(name, error)| format!("{name}: {error}")).collect();
    assert_eq!(
        named,
        [
            "a: it holds 192.0.2.7, an address of Node n1: no Service gets this address",
            "a: it holds 2001:db8::1, an address of Node n2: no Service gets this address",
            "b: it overlaps the Service CIDR 10.96.0.0/16: it gives no addresses",
        ]
    );
    assert_eq!(left.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    let a = left.iter().next().unwrap();
    assert_eq!([IpFamily::V4, IpFamily::V6].map(|family| a.capacity(family)), [1, 1]);
    let requests = ["x 46 pool=a", "y pool=a ask=192.0.2.7"].map(request);
    assert_eq!(
        lines(&allocate(&requests, &left, &Given::new(), &Foreign::new(), Order::Lowest)),
        ["x: 192.0.2.8 2001:db8::2", "y: no pool has 192.0.2.7"]
    );
}
