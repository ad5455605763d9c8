//! Pods of a folder, asked over real sockets of the loopback interface.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::observer::{HealthOptions, Probes};
use crate::model::complaint::Origin;
use crate::observe::ledger::Ledger;
use crate::source::event::{Batch, Event, SourceEvent};
use crate::source::manifests::follow;

const LIMIT: Duration = Duration::from_secs(10);

struct Folder {
    path: PathBuf,
    batches: mpsc::Receiver<Batch>,
    ledger: Ledger,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Folder {
    fn follow(test: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("svc-health-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("all.yaml"), text).unwrap();
        let (send, batches) = mpsc::channel(8);
        let (folder, ledger) = (path.clone(), Ledger::default());
        let complaints = ledger.clone();
        let options = follow::Options {
            health: HealthOptions { probes: Probes::EachNode, heartbeat: None },
            ..Default::default()
        };
        let task = tokio::spawn(async move { follow::run(folder, options, send, &complaints).await });
        Self { path, batches, ledger, task }
    }

    /// The readiness of the only endpoint in the next batch.
    async fn next(&mut self) -> bool {
        let batch = tokio::time::timeout(LIMIT, self.batches.recv()).await.unwrap().unwrap();
        let slice = |event| match event {
            SourceEvent::Slice(Event::InitApply(slice) | Event::Apply(slice)) => Some(slice),
            _ => None,
        };
        let slices: Vec<Box<EndpointSlice>> = batch.into_iter().filter_map(slice).collect();
        assert_eq!(slices.len(), 1);
        slices[0].endpoints.as_ref().unwrap()[0].conditions.as_ref().unwrap().ready.unwrap()
    }

    fn complaints(&self) -> Vec<String> {
        self.ledger.get(&Origin::Pods).iter().map(ToString::to_string).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.task.abort();
        drop(std::fs::remove_dir_all(&self.path));
    }
}

fn manifests(port: u16, probe: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{clusterIP: 10.96.0.1,
           selector: {{app: web}}, ports: [{{port: 80, targetPort: {port}}}]}}}}\n---\n\
         {{apiVersion: v1, kind: Pod, metadata: {{name: p, labels: {{app: web}}}}, status: {{podIP: 127.0.0.1}},
           spec: {{containers: [{{name: c, readinessProbe: {{tcpSocket: {{port: {port}}}, {probe}}}}}]}}}}"
    )
}

#[tokio::test]
async fn a_pod_is_ready_in_the_first_list_and_leaves_and_returns_as_its_server_does() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let text = manifests(address.port(), "periodSeconds: 1, failureThreshold: 2");
    let mut folder = Folder::follow("leaves", &text);
    assert!(folder.next().await, "the first list has waited for the first answer");
    drop(listener);
    let gone = Instant::now();
    assert!(!folder.next().await);
    let elapsed = gone.elapsed();
    assert!(elapsed > Duration::from_millis(900), "two failures are a period apart, it took {elapsed:?}");
    let complaints = folder.complaints();
    let refused = format!("Pod default/p: spec.containers[0].readinessProbe: {address}: Connection refused");
    assert!(complaints.len() == 1 && complaints[0].starts_with(&refused), "{complaints:?}");
    let listener = TcpListener::bind(address).await.unwrap();
    assert!(folder.next().await);
    drop(listener);
}

#[tokio::test]
async fn a_pod_that_appears_is_not_ready_until_it_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = manifests(listener.local_addr().unwrap().port(), "periodSeconds: 1, successThreshold: 2");
    let mut folder = Folder::follow("appears", "");
    let first = tokio::time::timeout(LIMIT, folder.batches.recv()).await.unwrap().unwrap();
    assert!(first.iter().all(|event| !matches!(event, SourceEvent::Slice(Event::InitApply(_)))));
    std::fs::write(folder.path.join("all.yaml"), text).unwrap();
    let seen = Instant::now();
    assert!(!folder.next().await);
    assert!(folder.next().await);
    assert!(seen.elapsed() > Duration::from_millis(900), "two successes are a period apart");
}

#[tokio::test]
async fn an_unusable_probe_is_reported_and_takes_no_pod_out() {
    let text = manifests(1, "exec: {command: [a]}").replace("tcpSocket: {port: 1}, ", "");
    let mut folder = Folder::follow("refused", &text);
    assert!(folder.next().await);
    let field = "Pod default/p: spec.containers[0].readinessProbe.exec: ";
    let complaints = folder.complaints();
    assert!(complaints.len() == 1 && complaints[0].starts_with(field), "{complaints:?}");
}

#[tokio::test]
async fn a_changed_probe_keeps_the_readiness_of_its_pod_and_another_address_is_another_pod() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = manifests(listener.local_addr().unwrap().port(), "periodSeconds: 1");
    let mut folder = Folder::follow("changed", &text);
    assert!(folder.next().await);
    std::fs::write(folder.path.join("all.yaml"), text.replace("periodSeconds: 1", "periodSeconds: 2"))
        .unwrap();
    let node = "{apiVersion: v1, kind: Node, metadata: {name: n}}";
    std::fs::write(folder.path.join("node.yaml"), node).unwrap();
    let batch = tokio::time::timeout(LIMIT, folder.batches.recv()).await.unwrap().unwrap();
    let is_node = |event: &SourceEvent| matches!(event, SourceEvent::Node(_));
    assert!(batch.iter().all(is_node), "the Pod has not been away");
    std::fs::write(folder.path.join("all.yaml"), text.replace("podIP: 127.0.0.1", "podIP: 127.0.0.9"))
        .unwrap();
    assert!(!folder.next().await, "no daemon has answered there yet");
}
