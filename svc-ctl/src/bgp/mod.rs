//! A small speaker of BGP: it announces routes to its peers and accepts none.
//!
//! It knows no Services and no pools. `lb::bgp` decides which routes each peer gets.

pub mod settings;
