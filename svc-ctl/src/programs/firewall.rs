//! Netfilter chains that may block connections through Services, and chains left by another proxy.

use std::collections::BTreeSet;
use std::io;

use crate::dataplane::nf_tables::{Chain, Rule};
use crate::model::complaint::{Complaint, Kind};

/// firewalld rejects by a rule, whatever the policy of its chain.
const FIREWALLD: &str = "firewalld";

/// Chains by which CNIs accept packets forwarded to and from pods.
const ACCEPTING: [&str; 5] =
    ["FLANNEL-FWD", "cali-FORWARD", "filter-cali-FORWARD", "CILIUM_FORWARD", "KUBE-ROUTER-FORWARD"];

/// kube-proxy's chain in iptables mode, and its table in nftables mode.
const PROXY_CHAIN: &str = "KUBE-SERVICES";
const PROXY_TABLE: &str = "kube-proxy";

/// Prefixes of chains by which CNIs enforce NetworkPolicy in FORWARD: kube-router (k3s as well), Calico, Weave, Azure
/// NPM.
const POLICIES: [&str; 6] =
    ["KUBE-ROUTER-FORWARD", "KUBE-POD-FW-", "cali-FORWARD", "filter-cali-FORWARD", "WEAVE-NPC", "AZURE-NPM"];

/// The table of kube-network-policies.
const POLICY_TABLE: &str = "kube-network-policies";

/// Prefixes of chains whose drops are no policy: Docker isolates its own networks, libvirt its own, kube-proxy drops what
/// conntrack finds invalid. Docker leaves `DOCKER-USER` to the administrator.
const HARMLESS: [&str; 7] = ["CILIUM_", "CNI-", "DOCKER", "FLANNEL-", "KUBE-", "LIBVIRT_", "NETAVARK"];
const OF_ADMINISTRATOR: &str = "DOCKER-USER";
const HARMLESS_TABLES: [&str; 4] = [PROXY_TABLE, "docker-bridges", "libvirt_network", "netavark"];

/// Chains that are read in search of a rule that drops.
const MOST_READ: usize = 256;

/// Effect of netfilter on forwarded packets, according to its chains.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Forward {
    /// A chain by which a CNI enforces NetworkPolicy.
    pub policies: Option<String>,
    /// Another chain at FORWARD, or one it leads to, that drops some packets.
    pub filter: Option<String>,
    /// Packets that no rule accepts are dropped.
    pub is_closed: bool,
}

impl Forward {
    /// Reads no rules where the name of a chain decides.
    pub fn read(chains: &[Chain], rules: impl Fn(&Chain) -> io::Result<Vec<Rule>>) -> io::Result<Self> {
        let forward = Self::of(chains);
        if forward.policies.is_some() {
            return Ok(forward);
        }
        Ok(Self { filter: filter(chains, rules)?, ..forward })
    }

    fn of(chains: &[Chain]) -> Self {
        let enforces = |chain: &&Chain| {
            chain.table == POLICY_TABLE || POLICIES.iter().any(|name| chain.name.starts_with(name))
        };
        Self {
            policies: chains.iter().find(enforces).map(name),
            filter: None,
            is_closed: chains.iter().any(is_closed) && !chains.iter().any(is_accepting),
        }
    }
}

/// Follows jumps from the chains at FORWARD to the first rule that drops. A chain that is gone by now has no rules.
fn filter(chains: &[Chain], rules: impl Fn(&Chain) -> io::Result<Vec<Rule>>) -> io::Result<Option<String>> {
    let mut due: Vec<&Chain> = chains.iter().filter(|chain| chain.is_at_forward).collect();
    let mut seen = BTreeSet::new();
    while let Some(chain) = due.pop() {
        if is_harmless(chain)
            || seen.len() == MOST_READ
            || !seen.insert((chain.family, &chain.table, &chain.name))
        {
            continue;
        }
        let rules = match rules(chain) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
            read => read?,
        };
        // The last rule of firewalld's chain at FORWARD drops what no rule accepts.
        if rules.iter().any(|rule| rule.drops) && !(chain.is_at_forward && chain.table == FIREWALLD) {
            return Ok(Some(name(chain)));
        }
        let is_next = |other: &&Chain| {
            (other.family, &other.table) == (chain.family, &chain.table)
                && rules.iter().any(|rule| rule.next.as_ref() == Some(&other.name))
        };
        due.extend(chains.iter().filter(is_next));
    }
    Ok(None)
}

fn is_harmless(chain: &Chain) -> bool {
    let is_known = HARMLESS.iter().any(|prefix| chain.name.starts_with(prefix));
    HARMLESS_TABLES.contains(&chain.table.as_str()) || (is_known && chain.name != OF_ADMINISTRATOR)
}

fn name(chain: &Chain) -> String {
    format!("{} {}", chain.table, chain.name)
}

fn is_closed(chain: &Chain) -> bool {
    chain.is_at_forward && (chain.drops || chain.table == FIREWALLD)
}

fn is_accepting(chain: &Chain) -> bool {
    ACCEPTING.contains(&chain.name.as_str())
}

/// A complaint for each such chain. With `--masquerade-local-backends` the stack forwards no connection from outside.
pub(super) fn complaints(chains: &[Chain], forward: &Forward, masquerades_local: bool) -> Vec<Complaint> {
    let closed = closed(chains, masquerades_local).map(|chain| {
        let object = format!("nftables {} {}", chain.table, chain.name);
        let from_outside = match &forward.filter {
            None => "connections from outside go past the chain".to_owned(),
            Some(other) => format!(
                "connections from outside to pods of this node do, too, because {other} drops some packets on purpose: for \
                 NodePorts alone --masquerade-local-backends will do, with which pods see the node's address"
            ),
        };
        let reason = format!(
            "forwarded packets are dropped unless a rule accepts them, and `ct status dnat` does not accept what svc translates: \
             accept what is forwarded to pods. Connections of pods to Services need it; {from_outside}"
        );
        Complaint::new(Kind::Conflict, object, "", reason)
    });
    let left = tables_of_kube_proxy(chains).into_iter().map(|table| {
        let reason = "kube-proxy runs or has left its rules: `kube-proxy --cleanup` removes them";
        Complaint::new(Kind::Conflict, format!("nftables {table}"), "", reason)
    });
    closed.chain(left).collect()
}

/// Chains that drop forwarded packets and that no CNI opens.
pub fn closed(chains: &[Chain], masquerades_local: bool) -> impl Iterator<Item = &Chain> {
    let is_named = Forward::of(chains).is_closed && !masquerades_local;
    chains.iter().filter(move |chain| is_named && is_closed(chain))
}

/// Tables that contain kube-proxy's chains.
pub fn tables_of_kube_proxy(chains: &[Chain]) -> BTreeSet<&str> {
    let is_left = |chain: &&Chain| chain.name == PROXY_CHAIN || chain.table == PROXY_TABLE;
    chains.iter().filter(is_left).map(|chain| chain.table.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(table: &str, name: &str, is_at_forward: bool, drops: bool) -> Chain {
        Chain { family: 2, table: table.to_owned(), name: name.to_owned(), is_at_forward, drops }
    }

    fn objects(chains: &[Chain], masquerades_local: bool) -> Vec<String> {
        let complaints = complaints(chains, &Forward::of(chains), masquerades_local);
        complaints.into_iter().map(|c| c.object).collect()
    }

    #[test]
    fn a_dropping_forward_chain_is_reported_unless_a_cni_accepts_pods_or_nothing_is_forwarded() {
        let docker =
            || vec![chain("filter", "FORWARD", true, true), chain("filter", "DOCKER-USER", false, false)];
        assert_eq!(objects(&docker(), false), ["nftables filter FORWARD"]);
        assert_eq!(objects(&docker(), true), [""; 0]);
        let with_flannel = [docker(), vec![chain("filter", "FLANNEL-FWD", false, false)]].concat();
        assert_eq!(objects(&with_flannel, false), [""; 0]);
        let firewalld = chain("firewalld", "filter_FORWARD", true, false);
        assert_eq!(objects(&[firewalld], false), ["nftables firewalld filter_FORWARD"]);
        let open = [chain("filter", "FORWARD", true, false), chain("filter", "INPUT", false, true)];
        assert_eq!(objects(&open, false), [""; 0]);
    }

    #[test]
    fn the_chains_of_network_policies_are_recognised() {
        let policies = |table: &str, name: &str| Forward::of(&[chain(table, name, false, false)]).policies;
        for name in ["KUBE-ROUTER-FORWARD", "KUBE-POD-FW-ABC", "cali-FORWARD", "WEAVE-NPC-DEFAULT"] {
            assert_eq!(policies("filter", name), Some(format!("filter {name}")));
        }
        assert!(policies("kube-network-policies", "postrouting").is_some());
        assert_eq!(policies("filter", "FLANNEL-FWD"), None);
    }

    /// FORWARD with jumps to these chains, of which each drops something.
    fn filter_behind(names: &[&str]) -> Option<String> {
        let behind = names.iter().map(|name| chain("filter", name, false, false));
        let chains: Vec<_> = [chain("filter", "FORWARD", true, false)].into_iter().chain(behind).collect();
        let rules = |of: &Chain| {
            let jump = |name: &&str| Rule { drops: false, next: Some((*name).to_owned()) };
            let drop = || vec![Rule { drops: true, next: None }];
            Ok(if of.is_at_forward { names.iter().map(jump).collect() } else { drop() })
        };
        Forward::read(&chains, rules).unwrap().filter
    }

    #[test]
    fn a_chain_of_any_name_that_drops_is_found_unless_its_drops_are_no_policy() {
        assert_eq!(filter_behind(&["my-policies"]), Some("filter my-policies".to_owned()));
        assert_eq!(filter_behind(&["DOCKER-USER"]), Some("filter DOCKER-USER".to_owned()));
        assert_eq!(filter_behind(&["DOCKER-ISOLATION-STAGE-1", "KUBE-FORWARD", "LIBVIRT_FWI"]), None);
        assert_eq!(filter_behind(&[]), None);
        // No jump leads to the chain.
        let apart = [chain("filter", "FORWARD", true, false), chain("filter", "apart", false, false)];
        let drops = |of: &Chain| Ok(vec![Rule { drops: of.name == "apart", next: None }]);
        assert_eq!(Forward::read(&apart, drops).unwrap().filter, None);
        // A circle of jumps, which the kernel refuses.
        let circle = |of: &Chain| Ok(vec![Rule { drops: false, next: Some(of.name.clone()) }]);
        assert_eq!(Forward::read(&apart, circle).unwrap().filter, None);
        // As firewalld rejects what no zone accepts.
        let firewalld = [chain("firewalld", "filter_FORWARD", true, false)];
        let rejects = |_: &Chain| Ok(vec![Rule { drops: true, next: None }]);
        assert_eq!(Forward::read(&firewalld, rejects).unwrap().filter, None);
        // The chain is gone.
        let gone = |_: &Chain| Err(io::ErrorKind::NotFound.into());
        assert_eq!(Forward::read(&apart, gone).unwrap().filter, None);
        assert!(Forward::read(&apart, |_| Err(io::ErrorKind::PermissionDenied.into())).is_err());
    }

    #[test]
    fn rules_are_not_read_where_a_name_decides() {
        let never = |_: &Chain| -> io::Result<Vec<Rule>> { panic!("a rule is read") };
        Forward::read(&[chain("filter", "cali-FORWARD", false, false)], never).unwrap();
    }

    #[test]
    fn the_rules_of_kube_proxy_are_reported_once_per_table() {
        let left = [
            chain("nat", "KUBE-SERVICES", false, false),
            chain("filter", "KUBE-SERVICES", false, false),
            chain("nat", "KUBE-SVC-ABC", false, false),
            chain("kube-proxy", "services", false, false),
            chain("kube-proxy", "filter-forward", true, false),
            chain("mangle", "KUBE-KUBELET-CANARY", false, false),
        ];
        assert_eq!(objects(&left, false), ["nftables filter", "nftables kube-proxy", "nftables nat"]);
    }
}
