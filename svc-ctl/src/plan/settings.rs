//! The operator's settings of the plan.

use ipnet::IpNet;

use super::entry::Masquerade;
use super::node_ports::NodePortAddresses;
use super::prefixes::{Cidrs, LocalPods};
use crate::model::service::Selection;

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    pub node_port_addresses: NodePortAddresses,
    pub masquerade: Masquerade,
    pub local_pods: LocalPods,
    /// Where ClusterIPs come from, if packets to an address there that no Service has shall be dropped.
    pub service_cidrs: Cidrs,
    /// Addresses for load balancers. Packets from outside to an address there that no Service has are dropped.
    pub pools: Vec<IpNet>,
    /// How backends are chosen where the Service does not say; by default for clients from outside by Maglev, for others
    /// at random.
    pub selection: Option<Selection>,
}
