//! The frontends of a service port, which clients dial. They follow from fields and not from the Service's type (SEM-011).

use svc_common::abi::Scope;

use super::tables::Frontend;
use crate::model::name::IpFamily;
use crate::model::service::{ServiceAddresses, ServicePort};

/// A frontend that a service port claims, and the field that asks for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim {
    pub frontend: Frontend,
    /// For clients outside the cluster: the external traffic policy applies.
    pub external: bool,
    /// Only for some sources (SEM-030).
    pub is_restricted: bool,
    pub field: &'static str,
}

/// All frontends of a service port in one family.
pub fn plan_frontends(port: &ServicePort, addresses: &ServiceAddresses) -> Vec<Claim> {
    let number = port.port.get();
    let at = |addr| Frontend { addr, port: number, proto: port.proto, scope: Scope::ADDRESS };
    let claim = |frontend, field| Claim { frontend, external: true, is_restricted: false, field };
    let mut claims = vec![Claim { external: false, ..claim(at(addresses.cluster_ip), "spec.clusterIPs") }];
    claims.extend(port.node_port.map(|node_port| {
        let addr = IpFamily::of(addresses.cluster_ip).unspecified();
        let scope = Scope::NODE_PORT;
        claim(Frontend { addr, port: node_port.get(), proto: port.proto, scope }, "spec.ports.nodePort")
    }));
    claims.extend(addresses.external_ips.iter().map(|&ip| claim(at(ip), "spec.externalIPs")));
    let is_restricted = !addresses.source_ranges.is_empty();
    let ips = addresses.load_balancer_ips.iter();
    claims.extend(ips.map(|&ip| Claim { is_restricted, ..claim(at(ip), "status.loadBalancer.ingress") }));
    claims
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use svc_common::addr::Proto;

    use super::*;

    fn claims(cluster_ip: &str, node_port: u16, ranges: &[&str]) -> Vec<String> {
        let port = ServicePort {
            name: "".into(),
            proto: Proto::TCP,
            port: NonZeroU16::new(80).unwrap(),
            node_port: NonZeroU16::new(node_port),
        };
        let addresses = ServiceAddresses {
            cluster_ip: cluster_ip.parse().unwrap(),
            external_ips: vec!["192.0.2.1".parse().unwrap()],
            load_balancer_ips: vec!["192.0.2.2".parse().unwrap()],
            source_ranges: ranges.iter().map(|r| r.parse().unwrap()).collect(),
        };
        let text = |c: &Claim| {
            let restricted = if c.is_restricted { " restricted" } else { "" };
            format!("{} {} {}{restricted}", c.frontend.addr, c.frontend.port, c.external)
        };
        plan_frontends(&port, &addresses).iter().map(text).collect()
    }

    #[test]
    fn every_field_makes_its_frontend() {
        let all = ["10.0.0.1 80 false", "0.0.0.0 30080 true", "192.0.2.1 80 true", "192.0.2.2 80 true"];
        assert_eq!(claims("10.0.0.1", 30080, &[]), all);
        assert_eq!(claims("fd00::1", 30080, &[])[1], ":: 30080 true");
        assert_eq!(claims("10.0.0.1", 0, &[]).len(), 3);
    }

    #[test]
    fn source_ranges_restrict_load_balancer_addresses_alone_sem_030() {
        let all =
            ["10.0.0.1 80 false", "0.0.0.0 30080 true", "192.0.2.1 80 true", "192.0.2.2 80 true restricted"];
        assert_eq!(claims("10.0.0.1", 30080, &["203.0.113.0/24"]), all);
    }
}
