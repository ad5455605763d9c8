//! The kernel's tables as the daemon sees them.

pub mod fake;
pub mod faulty;
pub mod store;
