//! Assigns ClusterIPs and node ports to Services that have none, as an API server does.
//!
//! Every node must assign the same values without asking another node. So the result depends only on the manifests: the
//! name of a Service gives a place in the range. If two Services have the same place, the first by name gets it and the
//! other takes the next free one. Addresses and ports in manifests come first. Then Services keep their earlier ones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use sha2::{Digest as _, Sha256};

use super::given::Given;
use crate::model::complaint::{Complaint, Kind};
use crate::model::name::{IpFamily, ServiceName};
use crate::model::parse::parse_ip;
use crate::model::service::NODE_PORTS;

/// Most addresses of a range that are given out. An API server uses no more of one, either.
const MOST_ADDRESSES: u64 = 1 << 20;

type Key = (String, String);

/// Assigns the missing values, and reports those that cannot be assigned. Without a range of a family, Services get no
/// address of it. `given` has the earlier values, and afterwards the new ones.
pub fn assign(services: &mut BTreeMap<Key, Service>, ranges: &[IpNet], given: &mut Given) -> Vec<Complaint> {
    let mut complaints = assign_cluster_ips(services, ranges, &mut given.cluster_ips);
    complaints.extend(assign_node_ports(services, &mut given.node_ports));
    complaints
}

fn assign_cluster_ips(
    services: &mut BTreeMap<Key, Service>,
    ranges: &[IpNet],
    given: &mut BTreeMap<String, IpAddr>,
) -> Vec<Complaint> {
    let before = std::mem::take(given);
    let Some(first) = ranges.first() else { return Vec::new() };
    let default = IpFamily::of(first.addr());
    let written = services.values().filter_map(|service| service.spec.as_ref()).flat_map(written_ips);
    let mut taken: BTreeSet<IpAddr> = written.filter_map(|ip| parse_ip(ip).ok()).collect();
    let is_in_range = |ip: &IpAddr| ranges.iter().any(|range| range.contains(ip));
    let wanted: BTreeMap<&Key, Vec<IpFamily>> = services
        .iter()
        .filter_map(|(key, service)| Some((key, wanted_families(service.spec.as_ref()?, default, ranges)?)))
        .collect();
    let names = wanted.iter().flat_map(|(key, all)| all.iter().map(|family| ip_owner(key, *family)));
    for name in names {
        if let Some(ip) = before.get(&name).filter(|ip| is_in_range(ip))
            && taken.insert(*ip)
        {
            given.insert(name, *ip);
        }
    }
    let mut complaints = Vec::new();
    for (key, families) in &wanted {
        for family in families {
            let name = ip_owner(key, *family);
            if given.contains_key(&name) {
                continue;
            }
            match free_address(&name, *family, ranges, &taken) {
                Some(ip) => {
                    taken.insert(ip);
                    given.insert(name, ip);
                }
                None => {
                    let reason = format!("no {} address is free in --service-cidr", family.label());
                    complaints.push(complain(key, "spec.clusterIPs", reason));
                }
            }
        }
    }
    let ips: BTreeMap<Key, Vec<IpAddr>> = wanted
        .into_iter()
        .map(|(key, all)| {
            let ips = all.into_iter().filter_map(|family| given.get(&ip_owner(key, family)).copied());
            (key.clone(), ips.collect())
        })
        .collect();
    for (key, ips) in ips.into_iter().filter(|(_, ips)| !ips.is_empty()) {
        let Some(spec) = services.get_mut(&key).and_then(|service| service.spec.as_mut()) else { continue };
        spec.cluster_ip = ips.first().map(ToString::to_string);
        spec.ip_families = Some(ips.iter().map(|ip| IpFamily::of(*ip).label().to_owned()).collect());
        spec.cluster_ips = Some(ips.iter().map(ToString::to_string).collect());
    }
    complaints
}

/// The families that a Service wants addresses of; none if it writes them or needs none.
fn wanted_families(spec: &ServiceSpec, default: IpFamily, ranges: &[IpNet]) -> Option<Vec<IpFamily>> {
    let is_aliased = spec.type_.as_deref() == Some("ExternalName");
    let has_none = !is_aliased && written_ips(spec).next().is_none();
    has_none.then(|| families(spec, default, ranges))
}

/// The owner of an address. Its name decides the place in the range.
fn ip_owner(key: &Key, family: IpFamily) -> String {
    format!("{}/{}/{}", key.0, key.1, family.label())
}

/// The families that a Service asks for, in its order; by default the first range's.
fn families(spec: &ServiceSpec, default: IpFamily, ranges: &[IpNet]) -> Vec<IpFamily> {
    let listed = spec.ip_families.iter().flatten().filter_map(|label| IpFamily::from_label(label));
    let mut families: Vec<IpFamily> = listed.collect();
    if families.is_empty() {
        families.push(default);
    }
    let has_range = |family: IpFamily| ranges.iter().any(|range| IpFamily::of(range.addr()) == family);
    let other = IpFamily::ALL.into_iter().find(|family| !families.contains(family));
    match spec.ip_family_policy.as_deref() {
        Some("RequireDualStack") => families.extend(other),
        Some("PreferDualStack") => families.extend(other.filter(|family| has_range(*family))),
        _ => {}
    }
    families
}

/// Every address that the manifest writes; "None" too.
fn written_ips(spec: &ServiceSpec) -> impl Iterator<Item = &str> {
    let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    all.map(String::as_str).filter(|ip| !ip.is_empty())
}

fn free_address(name: &str, family: IpFamily, ranges: &[IpNet], taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    ranges.iter().filter(|range| IpFamily::of(range.addr()) == family).find_map(|range| {
        let host_bits = u32::from(range.max_prefix_len() - range.prefix_len());
        // Neither the first address nor the last of a range is given out.
        let count = 1_u64.checked_shl(host_bits).map_or(MOST_ADDRESSES, |all| all.saturating_sub(2));
        let count = count.min(MOST_ADDRESSES);
        let start = place(name, count)?;
        let places = (0..count).map(|step| (start + step) % count);
        places.map(|place| nth_address(range.network(), place + 1)).find(|ip| !taken.contains(ip))
    })
}

fn nth_address(network: IpAddr, n: u64) -> IpAddr {
    match network {
        IpAddr::V4(addr) => Ipv4Addr::from(u32::from(addr).wrapping_add(n as u32)).into(),
        IpAddr::V6(addr) => Ipv6Addr::from(u128::from(addr).wrapping_add(u128::from(n))).into(),
    }
}

fn assign_node_ports(
    services: &mut BTreeMap<Key, Service>,
    given: &mut BTreeMap<String, u16>,
) -> Vec<Complaint> {
    let before = std::mem::take(given);
    let written = services.values().filter_map(|service| service.spec.as_ref());
    let written = written.flat_map(|spec| spec.ports.iter().flatten());
    let mut taken: BTreeSet<(String, i32)> = written
        .filter_map(|port| Some((protocol(port.protocol.as_deref()), port.node_port.filter(|n| *n != 0)?)))
        .collect();
    for (key, service) in services.iter() {
        for port in service.spec.iter().flat_map(unnumbered_ports) {
            let (name, protocol) = (port_owner(key, port), protocol(port.protocol.as_deref()));
            if let Some(number) = before.get(&name).filter(|number| NODE_PORTS.contains(number))
                && taken.insert((protocol, i32::from(*number)))
            {
                given.insert(name, *number);
            }
        }
    }
    let mut complaints = Vec::new();
    let count = NODE_PORTS.len() as u64;
    for (key, service) in services.iter_mut() {
        let Some(spec) = service.spec.as_mut().filter(|spec| has_node_ports(spec)) else { continue };
        for (i, port) in spec.ports.iter_mut().flatten().enumerate() {
            if port.node_port.is_some_and(|n| n != 0) {
                continue;
            }
            let (name, protocol) = (port_owner(key, port), protocol(port.protocol.as_deref()));
            let free = || {
                let start = place(&name, count);
                let places = start.into_iter().flat_map(|start| (0..count).map(move |step| start + step));
                let mut numbers = places.map(|place| NODE_PORTS.start() + (place % count) as u16);
                numbers.find(|number| !taken.contains(&(protocol.clone(), i32::from(*number))))
            };
            match given.get(&name).copied().or_else(free) {
                Some(number) => {
                    port.node_port = Some(i32::from(number));
                    taken.insert((protocol, i32::from(number)));
                    given.insert(name, number);
                }
                None => {
                    let field = format!("spec.ports[{i}].nodePort");
                    complaints.push(complain(key, &field, "no node port is free".to_owned()));
                }
            }
        }
    }
    complaints
}

fn has_node_ports(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("NodePort")
}

fn unnumbered_ports(spec: &ServiceSpec) -> impl Iterator<Item = &ServicePort> {
    let ports = spec.ports.iter().flatten().filter(|port| port.node_port.is_none_or(|number| number == 0));
    ports.filter(|_| has_node_ports(spec))
}

/// The owner of a node port. Its name decides the place.
fn port_owner(key: &Key, port: &ServicePort) -> String {
    let name = port.name.as_deref().unwrap_or_default();
    format!("{}/{}:{name}/{}", key.0, key.1, protocol(port.protocol.as_deref()))
}

fn protocol(label: Option<&str>) -> String {
    label.filter(|label| !label.is_empty()).unwrap_or("TCP").to_owned()
}

/// The place at which the search for a name begins, among `count` places. It is the same on every node, for every word
/// size and version.
fn place(name: &str, count: u64) -> Option<u64> {
    let digest = Sha256::digest(name.as_bytes());
    let octets: [u8; 8] = digest.get(..8)?.try_into().ok()?;
    u64::from_be_bytes(octets).checked_rem(count)
}

fn complain(key: &Key, field: &str, reason: String) -> Complaint {
    Complaint::of_service(Kind::Refused, &ServiceName::new(&key.0, &key.1), field, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(list: &[&str]) -> BTreeMap<Key, Service> {
        let parse = |yaml: &&str| {
            let service: Service = serde_yaml_ng::from_str(yaml).unwrap();
            (("shop".to_owned(), service.metadata.name.clone().unwrap()), service)
        };
        list.iter().map(parse).collect()
    }

    /// The Services after all assignments, and the assignments that failed.
    fn assigned(list: &[&str], ranges: &str) -> (BTreeMap<String, Vec<String>>, Vec<String>) {
        assigned_after(list, ranges, &mut Given::default())
    }

    fn assigned_after(
        list: &[&str],
        ranges: &str,
        before: &mut Given,
    ) -> (BTreeMap<String, Vec<String>>, Vec<String>) {
        let ranges: Vec<IpNet> =
            ranges.split(' ').filter(|r| !r.is_empty()).map(|r| r.parse().unwrap()).collect();
        let mut services = services(list);
        let complaints = assign(&mut services, &ranges, before).iter().map(ToString::to_string).collect();
        let given = services.into_iter().map(|((_, name), service)| {
            let spec = service.spec.unwrap();
            let ports = spec.ports.unwrap_or_default().into_iter().filter_map(|port| port.node_port);
            let ips = spec.cluster_ips.unwrap_or_default().into_iter();
            (name, ips.chain(ports.map(|port| port.to_string())).collect())
        });
        (given.collect(), complaints)
    }

    const WEB: &str = "{metadata: {name: web}, spec: {ports: [{port: 80}]}}";
    const BOTH: &str =
        "{metadata: {name: both}, spec: {ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]}}";
    const RANGES: &str = "10.96.0.0/16 fd00:96::/112";

    #[test]
    fn a_service_without_an_address_gets_one_of_each_family_that_it_asks_for() {
        let six = "{metadata: {name: six}, spec: {ipFamilies: [IPv6]}}";
        let require = "{metadata: {name: require}, spec: {ipFamilyPolicy: RequireDualStack}}";
        let (given, complaints) = assigned(&[WEB, BOTH, six, require], RANGES);
        assert_eq!(complaints, Vec::<String>::new());
        let families = |name: &str| given[name].iter().map(|ip| ip.contains(':')).collect::<Vec<_>>();
        assert_eq!((families("web"), families("both")), (vec![false], vec![false, true]));
        assert_eq!((families("six"), families("require")), (vec![true], vec![false, true]));
        let (given, complaints) = assigned(&[BOTH, require], "10.96.0.0/16");
        assert_eq!((given["both"].len(), given["require"].len()), (1, 1));
        let reason = "Service shop/require: spec.clusterIPs: no IPv6 address is free in --service-cidr";
        assert_eq!(complaints, [reason]);
    }

    #[test]
    fn a_services_address_depends_on_others_only_if_they_want_the_same() {
        let alone = assigned(&[WEB], RANGES).0["web"].clone();
        let many: Vec<String> = (0..200)
            .map(|n| format!("{{metadata: {{name: s{n}}}, spec: {{ports: [{{port: 80}}]}}}}"))
            .collect();
        let list: Vec<&str> = many.iter().map(String::as_str).chain([WEB]).collect();
        let (given, _) = assigned(&list, RANGES);
        assert_eq!(given["web"], alone);
        let all: BTreeSet<&String> = given.values().flatten().collect();
        assert_eq!(all.len(), 201, "no address twice");
    }

    #[test]
    fn a_service_keeps_what_it_was_given_when_one_comes_that_goes_before_it() {
        let (web, rival) = ("{metadata: {name: web}, spec: {}}", "{metadata: {name: a}, spec: {}}");
        // Two Services have the same place: the first by name gets it.
        let range = "10.0.0.0/30";
        let both = assigned(&[web, rival], range).0;
        let alone = assigned(&[web], range).0;
        let mut before = Given::default();
        let given = assigned_after(&[web], range, &mut before).0;
        assert_eq!(given, alone);
        before.cluster_ips.insert("shop/web/IPv4".to_owned(), both["a"][0].parse().unwrap());
        let (after, complaints) = assigned_after(&[web, rival], range, &mut before);
        assert_eq!((&after["web"], &after["a"], complaints.len()), (&both["a"], &both["web"], 0));
        // Once a Service is gone, its address is free. An address outside the range is given up.
        assert_eq!(assigned_after(&[rival], range, &mut before).0["a"], after["a"]);
        assert_eq!(before.cluster_ips.len(), 1);
        assert!(assigned_after(&[rival], "10.1.0.0/30", &mut before).0["a"][0].starts_with("10.1.0."));
    }

    #[test]
    fn a_node_port_is_kept_unless_a_manifest_writes_it() {
        let node =
            "{metadata: {name: web}, spec: {type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80}]}}";
        let mut before = Given::default();
        before.node_ports.insert("shop/web:/TCP".to_owned(), 31_234);
        assert_eq!(assigned_after(&[node], "", &mut before).0["web"][0], "31234");
        let writes = "{metadata: {name: a}, spec: {type: NodePort, ports: [{port: 80, nodePort: 31234}]}}";
        assert_ne!(assigned_after(&[node, writes], "", &mut before).0["web"][0], "31234");
        assert_ne!(before.node_ports["shop/web:/TCP"], 31_234);
    }

    #[test]
    fn an_address_that_a_manifest_writes_is_given_to_no_other_service() {
        let alone = assigned(&[WEB], RANGES).0["web"].clone();
        let rival = format!("{{metadata: {{name: zzz}}, spec: {{clusterIP: {}}}}}", alone[0]);
        let headless = "{metadata: {name: headless}, spec: {clusterIP: None}}";
        let alias = "{metadata: {name: alias}, spec: {type: ExternalName, externalName: a.example}}";
        let (given, _) = assigned(&[WEB, &rival, headless, alias], RANGES);
        assert_ne!(given["web"], alone);
        assert!(given["zzz"].is_empty() && given["headless"].is_empty() && given["alias"].is_empty());
    }

    #[test]
    fn a_range_is_given_out_to_its_end_but_for_its_first_and_last_address() {
        let list = ["a", "b", "c"].map(|name| format!("{{metadata: {{name: {name}}}, spec: {{}}}}"));
        let (given, complaints) = assigned(&list.each_ref().map(String::as_str), "10.0.0.0/30");
        let ips: BTreeSet<&String> = given.values().flatten().collect();
        assert_eq!(ips.into_iter().collect::<Vec<_>>(), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(complaints.len(), 1);
        for range in ["10.0.0.0/31", "10.0.0.0/32", "fd00::/128"] {
            assert_eq!(assigned(&[WEB], range).1.len(), 1, "{range}");
        }
        assert_eq!(assigned(&[WEB], "fd00::/64").0["web"].len(), 1);
    }

    #[test]
    fn node_ports_are_given_to_services_of_their_type_alone_each_protocol_by_itself() {
        let node = "{metadata: {name: node}, spec: {type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 53, name: t},
            {port: 53, name: u, protocol: UDP}, {port: 80, name: fixed, nodePort: 30080}]}}";
        let (given, complaints) = assigned(&[node, WEB], "");
        assert_eq!(complaints, Vec::<String>::new());
        assert!(given["web"].is_empty(), "no range and no type that asks for ports");
        let ports: Vec<u16> = given["node"].iter().map(|port| port.parse().unwrap()).collect();
        assert!(ports.len() == 3 && ports[2] == 30_080);
        assert!(ports.iter().all(|port| (30_000..=32_767).contains(port)));
        let rival = format!(
            "{{metadata: {{name: a}}, spec: {{type: NodePort, ports: [{{port: 1, nodePort: {}}}]}}}}",
            ports[0]
        );
        let again = assigned(&[node, &rival], "").0["node"].clone();
        assert!(again[0] != ports[0].to_string() && again[1] == ports[1].to_string());
    }
}
