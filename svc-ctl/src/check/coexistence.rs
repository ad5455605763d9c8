//! Other software on the node: other proxies, programs of others at svc's hooks, the CNI.

use super::{Finding, fail, pass, warn};

/// Facts about it.
#[derive(Clone, Debug, Default)]
pub struct CoexistenceFacts {
    /// Processes named kube-proxy that can be seen.
    pub kube_proxies: Vec<u32>,
    /// Tables of nftables with chains of kube-proxy.
    pub proxy_tables: Vec<String>,
    /// Tables of iptables-legacy, whose rules svc does not read.
    pub legacy_tables: Vec<String>,
    /// Interfaces on which a proxy with IPVS keeps addresses of Services.
    pub ipvs_interfaces: Vec<String>,
    /// Chains that drop forwarded packets, and why that matters.
    pub closed_chains: Vec<(String, String)>,
    pub hooks: Vec<Hook>,
    pub interfaces: Vec<InterfaceFact>,
}

/// The direction of XDP, which runs before TC ingress and has room for one program.
pub const XDP: &str = "xdp";

/// The programs at one hook, in their order.
#[derive(Clone, Debug, Default)]
pub struct Hook {
    pub interface: String,
    pub direction: &'static str,
    /// Names, and whether each is one of svc's.
    pub programs: Vec<(String, bool)>,
}

/// An interface and its role for svc.
#[derive(Clone, Debug, Default)]
pub struct InterfaceFact {
    pub name: String,
    pub role: &'static str,
    pub doubt: Option<String>,
}

/// CNIs by the beginnings of their interfaces' names.
const CNIS: [(&str, &str); 10] = [
    ("cilium_", "Cilium"),
    ("lxc", "Cilium"),
    ("cali", "Calico"),
    ("flannel", "Flannel"),
    ("weave", "Weave"),
    ("eni", "AWS VPC"),
    ("azv", "Azure"),
    ("gke", "GKE"),
    ("antrea", "Antrea"),
    ("cni", "a bridge"),
];

pub fn findings(facts: &CoexistenceFacts) -> Vec<Finding> {
    let mut all = vec![kube_proxy(facts)];
    if !facts.legacy_tables.is_empty() {
        let found =
            format!("iptables-legacy has tables that svc cannot read: {}", facts.legacy_tables.join(", "));
        let cure = "`iptables-legacy-save | grep KUBE-` shows rules of kube-proxy, `kube-proxy --cleanup` removes them";
        all.push(warn("legacy rules", found, cure));
    }
    all.extend(facts.closed_chains.iter().map(|(chain, reason)| {
        let cure = "accept packets that are forwarded to pods, or set --masquerade-local-backends";
        warn("firewall", format!("{chain}: {reason}"), cure)
    }));
    if facts.closed_chains.is_empty() {
        all.push(pass("firewall", "no chain drops forwarded packets"));
    }
    all.extend(hooks(facts));
    all.extend(roles(facts));
    all
}

fn kube_proxy(facts: &CoexistenceFacts) -> Finding {
    let cleanup = "stop kube-proxy on this node, then `kube-proxy --cleanup`";
    let pids: Vec<String> = facts.kube_proxies.iter().map(ToString::to_string).collect();
    if !pids.is_empty() {
        let found =
            format!("kube-proxy runs (pid {}): two proxies write for the same Services", pids.join(", "));
        return fail("kube-proxy", found, cleanup);
    }
    let left: Vec<String> = (facts.proxy_tables.iter().map(|table| format!("rules in nftables {table}")))
        .chain(facts.ipvs_interfaces.iter().map(|name| format!("interface {name}")))
        .collect();
    match left.is_empty() {
        true => pass("kube-proxy", "it does not run here and has left nothing"),
        false => warn("kube-proxy", format!("it has left {}", left.join(", ")), "`kube-proxy --cleanup`"),
    }
}

fn hooks(facts: &CoexistenceFacts) -> Vec<Finding> {
    let shared = facts.hooks.iter().filter(|hook| hook.programs.iter().any(|(_, is_ours)| !is_ours));
    let finding = |hook: &Hook| {
        let order: Vec<String> = hook
            .programs
            .iter()
            .map(|(name, is_ours)| if *is_ours { format!("{name} (svc)") } else { name.clone() })
            .collect();
        let place = format!("{} {}", hook.interface, hook.direction);
        let is_before = hook.programs.first().is_some_and(|(_, is_ours)| !is_ours);
        let is_before = is_before && hook.programs.iter().any(|(_, is_ours)| *is_ours);
        let order = order.join(", then ");
        let cure = match (hook.direction, is_before) {
            (XDP, _) => {
                "an interface has room for one XDP program: svc serves this one at TC, and does not see the packets that this program takes"
            }
            (_, true) => {
                "svc does not see the packets that the first program takes: let it pass Services on, or restart svc after it"
            }
            (_, false) => {
                "svc's program runs first; the other program does not see the packets that it redirects"
            }
        };
        warn("hooks", format!("{place}: {order}"), cure)
    };
    let mut all: Vec<Finding> = shared.map(finding).collect();
    if all.is_empty() {
        all.push(pass("hooks", format!("no other program at {} hooks", facts.hooks.len())));
    }
    all
}

fn roles(facts: &CoexistenceFacts) -> Vec<Finding> {
    let of = |role| -> Vec<&str> {
        facts.interfaces.iter().filter(|i| i.role == role).map(|i| i.name.as_str()).collect()
    };
    let (uplinks, pods) = (of("uplink"), of("pod"));
    let uplink = match uplinks.as_slice() {
        [] => fail("uplinks", "no interface leads to other nodes", "name one by --uplink"),
        names => pass("uplinks", names.join(", ")),
    };
    let cni = CNIS.iter().find(|(prefix, _)| facts.interfaces.iter().any(|i| i.name.starts_with(prefix)));
    let cni = cni.map_or("a CNI of unknown kind", |(_, name)| name);
    let pods = match pods.len() {
        0 => pass("pods", format!("{cni}: no pod has an interface here yet")),
        count => pass("pods", format!("{cni}: {count} interfaces are taken for pods'")),
    };
    let doubts = facts.interfaces.iter().filter_map(|interface| {
        let doubt = interface.doubt.as_ref()?;
        let cure = "name its role by --uplink, --pod-interface or --exclude-interface";
        Some(warn("roles", format!("{} is taken for {}: {doubt}", interface.name, interface.role), cure))
    });
    [uplink, pods].into_iter().chain(doubts).collect()
}
