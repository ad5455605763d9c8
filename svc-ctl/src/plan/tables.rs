//! The full contents of the daemon's maps as a value, desired or actual, and the ordered changes between two of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use svc_common::abi::{
    AddressFlags, BackendId, Extent, FrontendFlags, Locality, PrefixList, Scope, ServicePortId,
};
use svc_common::addr::Proto;

use super::backend_map::BackendMap;

/// The key of a frontend in the kernel.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Frontend {
    /// The unspecified address of its family for `Scope::NODE_PORT`.
    pub addr: IpAddr,
    /// Host order.
    pub port: u16,
    pub proto: Proto,
    pub scope: Scope,
}

/// The value of a frontend: its policy and its backends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrontendEntry {
    pub service: ServicePortId,
    pub flags: FrontendFlags,
    pub cluster: Extent,
    pub local: Extent,
    /// Pages of a Maglev table; empty: the hash of the tuple selects.
    pub maglev: Extent,
    /// Seconds that a client stays with its backend; 0: not at all.
    pub affinity: u32,
}

/// A prefix of a list.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Prefix {
    pub list: PrefixList,
    pub net: IpNet,
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
    /// Runs of backend ids, which ascend and are all of one family. Equal sets share a run; an empty one has none, its
    /// extent is zero.
    pub extents: BTreeMap<Extent, Arc<[BackendId]>>,
    /// Maglev tables by their pages: the [digest](super::maglev::digest) of their places.
    pub maglevs: BTreeMap<Extent, u64>,
    pub backends: BackendMap<Backend>,
    /// Addresses of this node and of Services.
    pub addresses: BTreeMap<IpAddr, AddressFlags>,
    pub prefixes: BTreeSet<Prefix>,
}

/// One ordered change to one map.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MapOp {
    PutBackend(BackendId, Backend),
    PutExtent(Extent, Arc<[BackendId]>),
    /// Writes a Maglev table: the index of each place's backend within the extent that the table is over.
    PutMaglev(Extent, Arc<[u16]>),
    /// A service port begins with this id: its counters begin with zero.
    ResetService(ServicePortId),
    PutFrontend(Frontend, FrontendEntry),
    PutAddress(IpAddr, AddressFlags),
    PutPrefix(Prefix),
    DeleteFrontend(Frontend),
    DeleteAddress(IpAddr),
    DeletePrefix(Prefix),
    /// No entry refers to it any more; its place may be used again after a grace period.
    FreeExtent(Extent),
    /// As for an extent.
    FreeMaglev(Extent),
    FreeBackend(BackendId, Backend),
}
