//! The checks of a healthy and of a broken node, as `svc-ctl/tests/check` has them.

use super::cluster::{ClusterFacts, Permission};
use super::coexistence::{CoexistenceFacts, Hook, InterfaceFact};
use super::daemon::DaemonFacts;
use super::host::HostFacts;
use super::*;
use crate::cli::check::table;
use crate::dataplane::features::Features;
use crate::observe::status::{ComplaintStatus, ComplaintsStatus, StatusFile, TableStatus};

fn expect(name: &str, facts: &Facts) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check").join(name);
    let text = table(&findings(facts));
    if std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
        std::fs::write(&file, &text).unwrap();
    }
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(known == text, "{} is out of date (UPDATE_EXPECT=1 rewrites it):\n{text}", file.display());
}

fn interface(name: &str, role: &'static str, doubt: Option<&str>) -> InterfaceFact {
    InterfaceFact { name: name.to_owned(), role, doubt: doubt.map(ToOwned::to_owned) }
}

fn hook(direction: &'static str, programs: &[(&str, bool)]) -> Hook {
    let programs = programs.iter().map(|(name, is_ours)| ((*name).to_owned(), *is_ours)).collect();
    Hook { interface: "eth0".to_owned(), direction, programs }
}

fn right(name: &str, is_allowed: bool, is_needed: bool) -> Permission {
    Permission { name: name.to_owned(), is_allowed, is_needed }
}

fn healthy() -> Facts {
    let status = StatusFile {
        pid: 7,
        synced: true,
        generation: 12,
        tables: vec![TableStatus { table: "flows (IPv4)".to_owned(), used: 79, capacity: 100 }],
        ..StatusFile::default()
    };
    Facts {
        host: HostFacts {
            kernel: "6.16.0".to_owned(),
            features: Features { tcx: true, csum_ipv6_flag: true, fib_source: true, set_retval: true },
            map: Ok(()),
            netns_cookie: Ok(()),
            has_btf: true,
            cgroup: Ok(Some("/sys/fs/cgroup".to_owned())),
            pin_dir: ("/sys/fs/bpf".to_owned(), true),
            forwarding: [Some(true), Some(true)],
            ephemeral_node_ports: None,
            shared_snat_ports: None,
        },
        coexistence: CoexistenceFacts {
            hooks: vec![hook("ingress", &[("uplink_ingress", true)])],
            interfaces: vec![
                interface("eth0", "uplink", None),
                interface("cni0", "pod-bridge", None),
                interface("veth1", "pod", None),
            ],
            ..CoexistenceFacts::default()
        },
        cluster: ClusterFacts {
            is_skipped: None,
            server: Ok("v1.36.3".to_owned()),
            rights: vec![right("list services", true, true), right("create events", true, false)],
        },
        daemon: DaemonFacts { is_running: true, status: Some(status), now: 1_000_000 },
        nodes: nodes::NodeFacts::NotAsked,
    }
}

fn broken() -> Facts {
    let complaint = ComplaintStatus {
        object: "Service shop/web".to_owned(),
        field: "spec.type".to_owned(),
        reason: "\"Odd\" is not a type".to_owned(),
        kind: "refused".to_owned(),
    };
    let status = StatusFile {
        synced: true,
        pending_since_unix_ms: Some(900_000),
        last_error: Some("no room".to_owned()),
        drifts: 2,
        unserved: 3,
        tables: vec![TableStatus { table: "flows (IPv4)".to_owned(), used: 80, capacity: 100 }],
        complaints: ComplaintsStatus { total: 9, first: vec![complaint], ..ComplaintsStatus::default() },
        ..StatusFile::default()
    };
    Facts {
        host: HostFacts {
            kernel: "5.10.0".to_owned(),
            features: Features::default(),
            map: Err("Operation not permitted (os error 1)".to_owned()),
            netns_cookie: Err("Protocol not available (os error 92)".to_owned()),
            has_btf: false,
            cgroup: Err("--cgroup: /sys/fs/cgroup is not the node's cgroup".to_owned()),
            pin_dir: ("/sys/fs".to_owned(), false),
            forwarding: [Some(false), Some(false)],
            ephemeral_node_ports: Some((30_000, 32_767)),
            shared_snat_ports: Some((
                "net/ipv4/ip_local_port_range".to_owned(),
                "1024-65535: the node's own connections use all of the masquerade's ports".to_owned(),
            )),
        },
        coexistence: CoexistenceFacts {
            kube_proxies: vec![42],
            proxy_tables: vec!["nat".to_owned()],
            legacy_tables: vec!["nat".to_owned(), "filter (IPv6)".to_owned()],
            ipvs_interfaces: vec!["kube-ipvs0".to_owned()],
            closed_chains: vec![("filter FORWARD".to_owned(), "what is forwarded is dropped".to_owned())],
            hooks: vec![
                hook("ingress", &[("cil_from_netdev", false), ("uplink_ingress", true)]),
                hook("egress", &[("uplink_egress", true), ("monitor", false)]),
                hook(coexistence::XDP, &[("xdp_dispatcher", false)]),
            ],
            interfaces: vec![interface("cali1", "pod", Some("it has an address of the node"))],
        },
        cluster: ClusterFacts {
            is_skipped: None,
            server: Ok("v1.36.3".to_owned()),
            rights: vec![right("list services", false, true), right("create events", false, false)],
        },
        daemon: DaemonFacts { is_running: true, status: Some(status), now: 1_000_000 },
        nodes: nodes::NodeFacts::NotAsked,
    }
}

#[test]
fn a_healthy_node_passes_every_check() {
    let facts = healthy();
    assert!(findings(&facts).iter().all(|finding| finding.verdict == Verdict::Pass));
    expect("healthy.txt", &facts);
}

#[test]
fn the_check_of_a_broken_node_names_every_remedy() {
    let facts = broken();
    let all = findings(&facts);
    let passed = all.iter().filter(|finding| finding.verdict == Verdict::Pass);
    assert_eq!(passed.map(|finding| finding.name).collect::<Vec<_>>(), ["pods", "api server"]);
    let without_cure = all.iter().filter(|f| f.verdict != Verdict::Pass && f.cure.is_empty());
    assert!(without_cure.map(|finding| finding.name).all(|name| name == "complaints"));
    expect("broken.txt", &facts);
}

#[test]
fn a_check_before_the_start_names_the_facts_that_it_could_not_read() {
    let mut facts = healthy();
    facts.daemon = DaemonFacts::default();
    facts.cluster.is_skipped = Some("no API server is named: nothing was asked".to_owned());
    facts.host.cgroup = Ok(None);
    facts.host.forwarding[1] = None;
    facts.coexistence.interfaces.clear();
    expect("preflight.txt", &facts);
}
