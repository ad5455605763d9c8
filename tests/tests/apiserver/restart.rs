//! The daemon starts anew while the API server does not tell it everything.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use serde_json::json;
use svc_tests::wait;

use crate::case::Case;
use crate::link::Changing;
use crate::plane::ACCOUNTS;
use crate::stage::Stage;
use crate::theatre::{Theatre, case_on};

pub fn trials(theatre: &Arc<Theatre>) -> Vec<Trial> {
    let relayed = |sentence, name: &'static str, act: fn(&Stage, &Case<'_>) -> Result<()>| {
        let theatre = Arc::clone(theatre);
        case_on(sentence, move || Ok(Arc::new(Stage::relayed(name, theatre.calm()?)?)), act)
    };
    vec![
        relayed(
            "a daemon that starts while the API server is away goes on with what is pinned",
            "alone",
            alone,
        ),
        relayed("a daemon that may not see EndpointSlices prunes nothing (SEM-260)", "blind", blind),
    ]
}

fn alone(stage: &Stage, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(stage, case)?;
    stage.on_node(|_, daemon| daemon.kill())?;
    let before = stage.everything()?;
    stage.relay()?.shut(true);
    let changed = services.change(stage, case)?;
    stage.on_node(|node, daemon| daemon.start(node))?;
    for kind in ["Services", "EndpointSlices", "Node"] {
        stage.soon_told(kind, "")?;
    }
    unchanged(stage, &before)?;
    stage.relay()?.shut(false);
    stage.ready()?;
    changed.soon_in_force(stage, case)
}

fn blind(stage: &Stage, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(stage, case)?;
    stage.on_node(|_, daemon| daemon.kill())?;
    let before = stage.everything()?;
    let (plane, name) = (stage.plane(), &stage.name);
    plane.kubectl(&["delete", "clusterrolebinding", name])?;
    plane.kubectl(&["create", "clusterrole", name, "--verb=list,watch", "--resource=services,nodes"])?;
    let account = format!("--serviceaccount={ACCOUNTS}:{name}");
    plane.kubectl(&["create", "clusterrolebinding", "half", "--clusterrole", name, &account])?;
    stage.soon_cannot("endpointslices")?;
    let changed = services.change(stage, case)?;
    stage.on_node(|node, daemon| daemon.start(node))?;
    stage.soon_told("EndpointSlices", "forbidden")?;
    wait::until_true("the Services are known", Duration::from_secs(10), || {
        let status = stage.on_node(|_, daemon| daemon.status())?;
        let complaints = &status["complaints"]["first"];
        ensure!(!complaints.to_string().contains("\"Services\""), "{complaints}");
        ensure!(status["synced"] == json!(false), "synced, but for EndpointSlices");
        Ok(true)
    })?;
    unchanged(stage, &before)?;
    plane.create(&[stage.binding()])?;
    stage.ready()?;
    changed.soon_in_force(stage, case)
}

fn unchanged(stage: &Stage, before: &std::collections::BTreeSet<String>) -> Result<()> {
    stage.unnoticed()?;
    let now = stage.everything()?;
    ensure!(now == *before, "the tables have changed: {before:?}, {now:?}");
    Ok(())
}
