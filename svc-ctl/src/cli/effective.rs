//! The flags in force as a KubeProxyConfiguration, shown by `/configz`. Fields without a meaning here are left out.

use std::net::SocketAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::args::{DetectLocal, LogFormat, RunArgs};

pub fn effective(args: &RunArgs, node_name: &str) -> Value {
    let address = |address: Option<SocketAddr>| address.map_or_else(String::new, |a| a.to_string());
    json!({
        "kind": "KubeProxyConfiguration",
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "clientConnection": {
            "kubeconfig": args.kubeconfig.as_ref().map_or_else(String::new, |path| path.display().to_string()),
        },
        "hostnameOverride": node_name,
        "healthzBindAddress": address(args.healthz_bind_address.0),
        "metricsBindAddress": address(args.metrics_bind_address.0),
        "bindAddressHardFail": args.bind_address_hard_fail,
        "featureGates": {"AllowServiceExternalIPs": args.feature_gates.allows_external_ips},
        "logging": {
            "format": if args.log_format == LogFormat::Json { "json" } else { "text" },
            "verbosity": args.verbosity,
        },
        "oomScoreAdj": args.oom_score_adj,
        "mode": "svc",
        "nftables": {"masqueradeAll": args.masquerade_all},
        "detectLocalMode": detect_local(args.detect_local_mode),
        "detectLocal": {
            "bridgeInterface": args.pod_bridge_interface,
            "interfaceNamePrefix": args.pod_interface_name_prefix,
        },
        "clusterCIDR": joined(&args.cluster_cidr.0),
        "nodePortAddresses": args.nodeport_addresses.words(),
    })
}

fn joined(cidrs: &[IpNet]) -> String {
    cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// kube-proxy's name of the mode. Modes that only svc has keep their own names.
const fn detect_local(mode: DetectLocal) -> &'static str {
    match mode {
        DetectLocal::Interface => "Interface",
        DetectLocal::ClusterCidr => "ClusterCIDR",
        DetectLocal::NodeCidr => "NodeCIDR",
        DetectLocal::BridgeInterface => "BridgeInterface",
        DetectLocal::InterfaceNamePrefix => "InterfaceNamePrefix",
        DetectLocal::None => "None",
    }
}
