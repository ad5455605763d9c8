//! Which endpoints a UDP flow may stay with. A client that keeps its source port keeps its flow for ever, so a flow to an
//! endpoint that is gone must be removed (SEM-124, SEM-125); TCP connections are never cut (SEM-128).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use imbl::OrdMap;
use svc_common::abi::Scope;
use svc_common::addr::Proto;

use super::tables::Frontend;
use crate::model::endpoint::PortEndpoint;
use crate::model::name::IpFamily;
use crate::model::node::NodeAddresses;

/// By UDP frontend; one without such an endpoint is missing, and its flows are left alone.
pub type Serving = OrdMap<Frontend, Arc<BTreeSet<SocketAddr>>>;

/// The endpoints that a flow may stay with, whatever policy, place and topology say of new ones; nothing for other
/// protocols than UDP, or if there are none.
pub fn serving_set(proto: Proto, endpoints: &[PortEndpoint<'_>]) -> Option<Arc<BTreeSet<SocketAddr>>> {
    if proto != Proto::UDP {
        return None;
    }
    // Ready and not serving: its pod publishes addresses that are not ready, and new flows go there (SEM-049).
    let may_stay = endpoints.iter().filter(|e| e.endpoint.ready || e.endpoint.serving);
    let set: BTreeSet<SocketAddr> = may_stay.map(|e| e.target().into()).collect();
    (!set.is_empty()).then(|| Arc::new(set))
}

/// A flow that a client opened to `original`, and that goes to `backend`, must end.
pub fn is_stale(
    serving: &Serving,
    own: &NodeAddresses,
    proto: Proto,
    original: SocketAddr,
    backend: SocketAddr,
) -> bool {
    if proto != Proto::UDP {
        return false;
    }
    let at = |addr, scope| serving.get(&Frontend { addr, port: original.port(), proto, scope });
    let node_port = || {
        let is_own = own.addrs.contains(&original.ip());
        is_own.then(|| at(IpFamily::of(original.ip()).unspecified(), Scope::NODE_PORT)).flatten()
    };
    let set = at(original.ip(), Scope::ADDRESS).or_else(node_port);
    set.is_some_and(|set| !set.contains(&backend))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIPS: [&str; 3] = ["172.30.1.1", "1.2.3.4", "4.5.6.7"];
    const ENDPOINTS: [&str; 3] = ["10.240.0.4:4000", "10.240.1.5:4000", "10.240.2.6:4000"];

    fn serving() -> Serving {
        let set: Arc<BTreeSet<SocketAddr>> = Arc::new([ENDPOINTS[0].parse().unwrap()].into());
        let frontend = |addr: &str, port, scope| Frontend {
            addr: addr.parse().unwrap(),
            port,
            proto: Proto::UDP,
            scope,
        };
        VIPS.iter()
            .map(|vip| frontend(vip, 8000, Scope::ADDRESS))
            .chain([frontend("0.0.0.0", 32000, Scope::NODE_PORT)])
            .map(|frontend| (frontend, Arc::clone(&set)))
            .collect()
    }

    /// The endpoints whose flows from `original` are stale, by protocol.
    fn stale(serving: &Serving, original: &str) -> Vec<(Proto, &'static str)> {
        let addrs = ["192.0.2.1", "127.0.0.1"].map(|a| a.parse().unwrap()).into();
        let own = NodeAddresses { addrs, ..NodeAddresses::default() };
        let protos = [Proto::TCP, Proto::UDP, Proto::SCTP].into_iter();
        let flows = protos.flat_map(|proto| ENDPOINTS.map(|endpoint| (proto, endpoint)));
        let original = original.parse().unwrap();
        flows.filter(|(proto, to)| is_stale(serving, &own, *proto, original, to.parse().unwrap())).collect()
    }

    const GONE: [(Proto, &str); 2] = [(Proto::UDP, ENDPOINTS[1]), (Proto::UDP, ENDPOINTS[2])];

    #[test]
    fn par_190_sem_128_only_udp_flows_to_endpoints_that_are_gone_end() {
        for vip in VIPS {
            assert_eq!(stale(&serving(), &format!("{vip}:8000")), GONE, "{vip}");
        }
    }

    #[test]
    fn par_191_an_address_without_its_port_is_nobodys() {
        for vip in VIPS {
            assert_eq!(stale(&serving(), &format!("{vip}:3000")), [], "{vip}");
        }
    }

    #[test]
    fn par_192_a_node_port_is_the_services_at_every_address_of_the_node() {
        assert_eq!(stale(&serving(), "192.0.2.1:32000"), GONE);
        assert_eq!(stale(&serving(), "127.0.0.1:32000"), GONE);
        // Not this node's: kube-proxy would delete these as well, and the flow is somebody else's.
        assert_eq!(stale(&serving(), "203.0.113.1:32000"), []);
        assert_eq!(stale(&serving(), "192.0.2.1:32001"), []);
    }

    #[test]
    fn par_193_a_flow_that_was_not_translated_ends_where_the_service_is() {
        let vip: SocketAddr = "1.2.3.4:8000".parse().unwrap();
        assert!(is_stale(&serving(), &NodeAddresses::default(), Proto::UDP, vip, vip));
        let other: SocketAddr = "1.2.3.4:3000".parse().unwrap();
        assert!(!is_stale(&serving(), &NodeAddresses::default(), Proto::UDP, other, other));
    }

    #[test]
    fn par_194_of_a_million_foreign_flows_only_those_to_the_port_are_stale() {
        let (serving, nobody) = (serving(), NodeAddresses::default());
        let (vip, gone) = ("172.30.1.1".parse().unwrap(), ENDPOINTS[2].parse().unwrap());
        // Every port, sixteen times: the clients' ports do not matter.
        let originals = (0..1 << 20).map(|n: u32| SocketAddr::new(vip, n as u16));
        let stale = originals.filter(|to| is_stale(&serving, &nobody, Proto::UDP, *to, gone));
        assert_eq!(stale.map(|to| to.port()).collect::<Vec<_>>(), [8000; 16]);
    }

    #[test]
    fn par_195_a_service_without_endpoints_keeps_its_flows() {
        for original in ["172.30.1.1:8000", "192.0.2.1:32000"] {
            assert_eq!(stale(&Serving::default(), original), []);
        }
    }

    #[test]
    fn sem_125_the_port_of_an_endpoint_counts() {
        let vip = "1.2.3.4:8000".parse().unwrap();
        let old_target_port = "10.240.0.4:4001".parse().unwrap();
        assert!(is_stale(&serving(), &NodeAddresses::default(), Proto::UDP, vip, old_target_port));
    }
}
