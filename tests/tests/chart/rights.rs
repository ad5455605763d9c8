//! The rights that the chart gives, one by one, and their lines in `docs/security.md`.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use svc_tests::run_name::workspace_dir;

use crate::helm;

/// Verb, resource, the object's name if the right is for one object, and the namespace if it is for one namespace.
const ALWAYS: [&str; 10] = [
    "create events",
    "get services",
    "list endpointslices",
    "list nodes",
    "list servicecidrs",
    "list services",
    "watch endpointslices",
    "watch nodes",
    "watch servicecidrs",
    "watch services",
];
/// Kinds of MetalLB, each with a definition.
const METALLB: [&str; 5] =
    ["bgpadvertisements", "bgppeers", "communities", "ipaddresspools", "l2advertisements"];
const WITH_POOLS: [&str; 9] = [
    "create leases in svc-leases",
    "get leases/svc-allocator in svc-leases",
    "list leases in svc-leases",
    "list namespaces",
    "patch leases in svc-leases",
    "patch services/status",
    "update leases/svc-allocator in svc-leases",
    "watch leases in svc-leases",
    "watch namespaces",
];
/// Lines of the table in `docs/security.md`.
const DOCUMENTED: [&str; 5] = [
    "| list, watch | MetalLB's IPAddressPools, L2Advertisements, BGPPeers, BGPAdvertisements and Communities, and their definitions |",
    "| list, watch | Namespaces |",
    "| patch | the status of Services |",
    "| list, watch, create, patch | Leases in the namespace `svc-leases` |",
    "| get, update | the Lease `svc-allocator` in the namespace `svc-leases` |",
];

pub fn trials() -> Vec<Trial> {
    vec![Trial::test("rbac.loadBalancer gives the rights that docs/security.md names and no others", || {
        Ok(rights()?)
    })]
}

fn rights() -> Result<()> {
    let set = |rights: &[&str]| rights.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let without = given("{}")?;
    ensure!(without == set(&ALWAYS), "without pools: {without:?}");
    let with = given("{rbac: {loadBalancer: true}}")?;
    let of_metallb = METALLB.iter().flat_map(|kind| {
        let definition = format!("customresourcedefinitions/{kind}.metallb.io");
        ["list", "watch"]
            .into_iter()
            .flat_map(move |verb| [format!("{verb} {kind}"), format!("{verb} {definition}")])
    });
    let mut wanted = set(&[&ALWAYS[..], &WITH_POOLS].concat());
    wanted.extend(of_metallb);
    ensure!(with == wanted, "with pools: {with:?}");
    let docs = fs::read_to_string(workspace_dir().join("docs/security.md")).context("docs/security.md")?;
    for line in DOCUMENTED {
        ensure!(docs.contains(line), "docs/security.md does not say {line}");
    }
    Ok(())
}

fn given(values: &str) -> Result<BTreeSet<String>> {
    let mut given = BTreeSet::new();
    for object in helm::objects(&helm::template(values, &[])?)? {
        let place = match object["kind"].as_str() {
            Some("ClusterRole") => String::new(),
            Some("Role") => {
                format!(" in {}", object["metadata"]["namespace"].as_str().context("no namespace")?)
            }
            _ => continue,
        };
        for rule in object["rules"].as_array().context("no rules")? {
            let words = |key: &str| {
                let list = rule[key].as_array().into_iter().flatten();
                list.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
            };
            let named = words("resourceNames");
            let names = if named.is_empty() {
                vec![String::new()]
            } else {
                named.into_iter().map(|name| format!("/{name}")).collect()
            };
            for verb in words("verbs") {
                for resource in words("resources") {
                    given.extend(names.iter().map(|name| format!("{verb} {resource}{name}{place}")));
                }
            }
        }
    }
    Ok(given)
}
