//! The API server and the rights that svc has there.

use super::{Finding, fail, pass, warn};

/// Answers of the API server.
#[derive(Clone, Debug)]
pub struct ClusterFacts {
    /// The reason not to ask: Services come from manifests, or no API server is named.
    pub is_skipped: Option<String>,
    /// The server's version, or why it cannot be reached.
    pub server: Result<String, String>,
    pub rights: Vec<Permission>,
}

/// One thing that svc does at the API server.
#[derive(Clone, Debug)]
pub struct Permission {
    /// For example `list services`.
    pub name: String,
    pub is_allowed: bool,
    /// svc cannot serve without it.
    pub is_needed: bool,
}

pub fn findings(facts: &ClusterFacts) -> Vec<Finding> {
    if let Some(why) = &facts.is_skipped {
        return vec![warn("api server", why.clone(), "give --kubeconfig FILE or --master URL")];
    }
    let version = match &facts.server {
        Ok(version) => version,
        Err(error) => {
            let cure = "see --kubeconfig and --master; the address must work without a Service proxy";
            return vec![fail("api server", error.clone(), cure)];
        }
    };
    let mut all = vec![pass("api server", format!("it answers, version {version}"))];
    let missing: Vec<&Permission> = facts.rights.iter().filter(|right| !right.is_allowed).collect();
    if missing.is_empty() {
        let count = facts.rights.len();
        all.push(pass("rights", format!("all {count} that svc uses")));
    }
    let cure = "apply the ClusterRole of deploy/rbac.yaml";
    all.extend(missing.into_iter().map(|right| match right.is_needed {
        true => fail("rights", format!("may not {}: nothing can be served", right.name), cure),
        false => warn("rights", format!("may not {}", right.name), cure),
    }));
    all
}
