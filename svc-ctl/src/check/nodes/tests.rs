//! Findings about clusters in several states, and real answers of nodes.

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use super::*;
use crate::check::Verdict;
use crate::observe::health::Health;
use crate::observe::health::answer::{Question, about_daemon};

fn node(name: &str, answer: Result<Readiness, String>) -> NodeFact {
    NodeFact { name: name.to_owned(), address: Some("192.0.2.1".parse().unwrap()), answer }
}

fn ready(version: &str) -> Result<Readiness, String> {
    let version = Some(version.to_owned());
    Ok(Readiness { healthy: true, complete: true, version, abi: Some(9), ..Readiness::default() })
}

fn finding_lines(nodes: Vec<NodeFact>) -> Vec<String> {
    let line = |finding: Finding| format!("{:?} {}: {}", finding.verdict, finding.name, finding.found);
    findings(&NodeFacts::Asked(nodes)).into_iter().map(line).collect()
}

#[test]
fn a_cluster_whose_nodes_all_serve_passes() {
    let nodes = vec![node("n1", ready("0.1.0")), node("n2", ready("0.1.0"))];
    assert_eq!(finding_lines(nodes), ["Pass nodes: 2 of 2 serve", "Pass versions: 0.1.0 (ABI 9) on 2 nodes"]);
    assert!(findings(&NodeFacts::NotAsked).is_empty());
}

#[test]
fn every_node_that_does_not_serve_is_named_with_the_reason() {
    let late = Readiness { healthy: false, ..ready("0.1.0").unwrap() };
    let starting = Readiness { complete: false, ..ready("0.2.0").unwrap() };
    let nodes = vec![
        node("n1", ready("0.1.0")),
        node("n2", Err("no answer within 5 s".to_owned())),
        node("n3", Ok(Readiness { last_updated: "then".to_owned(), ..late })),
        node("n4", Ok(starting)),
        node("n5", Ok(Readiness::default())),
        NodeFact { address: None, ..node("n6", Err(String::new())) },
    ];
    assert_eq!(
        finding_lines(nodes),
        [
            "Fail nodes: 1 of 6 serve",
            "Fail nodes: n2 (192.0.2.1) does not answer: no answer within 5 s",
            "Fail nodes: n3 (192.0.2.1) is late: it was up to date at then",
            "Fail nodes: n4 (192.0.2.1) has not everything in force yet",
            "Fail nodes: n5 (192.0.2.1) answers, and not as svc does",
            "Fail nodes: n6 has no InternalIP",
            "Warn versions: 0.1.0 (ABI 9) on 2 nodes, 0.2.0 (ABI 9) on n4",
        ]
    );
}

#[test]
fn a_thousand_silent_nodes_are_not_a_thousand_lines() {
    let nodes = (0..1000).map(|n| node(&format!("n{n}"), Err("silent".to_owned()))).collect();
    let lines = finding_lines(nodes);
    assert_eq!((lines.len(), lines[21].as_str()), (22, "Fail nodes: and 980 more"));
    assert!(findings(&NodeFacts::Unknown("forbidden".to_owned()))[0].verdict == Verdict::Fail);
}

#[tokio::test]
async fn an_answer_of_a_daemon_is_parsed_whether_or_not_it_is_ready() {
    for is_complete in [true, false] {
        let health = Health { is_complete, ..Health::default() };
        let answer = move || async move { about_daemon(Question::Readyz, &health, 0) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/readyz", get(answer));
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let nodes = vec![("n1".to_owned(), Some(address.ip())), ("n2".to_owned(), None)];
        let facts = ask::all(nodes, address.port()).await;
        server.abort();
        let ready = facts[0].answer.as_ref().unwrap();
        assert!(ready.healthy && ready.complete == is_complete, "{ready:?}");
        assert_eq!(ready.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
        assert!(facts[1].answer.is_err());
        let silent = ask::all(vec![("n1".to_owned(), Some(address.ip()))], 1).await;
        assert!(silent[0].answer.as_ref().is_err_and(|why| why.contains("cannot be reached")), "{silent:?}");
    }
}
