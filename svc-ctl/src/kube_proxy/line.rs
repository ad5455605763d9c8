//! A field of a configuration file, and its meaning for svc.

/// The meaning of a field for svc.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// svc honours the field. The flag of `svc-ctl run` with the same effect; none if this is the default of svc.
    Honoured(Option<(String, String)>),
    /// It changes nothing, and why.
    NoMeaning(&'static str),
    /// It cannot be used, and why. The rest of the file counts.
    Refused(String),
    /// kube-proxy does not know it either, or it stands there twice. It is ignored.
    Ignored(&'static str),
}

/// A field of the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    pub field: String,
    pub value: String,
    pub verdict: Verdict,
}

/// The default of kube-proxy's for the field or flag of this name.
pub(super) fn pods_by_cluster_cidr(field: &str) -> Line {
    let flag = Some(("detect-local-mode".to_owned(), "cluster-cidr".to_owned()));
    let (field, value) = (field.to_owned(), "(default ClusterCIDR)".to_owned());
    Line { field, value, verdict: Verdict::Honoured(flag) }
}
