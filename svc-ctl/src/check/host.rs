//! The kernel and the host.

use super::{Finding, fail, pass, warn};
use crate::dataplane::features::Features;

/// Facts about the kernel and the host.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// As `uname -r` says it.
    pub kernel: String,
    pub features: Features,
    /// A small map could be made, or why not.
    pub map: Result<(), String>,
    /// The cookie of the network namespace could be read, or why not.
    pub netns_cookie: Result<(), String>,
    pub has_btf: bool,
    /// The path at which cgroup v2 shows the node's processes, or the reason why it does not. `None`: it is not
    /// mounted.
    pub cgroup: Result<Option<String>, String>,
    /// The nearest directory of `--pin-dir` that is there, and whether it is on a bpffs.
    pub pin_dir: (String, bool),
    /// `net.ipv4.ip_forward` and `net.ipv6.conf.all.forwarding`. `None`: the kernel has no such setting.
    pub forwarding: [Option<bool>; 2],
    /// Ports of NodePorts that the host also gives to its own connections, first and last.
    pub ephemeral_node_ports: Option<(u16, u16)>,
    /// The masquerade has no ports of its own: the setting, and why.
    pub shared_snat_ports: Option<(String, String)>,
}

pub fn findings(facts: &HostFacts) -> Vec<Finding> {
    let mut all = vec![kernel(facts), bpf(facts)];
    all.push(match facts.has_btf {
        true => pass("btf", "/sys/kernel/btf/vmlinux"),
        false => warn(
            "btf",
            "the kernel has no BTF: tools cannot show the tables with their types",
            "a kernel with CONFIG_DEBUG_INFO_BTF; svc itself works without",
        ),
    });
    all.push(cgroup(facts));
    all.push(match &facts.pin_dir {
        (dir, true) => pass("bpffs", format!("{dir} is on a bpffs")),
        (dir, false) => warn(
            "bpffs",
            format!("{dir} is not on a bpffs"),
            "`mount -t bpf bpf /sys/fs/bpf`; svc-ctl run mounts one where it may",
        ),
    });
    all.extend(forwarding(facts));
    all.extend(ports(facts));
    all
}

fn kernel(facts: &HostFacts) -> Finding {
    match facts.features.fallbacks().as_slice() {
        [] => pass("kernel", format!("Linux {}", facts.kernel)),
        lacking => warn(
            "kernel",
            format!("Linux {}: {}", facts.kernel, lacking.join("; ")),
            "Linux 6.6 or newer; svc works without",
        ),
    }
}

fn bpf(facts: &HostFacts) -> Finding {
    match (&facts.map, &facts.netns_cookie) {
        (Ok(()), Ok(())) => pass("bpf", "maps can be made, and network namespaces have cookies"),
        (Err(error), _) => fail(
            "bpf",
            format!("a map cannot be made: {error}"),
            "run as root or with CAP_BPF and CAP_NET_ADMIN, on a kernel with CONFIG_BPF_SYSCALL",
        ),
        (_, Err(error)) => {
            fail("bpf", format!("a network namespace has no cookie: {error}"), "Linux 5.14 or newer")
        }
    }
}

fn cgroup(facts: &HostFacts) -> Finding {
    match &facts.cgroup {
        Ok(Some(dir)) => pass("cgroup", format!("{dir} has the node's processes")),
        Ok(None) => warn(
            "cgroup",
            "no cgroup v2 hierarchy is mounted",
            "svc-ctl run mounts one in its run directory; or boot with systemd.unified_cgroup_hierarchy=1",
        ),
        Err(error) => fail("cgroup", error.clone(), "mount the node's /sys/fs/cgroup into the container"),
    }
}

fn forwarding(facts: &HostFacts) -> Vec<Finding> {
    let names = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"];
    let settings = names.into_iter().zip(facts.forwarding);
    let finding = |(name, is_on): (&str, Option<bool>)| match is_on {
        Some(true) => Some(pass("forwarding", format!("{name} is 1"))),
        Some(false) if name.contains("ipv4") => Some(fail(
            "forwarding",
            format!("{name} is 0: packets are not forwarded to pods or other nodes"),
            format!("`sysctl {name}=1`"),
        )),
        Some(false) => Some(warn(
            "forwarding",
            format!("{name} is 0: IPv6 packets are not forwarded to pods or other nodes"),
            format!("`sysctl {name}=1`, if the cluster has IPv6"),
        )),
        None => None,
    };
    settings.filter_map(finding).collect()
}

fn ports(facts: &HostFacts) -> Vec<Finding> {
    let node_ports = match facts.ephemeral_node_ports {
        None => pass("node ports", "the host gives none of 30000-32767 to its own connections"),
        Some((first, last)) => warn(
            "node ports",
            format!("the host gives {first}-{last} to its own connections, which are NodePorts too"),
            "`sysctl net.ipv4.ip_local_reserved_ports=30000-32767`",
        ),
    };
    let snat = match &facts.shared_snat_ports {
        None => pass("masquerade ports", "the masquerade has ports of its own"),
        Some((sysctl, reason)) => warn(
            "masquerade ports",
            reason.clone(),
            format!("leave a block of 4096 ports out of {sysctl}, or name one by --snat-ports"),
        ),
    };
    vec![node_ports, snat]
}
