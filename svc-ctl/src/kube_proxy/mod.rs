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
mod line;
#[cfg(test)]
mod tests;

pub use self::explain::{Explained, explain};
pub use self::line::{Line, Verdict};
