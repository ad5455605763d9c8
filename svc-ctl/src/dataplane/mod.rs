//! The kernel's tables as the daemon sees them.

pub mod affinity;
pub mod attach;
pub mod bpf;
mod clock;
pub mod clsact;
mod encode;
mod entries;
pub mod fake;
pub mod faulty;
pub mod flows;
pub mod interfaces;
pub mod load;
pub mod maps;
mod netlink;
pub mod object;
pub mod pins;
mod sock_diag;
pub mod sockets;
pub mod store;
pub mod sys;
pub mod usage;
