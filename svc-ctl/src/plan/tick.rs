//! The plan's clock: it is told what time it is.

/// A point on the caller's clock, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Tick(pub u64);

/// How long a number or place that the kernel has let go of stays unused: a program that read a frontend just before it
/// changed has long finished by then.
pub const GRACE_MILLIS: u64 = 500;

impl Tick {
    /// The end of the grace of what was let go of now.
    #[must_use]
    pub const fn after_grace(self) -> Self {
        Self(self.0.saturating_add(GRACE_MILLIS))
    }
}
