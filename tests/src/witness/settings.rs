//! Settings of both proxies, in each one's configuration.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::addresses::SERVICE_CIDRS;

/// Defaults of the parity suite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// No detection of local pods; otherwise by source address.
    pub no_detector: bool,
    pub masquerade_all: bool,
    /// NodePorts on every address of the nodes' network; otherwise only on InternalIPs.
    pub wide_node_ports: bool,
}

/// The pods of all nodes.
const POD_CIDRS: &str = "10.244.0.0/16,fd00:10:244::/48";
const NODE_IPS: [&str; 4] = ["192.0.2.1/32", "192.0.2.2/32", "2001:db8:1::1/128", "2001:db8:1::2/128"];
const NODE_NETS: [&str; 2] = ["192.0.2.0/24", "2001:db8:1::/64"];

impl Settings {
    fn node_ports(self) -> &'static [&'static str] {
        if self.wide_node_ports { &NODE_NETS } else { &NODE_IPS }
    }

    /// svc's own settings can be compared with these.
    pub fn has_defaults(self) -> bool {
        !self.no_detector && !self.masquerade_all
    }

    /// Number of the settings in names.
    pub fn number(self) -> u8 {
        [self.no_detector, self.masquerade_all, self.wide_node_ports]
            .into_iter()
            .fold(0, |number, is_set| 2 * number + u8::from(is_set))
    }

    /// kube-proxy's configuration file.
    pub fn of_kube_proxy(self, node: &str, kubeconfig: &std::path::Path) -> Value {
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "hostnameOverride": node,
            "clientConnection": {"kubeconfig": kubeconfig},
            "clusterCIDR": if self.no_detector { "" } else { POD_CIDRS },
            "nodePortAddresses": self.node_ports(),
            "nftables": {"masqueradeAll": self.masquerade_all, "minSyncPeriod": "100ms", "syncPeriod": "10s"},
            // Neither may be changed outside the machine's first network namespace.
            "oomScoreAdj": 0,
            "conntrack": {"maxPerCore": 0, "min": 0},
            // The log shows when the proxier gets its node's zone.
            "logging": {"verbosity": 2, "vmodule": [{"filePattern": "proxier", "verbosity": 4}]},
        })
    }

    /// The flags of svc-ctl with its own settings, except for the addresses of NodePorts.
    pub fn of_svc_by_default(self) -> Vec<String> {
        vec!["--nodeport-addresses".to_owned(), self.node_ports().join(",")]
    }

    /// The flags with which svc-ctl behaves like kube-proxy.
    pub fn of_svc(self) -> Vec<String> {
        let mut flags = self.of_svc_by_default();
        flags.push("--masquerade-local-backends".to_owned());
        let mut set = |flag: &str, value: &str| flags.extend([flag.to_owned(), value.to_owned()]);
        set("--service-cidr", SERVICE_CIDRS);
        if self.no_detector {
            set("--detect-local-mode", "none");
        } else {
            set("--detect-local-mode", "cluster-cidr");
            set("--cluster-cidr", POD_CIDRS);
        }
        flags.extend(self.masquerade_all.then(|| "--masquerade-all".to_owned()));
        flags
    }
}
