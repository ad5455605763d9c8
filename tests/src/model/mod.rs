//! The independent model: a simple interpreter of the rules of Service semantics (SEM). Its inputs are Kubernetes'
//! objects and packets. Its output is the set of possible results for each packet. It shares no decision with svc: no
//! parser, no plan, no datapath. Both have only the rules in common.
//!
//! `world` has Kubernetes' objects as plain values, and `objects` makes API objects of them. `network` is the network
//! around the node. `endpoints` and `verdict` are the rules of docs/semantics.md, one by one. `memory` has the flows that
//! have begun. `packet` is a packet and its octets. `oracle` gives the results: `new_flow` for a flow's first packet,
//! `no_ports` for packets without ports.
//!
//! A rule is named where it decides something (`World::holds`), so that a test can break it. Then kernel and model
//! must disagree. If they agree, no packet has tested the rule.

pub mod endpoints;
pub mod memory;
pub mod network;
mod new_flow;
mod no_ports;
pub mod objects;
pub mod oracle;
pub mod packet;
pub mod verdict;
pub mod world;
