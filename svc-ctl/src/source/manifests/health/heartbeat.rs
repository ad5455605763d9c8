//! Heartbeats by UDP between the nodes of the manifests. Each node asks every other node. The daemon answers, or the
//! kernel reports that no socket listens. Either answer shows that the node is alive.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::pulse::{MISSES, PeerHealth, State};
use crate::model::complaint::{Complaint, Kind};
use crate::model::parse::parse_ip;

const BEAT: Duration = Duration::from_millis(250);
/// Pause before listening at an address is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(1);
/// The kinds of a request and of an answer. Both have eight octets that only the requesting node knows. Neither is
/// longer than the other, and an answer is never answered.
const QUESTION: &[u8; 8] = b"svc-hb?1";
const ANSWER: &[u8; 8] = b"svc-hb!1";
const LENGTH: usize = 16;

/// The settings of heartbeats, and the identity of this node.
#[derive(Clone, Debug)]
pub struct HeartbeatOptions {
    pub node: String,
    pub port: u16,
}

/// A node's name, and an address of it with the heartbeat's port.
pub type Peer = (String, SocketAddr);

impl HeartbeatOptions {
    /// All addresses of this node, and the first one of each other node.
    pub fn addresses_of(&self, nodes: &[&Node]) -> (BTreeSet<SocketAddr>, BTreeSet<Peer>) {
        let (mut own, mut others) = (BTreeSet::new(), BTreeSet::new());
        for node in nodes {
            let name = node.metadata.name.clone().unwrap_or_default();
            let mut addresses = addresses(node).map(|ip| SocketAddr::new(ip, self.port));
            if name == self.node {
                own.extend(addresses);
            } else if let Some(address) = addresses.next() {
                others.insert((name, address));
            }
        }
        (own, others)
    }
}

/// The state of the other nodes, and the reason why this one cannot answer at an address of its own.
#[derive(Clone, Debug, Default)]
struct Known {
    peers: BTreeMap<String, (SocketAddr, PeerHealth)>,
    unbound: BTreeMap<SocketAddr, String>,
}

#[derive(Debug)]
pub struct Heartbeat {
    options: HeartbeatOptions,
    asking: BTreeMap<Peer, AbortHandle>,
    answering: BTreeMap<SocketAddr, AbortHandle>,
    known: watch::Sender<Known>,
    has_address: bool,
    bell: Arc<Notify>,
}

impl Heartbeat {
    pub fn new(options: HeartbeatOptions, bell: Arc<Notify>) -> Self {
        Self {
            options,
            asking: BTreeMap::new(),
            answering: BTreeMap::new(),
            known: watch::Sender::default(),
            has_address: true,
            bell,
        }
    }

    /// Takes over the list of all nodes.
    pub fn update(&mut self, nodes: &[&Node]) {
        let (own, others) = self.options.addresses_of(nodes);
        self.has_address = !own.is_empty();
        self.asking.retain(|peer, task| retain(others.contains(peer), task));
        self.answering.retain(|address, task| retain(own.contains(address), task));
        self.known.send_modify(|known| {
            known.peers.retain(|name, (address, _)| others.contains(&(name.clone(), *address)));
            known.unbound.retain(|address, _| own.contains(address));
        });
        for peer in others {
            let (known, bell) = (self.known.clone(), Arc::clone(&self.bell));
            let start = |(name, address): Peer| {
                known.send_modify(|known| {
                    known.peers.insert(name.clone(), (address, PeerHealth::default()));
                });
                tokio::spawn(ask(name, address, known, bell)).abort_handle()
            };
            self.asking.entry(peer.clone()).or_insert_with(|| start(peer));
        }
        for address in own {
            let known = self.known.clone();
            let start = || tokio::spawn(answer(address, known, Arc::clone(&self.bell))).abort_handle();
            self.answering.entry(address).or_insert_with(start);
        }
    }

    /// Nodes that have answered earlier and do not answer now.
    pub fn down(&self) -> BTreeSet<String> {
        let known = self.known.borrow();
        let down = known.peers.iter().filter(|(_, (_, peers))| peers.node() == State::Down);
        down.map(|(name, _)| name.clone()).collect()
    }

    /// Nodes whose daemon does not answer, whether or not it ever did.
    pub fn silent(&self) -> BTreeSet<String> {
        let known = self.known.borrow();
        let silent = known
            .peers
            .iter()
            .filter(|(_, (_, peers))| matches!(peers.daemon(), State::Down | State::Silent));
        silent.map(|(name, _)| name.clone()).collect()
    }

    pub fn report(&self) -> Vec<Complaint> {
        let known = self.known.borrow();
        let own = format!("Node {}", self.options.node);
        let complain = |name: &str, reason: String| {
            Complaint::new(Kind::NotReady, format!("Node {name}"), "status.addresses", reason)
        };
        let silent = known.peers.iter().filter_map(|(name, (address, peers))| match peers.node() {
            State::Unheard | State::Up => None,
            State::Silent => {
                Some(complain(name, format!("{address} has never answered a heartbeat; its Pods stay")))
            }
            State::Down => Some(complain(
                name,
                format!("{address} has not answered {MISSES} heartbeats; its Pods get no new connections"),
            )),
        });
        let unbound = known.unbound.iter().map(|(address, error)| {
            Complaint::new(
                Kind::Failed,
                &own,
                "",
                format!("heartbeats cannot be answered at {address}: {error}"),
            )
        });
        let nowhere = (!self.has_address).then(|| {
            let reason = "no Node object with an InternalIP: heartbeats are not answered";
            Complaint::new(Kind::Node, &own, "status.addresses", reason)
        });
        silent.chain(unbound).chain(nowhere).collect()
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.asking.values().chain(self.answering.values()).for_each(AbortHandle::abort);
    }
}

pub fn retain(is_wanted: bool, task: &AbortHandle) -> bool {
    if !is_wanted {
        task.abort();
    }
    is_wanted
}

/// The node's own addresses.
pub fn addresses(node: &Node) -> impl Iterator<Item = IpAddr> {
    let listed = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    listed.filter(|address| address.type_ == "InternalIP").filter_map(|a| parse_ip(&a.address).ok())
}

/// Asks another node for ever.
async fn ask(name: String, address: SocketAddr, known: watch::Sender<Known>, bell: Arc<Notify>) {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let change = |change: fn(&mut PeerHealth)| {
        let is_news = known.send_if_modified(|known| {
            let Some((_, peers)) = known.peers.get_mut(&name) else { return false };
            let before = (peers.node(), peers.daemon());
            change(peers);
            (peers.node(), peers.daemon()) != before
        });
        if is_news {
            bell.notify_one();
        }
    };
    loop {
        let socket = connected(address).await;
        let mut question = [0; LENGTH];
        let nonce = fastrand::u64(..).to_be_bytes();
        question[..8].copy_from_slice(QUESTION);
        question[8..].copy_from_slice(&nonce);
        let mut received = [0; LENGTH + 1];
        loop {
            tokio::select! {
                biased;
                // An answer that has arrived counts before the next beat.
                result = receive(socket.as_ref(), &mut received) => match result {
                    Ok(length) if is_message(&received[..length], ANSWER) && received[8..LENGTH] == nonce => {
                        change(PeerHealth::answer);
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => change(PeerHealth::refuse),
                    // The other node's address or ours is gone: opens another socket.
                    Err(_) => break,
                },
                _ = beats.tick() => {
                    change(PeerHealth::beat);
                    let Ok(socket) = &socket else { break };
                    // An error of an earlier datagram may show here too.
                    match socket.send(&question).await {
                        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => change(PeerHealth::refuse),
                        Ok(_) | Err(_) => {}
                    }
                }
            }
        }
    }
}

async fn connected(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    Ok(socket)
}

async fn receive(socket: Result<&UdpSocket, &io::Error>, buffer: &mut [u8]) -> io::Result<usize> {
    match socket {
        Ok(socket) => socket.recv(buffer).await,
        Err(_) => std::future::pending().await,
    }
}

fn is_message(received: &[u8], kind: &[u8; 8]) -> bool {
    received.len() == LENGTH && received.starts_with(kind)
}

/// Answers at an address of this node for ever.
async fn answer(address: SocketAddr, known: watch::Sender<Known>, bell: Arc<Notify>) {
    let mut received = [0; LENGTH + 1];
    loop {
        let bound = UdpSocket::bind(address).await;
        known.send_modify(|known| match &bound {
            Ok(_) => drop(known.unbound.remove(&address)),
            Err(error) => drop(known.unbound.insert(address, error.to_string())),
        });
        bell.notify_one();
        let Ok(socket) = bound else {
            sleep(BIND_AGAIN).await;
            continue;
        };
        loop {
            match socket.recv_from(&mut received).await {
                Ok((length, from)) if is_message(&received[..length], QUESTION) => {
                    received[..8].copy_from_slice(ANSWER);
                    // A node that does not get the answer counts it as missed.
                    drop(socket.send_to(&received[..LENGTH], from).await);
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
}
