//! Kubernetes' state as validated types of our own. Only `convert` and `intake` see Kubernetes objects; nothing is
//! validated again afterwards.

pub mod complaint;
pub mod convert;
pub mod endpoint;
pub mod intake;
pub mod name;
pub mod named;
pub mod node;
pub mod parse;
pub mod service;
pub mod store;
pub mod world;
