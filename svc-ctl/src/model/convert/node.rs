//! Converts Node objects.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;

use super::{Converted, LABEL_EXCLUDED, LABEL_ZONE, Refusals, label};
use crate::model::node::NodeInfo;
use crate::model::parse::{parse_cidr, parse_ip};

/// The cluster autoscaler is about to remove a node with this taint (SEM-211).
const TAINT_TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// Converts a node.
pub fn convert_node(object: &core::Node) -> Converted<NodeInfo> {
    let mut refusals = Refusals::new("Node", &object.metadata);
    if !refusals.has_name(&object.metadata) {
        return refusals.done(None);
    }
    let listed = object.status.as_ref().and_then(|s| s.addresses.as_ref());
    let mut addresses: Vec<(bool, IpAddr)> = Vec::new();
    for (i, address) in listed.iter().flat_map(|a| a.iter()).enumerate() {
        if address.type_ == "InternalIP" || address.type_ == "ExternalIP" {
            let field = format!("status.addresses[{i}].address");
            let ip = refusals.keep(field, parse_ip(&address.address));
            addresses.extend(ip.map(|ip| (address.type_ != "InternalIP", ip)));
        }
    }
    // Internal addresses first, otherwise in the listed order.
    addresses.sort_by_key(|&(external, _)| external);
    let listed = object.spec.as_ref().and_then(|s| s.pod_cidrs.as_ref());
    let mut pod_cidrs = Vec::new();
    for (i, text) in listed.iter().flat_map(|c| c.iter()).enumerate() {
        pod_cidrs.extend(refusals.keep(format!("spec.podCIDRs[{i}]"), parse_cidr(text)));
    }
    let mut taints = object.spec.iter().flat_map(|s| s.taints.iter().flatten());
    let is_going =
        object.metadata.deletion_timestamp.is_some() || taints.any(|t| t.key == TAINT_TO_BE_DELETED);
    let has_label = object.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(LABEL_EXCLUDED));
    let conditions = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let has_no_network =
        conditions.into_iter().any(|c| c.type_ == "NetworkUnavailable" && c.status == "True");
    let node = NodeInfo {
        name: object.metadata.name.as_deref().unwrap_or_default().into(),
        zone: label(&object.metadata, LABEL_ZONE).map(Arc::from),
        addresses: addresses.into_iter().map(|(_, ip)| ip).collect(),
        pod_cidrs,
        is_eligible: !is_going,
        is_excluded_from_load_balancers: has_label || has_no_network,
        labels: Arc::new(object.metadata.labels.clone().unwrap_or_default()),
    };
    refusals.done(Some(node))
}
