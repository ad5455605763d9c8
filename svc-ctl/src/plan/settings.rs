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
    /// The ranges of ClusterIPs, if packets to unallocated addresses in them are dropped.
    pub service_cidrs: Cidrs,
    /// Load-balancer pools. Packets from outside to unused addresses in them are dropped.
    pub pools: Vec<IpNet>,
    /// How backends are chosen if the Service does not specify it; by default for clients from outside by Maglev, for
    /// others at random.
    pub selection: Option<Selection>,
}
