//! The kernel's tables as the daemon sees them.

pub mod attach;
pub mod bpf;
pub mod clsact;
mod encode;
pub mod fake;
pub mod faulty;
pub mod flows;
pub mod interfaces;
pub mod load;
pub mod maps;
mod netlink;
pub mod object;
pub mod pins;
pub mod store;
pub mod sys;
pub mod usage;
