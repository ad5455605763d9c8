//! Decides which UDP flows and sockets must end and which clients lose their backend, by the contents of the tables.
//! A client that keeps its source port keeps its flow for ever, so a flow to an endpoint that is gone must be removed
//! (SEM-124, SEM-125). TCP connections are never cut (SEM-128).

use std::net::SocketAddr;

use svc_common::abi::{BackendId, Scope, ServicePortId};
use svc_common::addr::Proto;

use crate::model::name::IpFamily;
use crate::plan::tables::Frontend;
use crate::reconcile::InForce;

/// A client opened a UDP flow or socket to `original`, it goes to `backend`, and it must end.
pub fn is_stale_udp(in_force: &InForce, original: SocketAddr, backend: SocketAddr) -> bool {
    let serving = |addr, scope| {
        in_force.serving.get(&Frontend { addr, port: original.port(), proto: Proto::UDP, scope })
    };
    let node_port = || {
        let is_own = in_force.own_addresses.addrs.contains(&original.ip());
        is_own.then(|| serving(IpFamily::of(original.ip()).unspecified(), Scope::NODE_PORT)).flatten()
    };
    // A frontend without endpoints is not in the list, and its flows are left alone.
    let endpoints = serving(original.ip(), Scope::ADDRESS).or_else(node_port);
    endpoints.is_some_and(|endpoints| !endpoints.contains(&backend))
}

/// A client of the service port may keep the backend. An endpoint that comes back does not get its old clients back
/// (SEM-233), and session affinity that is switched on begins with an empty table (SEM-235).
pub fn may_stay(in_force: &InForce, service: ServicePortId, backend: BackendId) -> bool {
    in_force.affinity_backends.get(&service).is_some_and(|backends| backends.contains(&backend))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::model::node::NodeAddresses;

    const VIPS: [&str; 3] = ["172.30.1.1", "1.2.3.4", "4.5.6.7"];
    const ENDPOINTS: [&str; 3] = ["10.240.0.4:4000", "10.240.1.5:4000", "10.240.2.6:4000"];
    const GONE: [&str; 2] = [ENDPOINTS[1], ENDPOINTS[2]];

    fn in_force() -> InForce {
        let endpoints: Arc<BTreeSet<SocketAddr>> = Arc::new([ENDPOINTS[0].parse().unwrap()].into());
        let frontend = |addr: &str, port, scope| Frontend {
            addr: addr.parse().unwrap(),
            port,
            proto: Proto::UDP,
            scope,
        };
        let addresses = VIPS.iter().map(|vip| frontend(vip, 8000, Scope::ADDRESS));
        let frontends = addresses.chain([frontend("0.0.0.0", 32000, Scope::NODE_PORT)]);
        let addrs = ["192.0.2.1", "127.0.0.1"].map(|a| a.parse().unwrap()).into();
        InForce {
            serving: frontends.map(|frontend| (frontend, Arc::clone(&endpoints))).collect(),
            own_addresses: Arc::new(NodeAddresses { addrs, ..NodeAddresses::default() }),
            ..InForce::default()
        }
    }

    /// The endpoints whose flows from `original` are stale.
    fn stale(in_force: &InForce, original: &str) -> Vec<&'static str> {
        let original = original.parse().unwrap();
        ENDPOINTS.into_iter().filter(|to| is_stale_udp(in_force, original, to.parse().unwrap())).collect()
    }

    #[test]
    fn par_190_udp_flows_to_endpoints_that_are_gone_end() {
        for vip in VIPS {
            assert_eq!(stale(&in_force(), &format!("{vip}:8000")), GONE, "{vip}");
        }
    }

    #[test]
    fn par_191_flows_to_ports_without_a_service_are_left_alone() {
        for vip in VIPS {
            assert_eq!(stale(&in_force(), &format!("{vip}:3000")), [""; 0], "{vip}");
        }
    }

    #[test]
    fn par_192_node_port_flows_are_stale_at_every_address_of_the_node_and_no_other() {
        assert_eq!(stale(&in_force(), "192.0.2.1:32000"), GONE);
        assert_eq!(stale(&in_force(), "127.0.0.1:32000"), GONE);
        // Another node's address; kube-proxy would delete these flows as well.
        assert_eq!(stale(&in_force(), "203.0.113.1:32000"), [""; 0]);
        assert_eq!(stale(&in_force(), "192.0.2.1:32001"), [""; 0]);
    }

    #[test]
    fn par_193_an_untranslated_flow_to_a_service_ends() {
        let vip: SocketAddr = "1.2.3.4:8000".parse().unwrap();
        assert!(is_stale_udp(&in_force(), vip, vip));
        let other: SocketAddr = "1.2.3.4:3000".parse().unwrap();
        assert!(!is_stale_udp(&in_force(), other, other));
    }

    #[test]
    fn par_194_of_a_million_foreign_flows_only_those_to_the_port_are_stale() {
        let in_force = in_force();
        let (vip, gone) = ("172.30.1.1".parse().unwrap(), ENDPOINTS[2].parse().unwrap());
        // Every port, sixteen times: the clients' ports must not matter.
        let originals = (0..1 << 20).map(|n: u32| SocketAddr::new(vip, n as u16));
        let stale = originals.filter(|to| is_stale_udp(&in_force, *to, gone));
        assert_eq!(stale.map(|to| to.port()).collect::<Vec<_>>(), [8000; 16]);
    }

    #[test]
    fn par_195_a_service_without_endpoints_keeps_its_flows() {
        for original in ["172.30.1.1:8000", "192.0.2.1:32000"] {
            assert_eq!(stale(&InForce::default(), original), [""; 0]);
        }
    }

    #[test]
    fn sem_125_an_endpoint_is_identified_by_address_and_port() {
        let (vip, old_port) = ("1.2.3.4:8000".parse().unwrap(), "10.240.0.4:4001".parse().unwrap());
        assert!(is_stale_udp(&in_force(), vip, old_port));
    }

    #[test]
    fn sem_233_sem_235_affinity_lasts_as_long_as_the_endpoint_and_the_setting() {
        let backends = Arc::new(BTreeSet::from([BackendId(7)]));
        let in_force = InForce {
            affinity_backends: [(ServicePortId(1), backends)].into_iter().collect(),
            ..InForce::default()
        };
        assert!(may_stay(&in_force, ServicePortId(1), BackendId(7)));
        assert!(!may_stay(&in_force, ServicePortId(1), BackendId(8)));
        assert!(!may_stay(&in_force, ServicePortId(2), BackendId(7)));
    }
}
