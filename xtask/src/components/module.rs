//! The table of modules: their programs, and how to compile them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::project;

/// A folder of `tests/cluster`; its go.mod has the versions.
#[derive(Debug, PartialEq, Eq)]
pub struct Module {
    pub name: &'static str,
    /// Files of a finished build, below one folder.
    pub programs: &'static [&'static str],
    pub steps: &'static [Step],
    pub tags: &'static str,
    /// The module with the version that the programs report.
    pub upstream: &'static str,
    /// Variables that the linker sets, with VERSION (`v1.36.3`), MAJOR and MINOR.
    pub stamps: &'static str,
}

/// One run of go; the output is a path below the folder of the programs.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A program, or every program of the packages if the output ends in a slash.
    Build { output: &'static str, packages: &'static [&'static str] },
    /// The tests of a package as a program.
    Tests { output: &'static str, package: &'static str },
    /// Other names of one program.
    Links { to: &'static str, names: &'static [&'static str] },
}

const KUBERNETES_PROGRAMS: &[&str] = &[
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
];
const KUBERNETES_STAMPS: &str = "-X k8s.io/component-base/version.gitVersion=VERSION \
     -X k8s.io/component-base/version.gitMajor=MAJOR -X k8s.io/component-base/version.gitMinor=MINOR";

pub const KUBERNETES: Module = Module {
    name: "kubernetes",
    programs: KUBERNETES_PROGRAMS,
    steps: &[
        Step::Build { output: "kubernetes", packages: &["."] },
        Step::Links { to: "kubernetes", names: KUBERNETES_PROGRAMS },
    ],
    tags: "",
    upstream: "k8s.io/kubernetes",
    stamps: KUBERNETES_STAMPS,
};

pub const CONTAINERD: Module = Module {
    name: "containerd",
    programs: &["containerd", "containerd-shim-runc-v2", "ctr"],
    steps: &[Step::Build { output: "./", packages: &["tool"] }],
    // File systems that are not needed here and require C libraries.
    tags: "no_btrfs,no_devmapper,no_zfs,no_aufs",
    upstream: "github.com/containerd/containerd/v2",
    stamps: "-X github.com/containerd/containerd/v2/version.Version=VERSION",
};

pub const CNI: Module = Module {
    name: "cni",
    programs: &["cni/bridge", "cni/host-local", "cni/loopback", "cni/portmap", "cni/ptp"],
    steps: &[Step::Build { output: "cni/", packages: &["tool"] }],
    tags: "",
    upstream: "github.com/containernetworking/plugins",
    stamps: "",
};

pub const COREDNS: Module = Module {
    name: "coredns",
    programs: &["coredns"],
    steps: &[Step::Build { output: "coredns", packages: &["."] }],
    tags: "",
    upstream: "github.com/coredns/coredns",
    stamps: "",
};

pub const HELM: Module = Module {
    name: "helm",
    programs: &["helm"],
    steps: &[Step::Build { output: "./", packages: &["tool"] }],
    tags: "",
    upstream: "helm.sh/helm/v4",
    stamps: "",
};

pub const PROMQL: Module = Module {
    name: "promql",
    programs: &["promql"],
    steps: &[Step::Build { output: "promql", packages: &["."] }],
    tags: "",
    upstream: "github.com/prometheus/prometheus",
    stamps: "",
};

pub const E2E: Module = Module {
    name: "e2e",
    programs: &["agnhost", "e2e.test", "ginkgo", "regression-issue-74839"],
    steps: &[
        Step::Build { output: "./", packages: &["tool"] },
        Step::Tests { output: "e2e.test", package: "k8s.io/kubernetes/test/e2e" },
    ],
    tags: "",
    upstream: "k8s.io/kubernetes",
    stamps: KUBERNETES_STAMPS,
};

impl Module {
    pub fn folder(&self) -> PathBuf {
        project::root().join("tests/cluster").join(self.name)
    }

    /// The version of upstream that go.mod locks, as `v1.36.3`.
    pub fn version(&self) -> Result<String> {
        let path = self.folder().join("go.mod");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let required = text.lines().find_map(|line| {
            let mut words = line.trim().trim_start_matches("require ").split_whitespace();
            words.next().filter(|name| *name == self.upstream).and(words.next())
        });
        let named = required.filter(|version| version.starts_with('v'));
        named.map(str::to_owned).with_context(|| format!("{}: no {}", path.display(), self.upstream))
    }

    /// Makes programs smaller, and sets their version.
    pub fn linker_flags(&self) -> Result<String> {
        let version = self.version()?;
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let stamps = self.stamps.replace("VERSION", &version).replace("MAJOR", major).replace("MINOR", minor);
        Ok(format!("-s -w {stamps}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_locks_the_version_that_its_programs_report() {
        for module in [KUBERNETES, CONTAINERD, CNI, COREDNS, HELM, PROMQL, E2E] {
            let version = module.version().unwrap();
            assert!(version.starts_with('v'), "{} {version}", module.name);
        }
        assert_eq!(KUBERNETES.version().unwrap(), E2E.version().unwrap());
        let flags = KUBERNETES.linker_flags().unwrap();
        assert!(flags.contains(".gitVersion=v1.") && flags.contains(".gitMajor=1 "), "{flags}");
    }
}
