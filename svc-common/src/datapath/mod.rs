//! The datapath's decisions as pure code: where a translation happens, what a flow's records hold, how long they
//! live. The kernel programs look values up, call this code, and write the results.

pub mod affinity;
pub mod choose;
pub mod flow;
pub mod placement;
pub mod presence;
pub mod select;
pub mod state;
