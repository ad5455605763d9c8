//! The daemon's identity and rights: tokens and roles that change while it runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use svc_tests::wait;

use crate::case::Case;
use crate::fixtures::{Fixtures, case_on};
use crate::link::Changing;
use crate::plane::{ACCOUNTS, ROLE};
use crate::testbed::{CHANGE_LIMIT, Testbed};

/// After this time the daemon reads the token's file again, and the API server forgets that a token was valid.
const TOKEN_LIMIT: Duration = Duration::from_secs(75);

pub fn trials(fixtures: &Arc<Fixtures>) -> Vec<Trial> {
    let relayed = |sentence, name: &'static str, act: fn(&Testbed, &Case<'_>) -> Result<()>| {
        let fixtures = Arc::clone(fixtures);
        case_on(sentence, move || Ok(Arc::new(Testbed::relayed(name, fixtures.control_plane()?)?)), act)
    };
    let [for_token, for_event, for_sctp, for_start] = [fixtures; 4].map(Arc::clone);
    vec![
        relayed("a replaced token is used before the old one expires", "token", token),
        relayed("rights that are revoked for a while disturb no traffic", "rights", rights),
        case_on("a complaint about a Service is an Event on it", move || for_event.shared(), event),
        case_on("an SCTP limitation is an Event on its Service (SEM-010)", move || for_sctp.shared(), sctp),
        case_on(
            "kubectl describe shows on the Node that svc has started (SEM-252)",
            move || for_start.shared(),
            started,
        ),
        case_on(
            "the shipped role has the rights that the daemon needs and no others (SEM-251)",
            move || for_token.shared(),
            role,
        ),
    ]
}

/// A token bound to its Secret.
fn bound_token(testbed: &Testbed, secret: &str) -> Result<String> {
    let plane = testbed.plane();
    let metadata = json!({"name": secret, "namespace": ACCOUNTS});
    plane.create(&[json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})])?;
    let bound = ["--bound-object-kind=Secret", "--bound-object-name", secret];
    let token = plane.kubectl(&[&["-n", ACCOUNTS, "create", "token", &testbed.name], &bound[..]].concat())?;
    Ok(token.trim().to_owned())
}

fn token(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(testbed, case)?;
    testbed.on_node(|_, daemon| daemon.kill())?;
    testbed.write_token(&bound_token(testbed, "first")?)?;
    testbed.on_node(|node, daemon| daemon.start(node))?;
    testbed.ready()?;
    let old = last_credentials(testbed)?;

    testbed.write_token(&bound_token(testbed, "second")?)?;
    wait::until_true("every watch comes with the new token", TOKEN_LIMIT, || {
        testbed.unnoticed()?;
        // Watches that are cut again and again are resumed after longer and longer pauses.
        ensure!(testbed.follows_everything()?, "the watches are being taken up");
        testbed.relay()?.cut_after(0);
        let now = last_credentials(testbed)?;
        ensure!(now.is_disjoint(&old), "the last came with {now:?}, the old one was {old:?}");
        Ok(true)
    })?;

    testbed.plane().kubectl(&["-n", ACCOUNTS, "delete", "secret", "first"])?;
    testbed.relay()?.cut_after(0);
    let changed = services.change(testbed, case)?;
    changed.soon_in_force(testbed, case)
}

/// The tokens of the last request for each kind of object.
fn last_credentials(testbed: &Testbed) -> Result<BTreeSet<String>> {
    let requests = testbed.requests()?;
    let last = |kind: &str| requests.iter().rfind(|request| request.resource == kind);
    let kinds = ["services", "endpointslices", "nodes"];
    Ok(kinds.into_iter().filter_map(last).map(|request| request.credential.clone()).collect())
}

fn rights(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(testbed, case)?;
    testbed.plane().kubectl(&["delete", "clusterrolebinding", &testbed.name])?;
    // The authorizer knows of the change once it refuses.
    testbed.soon_cannot("endpointslices")?;
    testbed.relay()?.cut_after(0);
    for kind in ["Services", "EndpointSlices", "Node"] {
        testbed.soon_reports(kind, "forbidden")?;
    }
    let before = testbed.everything()?;
    let changed = services.change(testbed, case)?;
    testbed.unnoticed()?;
    ensure!(testbed.everything()? == before, "the tables have changed");
    testbed.plane().create(&[testbed.binding()]).map(drop)?;
    changed.soon_in_force(testbed, case)
}

fn role(testbed: &Testbed, _case: &Case<'_>) -> Result<()> {
    let role: Value =
        serde_json::from_str(&testbed.plane().kubectl(&["get", "clusterrole", ROLE, "-o", "json"])?)?;
    let mut given = BTreeSet::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        for (verb, resource) in pairs(&rule["verbs"], &rule["resources"]) {
            given.insert(format!("{verb} {resource}"));
        }
    }
    // Lists are requested only if lists cannot be streamed, which the other API server is configured for.
    let kinds = ["services", "endpointslices", "nodes"];
    let needed = kinds.into_iter().flat_map(|kind| [format!("list {kind}"), format!("watch {kind}")]);
    let more = ["create events", "get services"];
    // With `--service-cidr cluster` alone.
    let ranges = ["list servicecidrs", "watch servicecidrs"];
    let more = more.into_iter().chain(ranges).map(str::to_owned);
    ensure!(given == needed.chain(more).collect(), "the role gives {given:?}");
    let asked = testbed.requests()?;
    let refused: Vec<_> = asked.iter().filter(|request| request.code == 403).collect();
    ensure!(refused.is_empty(), "the daemon was refused {refused:?}");
    let watched: BTreeSet<_> =
        asked.iter().filter(|request| request.verb == "watch").map(|r| &r.resource).collect();
    ensure!(watched.len() == kinds.len(), "the daemon watches {watched:?}");
    Ok(())
}

/// A health check node port that is in use.
fn event(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    const TAKEN: u16 = 32001;
    testbed.agent("node1")?.serve(TAKEN)?;
    case.service(
        "web",
        &json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": TAKEN}),
    )?;
    soon_has_event(case, "web", &[&TAKEN.to_string()])
}

fn started(testbed: &Testbed, _case: &Case<'_>) -> Result<()> {
    let nodes = testbed.plane().kubectl(&["get", "nodes", "-o", "name"])?;
    wait::until_true("a Node has the Event", CHANGE_LIMIT, || {
        let described: Result<Vec<_>> =
            nodes.split_whitespace().map(|node| testbed.plane().kubectl(&["describe", node])).collect();
        let described = described?;
        let has_words =
            |text: &String| text.contains("Starting") && text.contains("serves Services on this node");
        ensure!(described.iter().any(has_words), "{described:?}");
        Ok(true)
    })
}

fn sctp(_testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    case.service("media", &json!({"ports": [{"port": 7777, "protocol": "SCTP"}], "type": "NodePort"}))?;
    soon_has_event(case, "media", &["SctpFromNodesNotServed", "SctpFragmentsDropped", "7777/SCTP"])
}

/// Waits until the Events on a Service contain all these words. They are found by uid, as by `kubectl describe`.
fn soon_has_event(case: &Case<'_>, service: &str, words: &[&str]) -> Result<()> {
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
