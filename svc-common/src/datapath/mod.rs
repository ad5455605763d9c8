//! The datapath's decisions as pure code: the place of a translation, the contents of a flow's records, their
//! lifetimes. The kernel programs look values up, call this code, and write the results.

pub mod affinity;
pub mod budget;
pub mod choose;
pub mod flow;
pub mod placement;
pub mod port_hash;
pub mod presence;
pub mod select;
pub mod state;
