//! A real Kubernetes cluster of namespaces on this machine: hub with control plane, nodes, a client outside.
//!
//! [`ControlPlane`] alone is enough for tests against a real API server. Everything of a cluster has its name:
//! network namespaces, cgroups, one folder. So all of it can be found and removed by name, even after a crash.

pub mod addresses;
pub mod args;
mod control_plane;
mod dns;
mod down;
mod etcd;
mod flags;
pub(crate) mod hierarchies;
pub(crate) mod hub;
mod images;
mod kubeconfig;
mod node;
mod pki;
mod places;
mod pods;
mod preflight;
mod process;
mod processes;
mod proxy;
mod running;
mod settings;
mod shell;
mod state;
mod status;
mod steps;
mod up;
mod whole;

pub use control_plane::ControlPlane;
pub use down::down;
pub use kubeconfig::kubeconfig;
pub use node::{Node, maybe_run};
pub use places::Places;
pub use pods::Pod;
pub use preflight::check as preflight;
pub use running::Running;
pub use settings::{Settings, bin_dir};
pub use shell::shell;
pub use status::status;
pub use steps::Steps;
pub use up::up;
pub use whole::Cluster;
