//! The real kube-proxy as a witness: the same objects, the same hosts, the same clients, and two proxies beside each other
//! that must do the same.
//!
//! Read from the bottom up: `endpoint`, `service` are objects as the groups of cases write them; `frontend`, `outcome`,
//! `line` say who dials what and what they meet; `group` is a file of them (`random` makes others) and `row` what comes of the lines. `plane` is
//! the API server that both proxies watch, `side` a network with one of them, and `play` brings it all together.

mod deviations;
mod endpoint;
mod frontend;
mod ground;
mod group;
mod kube_proxy;
mod line;
mod outcome;
#[cfg(test)]
mod page;
mod plane;
mod play;
mod random;
mod row;
mod service;
mod settings;
mod side;

use std::path::PathBuf;

pub use deviations::Deviations;
pub use group::Group;
pub use outcome::Outcome;
pub use play::{Met, play};
pub use random::groups as random_groups;
pub use row::Row;

use crate::run_name::workspace_dir;

/// Of all Services and slices here.
const NAMESPACE: &str = "witness";

/// Where the groups and the deviations are.
pub fn folder() -> PathBuf {
    workspace_dir().join("tests/witness")
}
