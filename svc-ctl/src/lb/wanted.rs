//! The addresses to announce, and the nodes that may announce them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::pulse::Presence;
use super::settings::LoadBalancerSettings;
use super::{Member, Members};
use crate::model::name::ServiceName;
use crate::model::service::Service;
use crate::model::world::World;
use crate::node::Interface;

/// An address that Services have, and its conditions.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wanted {
    /// The pool that has it.
    pub pool: String,
    pub services: BTreeSet<ServiceName>,
    /// Some endpoint is ready.
    pub has_endpoint: bool,
    /// If only nodes with a ready endpoint may answer: these nodes.
    pub only: Option<BTreeSet<String>>,
}

impl Wanted {
    /// Another Service shares the address.
    fn share(&mut self, other: &Self) {
        self.pool.clone_from(&other.pool);
        self.services.extend(other.services.iter().cloned());
        self.has_endpoint |= other.has_endpoint;
        self.only = match (self.only.take(), &other.only) {
            (Some(nodes), Some(others)) => Some(nodes.intersection(others).cloned().collect()),
            (nodes, others) => nodes.or_else(|| others.clone()),
        };
    }
}

/// Addresses of pools that Services in force have. A change of the world costs its own Services.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    world: World,
    of_service: BTreeMap<ServiceName, BTreeMap<IpAddr, Wanted>>,
    addresses: BTreeMap<IpAddr, Wanted>,
}

impl Demand {
    pub const fn addresses(&self) -> &BTreeMap<IpAddr, Wanted> {
        &self.addresses
    }

    /// Takes the world in force, with those addresses that have a pool. Returns the addresses that differ, also those that no
    /// Service has any more. The pools must be those of the call before.
    pub fn follow(&mut self, world: &World, pool_of: impl Fn(IpAddr) -> Option<String>) -> BTreeSet<IpAddr> {
        let mut touched: BTreeMap<IpAddr, BTreeSet<ServiceName>> = BTreeMap::new();
        for name in world.changed_services(&self.world) {
            let now =
                world.services.get(&name).map_or_else(BTreeMap::new, |s| of_service(world, s, &pool_of));
            let before = self.of_service.remove(&name).unwrap_or_default();
            if before != now {
                for ip in before.keys().chain(now.keys()) {
                    let users = self.addresses.get(ip).into_iter().flat_map(|wanted| &wanted.services);
                    touched.entry(*ip).or_default().extend(users.cloned().chain([name.clone()]));
                }
            }
            if !now.is_empty() {
                self.of_service.insert(name, now);
            }
        }
        for (ip, users) in &touched {
            let shares = users.iter().filter_map(|name| self.of_service.get(name)?.get(ip));
            let wanted = shares.cloned().reduce(|mut one, other| {
                one.share(&other);
                one
            });
            match wanted {
                Some(wanted) => drop(self.addresses.insert(*ip, wanted)),
                None => drop(self.addresses.remove(ip)),
            }
        }
        self.world = world.clone();
        touched.into_keys().collect()
    }
}

/// All addresses of pools that Services have.
pub fn wanted(world: &World, settings: &LoadBalancerSettings) -> BTreeMap<IpAddr, Wanted> {
    let mut demand = Demand::default();
    demand.follow(world, |ip| settings.pools.of(ip).map(|pool| pool.name.clone()));
    demand.addresses
}

/// The pool of an address that is announced in a layer 2 network. This node answers for the `held` addresses.
pub fn pool_in_l2(
    settings: &LoadBalancerSettings,
    held: &BTreeSet<IpAddr>,
    address: IpAddr,
) -> Option<String> {
    match settings.pools.of(address) {
        Some(pool) => settings.l2.announce(&pool.name).then(|| pool.name.clone()),
        // The address may be of a pool that cannot be used now.
        None => (settings.keeps_unknown && held.contains(&address)).then(String::new),
    }
}

/// The addresses of one Service.
fn of_service(
    world: &World,
    service: &Service,
    pool_of: impl Fn(IpAddr) -> Option<String>,
) -> BTreeMap<IpAddr, Wanted> {
    let mut all = BTreeMap::new();
    for family in &service.families {
        let pools = family.load_balancer_ips.iter().filter_map(|ip| Some((*ip, pool_of(*ip)?)));
        let pools: Vec<(IpAddr, String)> = pools.collect();
        if pools.is_empty() {
            continue;
        }
        let slices = world.slices_of(&service.name).filter(|slice| slice.family == family.family());
        let ready: Vec<_> = slices.flat_map(|slice| &slice.endpoints).filter(|e| e.ready).collect();
        let nodes = || ready.iter().filter_map(|e| e.node.as_ref()).map(ToString::to_string).collect();
        let only: Option<BTreeSet<String>> = service.external_local.then(nodes);
        all.extend(pools.into_iter().map(|(ip, pool)| {
            let services = BTreeSet::from([service.name.clone()]);
            let wanted = Wanted { pool, services, has_endpoint: !ready.is_empty(), only: only.clone() };
            (ip, wanted)
        }));
    }
    all
}

/// Nodes that may answer: they are up, on this network, not excluded, and have an endpoint where that counts.
pub fn candidates(members: &Members, interface: &Interface, wanted: &Wanted) -> BTreeSet<String> {
    let is_near = |ip: &IpAddr| interface.subnets.iter().any(|net| net.contains(ip));
    let may = members.iter().filter(|(name, member)| {
        let has_endpoint = wanted.only.as_ref().is_none_or(|only| only.contains(*name));
        let may_announce = !member.is_excluded && !member.refuses.contains(&wanted.pool);
        member.is_up && may_announce && member.addresses.iter().any(is_near) && has_endpoint
    });
    may.map(|(name, _)| name.clone()).collect()
}

/// Nodes that are up and whose daemons know that they may not answer: they have no address of this network, because
/// their link is lost, or may not announce the pool.
pub fn without_link(members: &Members, interface: &Interface, wanted: &Wanted) -> BTreeSet<String> {
    let is_near = |ip: &IpAddr| interface.subnets.iter().any(|net| net.contains(ip));
    let is_far =
        |member: &Member| !member.addresses.iter().any(is_near) || member.refuses.contains(&wanted.pool);
    let far = members.iter().filter(|(_, member)| member.is_up && is_far(member));
    far.map(|(name, _)| name.clone()).collect()
}

/// This node has the link and is a candidate, and some endpoint can serve.
pub fn may_hold(node: &str, interface: &Interface, wanted: &Wanted, candidates: &BTreeSet<String>) -> bool {
    interface.is_up && interface.has_carrier && wanted.has_endpoint && candidates.contains(node)
}

/// The members if this node is the only one.
pub fn alone(node: &str, presence: &Presence) -> Members {
    let member = Member {
        addresses: presence.addresses.iter().copied().collect(),
        macs: presence.macs.clone(),
        is_up: true,
        is_excluded: presence.is_excluded,
        refuses: presence.refuses.clone(),
    };
    Members::from([(node.to_owned(), member)])
}

/// The nodes that are asked for candidates. While no node is known, not even this node by its Lease, this node keeps
/// the addresses that it holds and still has to give up. It takes no other address.
pub fn nodes_to_ask<'a>(members: &'a Members, own: &'a Members, is_held: bool) -> &'a Members {
    if members.is_empty() && is_held { own } else { members }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lb::claim::{Action, Claim, Situation};
    use crate::lb::l2::Rules;
    use crate::source::sample::store;

    fn wanted_in_l2(world: &World, settings: &LoadBalancerSettings, held: &[&str]) -> Vec<String> {
        let held = held.iter().map(|ip| ip.parse().unwrap()).collect();
        let mut demand = Demand::default();
        demand.follow(world, |ip| pool_in_l2(settings, &held, ip));
        demand.addresses.into_iter().map(|(ip, wanted)| format!("{ip} {}", wanted.pool)).collect()
    }

    #[test]
    fn while_no_node_is_known_an_address_that_is_held_is_kept_or_given_up_and_no_other_is_taken() {
        let wanted = Wanted { has_endpoint: true, ..Wanted::default() };
        let elsewhere = Wanted { only: Some(BTreeSet::from(["b".to_owned()])), ..wanted.clone() };
        for (ip, net) in [("192.0.2.9", "192.0.2.0/24"), ("2001:db8::9", "2001:db8::/64")] {
            let ip: IpAddr = ip.parse().unwrap();
            let interface = Interface {
                subnets: vec![net.parse().unwrap()],
                is_up: true,
                has_carrier: true,
                ..Interface::default()
            };
            let here = Presence { addresses: BTreeSet::from([ip]), ..Presence::default() };
            let excluded = Presence { is_excluded: true, ..here.clone() };
            let unplugged = Presence::default();
            for (what, presence, wanted, expected) in [
                ("as before", &here, &wanted, Action::Announce),
                ("excluded", &excluded, &wanted, Action::Disarm),
                ("without an address of the network", &unplugged, &wanted, Action::Disarm),
                ("endpoints elsewhere", &here, &elsewhere, Action::Disarm),
            ] {
                let own = alone("a", presence);
                let no_members = Members::new();
                let step = |mut claim: Claim| {
                    let nodes = nodes_to_ask(&no_members, &own, claim.is_held());
                    let candidates = candidates(nodes, &interface, wanted);
                    let may_hold = may_hold("a", &interface, wanted, &candidates);
                    let without_link = BTreeSet::new();
                    let situation = Situation {
                        now: 60_000,
                        node: "a",
                        candidates: &candidates,
                        without_link: &without_link,
                        may_hold,
                    };
                    claim.step(&situation)
                };
                assert_eq!(step(Claim::adopted(ip, "a", 0)), [expected], "{what}");
                assert_eq!(step(Claim::new(ip, 0)), [], "{what}");
            }
        }
    }

    /// The nodes of a and b that may answer for the address of a Service, and whether a may hold it.
    fn asked(family: &str, policy: &str, endpoints: &[(&str, bool)]) -> (Vec<String>, bool) {
        let (kind, cluster_ip, ip, net, backend) = match family {
            "IPv4" => ("IPv4", "10.0.0.1", "192.0.2.9", "192.0.2.0/24", "10.1.0."),
            _ => ("IPv6", "fd00::1", "2001:db8::9", "2001:db8::/64", "fd01::"),
        };
        let service = format!(
            "{{metadata: {{name: web, namespace: shop}}, spec: {{type: LoadBalancer, clusterIP: '{cluster_ip}', clusterIPs: ['{cluster_ip}'], ipFamilies: [{kind}],
               externalTrafficPolicy: {policy}, ports: [{{port: 80}}]}}, status: {{loadBalancer: {{ingress: [{{ip: '{ip}'}}]}}}}}}"
        );
        let endpoint = |(n, (node, ready)): (usize, &(&str, bool))| {
            format!("{{addresses: ['{backend}{}'], nodeName: {node}, conditions: {{ready: {ready}}}}}", n + 1)
        };
        let endpoints: Vec<String> = endpoints.iter().enumerate().map(endpoint).collect();
        let slice = format!(
            "{{metadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}, addressType: {kind},
               ports: [{{name: '', port: 8080}}], endpoints: [{}]}}",
            endpoints.join(", ")
        );
        let section = format!("{{pools: [{{name: front, addresses: ['{ip}-{ip}']}}]}}");
        let settings = LoadBalancerSettings::read(serde_yaml_ng::from_str(&section).unwrap()).0;
        let all = wanted(store(&[service], &[slice]).world(), &settings);
        let wanted = &all[&ip.parse::<IpAddr>().unwrap()];
        let interface = Interface {
            subnets: vec![net.parse().unwrap()],
            is_up: true,
            has_carrier: true,
            ..Interface::default()
        };
        let presence = Presence { addresses: BTreeSet::from([ip.parse().unwrap()]), ..Presence::default() };
        let members: Members = ["a", "b"].iter().flat_map(|node| alone(node, &presence)).collect();
        let candidates = candidates(&members, &interface, wanted);
        let may_hold = may_hold("a", &interface, wanted, &candidates);
        (candidates.into_iter().collect(), may_hold)
    }

    #[test]
    fn sem_311_under_policy_local_only_a_node_with_a_ready_endpoint_may_answer() {
        for family in ["IPv4", "IPv6"] {
            for (policy, endpoints, candidates, may_hold) in [
                ("Cluster", &[("b", true)][..], &["a", "b"][..], true),
                ("Local", &[("b", true)], &["b"], false),
                ("Local", &[("a", true), ("b", false)], &["a"], true),
                ("Local", &[("a", false), ("b", true)], &["b"], false),
            ] {
                let found = asked(family, policy, endpoints);
                assert_eq!(
                    (found.0, found.1),
                    (candidates.iter().map(ToString::to_string).collect(), may_hold),
                    "{family} {policy} {endpoints:?}"
                );
            }
        }
    }

    #[test]
    fn a_change_touches_the_addresses_of_its_own_service_alone() {
        let service = |name: &str, ip: &str, key: &str| {
            format!(
                "{{metadata: {{name: {name}, namespace: shop, annotations: {{svc/load-balancer-sharing: {key}}}}}, spec: {{type: LoadBalancer, clusterIP: 10.0.0.1,
                   ports: [{{port: 80}}]}}, status: {{loadBalancer: {{ingress: [{{ip: '{ip}'}}]}}}}}}"
            )
        };
        let section = "{pools: [{name: a, addresses: [198.18.0.0/16]}]}";
        let settings = LoadBalancerSettings::read(serde_yaml_ng::from_str(section).unwrap()).0;
        let mut services: Vec<String> = (0..1_000)
            .map(|n| service(&format!("s{n}"), &format!("198.18.{}.{}", n / 250, n % 250 + 1), "own"))
            .collect();
        let mut demand = Demand::default();
        let mut touched = |services: &[String]| {
            let touched = demand.follow(store(services, &[]).world(), |ip| {
                settings.pools.of(ip).map(|pool| pool.name.clone())
            });
            (touched.len(), demand.addresses().len())
        };
        assert_eq!(touched(&services), (1_000, 1_000));
        assert_eq!(touched(&services), (0, 1_000), "the same objects, read again");
        services[7] = service("s7", "198.18.200.1", "own");
        assert_eq!(touched(&services), (2, 1_000), "another address");
        services[8] = service("s8", "198.18.200.1", "own");
        assert_eq!(touched(&services), (2, 999), "an address that two share");
        services.remove(7);
        assert_eq!(touched(&services), (1, 999), "and one of them alone");
        services.remove(7);
        assert_eq!(touched(&services), (1, 998));
    }

    #[test]
    fn sem_303_an_address_is_announced_by_nodes_that_may_announce_its_pool() {
        let service = "{metadata: {name: web, namespace: shop}, spec: {type: LoadBalancer, clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, 'fd00::1'],
               ipFamilies: [IPv4, IPv6], ports: [{port: 80}]}, status: {loadBalancer: {ingress: [{ip: 192.0.2.9}, {ip: '2001:db8::9'}]}}}";
        let store = store(&[service.to_owned()], &[]);
        let section =
            "{pools: [{name: four, addresses: [192.0.2.0/28]}, {name: six, addresses: ['2001:db8::/120']}]}";
        let mut settings = LoadBalancerSettings::read(serde_yaml_ng::from_str(section).unwrap()).0;
        settings.l2 = Rules(BTreeMap::from([("six".to_owned(), Vec::new())]));
        let texts =
            |settings: &LoadBalancerSettings, held: &[&str]| wanted_in_l2(store.world(), settings, held);
        assert_eq!(texts(&settings, &["2001:db8::9"]), ["192.0.2.9 four"]);
        // A pool that cannot be used now has the other address.
        let section = "{pools: [{name: four, addresses: [192.0.2.0/28]}]}";
        let part = LoadBalancerSettings::read(serde_yaml_ng::from_str(section).unwrap()).0;
        assert_eq!(texts(&part, &["2001:db8::9"]), ["192.0.2.9 four"]);
        let part = LoadBalancerSettings { keeps_unknown: true, ..part };
        assert_eq!(texts(&part, &[]), ["192.0.2.9 four"]);
        assert_eq!(texts(&part, &["2001:db8::9"]), ["192.0.2.9 four", "2001:db8::9 "]);

        let interface = Interface { subnets: vec!["192.0.2.0/24".parse().unwrap()], ..Interface::default() };
        let near =
            Presence { addresses: BTreeSet::from(["192.0.2.1".parse().unwrap()]), ..Presence::default() };
        let refusing = Presence { refuses: BTreeSet::from(["four".to_owned()]), ..near.clone() };
        let members: Members =
            [("a", &near), ("b", &refusing)].iter().flat_map(|(node, p)| alone(node, p)).collect();
        let wanted = Wanted { pool: "four".to_owned(), ..Wanted::default() };
        assert_eq!(candidates(&members, &interface, &wanted), BTreeSet::from(["a".to_owned()]));
        assert_eq!(without_link(&members, &interface, &wanted), BTreeSet::from(["b".to_owned()]));
    }

    #[test]
    fn sem_313_an_address_without_a_ready_endpoint_is_held_by_no_node() {
        for family in ["IPv4", "IPv6"] {
            for policy in ["Cluster", "Local"] {
                for endpoints in [&[][..], &[("a", false)]] {
                    assert!(!asked(family, policy, endpoints).1, "{family} {policy} {endpoints:?}");
                }
                assert!(asked(family, policy, &[("a", true)]).1, "{family} {policy}");
            }
        }
    }
}
