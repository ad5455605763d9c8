//! Where the addresses of each pool are announced in their layer 2 network. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::selector::{Labels, Selector};

/// Nodes and interfaces that may announce a pool. One without selectors or interfaces means all of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rule {
    pub nodes: Vec<Selector>,
    pub interfaces: BTreeSet<String>,
}

/// The rules of pools that have some. A pool without an entry is announced everywhere, and one with an empty entry
/// nowhere.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rules(pub BTreeMap<String, Vec<Rule>>);

/// The interfaces of a node that may announce a pool.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Allowed {
    None,
    All,
    Only(BTreeSet<String>),
}

impl Allowed {
    pub fn has(&self, interface: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Only(names) => names.contains(interface),
        }
    }
}

impl Rules {
    /// Some node may announce the pool.
    pub fn announce(&self, pool: &str) -> bool {
        self.0.get(pool).is_none_or(|rules| !rules.is_empty())
    }

    /// The interfaces that may announce a pool on a node with these labels.
    pub fn allowed(&self, pool: &str, labels: &Labels) -> Allowed {
        let Some(rules) = self.0.get(pool) else { return Allowed::All };
        let is_of_node = |rule: &&Rule| {
            rule.nodes.is_empty() || rule.nodes.iter().any(|selector| selector.selects(labels))
        };
        let of_node: Vec<&Rule> = rules.iter().filter(is_of_node).collect();
        match () {
            () if of_node.is_empty() => Allowed::None,
            () if of_node.iter().any(|rule| rule.interfaces.is_empty()) => Allowed::All,
            () => Allowed::Only(of_node.iter().flat_map(|rule| rule.interfaces.iter().cloned()).collect()),
        }
    }

    /// The pools that a node with these labels may not announce. `is_near` says whether such interfaces of the node have the
    /// network of a pool.
    pub fn refused(&self, labels: &Labels, is_near: impl Fn(&str, &Allowed) -> bool) -> BTreeSet<String> {
        let may = |pool: &str| is_near(pool, &self.allowed(pool, labels));
        self.0.keys().filter(|pool| !may(pool)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_announced_by_the_nodes_and_interfaces_of_its_rules() {
        let rule = |zone: &str, interfaces: &[&str]| Rule {
            nodes: match zone {
                "" => Vec::new(),
                zone => {
                    vec![serde_yaml_ng::from_str(&format!("{{matchLabels: {{zone: {zone}}}}}")).unwrap()]
                }
            },
            interfaces: interfaces.iter().map(ToString::to_string).collect(),
        };
        let only = |names: &[&str]| Allowed::Only(names.iter().map(ToString::to_string).collect());
        for (rules, in_a, in_b) in [
            (vec![], Allowed::None, Allowed::None),
            (vec![rule("", &[])], Allowed::All, Allowed::All),
            (vec![rule("a", &[])], Allowed::All, Allowed::None),
            (vec![rule("", &["eth1"])], only(&["eth1"]), only(&["eth1"])),
            (vec![rule("a", &["eth0"]), rule("", &["eth1"])], only(&["eth0", "eth1"]), only(&["eth1"])),
            (vec![rule("a", &[]), rule("", &["eth1"])], Allowed::All, only(&["eth1"])),
        ] {
            let is_empty = rules.is_empty();
            let rules = Rules(BTreeMap::from([("front".to_owned(), rules)]));
            for (zone, expected) in [("a", in_a), ("b", in_b)] {
                let labels = Labels::from([("zone".to_owned(), zone.to_owned())]);
                assert_eq!(rules.allowed("front", &labels), expected, "{rules:?} in {zone}");
                assert_eq!(rules.allowed("other", &labels), Allowed::All);
                let is_refused = !rules.refused(&labels, |_, allowed| allowed.has("eth0")).is_empty();
                assert_eq!(is_refused, !expected.has("eth0"), "{rules:?} in {zone}");
            }
            assert_eq!(rules.announce("front"), !is_empty);
        }
    }
}
