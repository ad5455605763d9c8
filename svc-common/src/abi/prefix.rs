//! Lists of prefixes: who may use a load-balancer address, which addresses are Services', which sources are pods.

use super::{ServiceId, family_abi};

/// A list of prefixes: a service's id for its source ranges (SEM-030), or one of those below.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PrefixList(pub u32);

impl PrefixList {
    /// Where ClusterIPs come from (SEM-094).
    pub const SERVICE_CIDRS: Self = Self(u32::MAX);
    /// Sources that are local pods (SEM-090).
    pub const LOCAL_PODS: Self = Self(u32::MAX - 1);
    /// Bits of the list's number, which stand before the address in a key and always count.
    pub const BITS: u32 = 32;

    /// Who may use a service port's load-balancer addresses.
    #[inline(always)]
    pub const fn sources_of(service: ServiceId) -> Self {
        Self(service.0)
    }
}

/// Key of the prefix table, behind the kernel's own word for how many bits of it count.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PrefixKey<A> {
    pub list: PrefixList,
    pub addr: A,
}

family_abi! { PrefixKey = 8, 20 }
