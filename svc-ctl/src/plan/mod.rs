//! Pure functions from a snapshot of the model to the tables the kernel should hold, and from two tables to the
//! ordered changes between them. No clock, no randomness, no I/O, no log.

pub mod affinity;
pub mod backend_map;
pub mod book;
pub mod capacity;
pub mod claims;
pub mod diff;
pub mod entry;
pub mod frontends;
pub mod ids;
pub mod maglev;
pub mod node_ports;
mod numbers;
pub mod page;
mod places;
pub mod policy;
pub mod prefixes;
pub mod render;
pub mod serving;
pub mod settings;
pub mod tables;
pub mod targets;
pub mod time;
mod tracked;
