//! Pure functions from a snapshot of the model to the tables the kernel should hold, and from two tables to the
//! ordered changes between them. No clock, no randomness, no I/O, no log.

mod claims;
pub mod desired;
pub mod diff;
pub mod entry;
pub mod frontends;
mod growing;
pub mod health_ports;
pub mod ids;
pub mod maglev;
pub mod node_ports;
mod numbers;
mod places;
pub mod policy;
pub mod prefixes;
pub mod render;
pub mod serving;
pub mod stays;
pub mod tables;
pub mod tick;
pub mod warnings;
