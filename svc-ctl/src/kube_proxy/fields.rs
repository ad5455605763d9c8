//! Every field of KubeProxyConfiguration v1alpha1, as of Kubernetes 1.36: its shape, and its meaning for svc.

use super::honour::{self, Honour};

/// The kind of value that a field may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    Bool,
    Integer,
    Number,
    Text,
    /// `1h30m`, as Go writes durations.
    Duration,
    /// A duration, or nanoseconds as a number.
    FlushTime,
    TextList,
    List,
    /// Names with true or false.
    Switches,
    /// Fields of its own.
    Object,
}

/// The meaning of a field for svc.
#[derive(Clone, Copy, Debug)]
pub enum Meaning {
    /// A flag of `svc-ctl run` has the same effect.
    Honoured(Honour),
    /// It has no effect, for this reason.
    None(&'static str),
    /// Fields below it have meanings of their own.
    Parent,
}

#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// From the document on, with dots.
    pub path: &'static str,
    pub shape: Shape,
    pub meaning: Meaning,
}

/// The field of a path.
pub fn find(path: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.path == path)
}

const RULES: &str =
    "svc writes tables and no rules: there is no packet mark, and a change is written at once";
const CONNTRACK: &str = "svc keeps its own flows and changes no setting of conntrack";
const IPVS: &str = "svc does not use IPVS";
const IPVS_TIMES: &str = "svc does not use IPVS; the lifetimes of its flows are fixed";
const WINDOWS: &str = "for Windows nodes alone";
const CLIENT: &str = "svc has three watches and reads JSON";
const LOGGING: &str = "log lines are written at once, to standard error";

const fn field(path: &'static str, shape: Shape, meaning: Meaning) -> Field {
    Field { path, shape, meaning }
}

const fn none(path: &'static str, shape: Shape, why: &'static str) -> Field {
    field(path, shape, Meaning::None(why))
}

const fn parent(path: &'static str) -> Field {
    field(path, Shape::Object, Meaning::Parent)
}

const fn honoured(path: &'static str, shape: Shape, honour: Honour) -> Field {
    field(path, shape, Meaning::Honoured(honour))
}

use Shape::{Bool, Duration, FlushTime, Integer, Number, Switches, Text, TextList};

pub const FIELDS: &[Field] = &[
    none("apiVersion", Text, "names the type"),
    none("kind", Text, "names the type"),
    honoured("featureGates", Switches, honour::feature_gates),
    parent("clientConnection"),
    honoured("clientConnection.kubeconfig", Text, honour::kubeconfig),
    none("clientConnection.acceptContentTypes", Text, CLIENT),
    none("clientConnection.contentType", Text, CLIENT),
    none("clientConnection.qps", Number, CLIENT),
    none("clientConnection.burst", Integer, CLIENT),
    parent("logging"),
    honoured("logging.format", Text, honour::log_format),
    honoured("logging.verbosity", Integer, honour::verbosity),
    none("logging.flushFrequency", FlushTime, LOGGING),
    none("logging.vmodule", Shape::List, "RUST_LOG sets levels by module"),
    parent("logging.options"),
    parent("logging.options.text"),
    none("logging.options.text.splitStream", Bool, LOGGING),
    none("logging.options.text.infoBufferSize", Text, LOGGING),
    parent("logging.options.json"),
    none("logging.options.json.splitStream", Bool, LOGGING),
    none("logging.options.json.infoBufferSize", Text, LOGGING),
    honoured("hostnameOverride", Text, honour::hostname),
    honoured("bindAddress", Text, honour::bind_address),
    honoured("healthzBindAddress", Text, honour::healthz),
    honoured("metricsBindAddress", Text, honour::metrics),
    honoured("bindAddressHardFail", Bool, honour::hard_fail),
    none("enableProfiling", Bool, "svc has no profiling over HTTP"),
    none("showHiddenMetricsForVersion", Text, "svc hides no metrics"),
    honoured("mode", Text, honour::mode),
    parent("iptables"),
    honoured("iptables.masqueradeAll", Bool, honour::masquerade_iptables),
    none("iptables.masqueradeBit", Integer, RULES),
    none("iptables.localhostNodePorts", Bool, "nodePortAddresses says it: `localhost`"),
    none("iptables.syncPeriod", Duration, RULES),
    none("iptables.minSyncPeriod", Duration, RULES),
    parent("nftables"),
    honoured("nftables.masqueradeAll", Bool, honour::masquerade_nftables),
    none("nftables.masqueradeBit", Integer, RULES),
    none("nftables.syncPeriod", Duration, RULES),
    none("nftables.minSyncPeriod", Duration, RULES),
    parent("ipvs"),
    none("ipvs.syncPeriod", Duration, IPVS),
    none("ipvs.minSyncPeriod", Duration, IPVS),
    none(
        "ipvs.scheduler",
        Text,
        "svc does not use IPVS; `selection: maglev` of svc's own section is like its scheduler mh",
    ),
    none("ipvs.excludeCIDRs", TextList, "svc touches no virtual server that it did not make"),
    none("ipvs.strictARP", Bool, "svc binds no address of a Service to the node"),
    none("ipvs.tcpTimeout", Duration, IPVS_TIMES),
    none("ipvs.tcpFinTimeout", Duration, IPVS_TIMES),
    none("ipvs.udpTimeout", Duration, IPVS_TIMES),
    parent("winkernel"),
    none("winkernel.networkName", Text, WINDOWS),
    none("winkernel.sourceVip", Text, WINDOWS),
    none("winkernel.enableDSR", Bool, WINDOWS),
    none("winkernel.rootHnsEndpointName", Text, WINDOWS),
    none("winkernel.forwardHealthCheckVip", Bool, WINDOWS),
    honoured("detectLocalMode", Text, honour::detect_local),
    parent("detectLocal"),
    honoured("detectLocal.bridgeInterface", Text, honour::bridge),
    honoured("detectLocal.interfaceNamePrefix", Text, honour::prefix),
    honoured("clusterCIDR", Text, honour::cluster_cidr),
    honoured("nodePortAddresses", TextList, honour::node_port_addresses),
    honoured("oomScoreAdj", Integer, honour::oom_score),
    parent("conntrack"),
    none("conntrack.maxPerCore", Integer, CONNTRACK),
    none("conntrack.min", Integer, CONNTRACK),
    none("conntrack.tcpEstablishedTimeout", Duration, CONNTRACK),
    none("conntrack.tcpCloseWaitTimeout", Duration, CONNTRACK),
    none("conntrack.tcpBeLiberal", Bool, CONNTRACK),
    none("conntrack.udpTimeout", Duration, CONNTRACK),
    none("conntrack.udpStreamTimeout", Duration, CONNTRACK),
    none("configSyncPeriod", Duration, "svc compares its tables with the kernel every 30 s"),
    none("portRange", Text, "kube-proxy ignores it too"),
    none("windowsRunAsService", Bool, WINDOWS),
];
