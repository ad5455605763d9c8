//! Nodes of the loopback network, of which one probes for all.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpListener;

use super::*;
use crate::source::manifests::health::prober::Prober;

const LIMIT: Duration = Duration::from_secs(20);

struct TestNode {
    prober: Prober,
    sharing: Sharing,
    bell: Arc<Notify>,
}

/// Nodes `a`, `b`, ... at 127.0.NETWORK.1, .2, ...
struct Network {
    number: u8,
    port: u16,
    nodes: Vec<Node>,
}

impl Network {
    fn new(number: u8, port: u16, nodes: u8) -> Self {
        let node = |n: u8| {
            let (name, ip) = (char::from(b'a' + n), Ipv4Addr::new(127, 0, number, n + 1));
            let text = format!(
                "{{metadata: {{name: {name}}}, status: {{addresses: [{{type: InternalIP, address: {ip}}}]}}}}"
            );
            serde_yaml_ng::from_str(&text).unwrap()
        };
        Self { number, port, nodes: (0..nodes).map(node).collect() }
    }

    async fn start(&self, node: &str, pods: &[Pod]) -> TestNode {
        let bell = Arc::new(Notify::new());
        let mut prober = Prober::new(Arc::clone(&bell)).unwrap();
        let options = HeartbeatOptions { node: node.to_owned(), port: self.port };
        let mut sharing = Sharing::new(options, prober.findings(), Arc::clone(&bell));
        sharing.update(&self.nodes.iter().collect::<Vec<_>>());
        sharing.decided().await;
        prober.follow(sharing.leader());
        prober.update(pods.iter().collect()).await;
        TestNode { prober, sharing, bell }
    }

    /// A server of a Pod, and its Pod.
    async fn pod(&self) -> (TcpListener, Pod) {
        let address = SocketAddr::new(Ipv4Addr::new(127, 0, self.number, 99).into(), 0);
        let server = TcpListener::bind(address).await.unwrap();
        let address = server.local_addr().unwrap();
        let text = format!(
            "{{metadata: {{name: p, namespace: shop}}, status: {{podIP: {}}}, spec: {{containers: [{{name: c,
              readinessProbe: {{tcpSocket: {{port: {}}}, periodSeconds: 1, failureThreshold: 1}}}}]}}}}",
            address.ip(),
            address.port()
        );
        (server, serde_yaml_ng::from_str(&text).unwrap())
    }
}

impl TestNode {
    /// Follows the results until this holds.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let follow = async {
            loop {
                self.prober.follow(self.sharing.leader());
                if is_so(self) {
                    return;
                }
                self.bell.notified().await;
            }
        };
        timeout(LIMIT, follow).await.unwrap_or_else(|_| panic!("not so: {what}"));
    }

    fn is_ready(&self) -> bool {
        self.prober.unready().is_empty()
    }

    fn leader(&self) -> Option<String> {
        match self.sharing.leader() {
            Leader::Own => None,
            Leader::Other { node, .. } => Some(node),
        }
    }

    fn complaints(&self) -> Vec<String> {
        self.prober.report().iter().map(ToString::to_string).collect()
    }
}

#[tokio::test]
async fn the_first_node_probes_and_the_others_learn_what_it_finds() {
    let network = Network::new(71, 7071, 2);
    let (server, pod) = network.pod().await;
    let pods = [pod];
    let first = network.start("a", &pods).await;
    let mut second = network.start("b", &pods).await;
    assert_eq!((first.leader(), second.leader()), (None, Some("a".to_owned())));
    assert!(first.is_ready() && second.is_ready(), "the second has the result in its first list");
    let address = server.local_addr().unwrap();
    drop(server);
    second.until("the Pod is not ready", |node| !node.is_ready()).await;
    let expected =
        format!("Pod shop/p: spec.containers[0].readinessProbe: probed by a: {address}: Connection refused");
    let complaints = second.complaints();
    assert!(complaints.len() == 1 && complaints[0].starts_with(&expected), "{complaints:?}");
    let _server = TcpListener::bind(address).await.unwrap();
    second.until("the Pod is ready", TestNode::is_ready).await;
}

#[tokio::test]
async fn the_next_node_takes_over_from_one_that_ends_until_that_one_returns() {
    let network = Network::new(72, 7072, 3);
    let (server, pod) = network.pod().await;
    let pods = [pod];
    let first = network.start("a", &pods).await;
    let mut second = network.start("b", &pods).await;
    let mut third = network.start("c", &pods).await;
    second.until("it follows a", |node| node.leader().as_deref() == Some("a")).await;
    third.until("it follows a", |node| node.leader().as_deref() == Some("a")).await;
    drop(first);
    second.until("it probes", |node| node.leader().is_none()).await;
    assert!(second.is_ready(), "the Pod keeps its readiness");
    third.until("it follows b", |node| node.leader().as_deref() == Some("b")).await;
    drop(server);
    second.until("it finds that the Pod is not ready", |node| !node.is_ready()).await;
    third.until("it learns that the Pod is not ready", |node| !node.is_ready()).await;
    let _first = network.start("a", &pods).await;
    second.until("it follows a again", |node| node.leader().as_deref() == Some("a")).await;
    assert!(!second.is_ready(), "the Pod keeps its readiness");
}

#[tokio::test]
async fn a_node_whose_daemon_is_silent_or_talks_nonsense_is_passed_over() {
    let network = Network::new(73, 7073, 3);
    let at = |host| TcpListener::bind((Ipv4Addr::new(127, 0, 73, host), 7073));
    let _silent = at(1).await.unwrap();
    let nonsense = at(2).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = nonsense.accept().await {
            use tokio::io::AsyncWriteExt as _;
            drop(socket.write_all(b"SSH-2.0-none\r\n").await);
        }
    });
    let (_server, pod) = network.pod().await;
    let third = network.start("c", &[pod]).await;
    assert_eq!(third.leader(), None);
    assert!(third.is_ready());
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let network = Network::new(74, 7074, 1);
    let _taken = TcpListener::bind((Ipv4Addr::new(127, 0, 74, 1), 7074)).await.unwrap();
    let mut node = network.start("a", &[]).await;
    node.until("it complains", |node| !node.sharing.report().is_empty()).await;
    let expected = "Node a: results of probes cannot be served at 127.0.74.1:7074: Address already in use";
    let complaint = node.sharing.report()[0].to_string();
    assert!(complaint.starts_with(expected), "{complaint}");
}
