//! MetalLB's objects in a cluster whose daemons have no pools of their own: installed later, edited, broken and removed.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};
use svc_tests::wait;

use crate::case::Case;
use crate::fixtures::play;
use crate::load_balancer::{LIMIT, give_rights, given, owners, soon_condition, soon_dialled, soon_given};
use crate::objects::namespace;
use crate::plane::SharedControlPlane;
use crate::testbed::Testbed;

const NAME: &str = "metallb";
const HOME: &str = "metallb-system";
const DEFINITIONS: &str = include_str!("metallb/crds.yaml");
/// Requests that one minute without MetalLB may cost a daemon: a list, a watch of the definition, and as much once more.
const MOST_REQUESTS: usize = 8;

pub fn trials() -> Vec<Trial> {
    let sentence = "pools of MetalLB give addresses that its advertisements announce, and a broken one takes none back (SEM-303)";
    vec![Trial::test(sentence, move || -> Result<(), Failed> { play(sentence, set, act) })]
}

fn set() -> Result<Arc<Testbed>> {
    let plane = Arc::new(SharedControlPlane::start(NAME)?);
    give_rights(&plane, NAME)?;
    plane.create(&[namespace(HOME)])?;
    let testbed = Testbed::with_flags(NAME, plane, &[])?;
    testbed.start_daemon_on(2, &[])?;
    Ok(Arc::new(testbed))
}

fn act(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    case.pods(&["near", "far"])?;
    let spec = json!({"type": "LoadBalancer", "selector": {"testbed": testbed.name}});
    case.service("early", &spec)?;
    let asked = asked_for_pools(testbed)?;
    ensure!(asked.len() <= MOST_REQUESTS, "without MetalLB the daemon asks {asked:?}");
    ensure!(given(case, "early")?.is_empty(), "an address without a pool");

    testbed.plane().control().apply(DEFINITIONS)?;
    let front = json!({"addresses": ["192.0.2.200/31", "2001:db8:1::200-2001:db8:1::201"]});
    soon_created(testbed, &object("IPAddressPool", "front", &front))?;
    let early = soon_given(case, "early")?;
    announced(testbed, &early)?;

    let wider = json!({"spec": {"addresses": ["192.0.2.192/28", "2001:db8:1::200/120"]}});
    patch(testbed, "ipaddresspool", "front", &wider)?;
    let with = |field: &str, value: Value| {
        let mut spec = spec.clone();
        spec[field] = value;
        spec
    };
    for (name, spec) in [
        ("one", with("allocateLoadBalancerNodePorts", json!(false))),
        ("two", with("loadBalancerClass", json!("svc/lb"))),
        ("three", spec.clone()),
    ] {
        case.service(name, &spec)?;
        let addresses = soon_given(case, name)?;
        soon_dialled(testbed, &addresses).with_context(|| name.to_owned())?;
    }
    let ports = case.get("service", "one")?["spec"]["ports"].clone();
    ensure!(ports[0]["nodePort"].is_null(), "a node port was allocated: {ports}");
    case.service("theirs", &with("loadBalancerClass", json!("example.com/lb")))?;
    ensure!(given(case, "early")? == early, "a wider pool has moved {early:?}");
    let theirs = case.get("service", "theirs")?["status"].clone();
    ensure!(theirs["conditions"].is_null() && given(case, "theirs")?.is_empty(), "{theirs}");
    of_namespace(testbed, case, &spec)?;
    broken(testbed, case, &early)?;
    removed(testbed, case)
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": kind,
        "metadata": {"name": name, "namespace": HOME},
        "spec": spec,
    })
}

/// A definition is served a moment after it was accepted.
fn soon_created(testbed: &Testbed, object: &Value) -> Result<()> {
    wait::until("the object is accepted", LIMIT, || {
        testbed.plane().create(std::slice::from_ref(object)).map(|_| Some(()))
    })
}

fn patch(testbed: &Testbed, kind: &str, name: &str, change: &Value) -> Result<()> {
    let change = change.to_string();
    testbed.plane().kubectl(&["-n", HOME, "patch", kind, name, "--type=merge", "-p", &change]).map(drop)
}

/// Paths of this daemon's requests about pools and their definition.
fn asked_for_pools(testbed: &Testbed) -> Result<Vec<String>> {
    let requests = testbed.requests()?.into_iter();
    Ok(requests.filter(|request| request.uri.contains("ipaddresspools")).map(|request| request.uri).collect())
}

/// No node announces the addresses without an advertisement, and then the node that it selects.
fn announced(testbed: &Testbed, addresses: &BTreeSet<String>) -> Result<()> {
    for node in [1, 2] {
        let label = format!("place=p{node}");
        testbed.plane().kubectl(&["label", "node", &testbed.node_name(node), &label])?;
    }
    ensure!(owners(testbed)?.is_empty(), "{:?} without an advertisement", owners(testbed)?);
    let on = |node: usize| json!({"ipAddressPools": ["front"], "nodeSelectors": [{"matchLabels": {"place": format!("p{node}")}}]});
    soon_created(testbed, &object("L2Advertisement", "all", &on(1)))?;
    for node in [1, 2, 1] {
        patch(testbed, "l2advertisement", "all", &json!({"spec": on(node)}))?;
        let name = testbed.node_name(node);
        wait::until_true(&format!("{name} answers for {addresses:?}"), LIMIT, || {
            let owners = owners(testbed)?;
            ensure!(owners.len() == 2 && owners.iter().all(|(_, owner)| *owner == name), "{owners:?}");
            Ok(true)
        })?;
        soon_dialled(testbed, addresses)?;
    }
    patch(
        testbed,
        "l2advertisement",
        "all",
        &json!({"spec": {"nodeSelectors": null, "ipAddressPools": null}}),
    )
}

/// A Service of a Namespace with a label waits for the pool that is for such Namespaces.
fn of_namespace(testbed: &Testbed, case: &Case<'_>, spec: &Value) -> Result<()> {
    testbed.plane().kubectl(&["label", "namespace", &case.namespace, "team=blue"])?;
    let blue = json!({
        "addresses": ["192.0.2.230/32", "2001:db8:1::300/128"],
        "serviceAllocation": {"priority": 1, "namespaceSelectors": [{"matchLabels": {"team": "blue"}}]},
    });
    let mut asks = case.service_object("blue", spec);
    asks["metadata"]["annotations"] = json!({"metallb.io/address-pool": "blue"});
    testbed.plane().create(&[asks])?;
    soon_condition(case, "blue", "UnknownPool")?;
    soon_created(testbed, &object("IPAddressPool", "blue", &blue))?;
    let addresses = soon_given(case, "blue")?;
    ensure!(addresses == ["192.0.2.230", "2001:db8:1::300"].map(str::to_owned).into(), "{addresses:?}");
    soon_dialled(testbed, &addresses)
}

/// A pool that is broken while the daemons run counts as before. After a restart no daemon knows its earlier form, and
/// still no Service loses its address.
fn broken(testbed: &Testbed, case: &Case<'_>, early: &BTreeSet<String>) -> Result<()> {
    let wrong = json!({"spec": {"addresses": ["192.0.2.199-192.0.2.192", "2001:db8:1::200/120"]}});
    patch(testbed, "ipaddresspool", "front", &wrong)?;
    soon_named(testbed)?;
    for node in [1, 2] {
        testbed.on_world(|world| world.daemon(node)?.kill())?;
        testbed.on_world(|world| world.restart(node))?;
    }
    soon_named(testbed)?;
    // A Service that comes now gets an address of a pool that can be used, so the allocator is at work.
    let more = json!({"addresses": ["192.0.2.231/32", "2001:db8:1::301/128"]});
    soon_created(testbed, &object("IPAddressPool", "more", &more))?;
    case.service("late", &json!({"type": "LoadBalancer", "selector": {"testbed": testbed.name}}))?;
    let late = soon_given(case, "late")?;
    ensure!(late.contains("192.0.2.231"), "{late:?}");
    ensure!(given(case, "early")? == *early, "a broken pool has taken {early:?} back");
    soon_dialled(testbed, early)?;
    let right = json!({"spec": {"addresses": ["192.0.2.192/28", "2001:db8:1::200/120"]}});
    patch(testbed, "ipaddresspool", "front", &right)?;
    soon_dialled(testbed, early)
}

/// Both daemons complain of the object and its field.
fn soon_named(testbed: &Testbed) -> Result<()> {
    for node in [1, 2] {
        testbed.on_world(|world| {
            let daemon = world.daemon(node)?;
            wait::until_true("the daemon names the broken pool", LIMIT, || {
                let complaints = serde_json::to_string(&daemon.complaints()?)?;
                let is_named = complaints.contains("IPAddressPool metallb-system/front")
                    && complaints.contains("spec.addresses")
                    && complaints.contains("is backwards");
                ensure!(is_named, "{complaints}");
                Ok(true)
            })
        })?;
    }
    Ok(())
}

/// A pool that goes takes its addresses with it, and so does the definition of all pools.
fn removed(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    testbed.plane().kubectl(&["-n", HOME, "delete", "ipaddresspool", "blue"])?;
    soon_condition(case, "blue", "UnknownPool")?;
    ensure!(given(case, "blue")?.is_empty(), "a pool that has gone has left its addresses");
    let asked = asked_for_pools(testbed)?.len();
    testbed.plane().kubectl(&["delete", "crd", "ipaddresspools.metallb.io"])?;
    wait::until_true("no Service has an address", LIMIT, || {
        let now = given(case, "early")?;
        ensure!(now.is_empty(), "{now:?}");
        Ok(true)
    })?;
    let after = asked_for_pools(testbed)?.split_off(asked);
    ensure!(after.len() <= 2 * MOST_REQUESTS, "after the definition has gone the daemon asks {after:?}");
    Ok(())
}
