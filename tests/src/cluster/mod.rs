//! Owns a real Kubernetes cluster of namespaces on this machine: hub with control plane, nodes, traffic from outside.
//!
//! [`ControlPlane`] alone is enough for tests against a real API server. Everything of a cluster carries its
//! name: network namespaces, cgroups, one folder. So all of it can be found and removed by name, after a crash too.

mod addresses;
mod control_plane;
mod etcd;
mod flags;
mod hub;
mod kubeconfig;
mod pki;
mod process;
mod settings;

pub use addresses::{API_PORT, HUB_V4};
pub use control_plane::ControlPlane;
pub use settings::Settings;
