//! The datapath's decisions as pure code: where a translation happens, what a flow's records hold, how long they
//! live. The kernel programs look things up, call these, and write.

pub mod affinity;
pub mod flow;
pub mod placement;
pub mod select;
pub mod state;
