//! The Services of a column and their endpoints: who has which address, as they are published now.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use svc_common::abi::Scope;

use super::args::{Column, Shape};

/// The port of every Service.
pub const PORT: u16 = 80;

/// The first addresses of each range are left to `kubernetes` and the DNS.
const CLUSTER_IPS: u32 = u32::from_be_bytes([10, 96, 1, 0]);
const LOAD_BALANCERS: u32 = u32::from_be_bytes([198, 18, 0, 0]);
const PODS: u32 = u32::from_be_bytes([10, 128, 0, 0]);
/// Addresses that come by changes.
const NEW_PODS: u32 = u32::from_be_bytes([10, 192, 0, 0]);
const NODE_PORTS: u16 = 30_000;
/// Of 100 Services with a load-balancer address, so many have a NodePort.
const NODE_PORTS_OF_100: u32 = 27;

/// One entry that must be in the frontend table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// Unspecified for a NodePort.
    pub address: IpAddr,
    pub port: u16,
    pub scope: Scope,
}

/// All Services of a column.
#[derive(Debug)]
pub struct Population {
    pub column: Column,
    /// What stands in for the first endpoint of a Service since its last change; 0 where nothing has changed.
    replaced: Vec<u32>,
    /// Changes so far.
    changes: u32,
}

impl Population {
    pub fn new(column: Column) -> Self {
        Self { column, replaced: vec![0; column.services as usize], changes: 0 }
    }

    pub fn services(&self) -> std::ops::Range<u32> {
        0..self.column.services
    }

    pub fn is_dual(&self) -> bool {
        self.column.shape == Shape::DualStack
    }

    /// Its ClusterIP is no address.
    pub fn is_refused(&self, service: u32) -> bool {
        self.column.shape == Shape::Refused && service.is_multiple_of(100)
    }

    pub fn is_load_balanced(&self) -> bool {
        self.column.shape == Shape::LoadBalancer
    }

    /// Gives the first endpoint of a Service another address, and says which.
    pub fn replace_endpoint(&mut self, service: u32) -> Ipv4Addr {
        self.changes += 1;
        if let Some(replaced) = self.replaced.get_mut(service as usize) {
            *replaced = self.changes;
        }
        Ipv4Addr::from_bits(NEW_PODS + self.changes)
    }

    /// The IPv4 endpoints as they are published now.
    pub fn endpoints4(&self, service: u32) -> Vec<Ipv4Addr> {
        let replaced = self.replaced.get(service as usize).copied().unwrap_or_default();
        let mut endpoints: Vec<_> =
            self.numbers(service).map(|nth| Ipv4Addr::from_bits(PODS + nth)).collect();
        if replaced > 0 {
            endpoints[0] = Ipv4Addr::from_bits(NEW_PODS + replaced);
        }
        endpoints
    }

    pub fn endpoints6(&self, service: u32) -> Vec<Ipv6Addr> {
        self.numbers(service).map(|nth| v6(0x128, nth)).collect()
    }

    fn numbers(&self, service: u32) -> std::ops::Range<u32> {
        let first = service * self.column.endpoints;
        first..first + self.column.endpoints
    }

    pub fn cluster_ip(service: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(CLUSTER_IPS + service)
    }

    pub fn cluster_ip6(service: u32) -> Ipv6Addr {
        v6(0x96, 0x100 + service)
    }

    pub fn load_balancer(service: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(LOAD_BALANCERS + service)
    }

    /// NodePorts end at 32767, so only the first of very many Services have one.
    pub fn node_port(&self, service: u32) -> Option<u16> {
        let (hundreds, rest) = (service / 100, service % 100);
        let nth = u16::try_from(hundreds * NODE_PORTS_OF_100 + rest).ok()?;
        let has_one = self.is_load_balanced() && rest < NODE_PORTS_OF_100 && nth < 2_768;
        has_one.then_some(NODE_PORTS + nth)
    }

    /// Where clients find a Service.
    pub fn frontends(&self, service: u32) -> Vec<Frontend> {
        if self.is_refused(service) {
            return Vec::new();
        }
        let at = |address| Frontend { address, port: PORT, scope: Scope::ADDRESS };
        let mut frontends = vec![at(Self::cluster_ip(service).into())];
        if self.is_dual() {
            frontends.push(at(Self::cluster_ip6(service).into()));
        }
        if self.is_load_balanced() {
            frontends.push(at(Self::load_balancer(service).into()));
        }
        if let Some(port) = self.node_port(service) {
            frontends.push(Frontend { address: Ipv4Addr::UNSPECIFIED.into(), port, scope: Scope::NODE_PORT });
        }
        frontends
    }
}

const fn v6(range: u16, nth: u32) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, range, 0, 0, 0, 0, (nth >> 16) as u16, nth as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_services_have_2700_node_ports_and_no_two_the_same() {
        let population = Population::new(Column::new(10_000, Shape::LoadBalancer));
        let mut ports: Vec<_> = population.services().filter_map(|nth| population.node_port(nth)).collect();
        ports.dedup();
        assert_eq!(ports.len(), 2_700);
        assert_eq!((ports[0], ports[2_699]), (30_000, 32_699));
    }

    #[test]
    fn a_change_replaces_the_first_endpoint_by_an_address_that_is_new() {
        let mut population = Population::new(Column::plain(10));
        let before = population.endpoints4(3);
        let new = population.replace_endpoint(3);
        assert!(!before.contains(&new));
        assert_eq!(population.endpoints4(3)[0], new);
        assert_eq!(population.endpoints4(3)[1..], before[1..]);
        assert_ne!(population.replace_endpoint(3), new);
    }
}
