//! Complains of Services with features that svc does not have. The Service is valid, and its owner should know
//! (`docs/deviations.md`).

use std::collections::BTreeSet;

use svc_common::addr::Proto;
use tokio::sync::watch;
use tokio::task::yield_now;

use super::ledger::Ledger;
use crate::model::complaint::{Complaint, Kind, Origin};
use crate::model::name::ServiceName;
use crate::model::service::{Service, ServicePort};
use crate::model::world::World;

/// Number of Services to check before other tasks run.
const AT_ONCE: usize = 256;

/// Checks changed Services, until the world's sender is dropped.
pub async fn run(mut worlds: watch::Receiver<World>, ledger: Ledger) -> anyhow::Result<()> {
    let (mut before, mut complained) = (World::default(), BTreeSet::<ServiceName>::new());
    loop {
        let world = worlds.borrow_and_update().clone();
        for (n, name) in world.changed_services(&before).into_iter().enumerate() {
            let service = world.services.get(&name);
            let complaints = service.map_or_else(Vec::new, |service| complaints_of(&world, service));
            // Most Services have no complaint and had none.
            let is_known = match complaints.is_empty() {
                true => complained.remove(&name),
                false => !complained.insert(name.clone()),
            };
            if is_known || !complaints.is_empty() {
                ledger.set(Origin::Limits(name), complaints);
            }
            if n % AT_ONCE == AT_ONCE - 1 {
                yield_now().await;
            }
        }
        before = world;
        worlds.changed().await?;
    }
}

/// One complaint per kind, naming the ports.
fn complaints_of(world: &World, service: &Service) -> Vec<Complaint> {
    let sctp: Vec<&ServicePort> = service.ports.iter().filter(|p| p.proto == Proto::SCTP).collect();
    let moved: Vec<&ServicePort> =
        sctp.iter().copied().filter(|port| is_port_translated(world, service, port)).collect();
    let complaint = |kind, ports: &[&ServicePort], reason| {
        let names: Vec<String> = ports.iter().map(|p| format!("{}/SCTP", p.port)).collect();
        let field = format!("port {}", names.join(", "));
        (!names.is_empty()).then(|| Complaint::of_service(kind, &service.name, field, reason))
    };
    let from_nodes =
        "processes and pods on a node's own network are not served; other pods and clients from outside are";
    let fragments = "packets in fragments are dropped, because their port is translated";
    let from_nodes = complaint(Kind::SctpFromNodes, &sctp, from_nodes);
    from_nodes.into_iter().chain(complaint(Kind::SctpFragments, &moved, fragments)).collect()
}

/// The packets' port is translated. SCTP's checksum covers the port and the whole packet, of which a fragment has
/// only a part.
fn is_port_translated(world: &World, service: &Service, port: &ServicePort) -> bool {
    let ports = world.slices_of(&service.name).flat_map(|slice| &slice.ports);
    let mut numbers = ports.filter(|p| p.name == port.name && p.proto == port.proto);
    port.node_port.is_some() || numbers.any(|p| p.port != port.port)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;
    use std::sync::Arc;

    use super::*;
    use crate::model::endpoint::{Hostnames, PodNames, Slice, SlicePort, Triggered};
    use crate::model::name::{IpFamily, SliceKey};

    /// A port by name, number, protocol, NodePort.
    type Port = (&'static str, u16, Proto, Option<u16>);
    const WEB: Port = ("web", 80, Proto::TCP, None);
    const SCTP: Port = ("s", 7777, Proto::SCTP, None);

    fn number(n: u16) -> NonZeroU16 {
        NonZeroU16::new(n).unwrap()
    }

    /// Service `default/a` whose endpoints have that SCTP port.
    fn world(ports: &[Port], target: u16) -> World {
        let name = ServiceName::new("default", "a");
        let port = |&(name, port, proto, node_port): &Port| ServicePort {
            name: name.into(),
            proto,
            port: number(port),
            node_port: node_port.map(number),
        };
        let service = Service {
            name: name.clone(),
            created: None,
            families: Vec::new(),
            ports: ports.iter().map(port).collect(),
            internal_local: false,
            external_local: false,
            affinity: None,
            selection: None,
            serves_own_address: false,
            health_check_port: None,
            labels: Arc::default(),
        };
        let slice = Slice {
            key: SliceKey::new("default", "s"),
            service: name.clone(),
            family: IpFamily::V4,
            ports: vec![SlicePort { name: "s".into(), proto: Proto::SCTP, port: number(target) }],
            endpoints: Vec::new(),
            hostnames: Hostnames::default(),
            pods: PodNames::default(),
            is_headless: false,
            triggered: Triggered::default(),
        };
        World {
            services: [(name.clone(), Arc::new(service))].into_iter().collect(),
            slices: [(name, Arc::from([Arc::new(slice)]))].into_iter().collect(),
            ..World::default()
        }
    }

    fn complaints(world: &World) -> Vec<String> {
        let all = world.services.values().flat_map(|service| complaints_of(world, service));
        all.map(|c| format!("{} {}", c.kind.event_reason(), c.field)).collect()
    }

    #[test]
    fn sem_010_complaints_about_sctp_name_the_ports() {
        assert_eq!(complaints(&world(&[WEB], 7777)), [""; 0]);
        assert_eq!(complaints(&world(&[WEB, SCTP], 7777)), ["SctpFromNodesNotServed port 7777/SCTP"]);
        let both = ["SctpFromNodesNotServed port 7777/SCTP", "SctpFragmentsDropped port 7777/SCTP"];
        assert_eq!(complaints(&world(&[WEB, SCTP], 8888)), both);
        assert_eq!(complaints(&world(&[WEB, ("s", 7777, Proto::SCTP, Some(30_777))], 7777)), both);
    }

    #[tokio::test]
    async fn complaints_come_and_go_with_the_service() {
        let (ledger, (worlds, reader)) = (Ledger::default(), watch::channel(World::default()));
        let mut all = ledger.subscribe();
        let task = tokio::spawn(run(reader, ledger));
        for (ports, count) in [(&[WEB, SCTP][..], 1), (&[WEB], 0), (&[SCTP], 1)] {
            worlds.send_replace(world(ports, 7777));
            all.wait_for(|all| all.len() == count).await.unwrap();
        }
        worlds.send_replace(World::default());
        all.wait_for(|all| all.is_empty()).await.unwrap();
        drop(worlds);
        assert!(task.await.unwrap().is_err());
    }
}
