//! Flags of kube-proxy that `svc-ctl run` accepts without effect, so that a migration can keep its arguments.

/// A flag, whether it may be given without a value, and why it has no effect.
pub struct IgnoredFlag {
    pub name: &'static str,
    pub is_switch: bool,
    pub why: &'static str,
}

const CLIENT: &str = "svc has three watches and reads JSON";
const CONNTRACK: &str = "svc keeps its own flows and changes no setting of conntrack";
const IPVS: &str = "svc does not use IPVS";
const RULES: &str = "svc writes tables and no rules";
const LOGGING: &str = "log lines are written at once, to standard error";

const fn value(name: &'static str, why: &'static str) -> IgnoredFlag {
    IgnoredFlag { name, is_switch: false, why }
}

const fn switch(name: &'static str, why: &'static str) -> IgnoredFlag {
    IgnoredFlag { name, is_switch: true, why }
}

pub const IGNORED: &[IgnoredFlag] = &[
    value("bind-address", "--healthz-bind-address and --metrics-bind-address say where svc listens"),
    value("config-sync-period", "svc compares its tables with the kernel every 30 s"),
    value("conntrack-max-per-core", CONNTRACK),
    value("conntrack-min", CONNTRACK),
    switch("conntrack-tcp-be-liberal", CONNTRACK),
    value("conntrack-tcp-timeout-close-wait", CONNTRACK),
    value("conntrack-tcp-timeout-established", CONNTRACK),
    value("conntrack-udp-timeout", CONNTRACK),
    value("conntrack-udp-timeout-stream", CONNTRACK),
    value("healthz-port", "--healthz-bind-address names the port"),
    switch("iptables-localhost-nodeports", "NodePorts are not served at loopback addresses"),
    value("iptables-masquerade-bit", RULES),
    value("iptables-min-sync-period", RULES),
    value("iptables-sync-period", RULES),
    value("ipvs-exclude-cidrs", IPVS),
    value("ipvs-min-sync-period", IPVS),
    value("ipvs-scheduler", IPVS),
    switch("ipvs-strict-arp", IPVS),
    value("ipvs-sync-period", IPVS),
    value("ipvs-tcp-timeout", IPVS),
    value("ipvs-tcpfin-timeout", IPVS),
    value("ipvs-udp-timeout", IPVS),
    value("kube-api-burst", CLIENT),
    value("kube-api-content-type", CLIENT),
    value("kube-api-qps", CLIENT),
    value("log-flush-frequency", LOGGING),
    value("log-json-info-buffer-size", LOGGING),
    switch("log-json-split-stream", LOGGING),
    value("log-text-info-buffer-size", LOGGING),
    switch("log-text-split-stream", LOGGING),
    value("metrics-port", "--metrics-bind-address names the port"),
    switch("profiling", "svc has no profiling over HTTP"),
    value("proxy-mode", "there is one way here"),
    value("show-hidden-metrics-for-version", "svc hides no metrics"),
    value("vmodule", "RUST_LOG sets levels by module"),
];
