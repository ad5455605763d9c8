//! Pools of the file and objects of MetalLB in, pools, rules and complaints out.

use std::collections::BTreeSet;

use super::*;
use crate::lb::l2::Allowed;
use crate::lb::metallb::{Object, OfKind};
use crate::lb::selector::Labels;

fn file(pools: &str) -> LoadBalancerSettings {
    LoadBalancerSettings::read(serde_yaml_ng::from_str(&format!("{{pools: [{pools}]}}")).unwrap()).0
}

/// Objects by name, each with its age in seconds, its label `tier`, and its spec.
fn objects(kind: Kind, all: &[(&str, i64, &str, &str)]) -> OfKind {
    let object = |(name, age, tier, spec): &(&str, i64, &str, &str)| {
        let object = Object {
            namespace: "metallb-system".to_owned(),
            created: Some(1_000 - age),
            labels: Labels::from([("tier".to_owned(), (*tier).to_owned())]),
            spec: serde_yaml_ng::from_str(spec).unwrap_or_else(|error| panic!("{kind:?} {spec}: {error}")),
        };
        ((*name).to_owned(), object)
    };
    all.iter().map(object).collect()
}

fn pools(all: &[(&str, i64, &str)]) -> Objects {
    let all: Vec<_> = all.iter().map(|(name, age, spec)| (*name, *age, "web", *spec)).collect();
    let mut found = Objects::none();
    found.set(Kind::Pool, objects(Kind::Pool, &all));
    found
}

/// The pools by name in their order, and the complaints.
fn words(merged: &(LoadBalancerSettings, Vec<Complaint>)) -> (Vec<String>, Vec<String>) {
    let names = merged.0.pools.iter().map(|pool| pool.name.clone()).collect();
    (names, merged.1.iter().map(ToString::to_string).collect())
}

/// A sentence, the file's pools, MetalLB's, the expected pools and complaints, and whether unknown addresses are kept.
type TableCase<'a> = (&'a str, &'a str, &'a [(&'a str, i64, &'a str)], &'a [&'a str], &'a [&'a str], bool);

#[test]
fn sem_303_pools_of_the_file_and_of_metallb_are_used_together() {
    let cases: &[TableCase<'_>] = &[
        ("no pools at all", "", &[], &[], &[], false),
        (
            "both families, CIDRs and ranges",
            "{name: own, addresses: [192.0.2.0/28]}",
            &[(
                "front",
                1,
                "{addresses: [198.51.100.0/28, 198.51.100.20 - 198.51.100.30, '2001:db8::/120']}",
            )],
            &["own", "front"],
            &[],
            false,
        ),
        (
            "the file wins where both have a name",
            "{name: front, addresses: [192.0.2.0/28]}",
            &[("front", 1, "{addresses: [198.51.100.0/28]}"), ("back", 1, "{addresses: [203.0.113.0/28]}")],
            &["front", "back"],
            &["IPAddressPool metallb-system/front: spec.name: a second pool of the name \"front\""],
            false,
        ),
        (
            "of two that overlap the older one is used, whatever their names",
            "",
            &[("a", 1, "{addresses: [192.0.2.8/30]}"), ("b", 9, "{addresses: [192.0.2.0/28]}")],
            &["b"],
            &[
                "IPAddressPool metallb-system/a: spec.addresses: it overlaps the pool \"b\", which comes before it: it gives no addresses",
            ],
            true,
        ),
        (
            "the file's pool comes before an older one",
            "{name: own, addresses: ['2001:db8::/120']}",
            &[("a", 9, "{addresses: ['2001:db8::10-2001:db8::20']}")],
            &["own"],
            &[
                "IPAddressPool metallb-system/a: spec.addresses: it overlaps the pool \"own\", which comes before it: it gives no addresses",
            ],
            true,
        ),
        (
            "a CIDR off its boundary is used as MetalLB uses it, and named",
            "",
            &[("a", 1, "{addresses: [192.0.2.9/28]}")],
            &["a"],
            &[
                "IPAddressPool metallb-system/a: spec.addresses[0]: 192.0.2.9/28 is not on its boundary: it is used as 192.0.2.0/28, as MetalLB does",
            ],
            false,
        ),
        (
            "a range backwards harms no other pool",
            "",
            &[("a", 2, "{addresses: [192.0.2.9-192.0.2.1]}"), ("b", 1, "{addresses: [198.51.100.0/28]}")],
            &["b"],
            &["IPAddressPool metallb-system/a: spec.addresses: the range 192.0.2.9-192.0.2.1 is backwards"],
            true,
        ),
        (
            "a field of another type is named by its path",
            "",
            &[("a", 2, "{addresses: [192.0.2.0/28], serviceAllocation: {priority: high}}")],
            &[],
            &[
                "IPAddressPool metallb-system/a: spec.serviceAllocation.priority: invalid type: string \"high\", expected u32",
            ],
            true,
        ),
        (
            "a field of a newer MetalLB is named and has no effect",
            "",
            &[(
                "a",
                2,
                "{addresses: [192.0.2.0/28], colour: red, serviceAllocation: {shape: round, namespaces: null}}",
            )],
            &["a"],
            &[
                "IPAddressPool metallb-system/a: spec.colour: svc does not know this field: it has no effect",
                "IPAddressPool metallb-system/a: spec.serviceAllocation.shape: svc does not know this field: it has no effect",
            ],
            false,
        ),
        (
            "no addresses, and no spec",
            "",
            &[("a", 2, "{addresses: []}"), ("b", 1, "null")],
            &[],
            &[
                "IPAddressPool metallb-system/a: spec.addresses: the pool has no addresses",
                "IPAddressPool metallb-system/b: spec.addresses: the pool has no addresses",
            ],
            true,
        ),
    ];
    for (sentence, own, metallb, names, complaints, keeps_unknown) in cases {
        let merged = Merge::default().settings(&file(own), &pools(metallb));
        let found = words(&merged);
        assert_eq!(
            (&found.0[..], &found.1[..]),
            (&strings(names)[..], &strings(complaints)[..]),
            "{sentence}"
        );
        assert_eq!(merged.0.keeps_unknown, *keeps_unknown, "{sentence}");
        assert!(merged.0.is_known && merged.0.is_whole, "{sentence}");
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[test]
fn every_field_of_a_pool_counts() {
    let spec = "{addresses: [192.0.2.0/24], autoAssign: false, avoidBuggyIPs: true, serviceAllocation: {priority: 7,
        namespaces: [shop], namespaceSelectors: [{matchLabels: {team: a}}], serviceSelectors: [{matchExpressions: [{key: app, operator: In, values: [web]}]}]}}";
    let merged = Merge::default().settings(&file(""), &pools(&[("a", 1, spec)])).0.pools;
    let team = Labels::from([("team".to_owned(), "a".to_owned())]);
    let merged = merged.in_namespaces(&[("blue".to_owned(), team), ("red".to_owned(), Labels::new())].into());
    let pool = merged.iter().next().unwrap();
    let has = |ip: &str| pool.contains(ip.parse().unwrap());
    assert!(
        !pool.auto_assign && pool.rank() == 6 && has("192.0.2.1") && !has("192.0.2.0") && !has("192.0.2.255")
    );
    let app = |value: &str| Labels::from([("app".to_owned(), value.to_owned())]);
    let admitted: Vec<&str> =
        ["shop", "blue", "red"].into_iter().filter(|namespace| pool.admits(namespace, &app("web"))).collect();
    assert_eq!(admitted, ["shop", "blue"]);
    assert!(!pool.admits("shop", &app("api")));
}

#[test]
fn sem_305_an_object_that_is_broken_while_the_daemon_runs_counts_in_its_earlier_form() {
    let good = ("a", 2, "{addresses: [192.0.2.0/28]}");
    let other = ("b", 1, "{addresses: [198.51.100.0/28]}");
    for broken in ["{addresses: [192.0.2.0]}", "{addresses: 7}", "{addresses: [198.51.100.0/27]}"] {
        // Of two that overlap the younger one is in error.
        let (other, broken) = (("b", 9, other.2), ("a", 2, broken));
        let mut merge = Merge::default();
        assert_eq!(words(&merge.settings(&file(""), &pools(&[good, other]))).1, [""; 0]);
        let merged = merge.settings(&file(""), &pools(&[broken, other]));
        let (names, complaints) = words(&merged);
        assert_eq!(names, ["b", "a"], "{broken:?}");
        assert!(
            complaints.len() == 1
                && complaints[0].starts_with("IPAddressPool metallb-system/a: spec.addresses")
                && complaints[0].ends_with("its earlier form stays in force"),
            "{complaints:?}"
        );
        assert!(!merged.0.keeps_unknown && merged.0.pools.of("192.0.2.1".parse().unwrap()).is_some());
        // Again, as after a change of another object.
        assert_eq!(words(&merge.settings(&file(""), &pools(&[broken, other]))).0, ["b", "a"]);
        // A pool that goes takes its addresses with it, and one that is mended counts anew.
        assert_eq!(words(&merge.settings(&file(""), &pools(&[other]))), (strings(&["b"]), Vec::new()));
        assert_eq!(words(&merge.settings(&file(""), &pools(&[good, other]))).0, ["b", "a"]);
    }
}

/// An object of [`objects`].
type Written<'a> = (&'a str, i64, &'a str, &'a str);

/// A sentence, advertisements, the interfaces that may announce the pools a and b, and the complaints.
type AnnouncedCase<'a> = (&'a str, &'a [Written<'a>], &'a str, &'a str, &'a [&'a str]);

#[test]
fn sem_303_pools_are_announced_where_advertisements_say() {
    let both =
        [("a", 2, "web", "{addresses: [192.0.2.0/28]}"), ("b", 1, "db", "{addresses: ['2001:db8::/120']}")];
    let cases: &[AnnouncedCase<'_>] = &[
        ("none", &[], "-", "-", &[]),
        ("for all pools", &[("x", 1, "", "{}")], "all", "all", &[]),
        ("without a spec", &[("x", 1, "", "null")], "all", "all", &[]),
        ("for one by name", &[("x", 1, "", "{ipAddressPools: [a, gone]}")], "all", "-", &[]),
        (
            "for one by its labels",
            &[("x", 1, "", "{ipAddressPoolSelectors: [{matchLabels: {tier: db}}]}")],
            "-",
            "all",
            &[],
        ),
        (
            "on one interface, and on nodes of a zone",
            &[
                ("x", 1, "", "{ipAddressPools: [a], interfaces: [eth1]}"),
                ("y", 1, "", "{ipAddressPools: [b], nodeSelectors: [{matchLabels: {zone: east}}]}"),
                ("z", 1, "", "{nodeSelectors: [{matchLabels: {zone: west}}]}"),
            ],
            "eth1",
            "all",
            &[],
        ),
        (
            "a broken one announces nothing and harms no other",
            &[
                ("x", 1, "", "{ipAddressPools: a}"),
                ("y", 1, "", "{ipAddressPools: [b], serviceSelectors: [{}]}"),
            ],
            "-",
            "all",
            &[
                "L2Advertisement metallb-system/x: spec.ipAddressPools: invalid type: string \"a\", expected a sequence",
                "L2Advertisement metallb-system/y: spec.serviceSelectors: svc does not know this field: it has no effect",
            ],
        ),
    ];
    let zone = Labels::from([("zone".to_owned(), "east".to_owned())]);
    for (sentence, advertisements, a, b, complaints) in cases {
        let mut all = Objects::none();
        all.set(Kind::Pool, objects(Kind::Pool, &both));
        all.set(Kind::L2Advertisement, objects(Kind::L2Advertisement, advertisements));
        let own = file("{name: own, addresses: [198.51.100.0/28]}");
        let (merged, found) = Merge::default().settings(&own, &all);
        let word = |pool: &str| match merged.l2.allowed(pool, &zone) {
            Allowed::None => "-".to_owned(),
            Allowed::All => "all".to_owned(),
            Allowed::Only(names) => names.into_iter().collect::<Vec<_>>().join(" "),
        };
        assert_eq!([word("a"), word("b"), word("own")], [*a, *b, "all"].map(str::to_owned), "{sentence}");
        let found: BTreeSet<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, strings(complaints).into_iter().collect(), "{sentence}");
    }
}

#[test]
fn an_advertisement_that_is_broken_while_the_daemon_runs_counts_in_its_earlier_form() {
    let mut merge = Merge::default();
    for (spec, complaints) in [("{ipAddressPools: [a]}", 0), ("{ipAddressPools: 7}", 1)] {
        let mut all = pools(&[("a", 1, "{addresses: [192.0.2.0/28]}")]);
        all.set(Kind::L2Advertisement, objects(Kind::L2Advertisement, &[("x", 1, "", spec)]));
        let (merged, found) = merge.settings(&file(""), &all);
        assert!(merged.l2.announce("a"), "{spec}");
        assert_eq!(found.len(), complaints, "{found:?}");
    }
}
