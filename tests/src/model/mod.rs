//! The independent model: a simple interpreter of the rules of Service semantics (SEM). Its input are Kubernetes'
//! objects and packets, its output the possible results for each packet. It shares no decision with svc: no parser,
//! no plan, no datapath. Both have only the rules in common.
//!
//! `world` has Kubernetes' objects as plain values, `objects` the same as API objects; `network` is the network around
//! the node. `endpoints` and `verdict` are the rules of docs/semantics.md, one by one; `memory` has the flows that
//! have begun; `packet` is a packet and its octets; `oracle` has the results, `begin` those for first packets, `rare`
//! those for packets without ports.
//!
//! A rule is named where it decides something (`World::holds`), so that a test can break it. Then kernel and model
//! must disagree; otherwise no packet has tested the rule.

mod begin;
pub mod endpoints;
pub mod memory;
pub mod network;
pub mod objects;
pub mod oracle;
pub mod packet;
mod rare;
pub mod verdict;
pub mod world;
