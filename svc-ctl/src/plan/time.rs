//! The plan's clock. The caller passes the time in.

/// A point on the caller's clock, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct PlanTime(pub u64);

/// Time for which a number or place stays unused after the kernel has stopped using it. A program that read a frontend
/// just before it changed has finished by then.
pub const GRACE_MILLIS: u64 = 500;

impl PlanTime {
    /// The end of the grace that begins now.
    #[must_use]
    pub const fn after_grace(self) -> Self {
        Self(self.0.saturating_add(GRACE_MILLIS))
    }
}
