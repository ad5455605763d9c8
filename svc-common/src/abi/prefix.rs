//! Lists of prefixes: source ranges of load-balancer addresses, Service CIDRs, pod CIDRs, load-balancer pools.

use super::{ServicePortId, family_abi};

/// A list of prefixes: the id of a service port names its source ranges (SEM-030); the constants below name the
/// others.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PrefixList(pub u32);

impl PrefixList {
    /// Service CIDRs (SEM-094).
    pub const SERVICE_CIDRS: Self = Self(u32::MAX);
    /// Source addresses of local pods (SEM-090).
    pub const LOCAL_PODS: Self = Self(u32::MAX - 1);
    /// Addresses of load-balancer pools (SEM-315).
    pub const POOLS: Self = Self(u32::MAX - 2);
    /// Bits of the list's number. In a key they stand before the address, and all of them must match.
    pub const BITS: u32 = 32;

    /// Sources that may use a service port's load-balancer addresses.
    #[inline(always)]
    pub const fn sources_of(service: ServicePortId) -> Self {
        Self(service.0)
    }
}

/// Key of the prefix table. The kernel's prefix length precedes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PrefixKey<A> {
    pub list: PrefixList,
    pub addr: A,
}

family_abi! { PrefixKey = 8, 20 }
