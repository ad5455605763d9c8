//! The independent model: a naive interpreter of the rules of Service semantics (SEM). It is told what Kubernetes says
//! and shown packets, and answers what may become of each. It shares no decision with svc: not its parser, not its plan,
//! not its datapath; what both have in common is the rules.
//!
//! `world` is what Kubernetes says, `objects` the same as Kubernetes' own objects; `ground` is what lies around the node.
//! `endpoints` and `verdict` are the rules of docs/semantics.md, one by one; `memory` knows the flows that have begun;
//! `packet` is a packet and its octets; `oracle` answers, `begin` for first packets, `rare` for those without ports.
//!
//! A rule that decides something is named where it does (`World::holds`), so that it can be broken: then kernel and model
//! must disagree, or no packet has put the rule to the test.

mod begin;
pub mod endpoints;
pub mod ground;
pub mod memory;
pub mod objects;
pub mod oracle;
pub mod packet;
mod rare;
pub mod verdict;
pub mod world;
