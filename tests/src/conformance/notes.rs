//! Notes on specs that do not pass: the missing rule, or why no proxy can pass here.

use anyhow::{Context, Result};
use serde::Deserialize;

/// The hand-written file beside the records.
#[derive(Debug)]
pub struct Notes(Vec<Note>);

/// Applies to every spec whose text contains `spec`; the first match is used.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Written")]
pub struct Note {
    pub spec: String,
    pub why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// kube-proxy passes it and svc does not yet: the missing rules of docs/semantics.md.
    Waits(String),
    /// kube-proxy passes it and svc deliberately does not: the deviation in docs/deviations.md.
    Deviates(String),
    /// Neither can pass here (needs a cloud, hardware, the internet, a kernel feature), or it tests another program.
    Reason(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    spec: String,
    waits: Option<String>,
    deviates: Option<String>,
    reason: Option<String>,
}

impl TryFrom<Written> for Note {
    type Error = String;

    fn try_from(Written { spec, waits, deviates, reason }: Written) -> std::result::Result<Self, String> {
        let why = match (waits, deviates, reason) {
            (Some(rule), None, None) if rule.contains("SEM-") => Why::Waits(rule),
            (Some(rule), None, None) => {
                return Err(format!("{spec:?} waits for {rule:?}, which names no SEM rule"));
            }
            (None, Some(otherwise), None) => Why::Deviates(otherwise),
            (None, None, Some(reason)) => Why::Reason(reason),
            _ => return Err(format!("{spec:?} needs one of `waits`, `deviates` and `reason`")),
        };
        Ok(Self { spec, why })
    }
}

impl Notes {
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self(serde_yaml_ng::from_str(text).context("notes.yaml")?))
    }

    pub fn of(&self, spec: &str) -> Option<&Note> {
        self.0.iter().find(|note| spec.contains(&note.spec))
    }

    /// Notes without a matching spec: left over from an older suite.
    pub fn idle(&self, specs: &[&str]) -> Vec<&str> {
        let is_idle = |note: &&Note| !specs.iter().any(|spec| spec.contains(&note.spec));
        self.0.iter().filter(is_idle).map(|note| note.spec.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "- {spec: sctp, reason: no SCTP here}\n- {spec: Services, waits: SEM-030}\n";

    #[test]
    fn the_first_note_that_fits_holds() {
        let notes = Notes::parse(TEXT).unwrap();
        let why = |spec: &str| notes.of(spec).map(|note| &note.why);
        assert_eq!(why("[sig-network] Services sctp"), Some(&Why::Reason("no SCTP here".into())));
        assert_eq!(why("[sig-network] Services"), Some(&Why::Waits("SEM-030".into())));
        assert_eq!(why("[sig-network] DNS"), None);
        assert_eq!(notes.idle(&["Services"]), ["sctp"]);
    }

    #[test]
    fn a_note_says_one_of_the_three_and_waits_for_a_rule() {
        assert!(Notes::parse("- {spec: a}").is_err());
        assert!(Notes::parse("- {spec: a, waits: soon}").is_err());
        assert!(Notes::parse("- {spec: a, deviates: b, reason: c}").is_err());
        assert!(Notes::parse("- {spec: a, reson: b}").is_err());
    }
}
