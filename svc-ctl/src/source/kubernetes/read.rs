//! The parts of Kubernetes objects that svc reads. The rest of their JSON is skipped and never allocated: most of an
//! object is `managedFields`, foreign annotations and status.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::model::convert::{ANNOTATION_OWN_ADDRESS, ANNOTATION_SELECTION, ANNOTATION_TRIGGER_TIME};
use crate::source::event::{Event, SourceEvent};

/// A bookmark with this annotation ends a streamed list.
pub const ANNOTATION_LIST_ENDS: &str = "k8s.io/initial-events-end";

/// The annotations that svc reads. All keys that `model::convert` reads must be here.
const KEYS: [&str; 4] =
    [ANNOTATION_SELECTION, ANNOTATION_OWN_ADDRESS, ANNOTATION_TRIGGER_TIME, ANNOTATION_LIST_ENDS];

/// A kind of object that is listed and watched, with the parts to read.
pub trait Kind: DeserializeOwned + Send {
    /// The type of the model's events; fields that are not read are empty.
    type Object: Resource<DynamicType = ()> + Default;
    /// The kind's name in complaints about the API.
    const PLURAL: &'static str;
    const EVENT: fn(Event<Box<Self::Object>>) -> SourceEvent;

    fn meta(&self) -> &Meta;
    fn into_object(self) -> Self::Object;

    /// An object with metadata only, for a deletion.
    fn named(meta: Meta) -> Self::Object {
        let mut object = Self::Object::default();
        *object.meta_mut() = meta.into();
        object
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Meta {
    pub name: Option<String>,
    pub namespace: Option<String>,
    pub resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    /// All of them, since advertisements of BGP select by any. Labels are short, and `model::convert` keeps few.
    labels: Option<BTreeMap<String, String>>,
    pub annotations: Option<KeptKeys>,
}

impl From<Meta> for ObjectMeta {
    fn from(meta: Meta) -> Self {
        Self {
            name: meta.name,
            namespace: meta.namespace,
            creation_timestamp: meta.creation_timestamp,
            deletion_timestamp: meta.deletion_timestamp,
            labels: meta.labels,
            annotations: meta.annotations.map(|kept| kept.0),
            ..Self::default()
        }
    }
}

/// Annotations, reduced to [`KEYS`].
#[derive(Debug, Default)]
pub struct KeptKeys(pub BTreeMap<String, String>);

impl<'de> Deserialize<'de> for KeptKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeptKeysVisitor;
        impl<'de> Visitor<'de> for KeptKeysVisitor {
            type Value = KeptKeys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KeptKeys, A::Error> {
                let mut kept = BTreeMap::new();
                while let Some(Key(key)) = map.next_key()? {
                    match key {
                        Some(key) => drop(kept.insert(key.to_owned(), map.next_value()?)),
                        None => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(KeptKeys(kept))
            }
        }
        deserializer.deserialize_map(KeptKeysVisitor)
    }
}

/// One of [`KEYS`], or `None` for any other key.
struct Key(Option<&'static str>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, text: &str) -> Result<Key, E> {
                Ok(Key(KEYS.into_iter().find(|key| *key == text)))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

#[derive(Deserialize)]
pub struct Service {
    #[serde(default)]
    metadata: Meta,
    spec: Option<core::ServiceSpec>,
    status: Option<ServiceStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceStatus {
    load_balancer: Option<core::LoadBalancerStatus>,
}

impl Kind for Service {
    type Object = core::Service;
    const PLURAL: &'static str = "Services";
    const EVENT: fn(Event<Box<core::Service>>) -> SourceEvent = SourceEvent::Service;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn into_object(self) -> core::Service {
        let load_balancer = self.status.and_then(|status| status.load_balancer);
        core::Service {
            metadata: self.metadata.into(),
            spec: self.spec.map(|spec| core::ServiceSpec { selector: None, ..spec }),
            status: load_balancer
                .map(|l| core::ServiceStatus { load_balancer: Some(l), ..Default::default() }),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slice {
    #[serde(default)]
    metadata: Meta,
    address_type: Option<String>,
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<discovery::EndpointPort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    addresses: Option<Vec<String>>,
    conditions: Option<discovery::EndpointConditions>,
    hostname: Option<String>,
    hints: Option<discovery::EndpointHints>,
    node_name: Option<String>,
    target_ref: Option<TargetRef>,
}

#[derive(Deserialize)]
struct TargetRef {
    kind: Option<String>,
    name: Option<String>,
    namespace: Option<String>,
}

impl Kind for Slice {
    type Object = discovery::EndpointSlice;
    const PLURAL: &'static str = "EndpointSlices";
    const EVENT: fn(Event<Box<discovery::EndpointSlice>>) -> SourceEvent = SourceEvent::Slice;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn into_object(self) -> discovery::EndpointSlice {
        let endpoint = |e: Endpoint| discovery::Endpoint {
            addresses: e.addresses.unwrap_or_default(),
            conditions: e.conditions,
            hostname: e.hostname,
            hints: e.hints,
            node_name: e.node_name,
            target_ref: e.target_ref.map(|target| core::ObjectReference {
                kind: target.kind,
                name: target.name,
                namespace: target.namespace,
                ..core::ObjectReference::default()
            }),
            ..discovery::Endpoint::default()
        };
        discovery::EndpointSlice {
            metadata: self.metadata.into(),
            address_type: self.address_type.unwrap_or_default(),
            endpoints: self.endpoints.map(|all| all.into_iter().map(endpoint).collect()),
            ports: self.ports,
        }
    }
}

#[derive(Deserialize)]
pub struct Node {
    #[serde(default)]
    metadata: Meta,
    spec: Option<core::NodeSpec>,
    status: Option<NodeStatus>,
}

#[derive(Deserialize)]
struct NodeStatus {
    addresses: Option<Vec<core::NodeAddress>>,
    conditions: Option<Vec<core::NodeCondition>>,
}

impl Kind for Node {
    type Object = core::Node;
    const PLURAL: &'static str = "our Node";
    const EVENT: fn(Event<Box<core::Node>>) -> SourceEvent = SourceEvent::Node;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn into_object(self) -> core::Node {
        let network = |c: &core::NodeCondition| c.type_ == "NetworkUnavailable";
        let status = self.status.map(|status| core::NodeStatus {
            addresses: status.addresses,
            conditions: status.conditions.map(|all| all.into_iter().filter(network).collect()),
            ..core::NodeStatus::default()
        });
        core::Node { metadata: self.metadata.into(), spec: self.spec, status }
    }
}

/// A whole object, with the labels, annotations and conditions that the allocator of load-balancer addresses reads.
pub struct WholeObject<T> {
    meta: Meta,
    object: T,
}

impl<'de, T: Resource<DynamicType = ()> + Deserialize<'de>> Deserialize<'de> for WholeObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = T::deserialize(deserializer)?;
        let known = object.meta();
        let meta = Meta {
            name: known.name.clone(),
            namespace: known.namespace.clone(),
            resource_version: known.resource_version.clone(),
            ..Meta::default()
        };
        Ok(Self { meta, object })
    }
}

impl Kind for WholeObject<core::Service> {
    type Object = core::Service;
    const PLURAL: &'static str = "Services for load-balancer addresses";
    const EVENT: fn(Event<Box<core::Service>>) -> SourceEvent = SourceEvent::Service;

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn into_object(self) -> core::Service {
        self.object
    }
}

impl Kind for WholeObject<core::Node> {
    type Object = core::Node;
    const PLURAL: &'static str = "Nodes for load-balancer addresses";
    const EVENT: fn(Event<Box<core::Node>>) -> SourceEvent = SourceEvent::Node;

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn into_object(self) -> core::Node {
        self.object
    }
}

#[cfg(test)]
mod tests;
