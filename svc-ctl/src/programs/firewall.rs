//! Netfilter chains that may block connections through Services, and chains left by another proxy.

use std::collections::BTreeSet;

use crate::dataplane::nf_tables::Chain;
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

/// Effect of netfilter on forwarded packets, according to its chains.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Forward {
    /// A chain by which a CNI enforces NetworkPolicy.
    pub policies: Option<String>,
    /// Packets that no rule accepts are dropped.
    pub is_closed: bool,
}

impl Forward {
    pub fn of(chains: &[Chain]) -> Self {
        let enforces = |chain: &&Chain| {
            chain.table == POLICY_TABLE || POLICIES.iter().any(|name| chain.name.starts_with(name))
        };
        Self {
            policies: chains.iter().find(enforces).map(|chain| format!("{} {}", chain.table, chain.name)),
            is_closed: chains.iter().any(is_closed) && !chains.iter().any(is_accepting),
        }
    }
}

fn is_closed(chain: &Chain) -> bool {
    chain.is_at_forward && (chain.drops || chain.table == FIREWALLD)
}

fn is_accepting(chain: &Chain) -> bool {
    ACCEPTING.contains(&chain.name.as_str())
}

/// A complaint for each such chain. With `--masquerade-local-backends` the stack forwards no connection from outside.
pub(super) fn complaints(chains: &[Chain], masquerades_local: bool) -> Vec<Complaint> {
    let closed = closed(chains, masquerades_local).map(|chain| {
        let object = format!("nftables {} {}", chain.table, chain.name);
        let reason = "forwarded packets are dropped unless a rule accepts them, and `ct status dnat` does not accept what svc \
                      translates: accept what is forwarded to pods; for NodePorts alone, --masquerade-local-backends will do";
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
        Chain { table: table.to_owned(), name: name.to_owned(), is_at_forward, drops }
    }

    fn objects(chains: &[Chain], masquerades_local: bool) -> Vec<String> {
        complaints(chains, masquerades_local).into_iter().map(|c| c.object).collect()
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
