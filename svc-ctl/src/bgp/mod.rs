//! A small speaker of BGP (RFC 4271): it announces routes to its peers and accepts none.
//!
//! [`message`] is the codec and [`session`] the state machine; both are pure. [`peer`] has the socket of one session. No module here
//! knows Services: `lb::bgp` decides which routes each peer gets.

pub mod message;
pub mod notification;
pub mod peer;
pub mod route;
pub mod session;
pub mod settings;
mod socket;
pub mod stream;
pub mod update;
