//! Features of the running kernel, and constants of the loaded programs.

use anyhow::Context as _;
use aya::util::KernelVersion;
use svc_common::abi::{Config, PodSockets};
use svc_common::datapath::select::snat_ring;

use super::sys;

/// Constants of the loaded programs.
#[derive(Clone, Copy, Debug)]
pub struct ProgramSettings {
    /// SNAT ports: first and number.
    pub snat_ports: (u16, u16),
    /// When the socket hooks also serve pods.
    pub pod_sockets: PodSockets,
    /// Local pods are recognised by source address instead of interface.
    pub pods_by_source: bool,
    /// The prefix table has Service CIDRs.
    pub service_cidrs: bool,
    /// Unknown ports of external addresses are dropped.
    pub drops_unknown_ports: bool,
    /// The prefix table has load-balancer pools.
    pub pools: bool,
    /// Flows that one CPU may begin in a second; 0: any number.
    pub new_flow_limit: u32,
}

impl ProgramSettings {
    /// The read-only data of the programs.
    pub(super) fn config(self, features: Features) -> anyhow::Result<Config> {
        let cookie = sys::netns_cookie().context("SO_NETNS_COOKIE (Linux 5.14)")?;
        Ok(Config {
            host_netns: [cookie as u32, (cookie >> 32) as u32],
            snat_first: self.snat_ports.0,
            snat_count: self.snat_ports.1,
            pod_sockets: self.pod_sockets,
            csum_ipv6_flag: features.csum_ipv6_flag.into(),
            set_retval: features.set_retval.into(),
            fib_source: features.fib_source.into(),
            pods_by_source: self.pods_by_source.into(),
            service_cidrs: self.service_cidrs.into(),
            drops_unknown_ports: self.drops_unknown_ports.into(),
            pools: self.pools.into(),
            _pad: [0; 2],
            snat_ring: snat_ring(self.snat_ports.1),
            new_flow_interval: 1_000_000_000_u32.checked_div(self.new_flow_limit).unwrap_or(0),
        })
    }
}

/// Kernel features with a fallback.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Features {
    /// tcx links (6.6). Without: clsact filters by netlink.
    pub tcx: bool,
    /// `BPF_F_IPV6` of `bpf_l4_csum_replace` (6.16). Without: the sum is compensated.
    pub csum_ipv6_flag: bool,
    /// `BPF_FIB_LOOKUP_SRC` (6.7). Without: the SNAT address is the interface's first address.
    pub fib_source: bool,
    /// `bpf_set_retval` (5.18). Without: a refused connect fails with EPERM.
    pub set_retval: bool,
}

impl Features {
    /// Features according to the version of the running kernel.
    pub fn detect() -> Self {
        let running = KernelVersion::current().ok();
        let at_least = |major, minor| running.is_some_and(|r| r >= KernelVersion::new(major, minor, 0));
        Self {
            tcx: at_least(6, 6),
            csum_ipv6_flag: at_least(6, 16),
            fib_source: at_least(6, 7),
            set_retval: at_least(5, 18),
        }
    }

    /// Missing features with their fallbacks, by name.
    pub fn fallbacks(self) -> Vec<&'static str> {
        let mut lines = Vec::new();
        if !self.tcx {
            lines.push("no tcx (Linux 6.6): clsact filters are used");
        }
        if !self.set_retval {
            lines.push("no bpf_set_retval (Linux 5.18): a refused connect says EPERM, not ECONNREFUSED");
        }
        lines
    }
}
