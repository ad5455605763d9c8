//! Who the daemon is to the API server and what it may: tokens and roles that change while it runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use svc_tests::wait;

use crate::case::Case;
use crate::link::Changing;
use crate::plane::{ACCOUNTS, ROLE};
use crate::stage::{CHANGE_LIMIT, Stage};
use crate::theatre::{Theatre, case_on};

/// The token's file is read again after this time, and after this time the API server forgets that a token was good.
const TOKEN_LIMIT: Duration = Duration::from_secs(75);

pub fn trials(theatre: &Arc<Theatre>) -> Vec<Trial> {
    let relayed = |sentence, name: &'static str, act: fn(&Stage, &Case<'_>) -> Result<()>| {
        let theatre = Arc::clone(theatre);
        case_on(sentence, move || Ok(Arc::new(Stage::relayed(name, theatre.calm()?)?)), act)
    };
    let [quiet, quiet_too, quiet_for_sctp, quiet_for_start] = [theatre; 4].map(Arc::clone);
    vec![
        relayed("a token that is replaced is taken up before the old one ends", "token", token),
        relayed("rights that are taken away for a while are missed by nobody", "rights", rights),
        case_on(
            "what the daemon has to tell of a Service is an Event on it",
            move || quiet_too.quiet(),
            event,
        ),
        case_on(
            "what is not done for SCTP is an Event on its Service (SEM-010)",
            move || quiet_for_sctp.quiet(),
            sctp,
        ),
        case_on(
            "kubectl describe shows on the Node that svc has started (SEM-252)",
            move || quiet_for_start.quiet(),
            started,
        ),
        case_on(
            "the shipped role gives what the daemon asks for and nothing else (SEM-251)",
            move || quiet.quiet(),
            role,
        ),
    ]
}

/// A token that ends with its Secret.
fn bound_token(stage: &Stage, secret: &str) -> Result<String> {
    let plane = stage.plane();
    let metadata = json!({"name": secret, "namespace": ACCOUNTS});
    plane.create(&[json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})])?;
    let bound = ["--bound-object-kind=Secret", "--bound-object-name", secret];
    let token = plane.kubectl(&[&["-n", ACCOUNTS, "create", "token", &stage.name], &bound[..]].concat())?;
    Ok(token.trim().to_owned())
}

fn token(stage: &Stage, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(stage, case)?;
    stage.on_node(|_, daemon| daemon.kill())?;
    stage.write_token(&bound_token(stage, "first")?)?;
    stage.on_node(|node, daemon| daemon.start(node))?;
    stage.ready()?;
    let old = last_credentials(stage)?;

    stage.write_token(&bound_token(stage, "second")?)?;
    wait::until_true("every watch comes with the new token", TOKEN_LIMIT, || {
        stage.unnoticed()?;
        // Watches that are cut at once, time after time, come again after longer and longer pauses.
        ensure!(stage.follows_everything()?, "the watches are being taken up");
        stage.relay()?.cut_after(0);
        let now = last_credentials(stage)?;
        ensure!(now.is_disjoint(&old), "the last came with {now:?}, the old one was {old:?}");
        Ok(true)
    })?;

    stage.plane().kubectl(&["-n", ACCOUNTS, "delete", "secret", "first"])?;
    stage.relay()?.cut_after(0);
    let changed = services.change(stage, case)?;
    changed.soon_in_force(stage, case)
}

/// The tokens of the last request for each kind of object.
fn last_credentials(stage: &Stage) -> Result<BTreeSet<String>> {
    let requests = stage.requests()?;
    let last = |kind: &str| requests.iter().rfind(|request| request.resource == kind);
    let kinds = ["services", "endpointslices", "nodes"];
    Ok(kinds.into_iter().filter_map(last).map(|request| request.credential.clone()).collect())
}

fn rights(stage: &Stage, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(stage, case)?;
    stage.plane().kubectl(&["delete", "clusterrolebinding", &stage.name])?;
    // The authorizer has heard of it when it refuses.
    stage.soon_cannot("endpointslices")?;
    stage.relay()?.cut_after(0);
    for kind in ["Services", "EndpointSlices", "Node"] {
        stage.soon_told(kind, "forbidden")?;
    }
    let before = stage.everything()?;
    let changed = services.change(stage, case)?;
    stage.unnoticed()?;
    ensure!(stage.everything()? == before, "the tables have changed");
    stage.plane().create(&[stage.binding()]).map(drop)?;
    changed.soon_in_force(stage, case)
}

fn role(stage: &Stage, _case: &Case<'_>) -> Result<()> {
    let role: Value =
        serde_json::from_str(&stage.plane().kubectl(&["get", "clusterrole", ROLE, "-o", "json"])?)?;
    let mut given = BTreeSet::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        for (verb, resource) in pairs(&rule["verbs"], &rule["resources"]) {
            given.insert(format!("{verb} {resource}"));
        }
    }
    // A list is asked for where lists cannot be streamed; the server with that switched off is another.
    let kinds = ["services", "endpointslices", "nodes"];
    let needed = kinds.into_iter().flat_map(|kind| [format!("list {kind}"), format!("watch {kind}")]);
    let more = ["create events", "get services"];
    // With `--service-cidr cluster` alone.
    let ranges = ["list servicecidrs", "watch servicecidrs"];
    let more = more.into_iter().chain(ranges).map(str::to_owned);
    ensure!(given == needed.chain(more).collect(), "the role gives {given:?}");
    let asked = stage.requests()?;
    let refused: Vec<_> = asked.iter().filter(|request| request.code == 403).collect();
    ensure!(refused.is_empty(), "the daemon was refused {refused:?}");
    let watched: BTreeSet<_> =
        asked.iter().filter(|request| request.verb == "watch").map(|r| &r.resource).collect();
    ensure!(watched.len() == kinds.len(), "the daemon watches {watched:?}");
    Ok(())
}

/// A health check node port that somebody else has.
fn event(stage: &Stage, case: &Case<'_>) -> Result<()> {
    const TAKEN: u16 = 32001;
    stage.agent("node1")?.serve(TAKEN)?;
    case.service(
        "web",
        &json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": TAKEN}),
    )?;
    soon_told(case, "web", &[&TAKEN.to_string()])
}

fn started(stage: &Stage, _case: &Case<'_>) -> Result<()> {
    let nodes = stage.plane().kubectl(&["get", "nodes", "-o", "name"])?;
    wait::until_true("a Node has the Event", CHANGE_LIMIT, || {
        let described: Result<Vec<_>> =
            nodes.split_whitespace().map(|node| stage.plane().kubectl(&["describe", node])).collect();
        let described = described?;
        let is_told =
            |text: &String| text.contains("Starting") && text.contains("serves Services on this node");
        ensure!(described.iter().any(is_told), "{described:?}");
        Ok(true)
    })
}

fn sctp(_stage: &Stage, case: &Case<'_>) -> Result<()> {
    case.service("media", &json!({"ports": [{"port": 7777, "protocol": "SCTP"}], "type": "NodePort"}))?;
    soon_told(case, "media", &["SctpFromNodesNotServed", "SctpFragmentsDropped", "7777/SCTP"])
}

/// The Events on a Service come to have all these words. They are found by its uid, as `kubectl describe` does.
fn soon_told(case: &Case<'_>, service: &str, words: &[&str]) -> Result<()> {
    let uid = case.kubectl(&["get", "service", service, "-o", "jsonpath={.metadata.uid}"])?;
    let of_service = format!("involvedObject.uid={}", uid.trim());
    wait::until_true("the Service has Events that say so", CHANGE_LIMIT, || {
        let events = case.kubectl(&["get", "events", "--field-selector", &of_service])?;
        ensure!(words.iter().all(|word| events.contains(word)), "its Events are: {events}");
        Ok(true)
    })
}

fn pairs<'a>(verbs: &'a Value, resources: &'a Value) -> impl Iterator<Item = (&'a str, &'a str)> {
    let words = |value: &'a Value| value.as_array().into_iter().flatten().filter_map(Value::as_str);
    words(verbs).flat_map(move |verb| words(resources).map(move |resource| (verb, resource)))
}
