//! What an API server gives a Service that does not say it: ClusterIPs and node ports.
//!
//! Every node must give the same without asking another. So what a Service gets depends on the manifests alone: its name is
//! a place in the range, and where two want the same place, the first by name has it and the other takes the next free one.
//! Addresses and ports that manifests write are theirs before any are given.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use sha2::{Digest as _, Sha256};

use crate::model::complaint::{Complaint, Kind};
use crate::model::name::{IpFamily, ServiceName};
use crate::model::parse::parse_ip;
use crate::model::service::NODE_PORTS;

/// Addresses of a range that are given out: more than Services will ever want, and all that an API server takes of one.
const MOST_ADDRESSES: u64 = 1 << 20;

type Key = (String, String);

/// Gives what is missing, and says what cannot be given. Without a range of a family, Services get no address of it.
pub fn assign(services: &mut BTreeMap<Key, Service>, ranges: &[IpNet]) -> Vec<Complaint> {
    let mut complaints = assign_cluster_ips(services, ranges);
    complaints.extend(assign_node_ports(services));
    complaints
}

fn assign_cluster_ips(services: &mut BTreeMap<Key, Service>, ranges: &[IpNet]) -> Vec<Complaint> {
    let Some(first) = ranges.first() else { return Vec::new() };
    let default = IpFamily::of(first.addr());
    let written = services.values().filter_map(|service| service.spec.as_ref()).flat_map(written_ips);
    let mut taken: BTreeSet<IpAddr> = written.filter_map(|ip| parse_ip(ip).ok()).collect();
    let mut complaints = Vec::new();
    for (key, service) in services.iter_mut() {
        let Some(spec) = service.spec.as_mut() else { continue };
        let is_aliased = spec.type_.as_deref() == Some("ExternalName");
        if is_aliased || written_ips(spec).next().is_some() {
            continue;
        }
        let (mut given, families) = (Vec::new(), families(spec, default, ranges));
        for family in families {
            match free_address(key, family, ranges, &taken) {
                Some(ip) => given.push(ip),
                None => {
                    let reason = format!("no {} address is free in --service-cidr", family.label());
                    complaints.push(complain(key, "spec.clusterIPs", reason));
                }
            }
        }
        taken.extend(&given);
        if !given.is_empty() {
            spec.cluster_ip = given.first().map(ToString::to_string);
            spec.ip_families = Some(given.iter().map(|ip| IpFamily::of(*ip).label().to_owned()).collect());
            spec.cluster_ips = Some(given.iter().map(ToString::to_string).collect());
        }
    }
    complaints
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

fn free_address(key: &Key, family: IpFamily, ranges: &[IpNet], taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    ranges.iter().filter(|range| IpFamily::of(range.addr()) == family).find_map(|range| {
        let host_bits = u32::from(range.max_prefix_len() - range.prefix_len());
        // Neither the first address nor the last of a range is given out.
        let count = 1_u64.checked_shl(host_bits).map_or(MOST_ADDRESSES, |all| all.saturating_sub(2));
        let count = count.min(MOST_ADDRESSES);
        let start = place(&format!("{}/{}/{}", key.0, key.1, family.label()), count)?;
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

fn assign_node_ports(services: &mut BTreeMap<Key, Service>) -> Vec<Complaint> {
    let written = services.values().filter_map(|service| service.spec.as_ref());
    let written = written.flat_map(|spec| spec.ports.iter().flatten());
    let mut taken: BTreeSet<(String, i32)> = written
        .filter_map(|port| Some((protocol(port.protocol.as_deref()), port.node_port.filter(|n| *n != 0)?)))
        .collect();
    let mut complaints = Vec::new();
    let count = NODE_PORTS.len() as u64;
    for (key, service) in services.iter_mut() {
        let Some(spec) = service.spec.as_mut() else { continue };
        if spec.type_.as_deref() != Some("NodePort") {
            continue;
        }
        for (i, port) in spec.ports.iter_mut().flatten().enumerate() {
            if port.node_port.is_some_and(|n| n != 0) {
                continue;
            }
            let protocol = protocol(port.protocol.as_deref());
            let name = port.name.as_deref().unwrap_or_default();
            let start = place(&format!("{}/{}:{name}/{protocol}", key.0, key.1), count);
            let places = start.into_iter().flat_map(|start| (0..count).map(move |step| start + step));
            let numbers = places.map(|place| i32::from(*NODE_PORTS.start()) + (place % count) as i32);
            let free = numbers.map(|number| (protocol.clone(), number)).find(|claim| !taken.contains(claim));
            match free {
                Some(claim) => {
                    port.node_port = Some(claim.1);
                    taken.insert(claim);
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

fn protocol(label: Option<&str>) -> String {
    label.filter(|label| !label.is_empty()).unwrap_or("TCP").to_owned()
}

/// Where a name begins to look among so many places: the same on every node, whatever its word size and version.
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

    /// What Services have after all is given, and what cannot be.
    fn assigned(list: &[&str], ranges: &str) -> (BTreeMap<String, Vec<String>>, Vec<String>) {
        let ranges: Vec<IpNet> =
            ranges.split(' ').filter(|r| !r.is_empty()).map(|r| r.parse().unwrap()).collect();
        let mut services = services(list);
        let complaints = assign(&mut services, &ranges).iter().map(ToString::to_string).collect();
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
    fn what_a_service_gets_does_not_depend_on_others_until_they_want_the_same() {
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
    fn what_manifests_write_is_theirs_first() {
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
