//! The section `loadBalancer` of the configuration file, and the settings in force.

use serde::Deserialize;

use super::l2::Rules;
use super::pool::{PoolSpec, Pools};
use crate::bgp::settings::BgpSettings;

/// `spec.loadBalancerClass` of the Services that svc gives addresses.
const CLASS: &str = "svc/lb";
/// The namespace in which MetalLB reads its objects.
const METALLB_NAMESPACE: &str = "metallb-system";

/// The section as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Section {
    #[serde(default)]
    pools: Vec<serde_json::Value>,
    class: Option<String>,
    serves_without_class: Option<bool>,
    announce: Option<Announce>,
    metallb_namespace: Option<String>,
    bgp: Option<serde_json::Value>,
}

/// Method of announcement.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub enum Announce {
    /// By ARP and neighbor discovery, on the network of the address.
    #[default]
    L2,
    /// To routers, by the section `bgp`.
    Bgp,
    /// By both.
    Both,
    /// By others.
    None,
}

impl Announce {
    pub const fn is_by_l2(self) -> bool {
        matches!(self, Self::L2 | Self::Both)
    }

    pub const fn is_by_bgp(self) -> bool {
        matches!(self, Self::Bgp | Self::Both)
    }
}

/// The usable settings of the section, and with MetalLB's objects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LoadBalancerSettings {
    pub pools: Pools,
    pub class: String,
    /// Services without a class are served too.
    pub serves_without_class: bool,
    pub announce: Announce,
    /// Peers and advertisements of BGP, if the section has them.
    pub bgp: Option<BgpSettings>,
    /// No part of the section was refused. Addresses must not be taken back because of a mistake in the file.
    pub is_whole: bool,
    /// MetalLB's objects are read in this namespace; in none if it is empty.
    pub metallb_namespace: String,
    /// Where pools of MetalLB are announced.
    pub l2: Rules,
    /// A pool of MetalLB cannot be used. Addresses that no pool has may be its, and stay with their Services.
    pub keeps_unknown: bool,
    /// MetalLB's objects have been read, or are not to be read.
    pub is_known: bool,
}

impl Default for LoadBalancerSettings {
    fn default() -> Self {
        Self {
            pools: Pools::default(),
            class: CLASS.to_owned(),
            serves_without_class: true,
            announce: Announce::default(),
            bgp: None,
            is_whole: true,
            metallb_namespace: METALLB_NAMESPACE.to_owned(),
            l2: Rules::default(),
            keeps_unknown: false,
            is_known: true,
        }
    }
}

impl LoadBalancerSettings {
    /// Reads the section. A pool that cannot be used is named, with the reason, and the others are used.
    pub fn read(section: serde_json::Value) -> (Self, Vec<(String, String)>) {
        let section: Section = match serde_path_to_error::deserialize(section) {
            Ok(section) => section,
            Err(error) => {
                let field = format!("loadBalancer.{}", error.path());
                let nothing = Self { is_whole: false, ..Self::default() };
                return (nothing, vec![(field, error.into_inner().to_string())]);
            }
        };
        let (mut specs, mut problems) = (Vec::new(), Vec::new());
        for (number, value) in section.pools.into_iter().enumerate() {
            match serde_path_to_error::deserialize::<_, PoolSpec>(value) {
                Ok(spec) => specs.push((number, spec)),
                Err(error) => {
                    let field = format!("loadBalancer.pools[{number}].{}", error.path());
                    problems.push((field, error.into_inner().to_string()));
                }
            }
        }
        let (pools, refused) = Pools::new(specs);
        problems.extend(refused.into_iter().map(|(number, error)| {
            (format!("loadBalancer.pools[{number}].{}", error.field()), error.to_string())
        }));
        let bgp = section.bgp.map(|bgp| {
            let (bgp, found) = BgpSettings::read(bgp, &pools);
            problems.extend(
                found.into_iter().map(|(field, reason)| (format!("loadBalancer.bgp.{field}"), reason)),
            );
            bgp
        });
        // A section without peers and routes would be in vain, so it is enough to write one.
        let usual = if bgp.is_some() { Announce::Bgp } else { Announce::L2 };
        let announce = section.announce.unwrap_or(usual);
        if announce.is_by_bgp() && bgp.is_none() {
            problems.push((
                "loadBalancer.announce".to_owned(),
                "it needs the section loadBalancer.bgp".to_owned(),
            ));
        }
        let settings = Self {
            pools,
            class: section.class.unwrap_or_else(|| CLASS.to_owned()),
            serves_without_class: section.serves_without_class.unwrap_or(true),
            announce,
            bgp,
            is_whole: problems.is_empty(),
            metallb_namespace: section.metallb_namespace.unwrap_or_else(|| METALLB_NAMESPACE.to_owned()),
            ..Self::default()
        };
        (settings, problems)
    }

    /// A Service with this class (or none) is served.
    pub fn serves(&self, class: Option<&str>) -> bool {
        class.map_or(self.serves_without_class, |class| class == self.class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(yaml: &str) -> Vec<String> {
        let section = serde_yaml_ng::from_str(yaml).unwrap();
        let (settings, problems) = LoadBalancerSettings::read(section);
        assert_eq!(settings.is_whole, problems.is_empty(), "{yaml}");
        problems.into_iter().map(|(field, reason)| format!("{field}: {reason}")).collect()
    }

    #[test]
    fn an_unusable_part_is_named_and_the_rest_is_used() {
        for (yaml, expected) in [
            ("pools: [{name: a, addresses: [192.0.2.0/24]}]", None),
            (
                "pools: [{name: a, addresses: [192.0.2.1/24]}]",
                Some("pools[0].addresses: 192.0.2.1/24 is not on its boundary: did you mean 192.0.2.0/24?"),
            ),
            (
                "pools: [{name: a, addresses: [192.0.2.9-192.0.2.1]}]",
                Some("pools[0].addresses: the range 192.0.2.9-192.0.2.1 is backwards"),
            ),
            (
                "pools: [{name: a, addresses: [192.0.2.9-2001:db8::1]}]",
                Some("pools[0].addresses: the range 192.0.2.9-2001:db8::1 has addresses of two families"),
            ),
            (
                "pools: [{name: a, addresses: [web]}]",
                Some("pools[0].addresses: \"web\" is neither a CIDR nor a range (a-b)"),
            ),
            ("pools: [{name: a, addresses: []}]", Some("pools[0].addresses: the pool has no addresses")),
            ("pools: [{name: '', addresses: [192.0.2.0/24]}]", Some("pools[0].name: the pool has no name")),
            (
                "pools: [{name: a, addresses: [192.0.2.0/25]}, {name: a, addresses: [192.0.2.128/25]}]",
                Some("pools[1].name: a second pool of the name \"a\""),
            ),
            (
                "pools: [{name: a, addresses: [224.0.0.0/24]}]",
                Some(
                    "pools[0].addresses: 224.0.0.0/24 has addresses that no Service can have (multicast, link-local, loopback, unspecified)",
                ),
            ),
            (
                "pools: [{name: a, addresses: [192.0.2.0/24], colour: red}]",
                Some("pools[0].colour: unknown field `colour`"),
            ),
            (
                "pools: [{name: a, addresses: [192.0.2.0/24], serviceSelectors: [{matchExpressions: [{key: a, operator: Near}]}]}]",
                Some("pools[0].serviceSelectors[0].matchExpressions[0].operator: unknown variant `Near`"),
            ),
            ("colour: red", Some("colour: unknown field `colour`")),
        ] {
            let found = problems(yaml);
            match expected {
                None => assert_eq!(found, Vec::<String>::new(), "{yaml}"),
                Some(text) => {
                    let text = format!("loadBalancer.{text}");
                    assert!(found.len() == 1 && found[0].starts_with(&text), "{yaml}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn a_class_of_others_is_left_to_them() {
        let read = |yaml| LoadBalancerSettings::read(serde_yaml_ng::from_str(yaml).unwrap()).0;
        let usual = read("{}");
        assert_eq!([None, Some("svc/lb"), Some("x/y")].map(|c| usual.serves(c)), [true, true, false]);
        let own = read("{class: x/y, servesWithoutClass: false}");
        assert_eq!([None, Some("svc/lb"), Some("x/y")].map(|c| own.serves(c)), [false, false, true]);
    }
}
