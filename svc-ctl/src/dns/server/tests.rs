//! Name servers at addresses that Services ask for.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use hickory_server::proto::op::ResponseCode;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::dns::counts::DnsCounts;
use crate::dns::server;
use crate::dns::settings::{DnsSettings, Upstreams};
use crate::dns::upstream::tests::{LIMIT, ask};
use crate::model::complaint::Origin;
use crate::model::world::World;
use crate::observe::ledger::Ledger;

async fn free_address() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Waits until the address is free.
async fn is_given_up(address: SocketAddr) {
    let bind = async {
        while UdpSocket::bind(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, bind).await.unwrap();
}

#[tokio::test]
async fn addresses_that_services_ask_for_come_and_go_while_the_daemon_runs() {
    let (flagged, first, second) = (free_address().await, free_address().await, free_address().await);
    for listen in [Vec::new(), vec![flagged]] {
        let (worlds, world) = watch::channel(World::default());
        let (asked_for, addresses) = watch::channel(BTreeSet::new());
        let ledger = Ledger::default();
        let settings = DnsSettings {
            listen,
            domain: "cluster.local".parse().unwrap(),
            upstream: Upstreams::File("/nonexistent".into()),
        };
        let run = server::run(settings.clone(), addresses, world, DnsCounts::default(), ledger.clone());
        let server = tokio::spawn(run);
        worlds.send_replace(World::default());
        let mut complaints = ledger.subscribe();
        for address in [first, second] {
            asked_for.send_replace([address].into());
            // The complaint about an unreadable upstream comes as soon as there is a server.
            let serves = complaints.wait_for(|all| all.contains_key(&Origin::DnsUpstream));
            drop(timeout(LIMIT, serves).await.unwrap().unwrap());
            for address in settings.listen.iter().chain([&address]) {
                assert_eq!(ask(*address, "cluster.local.").await, ResponseCode::NoError, "{address}");
            }
        }
        is_given_up(first).await;
        asked_for.send_replace(BTreeSet::new());
        is_given_up(second).await;
        match settings.listen.first() {
            Some(address) => assert_eq!(ask(*address, "cluster.local.").await, ResponseCode::NoError),
            None => assert_eq!(ledger.get(&Origin::DnsUpstream), []),
        }
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled(), "no address ends the name server");
    }
}
