//! The tiers, and their test binaries. A test file without a tier counts as failed, so that no test is written and
//! never run.

use anyhow::Result;

use crate::components::{self, Module};

/// Environment for the cases of a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    Here,
    /// Loads programs or makes network namespaces.
    HereAsRoot,
    /// In a virtual machine with another kernel.
    InMachine,
    /// Against a pipeline with one mistake, as root.
    AgainstMutants,
}

#[derive(Debug)]
pub struct Tier {
    pub name: &'static str,
    pub what: &'static str,
    pub runs: Runs,
    /// Its binaries keep one core busy and measure no time, so it runs side by side with neighboring tiers of this
    /// kind.
    pub one_core: bool,
    /// Runs the real svc-ctl, whose path is in `SVC_CTL`.
    pub needs_daemon: bool,
    /// Also runs a svc-ctl with tables of the next ABI number, whose path is in `SVC_CTL_NEXT`.
    pub needs_next: bool,
    /// Kubernetes' programs that it runs, from the folder `SVC_CLUSTER_BIN`.
    pub components: &'static [&'static [Module]],
    /// Needs our images, from the folder `SVC_CLUSTER_IMAGES`.
    pub needs_images: bool,
    /// Packages to compile for this tier alone.
    pub packages: &'static [&'static str],
}

impl Tier {
    pub fn needs_root(&self) -> bool {
        matches!(self.runs, Runs::HereAsRoot | Runs::AgainstMutants)
    }
}

/// A tier of svc-tests with no needs.
const PLAIN: Tier = Tier {
    name: "",
    what: "",
    runs: Runs::Here,
    one_core: false,
    needs_daemon: false,
    needs_next: false,
    components: &[],
    needs_images: false,
    packages: &["svc-tests"],
};

/// In the order in which they run: cheap ones first.
pub const TIERS: &[Tier] = &[
    Tier {
        name: "unit",
        what: "functions and laws beside the code; the import table",
        runs: Runs::Here,
        packages: &["svc-common", "svc-ctl", "svc-echo", "svc-tests", "xtask"],
        ..PLAIN
    },
    Tier {
        name: "golden",
        what: "manifests in, tables out, as readable files",
        runs: Runs::Here,
        one_core: true,
        packages: &["svc-ctl", "svc-tests"],
        ..PLAIN
    },
    Tier {
        name: "api",
        what: "the kubernetes source against a stand-in of the API server",
        runs: Runs::Here,
        one_core: true,
        packages: &["svc-ctl"],
        ..PLAIN
    },
    Tier {
        name: "chart",
        what: "values in, objects out by the real Helm; alerts and the dashboard use only metrics of svc",
        runs: Runs::Here,
        one_core: true,
        components: &[components::HELM, components::PROMQL],
        ..PLAIN
    },
    Tier {
        name: "verify",
        what: "this kernel's verifier takes every program, within its budget",
        runs: Runs::HereAsRoot,
        one_core: true,
        packages: &["svc-ctl"],
        ..PLAIN
    },
    Tier {
        name: "packets",
        what: "tables and a packet in; verdict, whole packet and counters out",
        runs: Runs::HereAsRoot,
        one_core: true,
        ..PLAIN
    },
    Tier {
        name: "differential",
        what: "packets of random worlds against an independent model",
        runs: Runs::HereAsRoot,
        one_core: true,
        ..PLAIN
    },
    Tier {
        name: "net",
        what: "real sockets through real daemons in network namespaces",
        runs: Runs::HereAsRoot,
        needs_daemon: true,
        ..PLAIN
    },
    Tier {
        name: "field",
        what: "other software on nodes: the same clients without svc, with nft DNAT, with svc",
        runs: Runs::HereAsRoot,
        needs_daemon: true,
        ..PLAIN
    },
    Tier {
        name: "witness",
        what: "kube-proxy and CoreDNS beside svc: the same objects, the same clients, the same answers",
        runs: Runs::HereAsRoot,
        needs_daemon: true,
        components: &[components::CONTROL_PLANE, components::DNS],
        ..PLAIN
    },
    Tier {
        name: "mutants",
        what: "the pipeline or the plan with one mistake: the tier differential or a cheap test must notice",
        runs: Runs::AgainstMutants,
        ..PLAIN
    },
    Tier {
        name: "upgrade",
        what: "two layouts of the tables, there and back under load; SIGKILL at each phase",
        runs: Runs::HereAsRoot,
        needs_daemon: true,
        needs_next: true,
        ..PLAIN
    },
    Tier {
        name: "chaos",
        what: "one thing after another goes wrong on the nodes, and connections of every kind go on",
        runs: Runs::HereAsRoot,
        needs_daemon: true,
        ..PLAIN
    },
    Tier {
        name: "flood",
        what: "first packets as fast as one core sends them, and connections that must not notice",
        runs: Runs::HereAsRoot,
        needs_daemon: true,
        ..PLAIN
    },
    Tier {
        name: "apiserver",
        what: "the real API server as an adversary: changes, outages, rights, under load",
        runs: Runs::HereAsRoot,
        needs_daemon: true,
        components: &[components::CONTROL_PLANE, components::HELM],
        ..PLAIN
    },
    Tier {
        name: "cluster",
        what: "a real cluster: replicas, daemons and rolling updates under load",
        runs: Runs::HereAsRoot,
        components: &[components::CONTROL_PLANE, components::NODES, components::HELM],
        needs_images: true,
        ..PLAIN
    },
    Tier {
        name: "kernel",
        what: "Debian's Linux 6.1 and 6.12 under qemu: every program, clsact for tcx, VLANs, tunnels, bonds, VRFs",
        runs: Runs::InMachine,
        needs_daemon: true,
        packages: &["svc-ctl", "svc-tests"],
        ..PLAIN
    },
];

pub fn chosen(name: Option<&str>) -> Result<Vec<&'static Tier>> {
    match name {
        None => Ok(TIERS.iter().collect()),
        Some(name) => match TIERS.iter().find(|tier| tier.name == name) {
            Some(tier) => Ok(vec![tier]),
            None => super::unknown_tier(name),
        },
    }
}

/// The tier of a test binary, from cargo's source path: `tests/net/main.rs`, `tests/net_x.rs`.
pub fn of_source(source: &str) -> Option<&'static str> {
    let Some(stem) = source.strip_prefix("tests/").and_then(|file| file.strip_suffix(".rs")) else {
        return Some("unit"); // src/lib.rs, src/main.rs
    };
    let noun = stem.split(['_', '/']).next().unwrap_or(stem);
    match noun {
        "architecture" | "change" | "coverage" => Some("unit"),
        "kubernetes" => Some("api"),
        _ => TIERS.iter().map(|tier| tier.name).find(|name| *name == noun),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_file_belongs_to_the_tier_it_is_named_after() {
        assert_eq!(of_source("src/lib.rs"), Some("unit"));
        assert_eq!(of_source("tests/net_clusterip.rs"), Some("net"));
        assert_eq!(of_source("tests/packets/main.rs"), Some("packets"));
        assert_eq!(of_source("tests/forgotten.rs"), None);
    }

    #[test]
    fn every_tier_is_found_by_its_name() {
        for tier in TIERS {
            assert_eq!(chosen(Some(tier.name)).unwrap().len(), 1);
        }
        assert!(chosen(Some("nat")).is_err());
    }
}
