//! The tables' ABI: every key and value that crosses between kernel and daemon, or survives the daemon in a pin.
//!
//! Plain data only: `repr(C)`, no padding (checked by size), no `bool`, no `enum`, no `Option`.
//!
//! There are two numbers, each of which names a folder of pins. [`TABLES_ABI`] is of the tables that the daemon can
//! fill again from its sources ([`names::TABLES`]): another number only costs filling them again. [`RECORDS_ABI`] is of
//! the maps that programs fill ([`names::RECORDS`]): another number ends every translated connection. A bit, counter or
//! constant that earlier programs ignore needs no new number. Any other change of a key, a value or a meaning does. A
//! field with another meaning gets another name, because ids are carried from one layout to the next by the names of
//! fields.

mod affinity;
mod announced;
mod config;
mod counters;
mod flow;
mod fragment;
mod frontend;
mod growth;
#[cfg(feature = "user")]
pub mod layout;
mod lease;
mod node;
mod prefix;
mod socket;

pub mod limits;
pub mod names;

pub use affinity::{AffinityKey, AffinityValue};
pub use announced::{Announced, AnnouncedKey, AnnouncedState, NodeMac};
pub use config::Config;
pub use counters::{Counter, ServiceCounters};
pub use flow::{Direction, Exit, FlowKey, FlowRecord, FlowState, Hook};
pub use fragment::{FragmentKey, FragmentPorts};
pub use frontend::{
    BackendId, BackendValue, Extent, FrontendFlags, FrontendKey, FrontendValue, Locality, MaglevPage, Scope,
    ServicePortId,
};
pub use growth::{EntryCount, EntryTable, Migration};
pub use lease::{Lease, PodSockets, has_programs, is_held};
pub use node::{AddressFlags, Iface, IfaceFlags, Role};
pub use prefix::{PrefixKey, PrefixList};
pub use socket::{SockKey, SockValue};

/// Number of the tables that the daemon can fill again.
pub const TABLES_ABI: u32 = if cfg!(feature = "next-layout") { 6 } else { 5 };
/// Number of the maps that programs fill.
pub const RECORDS_ABI: u32 = 5;

/// Checks the size, which excludes padding, and for the daemon declares the type plain data.
macro_rules! abi {
    ($($type:ty = $size:literal),+ $(,)?) => {$(
        const _: () = assert!(core::mem::size_of::<$type>() == $size);
        // SAFETY: repr(C), integers only, and the size above equals the sum of its fields: no padding.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $type {}
    )+};
}
pub(crate) use abi;

/// Like [`abi`], for types that are generic over the family's address: size with an IPv4 and with an IPv6 address.
macro_rules! family_abi {
    ($($type:ident = $v4:literal, $v6:literal);+ $(;)?) => {$(
        const _: () = assert!(core::mem::size_of::<$type<$crate::addr::AddrV4>>() == $v4);
        const _: () = assert!(core::mem::size_of::<$type<$crate::addr::AddrV6>>() == $v6);
        // SAFETY: repr(C), integers only, and the size for each address equals the sum of its fields: no padding.
        #[cfg(feature = "user")]
        unsafe impl<A: $crate::abi::MapAddr> aya::Pod for $type<A> {}
    )+};
}
pub(crate) use family_abi;

/// Sets of bits.
macro_rules! bits {
    ($($type:ty),+) => {$(
        impl $type {
            #[inline(always)]
            pub const fn has(self, bit: Self) -> bool {
                self.0 & bit.0 != 0
            }

            #[inline(always)]
            #[must_use]
            pub const fn with(self, bit: Self) -> Self {
                Self(self.0 | bit.0)
            }
        }
    )+};
}
pub(crate) use bits;

/// An address in the keys and values of a family's maps.
///
/// # Safety
/// No structure of this module may have padding with this address. The sizes with both implementors are asserted.
#[cfg(feature = "user")]
pub unsafe trait MapAddr: aya::Pod {}
// SAFETY: `family_abi` asserts the size of every structure that holds it.
#[cfg(feature = "user")]
unsafe impl MapAddr for crate::addr::AddrV4 {}
// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl MapAddr for crate::addr::AddrV6 {}
