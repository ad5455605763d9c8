//! Translates kube-proxy's configuration file and flags into svc's. Pure: text in, flags of `svc-ctl run`
//! and explanations out.
//!
//! Each field is honoured, has no meaning here, or is refused, and [`fields`] says which and why.

pub mod document;
pub mod explain;
pub mod fields;
pub mod flags;
mod honour;
mod k3s;
#[cfg(test)]
mod tests;

pub use self::explain::{Explained, Line, Verdict, explain};
