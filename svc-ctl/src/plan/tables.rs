//! The full contents of the daemon's maps as a value, desired or actual, and the ordered changes between two of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use svc_common::abi::{BackendId, Extent, FrontendFlags, Locality, NodeAddrFlags, Scope, ServiceId};
use svc_common::addr::Proto;

/// What identifies a frontend in the kernel.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Frontend {
    /// The unspecified address of its family for `Scope::NODE_PORT`.
    pub addr: IpAddr,
    /// Host order.
    pub port: u16,
    pub proto: Proto,
    pub scope: Scope,
}

/// What a frontend leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrontendEntry {
    pub service: ServiceId,
    pub flags: FrontendFlags,
    pub cluster: Extent,
    pub local: Extent,
    /// Seconds that a client stays with its backend; 0: not at all.
    pub affinity: u32,
}

/// An address and port that can receive traffic. Its id is its identity for as long as anything uses it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Backend {
    pub addr: IpAddr,
    /// Host order.
    pub port: u16,
    pub locality: Locality,
}

/// Everything the plan decides and the maps hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tables {
    pub frontends: BTreeMap<Frontend, FrontendEntry>,
    /// Runs of backend ids, all of one family; equal sets share a run. An empty set has no run: its extent is zero.
    pub extents: BTreeMap<Extent, Vec<BackendId>>,
    pub backends: BTreeMap<BackendId, Backend>,
    pub node_addrs: BTreeMap<IpAddr, NodeAddrFlags>,
}

/// One ordered change to one map.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MapOp {
    PutBackend(BackendId, Backend),
    PutExtent(Extent, Vec<BackendId>),
    PutFrontend(Frontend, FrontendEntry),
    PutNodeAddr(IpAddr, NodeAddrFlags),
    DeleteFrontend(Frontend),
    DeleteNodeAddr(IpAddr),
    /// Nothing refers to it any more; its place may be used again after a grace period.
    FreeExtent(Extent),
    FreeBackend(BackendId, Backend),
}
