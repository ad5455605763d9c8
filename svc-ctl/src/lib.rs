//! The node daemon as a library: started by `main.rs`, driven by tests.
//!
//! Data flows one way: `source` (objects of users) -> `model` (validated objects) -> `plan` (pure: desired tables,
//! then the ordered difference) -> `dataplane` (the kernel's maps). `reconcile` is the loop that drives it.

pub mod app;
pub mod bgp;
pub mod check;
pub mod cli;
pub mod config;
pub mod dataplane;
pub mod dns;
pub mod kube_proxy;
pub mod lb;
pub mod memory;
pub mod model;
pub mod node;
pub mod observe;
pub mod parts;
pub mod plan;
pub mod programs;
pub mod reconcile;
pub mod source;
pub mod sweeper;
pub mod why;
