//! Services, nodes and advertisements in, routes out.

use super::*;
use crate::model::store::Store;
use crate::source::event::{Event, SourceEvent};
use crate::source::sample::store;

const POOLS: &str = "pools: [{name: a, addresses: [203.0.113.0/29]}, {name: b, addresses: [198.51.100.0/29, '2001:db8:64::/125']}]";

fn settings(bgp: &str) -> LoadBalancerSettings {
    let section = serde_yaml_ng::from_str(&format!("{{{POOLS}, bgp: {bgp}}}")).unwrap();
    let (settings, problems) = LoadBalancerSettings::read(section);
    assert_eq!(problems, []);
    settings
}

/// A Service with an address, its labels, policy, and ready endpoints by node.
fn service(name: &str, ip: &str, labels: &str, policy: &str, endpoints: &[(&str, bool)]) -> [String; 2] {
    let n = name.bytes().map(u32::from).sum::<u32>() % 250;
    let (kind, cluster_ip, backend) = match ip.contains(':') {
        false => ("IPv4", format!("10.0.0.{n}"), "10.1.0."),
        true => ("IPv6", format!("fd00::{n:x}"), "fd01::"),
    };
    let service = format!(
        "{{metadata: {{name: {name}, namespace: shop, labels: {{{labels}}}}}, spec: {{type: LoadBalancer, clusterIP: '{cluster_ip}',
           clusterIPs: ['{cluster_ip}'], ipFamilies: [{kind}], externalTrafficPolicy: {policy}, ports: [{{port: 80}}]}},
           status: {{loadBalancer: {{ingress: [{{ip: '{ip}'}}]}}}}}}"
    );
    let endpoint = |(n, (node, ready)): (usize, &(&str, bool))| {
        format!("{{addresses: ['{backend}{}'], nodeName: {node}, conditions: {{ready: {ready}}}}}", n + 1)
    };
    let endpoints: Vec<String> = endpoints.iter().enumerate().map(endpoint).collect();
    let slice = format!(
        "{{metadata: {{name: {name}-1, namespace: shop, labels: {{kubernetes.io/service-name: {name}}}}}, addressType: {kind},
           ports: [{{name: '', port: 8080}}], endpoints: [{}]}}",
        endpoints.join(", ")
    );
    [service, slice]
}

/// The world of node1, which has these fields of a Node object.
fn world(services: &[[String; 2]], node: &str) -> World {
    let [objects, slices] = [0, 1].map(|n| services.iter().map(|pair| pair[n].clone()).collect::<Vec<_>>());
    let mut store: Store = store(&objects, &slices);
    let node = format!(
        "{{metadata: {{name: node1{node}}}, status: {{addresses: [{{type: InternalIP, address: 192.0.2.1}}]}}}}"
    );
    let node = Box::new(serde_yaml_ng::from_str(&node).unwrap());
    store.take(SourceEvent::Node(Event::Apply(node)));
    store.world().clone()
}

/// Routes of each peer, as text.
fn shown(plan: &Plan) -> String {
    let peer = |(name, routes): (&String, &Routes)| {
        let route = |(prefix, attributes): (&IpNet, &crate::bgp::route::Attributes)| {
            let communities: Vec<_> = attributes.communities.iter().map(ToString::to_string).collect();
            let preference =
                attributes.local_preference.map(|value| format!(" pref {value}")).unwrap_or_default();
            format!("{prefix}{}{preference}", communities.iter().map(|c| format!(" {c}")).collect::<String>())
        };
        format!("{name}: {}", routes.iter().map(route).collect::<Vec<_>>().join(", "))
    };
    plan.by_peer.iter().map(peer).collect::<Vec<_>>().join("; ")
}

const PEERS: &str = "localAS: 64512, peers: [{name: r, address: 192.0.2.253, peerAS: 64500}, {name: s, address: 192.0.2.254, peerAS: 64500, nodeSelectors: [{matchLabels: {rack: one}}]}]";

#[test]
fn sem_312_an_address_is_announced_by_policy_and_by_the_state_of_the_node() {
    for ip in ["203.0.113.1", "2001:db8:64::1"] {
        let announced = format!("r: {}", IpNet::from(ip.parse::<IpAddr>().unwrap()));
        for (policy, endpoints, node, why_not) in [
            ("Cluster", &[("n2", true)][..], "", None),
            ("Cluster", &[("n2", false)], "", Some("no endpoint is ready")),
            ("Cluster", &[], "", Some("no endpoint is ready")),
            ("Local", &[("node1", true), ("n2", true)], "", None),
            ("Local", &[("n2", true)], "", Some("no endpoint of this node is ready (policy Local)")),
            (
                "Local",
                &[("node1", false), ("n2", true)],
                "",
                Some("no endpoint of this node is ready (policy Local)"),
            ),
            (
                "Cluster",
                &[("n2", true)],
                ", labels: {node.kubernetes.io/exclude-from-external-load-balancers: ''}",
                Some("this node is excluded from external load balancers"),
            ),
            (
                "Cluster",
                &[("n2", true)],
                ", deletionTimestamp: '2026-01-01T00:00:00Z'",
                Some("this node is about to go"),
            ),
        ] {
            let world = world(&[service("web", ip, "", policy, endpoints)], node);
            let settings = settings(&format!("{{{PEERS}}}"));
            let plan = plan(&world, &settings, settings.bgp.as_ref().unwrap());
            let expected = if why_not.is_none() { announced.as_str() } else { "r: " };
            assert_eq!(shown(&plan), expected, "{policy} {endpoints:?} {node}");
            let [(_, planned)] = plan.addresses.iter().collect::<Vec<_>>()[..] else { panic!("one address") };
            assert_eq!(planned.why_not, why_not, "{policy} {endpoints:?} {node}");
        }
    }
}

#[test]
fn advertisements_choose_by_pool_service_peer_and_node_and_their_attributes_are_united() {
    let ready = [("n2", true)];
    let services = [
        service("web", "203.0.113.1", "tier: front", "Cluster", &ready),
        service("api", "203.0.113.2", "", "Cluster", &ready),
        service("mail", "198.51.100.3", "", "Local", &[("node1", true)]),
    ];
    let labelled = world(&services, ", labels: {rack: one}");
    for (advertisements, expected) in [
        ("[]", "r: ; s: "),
        ("[{pools: [b]}]", "r: 198.51.100.3/32; s: 198.51.100.3/32"),
        ("[{peers: [s], pools: [b]}]", "r: ; s: 198.51.100.3/32"),
        ("[{serviceSelectors: [{matchLabels: {tier: front}}], peers: [r]}]", "r: 203.0.113.1/32; s: "),
        ("[{nodeSelectors: [{matchLabels: {rack: two}}]}]", "r: ; s: "),
        (
            "[{nodeSelectors: [{matchLabels: {rack: one}}], pools: [b], peers: [r]}]",
            "r: 198.51.100.3/32; s: ",
        ),
        // An aggregate once for all its addresses; an address of policy Local by itself.
        ("[{peers: [r], aggregationLength: 29}]", "r: 198.51.100.3/32, 203.0.113.0/29; s: "),
        (
            "[{peers: [r], pools: [b], communities: ['64512:1'], localPreference: 50}, {pools: [b], communities: [no-export], localPreference: 70}]",
            "r: 198.51.100.3/32 64512:1 65535:65281 pref 70; s: 198.51.100.3/32 65535:65281 pref 70",
        ),
    ] {
        let settings = settings(&format!("{{{PEERS}, advertisements: {advertisements}}}"));
        let plan = plan(&labelled, &settings, settings.bgp.as_ref().unwrap());
        assert_eq!(shown(&plan), expected, "{advertisements}");
    }
}

#[test]
fn a_route_is_announced_after_and_withdrawn_before_the_kernel_serves_it() {
    let ready = [("n2", true)];
    let [web, api] = [("web", "203.0.113.1"), ("api", "203.0.113.2")]
        .map(|(name, ip)| service(name, ip, "", "Cluster", &ready));
    let settings = settings(&format!("{{{PEERS}}}"));
    let of = |services: &[[String; 2]]| plan(&world(services, ""), &settings, settings.bgp.as_ref().unwrap());
    // In the kernel: web; wanted: api.
    let both = of(&[web]).and(&of(&[api]));
    assert_eq!((shown(&both).as_str(), both.of_kernel.len()), ("r: ", 0));
}
