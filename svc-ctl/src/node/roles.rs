//! Which role an interface has, and why: exactly one each.

use std::collections::{BTreeMap, BTreeSet};

use super::{Interface, Interfaces};

/// The roles, as people call them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Uplink,
    Pod,
    /// A bridge whose ports are pod interfaces; gets no program.
    PodBridge,
    None,
}

/// A role and what gave it.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Assignment {
    pub role: Role,
    pub reason: String,
}

/// What the user says about interfaces. A pattern is a name, or the beginning of one followed by `*`.
#[derive(Clone, Debug)]
pub struct RoleRules {
    pub uplinks: Vec<String>,
    pub excluded: Vec<String>,
    pub pods: Vec<String>,
}

impl Default for RoleRules {
    fn default() -> Self {
        Self {
            uplinks: Vec::new(),
            excluded: Vec::new(),
            pods: ["veth*", "cali*", "lxc*"].map(str::to_owned).to_vec(),
        }
    }
}

/// Which interfaces are local pods' (SEM-090).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PodInterfaces {
    /// Those whose role says so.
    ByRole,
    /// The ports of the bridge of that name, and itself.
    PortsOf(String),
    /// Those whose name begins so.
    Beginning(String),
}

impl PodInterfaces {
    pub fn has(&self, i: &Interface, is_pod: bool, all: &Interfaces) -> bool {
        let name_of = |index| all.list.iter().find(|other| other.index == index).map(|other| &other.name);
        match self {
            Self::ByRole => is_pod,
            Self::PortsOf(bridge) => i.name == *bridge || i.master.and_then(name_of) == Some(bridge),
            Self::Beginning(prefix) => i.name.starts_with(prefix),
        }
    }
}

/// Gives every interface its role, by index.
pub fn assign(interfaces: &Interfaces, rules: &RoleRules) -> BTreeMap<u32, Assignment> {
    let is_pod = |i: &Interface| {
        first_match(&rules.uplinks, &i.name).is_none() && first_match(&rules.pods, &i.name).is_some()
    };
    let pod_bridges: BTreeSet<u32> =
        interfaces.list.iter().filter(|i| is_pod(i)).filter_map(|i| i.master).collect();
    interfaces.list.iter().map(|i| (i.index, assign_one(i, rules, &pod_bridges))).collect()
}

fn assign_one(i: &Interface, rules: &RoleRules, pod_bridges: &BTreeSet<u32>) -> Assignment {
    let (role, reason) = if let Some(p) = first_match(&rules.excluded, &i.name) {
        (Role::None, format!("--exclude-interface {p}"))
    } else if !i.is_up {
        (Role::None, "down".to_owned())
    } else if i.is_loopback {
        (Role::None, "loopback".to_owned())
    } else if let Some(p) = first_match(&rules.uplinks, &i.name) {
        (Role::Uplink, format!("--uplink {p}"))
    } else if let Some(p) = first_match(&rules.pods, &i.name) {
        (Role::Pod, format!("name matches {p}"))
    } else if pod_bridges.contains(&i.index) {
        (Role::PodBridge, "its ports are pod interfaces".to_owned())
    } else if i.master.is_some() {
        (Role::None, "port of another interface, which has the role".to_owned())
    } else {
        (Role::Uplink, "neither loopback nor a pod's".to_owned())
    };
    Assignment { role, reason }
}

fn first_match<'a>(patterns: &'a [String], name: &str) -> Option<&'a String> {
    patterns.iter().find(|p| match p.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => p.as_str() == name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, name: &str) -> Interface {
        Interface { index, name: name.to_owned(), is_up: true, is_ethernet: true, ..Interface::default() }
    }

    #[test]
    fn each_interface_has_one_role() {
        let interfaces = Interfaces {
            list: vec![
                Interface { is_loopback: true, ..interface(1, "lo") },
                interface(2, "eth0"),
                interface(3, "veth1234"),
                Interface { master: Some(5), ..interface(4, "veth5678") },
                interface(5, "cni0"),
                Interface { master: Some(7), ..interface(6, "eth1") },
                interface(7, "br0"),
                Interface { is_ethernet: false, ..interface(8, "tunl0") },
                Interface { is_up: false, ..interface(9, "eth9") },
                interface(10, "veth-up"),
                interface(11, "eth8"),
            ],
        };
        let rules = RoleRules {
            uplinks: vec!["veth-up".to_owned()],
            excluded: vec!["eth8".to_owned()],
            ..RoleRules::default()
        };
        let roles: Vec<Role> = assign(&interfaces, &rules).values().map(|a| a.role).collect();
        use Role::{None, Pod, PodBridge, Uplink};
        assert_eq!(roles, [None, Uplink, Pod, Pod, PodBridge, None, Uplink, Uplink, None, Uplink, None]);
    }
}
