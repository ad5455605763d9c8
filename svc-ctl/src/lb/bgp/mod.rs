//! Announces load-balancer addresses by BGP: to peers by svc's own sessions, or as routes of the kernel that a routing daemon
//! announces.
//!
//! [`routes`] decides which routes each peer gets and is pure; [`announcer`] carries that out.

pub mod announcer;
pub mod kernel_routes;
pub mod report;
pub mod routes;
