//! All that the pipeline needs of an address family.

use svc_common::wire::icmp::Icmp;

use crate::fib::FibWords;
use crate::tables::Tables;

/// The global functions, by address family.
pub trait Global: Tables {
    /// [`crate::source_port::claim`]
    fn claim(takes_port: u32, now: u32) -> u32;
}

/// An address family, as the pipeline uses it.
pub trait Net: Tables + FibWords + Icmp + Global {}
impl<F: Tables + FibWords + Icmp + Global> Net for F {}
