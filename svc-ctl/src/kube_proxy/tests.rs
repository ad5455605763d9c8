//! Tests single fields of files. Whole files with their tables are in `svc-ctl/tests/config`.

use super::fields::{FIELDS, find};
use super::*;

fn verdict(fields: &str) -> Verdict {
    let text =
        format!("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n{fields}\n");
    explain(&text).unwrap().lines.remove(0).verdict
}

fn flag(fields: &str) -> Option<String> {
    match verdict(fields) {
        Verdict::Honoured(flag) => flag.map(|(name, value)| format!("{name}={value}")),
        Verdict::NoMeaning(_) => None,
        other => panic!("{fields}: {other:?}"),
    }
}

#[test]
fn every_field_has_one_row_and_a_parent() {
    for field in FIELDS {
        assert_eq!(FIELDS.iter().filter(|other| other.path == field.path).count(), 1, "{}", field.path);
        if let Some((parent, _)) = field.path.rsplit_once('.') {
            assert!(find(parent).is_some(), "{parent}");
        }
    }
}

#[test]
fn addresses_without_a_port_get_the_one_of_kube_proxy() {
    for (field, said) in [
        ("healthzBindAddress: 192.0.2.1", Some("healthz-bind-address=192.0.2.1:10256")),
        ("healthzBindAddress: '::'", Some("healthz-bind-address=[::]:10256")),
        ("metricsBindAddress: 0.0.0.0:9", Some("metrics-bind-address=0.0.0.0:9")),
        ("metricsBindAddress: ''", None),
        ("bindAddress: '::'", Some("metrics-bind-address=[::1]:10249")),
        ("bindAddress: '::'\nmetricsBindAddress: 127.0.0.1", None),
        ("bindAddress: 0.0.0.0", None),
    ] {
        assert_eq!(flag(field).as_deref(), said, "{field}");
    }
    assert!(matches!(verdict("healthzBindAddress: localhost"), Verdict::Refused(_)));
}

#[test]
fn the_masquerade_of_the_mode_in_force_counts() {
    let all = |mode, section| flag(&format!("{section}: {{masqueradeAll: true}}\nmode: {mode}"));
    assert_eq!(all("iptables", "iptables").as_deref(), Some("masquerade-all=true"));
    assert_eq!(all("nftables", "nftables").as_deref(), Some("masquerade-all=true"));
    assert_eq!((all("nftables", "iptables"), all("''", "nftables")), (None, None));
}

#[test]
fn words_of_node_port_addresses() {
    assert_eq!(flag("nodePortAddresses: []"), None);
    assert_eq!(flag("nodePortAddresses: [all]").as_deref(), Some("nodeport-addresses=all"));
    assert_eq!(flag("nodePortAddresses: [primary]").as_deref(), Some("nodeport-addresses=primary"));
    let both = "nodePortAddresses: [localhost, 192.0.2.0/24]";
    assert_eq!(flag(both).as_deref(), Some("nodeport-addresses=localhost,192.0.2.0/24"));
}

#[test]
fn values_of_another_kind_and_unknown_fields_are_named() {
    for (field, reason) in [
        ("nodePortAddresses: primary", "it is text, and should be a list of text"),
        ("bindAddressHardFail: 1", "it is a whole number, and should be true or false"),
        ("configSyncPeriod: 15", "it is a whole number, and should be a duration like 1h30m"),
        ("iptables: 5", "it is a whole number, and should be an object"),
        ("oomScoreAdj: 1001", "1001 is not between -1000 and 1000"),
        ("detectLocalMode: BridgeInterface", "this mode needs detectLocal.bridgeInterface"),
    ] {
        assert_eq!(verdict(field), Verdict::Refused(reason.to_owned()), "{field}");
    }
    assert_eq!(
        verdict("nodeportAddresses: []"),
        Verdict::Ignored("unknown field; one of that name has other capitals")
    );
    assert_eq!(verdict("colour: red"), Verdict::Ignored("unknown field"));
    assert_eq!(verdict("mode: ipvs\nmode: iptables"), Verdict::Ignored("it stands there again further down"));
    for duration in ["15m", "1h30m0.5s", "0", "0s", "-1s"] {
        let field = format!("configSyncPeriod: \"{duration}\"");
        assert!(matches!(verdict(&field), Verdict::NoMeaning(_)), "{duration}");
    }
}

#[test]
fn a_file_of_another_type_or_version_is_refused_as_a_whole() {
    for (text, reason) in [
        ("", "the file is empty"),
        (
            "apiVersion: kubeproxy.config.k8s.io/v1alpha2\nkind: KubeProxyConfiguration",
            "apiVersion kubeproxy.config.k8s.io/v1alpha2 is not known here: write the file as \
             kubeproxy.config.k8s.io/v1alpha1",
        ),
        ("apiVersion: v1\nkind: ConfigMap\ndata: {}", "this ConfigMap has no data.config.conf"),
        (
            "apiVersion: v1\nkind: Pod",
            "\"Pod\" of \"v1\" is not a KubeProxyConfiguration of kubeproxy.config.k8s.io/v1alpha1",
        ),
    ] {
        assert_eq!(explain(text), Err(reason.to_owned()), "{text}");
    }
}
