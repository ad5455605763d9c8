//! kube-proxy as a witness: the same objects, hosts and clients with two proxies, which must give the same results.
//!
//! Read in this order: `endpoint`, `service` are objects in the syntax of the groups. `frontend`, `outcome`, `line` are
//! the client, the dialled frontend and the result. `group` is a file of them (`random` makes others), and `row` a case
//! that follows from a line. `api_server` is the API server that both proxies watch, `network` a network with one of
//! them, and `play` runs everything. `pages` asks both proxies for their metrics and health.

mod api_server;
mod deviations;
mod endpoint;
mod frontend;
mod group;
mod hosts;
mod kube_proxy;
mod line;
mod network;
mod outcome;
#[cfg(test)]
mod page;
pub mod pages;
mod play;
mod random;
mod row;
mod service;
mod settings;

use std::path::PathBuf;

pub use deviations::Deviations;
pub use group::Group;
pub use outcome::RowOutcome;
pub use play::{RowResults, play};
pub use random::groups as random_groups;
pub use row::Row;

use crate::run_name::workspace_dir;

/// Namespace of all Services and slices here.
const NAMESPACE: &str = "witness";

/// Folder of the groups and the deviations.
pub fn folder() -> PathBuf {
    workspace_dir().join("tests/witness")
}
