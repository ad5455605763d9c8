//! The node daemon, as a library: what `main.rs` starts and what tests drive.
//!
//! One flow: `source` (what somebody wants) -> `model` (validated nouns) -> `plan` (pure: desired tables, then the
//! ordered difference) -> `dataplane` (the kernel's maps). `reconcile` is the loop that turns it.

pub mod app;
pub mod check;
pub mod cli;
pub mod config;
pub mod dataplane;
pub mod dns;
pub mod kube_proxy;
pub mod memory;
pub mod model;
pub mod node;
pub mod observe;
pub mod plan;
pub mod programs;
pub mod reconcile;
pub mod source;
pub mod sweeper;
