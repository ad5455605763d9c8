//! Upstreams that lead back to this name server, by their address or through another server.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hickory_server::proto::op::{Message, Query, ResponseCode};
use hickory_server::proto::rr::RecordType;
use hickory_server::proto::serialize::binary::{BinDecodable as _, BinEncodable as _};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::dns::counts::DnsCounts;
use crate::dns::server;
use crate::dns::settings::{DnsSettings, Upstreams};
use crate::dns::upstream::servers;
use crate::model::complaint::Origin;
use crate::model::world::World;
use crate::observe::ledger::Ledger;

pub(in crate::dns) const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn an_upstream_that_is_ourselves_is_left_out_at_once_and_named() {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let (own, other) = (address("192.0.2.53:53"), address("192.0.2.1:53"));
    let (left, complaints) = servers(&Upstreams::Servers(vec![own, other, other]), &[own]);
    assert_eq!(left, [other]);
    let reported: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    assert_eq!(
        reported,
        ["--dns-upstream: 192.0.2.53:53: leads back to this name server, so it is not asked"]
    );
    // The same server at another port is another one.
    assert_eq!(servers(&Upstreams::Servers(vec![address("192.0.2.53:5353")]), &[own]).0.len(), 1);
}

/// A cache of this host that asks `to` whatever it is asked, and how often it was asked.
async fn forwarder(to: SocketAddr) -> (SocketAddr, Arc<AtomicU32>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (socket.local_addr().unwrap(), Arc::new(AtomicU32::new(0)));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            count.fetch_add(1, Ordering::Relaxed);
            let onward = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            onward.connect(to).await.unwrap();
            let _ = onward.send(&buffer[..length]).await;
            if let Ok(Ok(length)) = timeout(LIMIT, onward.recv(&mut buffer)).await {
                socket.send_to(&buffer[..length], client).await.unwrap();
            }
        }
    });
    (address, asked)
}

/// The code of the answer, asked until there is one: the server may not listen yet.
pub(in crate::dns) async fn ask(server: SocketAddr, name: &str) -> ResponseCode {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.parse().unwrap(), RecordType::A));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    let mut buffer = [0; 4096];
    let exchange = async {
        loop {
            // Until a server listens, the kernel refuses the query.
            let sent = socket.send(&question.to_bytes().unwrap()).await;
            if let Ok(length) = async {
                sent?;
                socket.recv(&mut buffer).await
            }
            .await
            {
                return length;
            }
            tokio::task::yield_now().await;
        }
    };
    let length = timeout(LIMIT, exchange).await.unwrap();
    Message::from_bytes(&buffer[..length]).unwrap().metadata.response_code
}

#[tokio::test]
async fn an_upstream_that_leads_back_through_another_server_is_found_left_out_and_named() {
    let own = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (upstream, asked) = forwarder(own).await;
    let (ledger, (_worlds, world)) = (Ledger::default(), watch::channel(World::default()));
    let settings = DnsSettings {
        listen: vec![own],
        domain: "cluster.local".parse().unwrap(),
        upstream: Upstreams::Servers(vec![upstream]),
    };
    let asked_for = watch::channel(BTreeSet::new()).1;
    tokio::spawn(server::run(settings, asked_for, world, DnsCounts::default(), ledger.clone()));
    let mut complaints = ledger.subscribe();
    let is_found = complaints.wait_for(|all| all.contains_key(&Origin::DnsUpstream));
    drop(timeout(LIMIT, is_found).await.unwrap().unwrap());
    let reported: Vec<String> = ledger.get(&Origin::DnsUpstream).iter().map(ToString::to_string).collect();
    let expected = format!("--dns-upstream: {upstream}: leads back to this name server, so it is not asked");
    assert_eq!(reported, [expected]);
    let before = asked.load(Ordering::Relaxed);
    assert_eq!(ask(own, "www.example.com.").await, ResponseCode::ServFail);
    assert_eq!(asked.load(Ordering::Relaxed), before, "it is not asked any more");
}
