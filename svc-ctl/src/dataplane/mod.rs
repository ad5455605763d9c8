//! The kernel's tables as the daemon sees them.

pub mod affinity;
pub mod attach;
pub mod bpf;
pub mod carried;
pub mod clock;
pub mod clsact;
pub mod copies;
pub mod encode;
pub mod entries;
pub mod fake;
pub mod faulty;
pub mod features;
pub mod flows;
pub mod interfaces;
pub mod links;
pub mod load;
pub mod map_set;
pub mod maps;
pub mod mmap;
mod netlink;
pub mod object;
pub mod pins;
pub mod shapes;
pub mod sock_diag;
pub mod store;
pub mod sys;
pub mod usage;
