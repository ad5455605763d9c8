//! The kernel's tables as the daemon sees them.

pub mod store;
