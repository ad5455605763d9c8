//! Restarts of the daemon while the API server does not send everything.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use serde_json::json;
use svc_tests::wait;

use crate::case::Case;
use crate::fixtures::{Fixtures, case_on};
use crate::link::Changing;
use crate::plane::ACCOUNTS;
use crate::testbed::Testbed;

pub fn trials(fixtures: &Arc<Fixtures>) -> Vec<Trial> {
    let relayed = |sentence, name: &'static str, act: fn(&Testbed, &Case<'_>) -> Result<()>| {
        let fixtures = Arc::clone(fixtures);
        case_on(sentence, move || Ok(Arc::new(Testbed::relayed(name, fixtures.control_plane()?)?)), act)
    };
    vec![
        relayed("a daemon that starts while the API server is away serves the pinned tables", "alone", alone),
        relayed("a daemon that may not see EndpointSlices prunes nothing (SEM-260)", "blind", blind),
    ]
}

fn alone(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(testbed, case)?;
    testbed.on_node(|_, daemon| daemon.kill())?;
    let before = testbed.everything()?;
    testbed.relay()?.shut(true);
    let changed = services.change(testbed, case)?;
    testbed.on_node(|node, daemon| daemon.start(node))?;
    for kind in ["Services", "EndpointSlices", "Node"] {
        testbed.soon_reports(kind, "")?;
    }
    unchanged(testbed, &before)?;
    testbed.relay()?.shut(false);
    testbed.ready()?;
    changed.soon_in_force(testbed, case)
}

fn blind(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(testbed, case)?;
    testbed.on_node(|_, daemon| daemon.kill())?;
    let before = testbed.everything()?;
    let (plane, name) = (testbed.plane(), &testbed.name);
    plane.kubectl(&["delete", "clusterrolebinding", name])?;
    plane.kubectl(&["create", "clusterrole", name, "--verb=list,watch", "--resource=services,nodes"])?;
    let account = format!("--serviceaccount={ACCOUNTS}:{name}");
    plane.kubectl(&["create", "clusterrolebinding", "half", "--clusterrole", name, &account])?;
    testbed.soon_cannot("endpointslices")?;
    let changed = services.change(testbed, case)?;
    testbed.on_node(|node, daemon| daemon.start(node))?;
    testbed.soon_reports("EndpointSlices", "forbidden")?;
    wait::until_true("the Services are known", Duration::from_secs(10), || {
        let status = testbed.on_node(|_, daemon| daemon.status())?;
        let complaints = &status["complaints"]["first"];
        ensure!(!complaints.to_string().contains("\"Services\""), "{complaints}");
        ensure!(status["synced"] == json!(false), "synced, but for EndpointSlices");
        Ok(true)
    })?;
    unchanged(testbed, &before)?;
    plane.create(&[testbed.binding()])?;
    testbed.ready()?;
    changed.soon_in_force(testbed, case)
}

fn unchanged(testbed: &Testbed, before: &std::collections::BTreeSet<String>) -> Result<()> {
    testbed.unnoticed()?;
    let now = testbed.everything()?;
    ensure!(now == *before, "the tables have changed: {before:?}, {now:?}");
    Ok(())
}
