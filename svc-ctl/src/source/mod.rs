//! Where Services and endpoints come from: a Kubernetes API, or a folder of manifests. Both say the same five things.

pub mod event;
pub mod kubernetes;
pub mod manifests;
