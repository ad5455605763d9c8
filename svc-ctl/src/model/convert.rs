//! Converts Kubernetes objects into the model: the single place that parses and refuses. A refusal names the object
//! and the field; the rest of the object is used if that makes sense.

mod intern;
mod named;
mod node;
mod service;
mod slice;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use svc_common::addr::Proto;

pub use self::intern::{interned, interned_service};
pub use self::named::convert_named_service;
pub use self::node::convert_node;
pub use self::service::convert_service;
pub use self::slice::convert_slice;
use super::complaint::{Complaint, Kind};
use super::name::{ServiceName, SliceKey, proto_from_label};

/// Services with this label belong to another proxy (SEM-003).
pub const LABEL_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Slices with this label belong to headless Services (SEM-004).
pub const LABEL_HEADLESS: &str = "service.kubernetes.io/headless";
/// Names the Service of a slice (SEM-042).
pub const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";
/// How backends of this Service are selected: `random` or `maglev`.
pub const ANNOTATION_SELECTION: &str = "svc/selection";
/// `true`: a ClusterIP of this Service is served even on a node that has the address itself.
pub const ANNOTATION_OWN_ADDRESS: &str = "svc/serve-own-address";
/// `true`, in manifests: the nodes of this Service's endpoints answer DNS there.
pub const ANNOTATION_DNS: &str = "svc/dns";
/// Time of the change that caused this version of an EndpointSlice.
pub const ANNOTATION_TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// The zone of a node.
pub const LABEL_ZONE: &str = "topology.kubernetes.io/zone";
/// A node with this label answers for no load-balancer address.
pub const LABEL_EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Why a Service without an address, or a node port, is refused.
pub const NO_ALLOCATOR: &str =
    "missing, and no API server is here to give one; in a folder of manifests --service-cidr does";

/// Readers of the model, which determine the parts of objects to keep.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Scope {
    #[default]
    Tables,
    /// DNS is on.
    TablesAndNames,
}

/// An object after conversion: its usable part, if svc serves it, and the refused fields.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Converted<T> {
    pub value: Option<T>,
    pub refused: Vec<Complaint>,
}

/// Namespace and name. As everywhere in Kubernetes, a missing namespace is `default`.
pub fn slice_key(meta: &ObjectMeta) -> SliceKey {
    SliceKey { namespace: interned(namespace(meta)), name: meta.name.as_deref().unwrap_or_default().into() }
}

/// The name of this Service object.
pub fn service_name(meta: &ObjectMeta) -> ServiceName {
    interned_service(namespace(meta), meta.name.as_deref().unwrap_or_default())
}

fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or("default")
}

fn has_label(meta: &ObjectMeta, label: &str) -> bool {
    meta.labels.as_ref().is_some_and(|l| l.contains_key(label))
}

fn label<'a>(meta: &'a ObjectMeta, label: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(label).map(String::as_str).filter(|v| !v.is_empty())
}

/// Collects the refused fields of one object.
struct Refusals {
    object: String,
    service: Option<ServiceName>,
    refused: Vec<Complaint>,
}

impl Refusals {
    fn new(kind: &str, meta: &ObjectMeta) -> Self {
        let key = slice_key(meta);
        let object = match kind {
            "Node" => format!("Node {}", key.name),
            _ => format!("{kind} {}/{}", key.namespace, key.name),
        };
        let is_service = kind == "Service" && !key.name.is_empty();
        let service = is_service.then(|| service_name(meta));
        Self { object, service, refused: Vec::new() }
    }

    fn refuse(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.refused.push(match &self.service {
            Some(service) => Complaint::of_service(Kind::Refused, service, field, reason),
            None => Complaint::refused(self.object.as_str(), field, reason),
        });
    }

    fn keep<T>(&mut self, field: impl Into<String>, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|reason| self.refuse(field, reason)).ok()
    }

    fn proto(&mut self, field: String, label: Option<&str>) -> Option<Proto> {
        let label = label.unwrap_or("TCP");
        let reason = || format!("{label:?} is not a protocol (TCP, UDP, SCTP)");
        self.keep(field, proto_from_label(label).ok_or_else(reason))
    }

    /// Checks that the object has a name.
    fn has_name(&mut self, meta: &ObjectMeta) -> bool {
        let has_name = meta.name.as_ref().is_some_and(|name| !name.is_empty());
        if !has_name {
            self.refuse("metadata.name", "missing");
        }
        has_name
    }

    fn is_local(&mut self, field: &str, policy: Option<&str>) -> bool {
        match policy {
            Some("Local") => true,
            None | Some("" | "Cluster") => false,
            Some(other) => {
                self.refuse(field, format!("{other:?} is not a policy (Cluster, Local): Cluster is used"));
                false
            }
        }
    }

    fn done<T>(self, value: Option<T>) -> Converted<T> {
        Converted { value, refused: self.refused }
    }
}

#[cfg(test)]
mod tests;
