//! `svc-ctl check`: the requirements of svc that this node meets, the obstacles that it has, and the remedy for each.
//! [`facts`] reads the host. The other files are pure.

pub mod cluster;
pub mod coexistence;
pub mod daemon;
pub mod facts;
pub mod host;
pub mod nodes;
#[cfg(test)]
mod tests;

use serde::Serialize;

use self::facts::Facts;

/// Result of a check.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Pass,
    /// svc works, but not in every respect, or something may get in its way.
    Warn,
    /// svc does not work here.
    Fail,
}

/// One line.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    pub name: &'static str,
    pub verdict: Verdict,
    /// The state that was found.
    pub found: String,
    /// The cure; empty where none is needed.
    pub cure: String,
}

pub(crate) fn pass(name: &'static str, found: impl Into<String>) -> Finding {
    Finding { name, verdict: Verdict::Pass, found: found.into(), cure: String::new() }
}

pub(crate) fn warn(name: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Finding {
    Finding { name, verdict: Verdict::Warn, found: found.into(), cure: cure.into() }
}

pub(crate) fn fail(name: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Finding {
    Finding { name, verdict: Verdict::Fail, found: found.into(), cure: cure.into() }
}

/// Every check, in the order in which a person would look.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let parts = [
        host::findings(&facts.host),
        coexistence::findings(&facts.coexistence),
        cluster::findings(&facts.cluster),
        daemon::findings(&facts.daemon),
        nodes::findings(&facts.nodes),
    ];
    parts.into_iter().flatten().collect()
}
