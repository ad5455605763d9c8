//! DNS for Services, as the Kubernetes DNS specification says and CoreDNS answers.
//!
//! [`answer::answer`] is a pure function of a [`zone::Zone`] and a question. Around it, [`server`] listens, [`handler`]
//! turns messages into questions and answers into messages, and [`upstream`] asks other servers for names outside of
//! our zones. A zone is the published `World` and one index, from addresses to Services, which follows the Services
//! that change.

pub mod answer;
pub mod complaints;
pub mod counts;
mod fit;
mod handler;
mod lookup;
mod records;
mod reverse;
pub mod server;
pub mod settings;
mod subject;
mod upstream;
pub mod zone;

#[cfg(test)]
mod tests;
