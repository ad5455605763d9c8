//! A Service that asks for an address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use svc_common::addr::Proto;

use crate::model::name::{IpFamily, ServiceName};

/// The request of a Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    pub service: ServiceName,
    pub labels: BTreeMap<String, String>,
    /// Seconds since 1970: the older of two comes first.
    pub created: Option<i64>,
    /// In the order of preference.
    pub families: Vec<IpFamily>,
    /// It wants an address of every family, or none.
    pub needs_all: bool,
    /// Addresses that it asks for explicitly.
    pub addresses: Vec<IpAddr>,
    /// The pool that it asks for.
    pub pool: Option<String>,
    pub sharing: Option<Sharing>,
}

/// Services with the same key may share an address if they have no port in common.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sharing {
    pub key: String,
    pub ports: BTreeSet<(Proto, u16)>,
    /// The selector of a Service with `externalTrafficPolicy: Local`: such Services share an address only if they have
    /// the same endpoints, because a node without an endpoint does not answer.
    pub local_selector: Option<BTreeMap<String, String>>,
}

impl Sharing {
    /// Why the two cannot have one address.
    pub fn hindrance(&self, other: &Self) -> Option<&'static str> {
        if self.key != other.key {
            Some("its sharing key is another one")
        } else if !self.ports.is_disjoint(&other.ports) {
            Some("both have the same port")
        } else if self.local_selector != other.local_selector {
            Some("one has externalTrafficPolicy Local, and not both have the same selector")
        } else {
            None
        }
    }
}
