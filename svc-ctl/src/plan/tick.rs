//! The plan's clock: it is told what time it is.

/// A point on the caller's clock, in seconds.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Tick(pub u64);

/// How long what the kernel has let go of stays unused: a program that read a frontend just before it changed has
/// long finished by then.
pub const GRACE_TICKS: u64 = 2;
