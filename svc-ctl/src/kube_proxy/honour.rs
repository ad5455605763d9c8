//! Finds the flag of `svc-ctl run` for a field.

use std::net::{IpAddr, SocketAddr};

use super::document::Tree;

/// The meaning of a value for svc.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ValueMeaning {
    /// A flag and its value.
    Flag(&'static str, String),
    /// svc does it without a flag.
    Default,
    /// It has no effect, for this reason.
    Nothing(&'static str),
}

/// Finds the meaning of a value in a document. An error refuses the value and names the reason.
pub type Honour = fn(value: &Tree, document: &Tree) -> Result<ValueMeaning, String>;

fn flag(name: &'static str, value: impl Into<String>) -> Result<ValueMeaning, String> {
    Ok(ValueMeaning::Flag(name, value.into()))
}

/// Text that may be empty. Empty text means the default.
fn text_flag(name: &'static str, value: &Tree) -> Result<ValueMeaning, String> {
    let text = value.text().filter(|text| !text.is_empty());
    Ok(text.map_or(ValueMeaning::Default, |text| ValueMeaning::Flag(name, text.to_owned())))
}

fn switch(name: &'static str, value: &Tree) -> Result<ValueMeaning, String> {
    flag(name, if *value == Tree::Bool(true) { "true" } else { "false" })
}

pub fn kubeconfig(value: &Tree, _: &Tree) -> Result<ValueMeaning, String> {
    text_flag("kubeconfig", value)
}

pub fn hostname(value: &Tree, _: &Tree) -> Result<ValueMeaning, String> {
    text_flag("hostname-override", value)
}

/// The only feature gate with an effect here. The others concern only kube-proxy.
const EXTERNAL_IPS: &str = "AllowServiceExternalIPs";

pub fn feature_gates(value: &Tree, _: &Tree) -> Result<ValueMeaning, String> {
    match value.get(EXTERNAL_IPS) {
        Some(Tree::Bool(is_allowed)) => flag("feature-gates", format!("{EXTERNAL_IPS}={is_allowed}")),
        _ => Ok(ValueMeaning::Nothing("these gates change nothing here")),
    }
}

pub fn log_format(value: &Tree, _: &Tree) -> Result<ValueMeaning, String> {
    match value.text() {
        Some("") | None => Ok(ValueMeaning::Default),
        Some(format @ ("text" | "json")) => flag("log-format", format),
        Some(other) => Err(format!("{other:?} is not a format (text, json)")),
    }
}

pub fn verbosity(value: &Tree, _: &Tree) -> Result<ValueMeaning, String> {
    match value {
        Tree::Integer(..0) => Err("it is below zero".to_owned()),
        Tree::Integer(0) => Ok(ValueMeaning::Default),
        Tree::Integer(level) => flag("v", level.to_string()),
        _ => Ok(ValueMeaning::Default),
    }
}

/// Decides the family of the two addresses below where they are not given.
pub fn bind_address(value: &Tree, document: &Tree) -> Result<ValueMeaning, String> {
    let Some(text) = value.text().filter(|text| !text.is_empty()) else { return Ok(ValueMeaning::Default) };
    let address: IpAddr = text.parse().map_err(|_| format!("{text:?} is not an IP address"))?;
    let is_given = |field| document.get(field).and_then(Tree::text).is_some_and(|text| !text.is_empty());
    match address.is_ipv6() && !is_given("metricsBindAddress") {
        true => flag("metrics-bind-address", "[::1]:10249"),
        false => Ok(ValueMeaning::Nothing("it only decides where metrics are served by default")),
    }
}

pub fn healthz(value: &Tree, _: &Tree) -> Result<ValueMeaning, String> {
    address_flag("healthz-bind-address", value, 10_256)
}

pub fn metrics(value: &Tree, _: &Tree) -> Result<ValueMeaning, String> {
    address_flag("metrics-bind-address", value, 10_249)
}

/// A missing port is added, as kube-proxy does it. An empty address means the default.
fn address_flag(name: &'static str, value: &Tree, port: u16) -> Result<ValueMeaning, String> {
    let Some(text) = value.text().filter(|text| !text.is_empty()) else { return Ok(ValueMeaning::Default) };
    let address = text.parse::<SocketAddr>().or_else(|_| {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port))
    });
    match address {
        Ok(address) => flag(name, address.to_string()),
        Err(_) => Err(format!("{text:?} is not IP:PORT")),
    }
}

pub fn hard_fail(value: &Tree, _: &Tree) -> Result<ValueMeaning, String> {
    switch("bind-address-hard-fail", value)
}

/// Accepts every mode of kube-proxy: svc has only one.
pub fn mode(value: &Tree, _: &Tree) -> Result<ValueMeaning, String> {
    match value.text().unwrap_or_default() {
        "" | "iptables" | "ipvs" | "nftables" | "svc" => Ok(ValueMeaning::Nothing(
            "there is one way here; the mode only decides which masqueradeAll counts",
        )),
        other => Err(format!("{other:?} is not a mode of kube-proxy on Linux (iptables, ipvs, nftables)")),
    }
}

pub fn masquerade_iptables(value: &Tree, document: &Tree) -> Result<ValueMeaning, String> {
    masquerade(value, document, false)
}

pub fn masquerade_nftables(value: &Tree, document: &Tree) -> Result<ValueMeaning, String> {
    masquerade(value, document, true)
}

/// The field of the mode in force counts.
fn masquerade(value: &Tree, document: &Tree, is_of_nftables: bool) -> Result<ValueMeaning, String> {
    let is_nftables = matches!(document.get("mode").and_then(Tree::text), Some("nftables" | "svc"));
    match is_nftables == is_of_nftables {
        true => switch("masquerade-all", value),
        false => Ok(ValueMeaning::Nothing("it is of another mode than the one in force")),
    }
}

/// Whether a field below another one has text.
fn has_text(document: &Tree, parent: Option<&str>, name: &str) -> bool {
    let object = parent.map_or(Some(document), |parent| document.get(parent));
    object.and_then(|object| object.get(name)).and_then(Tree::text).is_some_and(|text| !text.is_empty())
}

pub fn detect_local(value: &Tree, document: &Tree) -> Result<ValueMeaning, String> {
    let needs = |parent, name: &str, mode| match has_text(document, parent, name) {
        true => flag("detect-local-mode", mode),
        false => {
            Err(format!("this mode needs {}{name}", parent.map_or_else(String::new, |p| format!("{p}."))))
        }
    };
    match value.text().unwrap_or_default() {
        "" => Ok(ValueMeaning::Default),
        "ClusterCIDR" => needs(None, "clusterCIDR", "cluster-cidr"),
        "NodeCIDR" => flag("detect-local-mode", "node-cidr"),
        "BridgeInterface" => needs(Some("detectLocal"), "bridgeInterface", "bridge-interface"),
        "InterfaceNamePrefix" => needs(Some("detectLocal"), "interfaceNamePrefix", "interface-name-prefix"),
        other => Err(format!(
            "{other:?} is not a mode (ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix)"
        )),
    }
}

pub fn bridge(value: &Tree, _: &Tree) -> Result<ValueMeaning, String> {
    text_flag("pod-bridge-interface", value)
}

pub fn prefix(value: &Tree, _: &Tree) -> Result<ValueMeaning, String> {
    text_flag("pod-interface-name-prefix", value)
}

pub fn cluster_cidr(value: &Tree, _: &Tree) -> Result<ValueMeaning, String> {
    text_flag("cluster-cidr", value)
}

pub fn node_port_addresses(value: &Tree, _: &Tree) -> Result<ValueMeaning, String> {
    let Tree::List(values) = value else { return Ok(ValueMeaning::Default) };
    let words: Vec<&str> = values.iter().filter_map(Tree::text).collect();
    match words.as_slice() {
        [] => Ok(ValueMeaning::Default),
        words => flag("nodeport-addresses", words.join(",")),
    }
}

pub fn oom_score(value: &Tree, _: &Tree) -> Result<ValueMeaning, String> {
    match value {
        Tree::Integer(score @ -1000..=1000) => flag("oom-score-adj", score.to_string()),
        Tree::Integer(score) => Err(format!("{score} is not between -1000 and 1000")),
        _ => Ok(ValueMeaning::Default),
    }
}
