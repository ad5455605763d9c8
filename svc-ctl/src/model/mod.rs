//! What Kubernetes says, as validated nouns without Kubernetes types. Only `convert` and `intake` see the objects
//! themselves; from here on nothing is checked again.

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
