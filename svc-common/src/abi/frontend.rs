//! Frontends (dialled by clients), their extents of backend ids, and backends.

use super::{abi, bits, family_abi};
use crate::addr::{Port, Proto};

/// Id of a service port; stable across restarts; indexes the per-service counters.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServicePortId(pub u32);

/// Id of a backend; indexes the backend table of its family. It keeps its meaning while a frontend or flow uses it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BackendId(pub u32);

/// Kind of a frontend's address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Scope(pub u8);

impl Scope {
    /// The address in the key itself (ClusterIP, external IP, load-balancer IP).
    pub const ADDRESS: Self = Self(0);
    /// Any NodePort address of this node; the address in the key is zero.
    pub const NODE_PORT: Self = Self(1);
}

/// Key of the frontend table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FrontendKey<A> {
    pub addr: A,
    pub port: Port,
    #[cfg(feature = "next-layout")]
    pub scope: Scope,
    pub proto: Proto,
    #[cfg(not(feature = "next-layout"))]
    pub scope: Scope,
}

/// A run of backend ids in the selection table, in ascending order. It never changes while a frontend names it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Extent {
    pub first: u32,
    pub count: u32,
}

/// Properties of a frontend, a set of bits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FrontendFlags(pub u32);

impl FrontendFlags {
    pub const NONE: Self = Self(0);
    /// An external frontend: NodePort, external IP, load-balancer IP.
    pub const EXTERNAL: Self = Self(1);
    /// `externalTrafficPolicy: Local`: clients from outside choose from the `local` extent, pods and processes of this
    /// node from the `cluster` extent (SEM-085, SEM-094).
    pub const LOCAL_ONLY: Self = Self(2);
    /// Some endpoint is usable somewhere in the cluster: an empty extent means drop, not reject (SEM-065).
    pub const USABLE_ELSEWHERE: Self = Self(4);
    /// Local pods are masqueraded (SEM-081, SEM-083).
    pub const MASQUERADE_PODS: Self = Self(8);
    /// All other clients are masqueraded.
    pub const MASQUERADE_OTHERS: Self = Self(16);
    /// Masquerade also towards backends of this node, though their replies would reach the client without it.
    pub const MASQUERADE_TO_LOCAL: Self = Self(32);
    /// Only sources in the prefix list `PrefixList::sources_of` may use it (SEM-030).
    pub const SOURCE_RANGES: Self = Self(64);
    /// This node itself is in the source ranges.
    pub const NODE_IN_RANGES: Self = Self(128);
}

/// Value of the frontend table. One write of it publishes a set of backends.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FrontendValue {
    #[cfg(feature = "next-layout")]
    pub affinity: u32,
    pub service: ServicePortId,
    pub flags: FrontendFlags,
    /// Backends for all clients, or for clients of this node if `LOCAL_ONLY`.
    pub cluster: Extent,
    /// Backends on this node, for clients from outside if `LOCAL_ONLY`; empty otherwise.
    pub local: Extent,
    /// Pages of the Maglev table over `local` if `LOCAL_ONLY`, else over `cluster`; empty: the hash of the tuple
    /// selects.
    pub maglev: Extent,
    /// Timeout of session affinity in seconds, counted from the client's last new flow; 0: no session affinity.
    #[cfg(not(feature = "next-layout"))]
    pub affinity: u32,
}

/// A page of a Maglev table. In a table of one page each place is one octet. In a larger table each place is two
/// octets (native order). A place holds the index of a backend within the table's extent.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MaglevPage(pub [u8; MaglevPage::OCTETS as usize]);

impl MaglevPage {
    pub const OCTETS: u32 = 4_096;
    /// Largest number of backends in a table of one page.
    pub const NARROW_BACKENDS: u32 = 256;
}

/// Location of a backend, seen from this node; decides placement and SNAT.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Locality(pub u8);

impl Locality {
    /// On another node or outside the cluster.
    pub const REMOTE: Self = Self(0);
    /// A pod of this node.
    pub const LOCAL: Self = Self(1);
    /// An address of this node itself: a host-network pod or process.
    pub const HOST: Self = Self(2);
}

/// Value of the backend table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BackendValue<A> {
    pub addr: A,
    pub port: Port,
    pub locality: Locality,
    pub _pad: u8,
}

family_abi! { FrontendKey = 8, 20; BackendValue = 8, 20 }
abi! { FrontendValue = 36, MaglevPage = 4096 }
bits! { FrontendFlags }
