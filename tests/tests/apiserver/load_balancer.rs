//! Load-balancer addresses of a cluster: two daemons, one of which gives them, and a client that dials them.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};
use svc_tests::agent::Via;
use svc_tests::topology::Family;
use svc_tests::{command, wait};

use crate::case::Case;
use crate::fixtures::play;
use crate::objects::PORT;
use crate::plane::{ACCOUNTS, ROLE, SharedControlPlane};
use crate::testbed::Testbed;

const NAME: &str = "pools";
const LEASES: &str = "svc-leases";
/// Leases: 15 s until another node gives addresses, and time for a slow machine.
pub const LIMIT: Duration = Duration::from_secs(60);

pub fn trials() -> Vec<Trial> {
    let sentence = "addresses of pools are given by one node, answered for by one, and outlive both and the API server (SEM-300)";
    vec![Trial::test(sentence, move || -> Result<(), Failed> { play(sentence, set, act) })]
}

fn configuration() -> PathBuf {
    std::env::temp_dir().join(format!("svc-lb-{}.conf", std::process::id()))
}

/// The pool has these ranges.
pub fn write_pool(path: &Path, addresses: &str) -> Result<()> {
    let text = format!(
        "apiVersion: svc/v1alpha1\nkind: SvcConfiguration\nloadBalancer:\n  pools:\n  - {{name: front, addresses: [{addresses}]}}\n"
    );
    let beside = path.with_extension("new");
    fs::write(&beside, text).and_then(|()| fs::rename(&beside, path)).context("write the pools")
}

fn set() -> Result<Arc<Testbed>> {
    let plane = Arc::new(SharedControlPlane::start(NAME)?);
    give_rights(&plane, NAME)?;
    let path = configuration();
    write_pool(&path, "192.0.2.200/31, \"2001:db8:1::200/127\"")?;
    let path = path.display().to_string();
    let flags = ["--config", path.as_str()];
    let testbed = Testbed::with_flags(NAME, plane, &flags)?;
    testbed.start_daemon_on(2, &flags)?;
    Ok(Arc::new(testbed))
}

/// The rights that the chart gives where there are pools.
pub fn give_rights(plane: &SharedControlPlane, account: &str) -> Result<()> {
    let mut helm = plane.control().helm()?;
    helm.args(["template", "svc", "deploy/chart", "--namespace=kube-system", "--set=rbac.loadBalancer=true"]);
    let rendered = command::run(helm.arg("--show-only=templates/rbac.yaml"))?;
    plane.control().apply(&rendered)?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": account, "namespace": LEASES},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "svc"},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": ACCOUNTS}],
    });
    plane.create(&[binding]).map(drop)
}

fn act(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    case.pods(&["near", "far"])?;
    let spec = json!({"type": "LoadBalancer", "selector": {"testbed": testbed.name}});
    for name in ["one", "two"] {
        case.service(name, &spec)?;
    }
    let one = soon_given(case, "one")?;
    let two = soon_given(case, "two")?;
    ensure!(one.is_disjoint(&two), "{one:?} and {two:?}");
    let status = case.get("service", "one")?["status"].clone();
    ensure!(status["loadBalancer"]["ingress"][0]["ipMode"] == "VIP", "{status}");
    soon_has_event(case, "one", "IPAllocated")?;

    leases(testbed)?;
    forbidden(testbed, case, &spec)?;

    case.service("three", &spec)?;
    soon_condition(case, "three", "FamilyUnsatisfied")?;
    soon_has_event(case, "three", "AllocationFailed")?;
    case.kubectl(&["delete", "service", "one"])?;
    ensure!(soon_given(case, "three")? == one, "three has another address than the one that became free");

    soon_dialled(testbed, &two).context("at first")?;
    api_away(testbed, &two)?;
    other_allocator(testbed, case, &spec)?;
    edited(testbed, case, &two)
}

/// Each node's Lease belongs to its Node, and the daemon may write no Lease but svc's.
fn leases(testbed: &Testbed) -> Result<()> {
    for node in [1, 2].map(|node| testbed.node_name(node)) {
        let owner = "jsonpath={.metadata.ownerReferences[0].uid}";
        let lease = ["-n", LEASES, "get", "lease", &format!("svc-node-{node}"), "-o", owner];
        let uid = testbed.plane().kubectl(&["get", "node", &node, "-o", "jsonpath={.metadata.uid}"])?;
        wait::until_true("the Lease of a node belongs to its Node", LIMIT, || {
            Ok(testbed.plane().kubectl(&lease)? == uid)
        })?;
    }
    let account = format!("--as=system:serviceaccount:{ACCOUNTS}:{NAME}");
    let may = |verb: &str, lease: &str, namespace: &str| {
        // kubectl fails if the answer is no.
        let question = ["auth", "can-i", verb, lease, "-n", namespace, &account];
        testbed.plane().kubectl(&question).is_ok_and(|answer| answer.trim() == "yes")
    };
    ensure!(may("patch", "leases/any", LEASES) && may("update", "leases/svc-allocator", LEASES));
    for (verb, lease, namespace) in [
        ("update", "leases/svc-allocator", "kube-system"),
        ("patch", "leases/kube-scheduler", "kube-system"),
        ("create", "leases", "kube-system"),
        ("list", "leases", "kube-system"),
        ("update", "leases/any", LEASES),
        ("delete", "leases/any", LEASES),
    ] {
        ensure!(!may(verb, lease, namespace), "the daemon may {verb} {lease} in {namespace}");
    }
    Ok(())
}

/// A status that may not be written is a complaint with its cure, and is written once the right is back.
fn forbidden(testbed: &Testbed, case: &Case<'_>, spec: &Value) -> Result<()> {
    let plane = testbed.plane();
    let rules = plane.kubectl(&["get", "clusterrole", ROLE, "-o", "jsonpath={.rules}"])?;
    let all: Vec<Value> = serde_json::from_str(&rules)?;
    let others: Vec<&Value> = all.iter().filter(|rule| rule["resources"][0] != "services/status").collect();
    ensure!(others.len() + 1 == all.len(), "{rules}");
    let set = |rules: Value| {
        let patch = json!({"rules": rules}).to_string();
        plane.kubectl(&["patch", "clusterrole", ROLE, "--type=merge", "-p", &patch])
    };
    case.kubectl(&["delete", "service", "one"])?;
    set(json!(others))?;
    case.service("one", spec)?;
    let node = if holder(testbed)? == testbed.node_name(1) { 1 } else { 2 };
    testbed.on_world(|world| {
        let daemon = world.daemon(node)?;
        wait::until_true("the node that gives addresses names the missing right", LIMIT, || {
            let complaints = serde_json::to_string(&daemon.complaints()?)?;
            ensure!(complaints.contains("rbac.loadBalancer"), "{complaints}");
            Ok(true)
        })
    })?;
    ensure!(given(case, "one")?.is_empty(), "one has an address that may not be written");
    set(json!(all))?;
    soon_given(case, "one").map(drop)
}

/// Without the API server longer than any Lease lasts: the owners stay, and the client notices nothing.
fn api_away(testbed: &Testbed, addresses: &BTreeSet<String>) -> Result<()> {
    let before = owners(testbed)?;
    testbed.plane().control().freeze_apiserver(true)?;
    let until = Instant::now() + Duration::from_secs(20);
    let mut failed = Vec::new();
    while Instant::now() < until {
        failed.extend(addresses.iter().filter_map(|ip| dial(testbed, ip).err()));
    }
    testbed.plane().control().freeze_apiserver(false)?;
    ensure!(failed.is_empty(), "without the API server: {failed:?}");
    ensure!(owners(testbed)? == before, "{:?} answer instead of {before:?}", owners(testbed)?);
    Ok(())
}

/// The daemon that gives addresses dies, and the other one gives the next.
fn other_allocator(testbed: &Testbed, case: &Case<'_>, spec: &Value) -> Result<()> {
    let holder = holder(testbed)?;
    let node = if holder == testbed.node_name(1) { 1 } else { 2 };
    case.kubectl(&["delete", "service", "three"])?;
    testbed.on_world(|world| world.daemon(node)?.kill())?;
    let died = Instant::now();
    case.service("four", spec)?;
    soon_given(case, "four")?;
    eprintln!("another node gave an address {} ms after the first died", died.elapsed().as_millis());
    ensure!(self::holder(testbed)? != holder, "{holder} has died and holds the Lease");
    testbed.on_world(|world| world.restart(node))
}

/// A pool with an error takes no address back, a wider pool moves no Service, and another pool moves every Service.
fn edited(testbed: &Testbed, case: &Case<'_>, two: &BTreeSet<String>) -> Result<()> {
    let path = configuration();
    write_pool(&path, "192.0.2.1/24")?;
    for node in [1, 2] {
        testbed.on_world(|world| {
            let daemon = world.daemon(node)?;
            wait::until_true("the daemon names the pool with an error", LIMIT, || {
                let complaints = serde_json::to_string(&daemon.complaints()?)?;
                ensure!(complaints.contains("loadBalancer.pools[0]"), "{complaints}");
                Ok(true)
            })
        })?;
    }
    case.service("five", &json!({"type": "LoadBalancer", "selector": {"testbed": testbed.name}}))?;
    soon_condition(case, "five", "FamilyUnsatisfied")?;
    ensure!(given(case, "two")? == *two, "a pool with an error has taken {two:?} back");

    write_pool(&path, "192.0.2.192/27, \"2001:db8:1::200/120\"")?;
    soon_given(case, "five")?;
    ensure!(given(case, "two")? == *two, "a wider pool has moved {two:?}");
    write_pool(&path, "192.0.2.224/28, \"2001:db8:1::300/124\"")?;
    wait::until_true("the Services have addresses of the other pool", LIMIT, || {
        let now = given(case, "two")?;
        ensure!(now.len() == 2 && now.is_disjoint(two), "two has {now:?}");
        Ok(true)
    })?;
    let now = given(case, "two")?;
    soon_dialled(testbed, &now).context("after the pool has changed")?;
    fs::remove_file(&path).context("remove the pools")
}

pub fn given(case: &Case<'_>, service: &str) -> Result<BTreeSet<String>> {
    let object = case.get("service", service)?;
    let ingress = object["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
    Ok(ingress.iter().filter_map(|entry| Some(entry["ip"].as_str()?.to_owned())).collect())
}

/// Waits until the Service has an address of each family.
pub fn soon_given(case: &Case<'_>, service: &str) -> Result<BTreeSet<String>> {
    wait::until(&format!("{service} has addresses"), LIMIT, || {
        let now = given(case, service)?;
        Ok((now.len() == Family::BOTH.len()).then_some(now))
    })
}

pub fn soon_condition(case: &Case<'_>, service: &str, reason: &str) -> Result<()> {
    wait::until_true(&format!("{service} gets the reason {reason}"), LIMIT, || {
        let conditions = case.get("service", service)?["status"]["conditions"].clone();
        let all = conditions.as_array().into_iter().flatten();
        Ok(all.into_iter().any(|c| c["type"] == "svc/LoadBalancerIP" && c["reason"] == reason))
    })
}

fn soon_has_event(case: &Case<'_>, service: &str, reason: &str) -> Result<()> {
    wait::until_true(&format!("an Event on {service} has the reason {reason}"), LIMIT, || {
        let selector = format!("involvedObject.name={service},reason={reason}");
        Ok(case.kubectl(&["get", "events", "--field-selector", &selector, "-o", "name"])?.contains("event/"))
    })
}

fn holder(testbed: &Testbed) -> Result<String> {
    let path = "jsonpath={.spec.holderIdentity}";
    testbed.plane().kubectl(&["-n", LEASES, "get", "lease", "svc-allocator", "-o", path])
}

fn dial(testbed: &Testbed, ip: &str) -> Result<()> {
    testbed.agent("client")?.ask(Via::Tcp, SocketAddr::new(ip.parse()?, PORT), 1).map(drop)
}

pub fn soon_dialled(testbed: &Testbed, addresses: &BTreeSet<String>) -> Result<()> {
    addresses.iter().try_for_each(|ip| {
        wait::until_true(&format!("{ip} is answered"), LIMIT, || dial(testbed, ip).map(|()| true))
    })
}

/// Each address and the node that answers for it, as both daemons name it.
pub fn owners(testbed: &Testbed) -> Result<Vec<(String, String)>> {
    let of = |node: usize| {
        testbed.on_world(|world| {
            let (host, daemon) = world.on_node(node)?;
            let mut lb = host.host.command(daemon.binary())?;
            let text = command::run(lb.args(["lb", "-o", "json", "--run-dir"]).arg(daemon.run_dir()))?;
            let report: Value = serde_json::from_str(&text)?;
            let rows = report["addresses"].as_array().context("no addresses")?.clone();
            let row = |row: &Value| {
                let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
                (text("address"), text("owner"))
            };
            Ok(rows.iter().map(row).collect::<Vec<_>>())
        })
    };
    wait::until("both daemons name the same owners", LIMIT, || {
        let (first, second) = (of(1)?, of(2)?);
        if first.iter().any(|(_, owner)| owner.is_empty()) {
            bail!("{first:?}");
        }
        Ok((first == second).then_some(first))
    })
}
