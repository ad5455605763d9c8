//! One line of a group: a client, a frontend, and the expected result.

use std::str::FromStr;

use serde::Deserialize;

use super::frontend::Frontend;
use super::outcome::RowOutcome;
use crate::agent::Via;
use crate::topology::Family;

/// `PAR-050 SEM-085 pod at NodePort@node1 [TCP IPv4]: a1 b1 from pod`. With `stays at` instead of `at`, and several
/// frontends separated by commas, the client dials them in turn and must always get the same server. Without brackets
/// the line is for both protocols and families. After the result, `; by default a1 from pod` gives the result with
/// svc's own settings. `; by default random` says that there is no single result.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Line {
    /// The ids of its rules.
    pub ids: Vec<String>,
    pub client: String,
    pub stays: bool,
    pub frontends: Vec<Frontend>,
    pub vias: Vec<Via>,
    pub families: Vec<Family>,
    /// `None`: only kube-proxy determines the result.
    pub expected: Option<RowOutcome>,
    /// Result with svc's own settings. `None`: it is random, or not given.
    pub by_default: Option<RowOutcome>,
}

impl FromStr for Line {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (dials, expected) = text.split_once(": ").ok_or_else(|| format!("{text}: no outcome"))?;
        let (who, whom) = dials.split_once(" at ").ok_or_else(|| format!("{text}: no frontend"))?;
        let (whom, only) = match whom.split_once(" [") {
            Some((whom, only)) => (whom, only.trim_end_matches(']')),
            None => (whom, ""),
        };
        let mut words: Vec<&str> = who.split(' ').collect();
        let stays = words.pop_if(|word| *word == "stays").is_some();
        let client = words.pop().unwrap_or_default().to_owned();
        let ids: Vec<_> = words.into_iter().map(str::to_owned).collect();
        if client.is_empty() || ids.iter().any(|id| !id.starts_with("SEM-") && !id.starts_with("PAR-")) {
            return Err(format!("{text}: neither rules nor a client: {who}"));
        }
        let mut vias = vec![Via::Tcp, Via::UdpConnected];
        let mut families = Family::BOTH.to_vec();
        for word in only.split(' ') {
            match word {
                "" => {}
                "TCP" => vias.retain(|via| *via == Via::Tcp),
                "UDP" => vias.retain(|via| *via == Via::UdpConnected),
                "IPv4" => families.retain(|family| *family == Family::V4),
                "IPv6" => families.retain(|family| *family == Family::V6),
                _ => return Err(format!("{text}: what is [{word}]?")),
            }
        }
        let frontends = whom.split(", ").map(str::parse).collect::<Result<_, _>>()?;
        let outcome = |words: &str| words.parse::<RowOutcome>().map_err(|error| format!("{text}: {error}"));
        let (expected, by_default) = expected.split_once("; by default ").unwrap_or((expected, expected));
        let by_default = if by_default == "random" { None } else { Some(outcome(by_default)?) };
        Ok(Self {
            ids,
            client,
            stays,
            frontends,
            vias,
            families,
            expected: Some(outcome(expected)?),
            by_default,
        })
    }
}

impl TryFrom<String> for Line {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_rules_client_frontends_and_outcome() {
        let line: Line = "PAR-050 SEM-085 pod at NodePort@node1 [TCP IPv4]: a1 b1 from pod".parse().unwrap();
        assert_eq!((line.ids.len(), line.client.as_str(), line.stays), (2, "pod", false));
        assert_eq!((line.vias, line.families), (vec![Via::Tcp], vec![Family::V4]));
        assert_eq!(line.expected.unwrap().to_string(), "a1 b1 from pod");
        assert_eq!(line.by_default.unwrap().to_string(), "a1 b1 from pod");
        let line: Line = "SEM-230 client stays at ClusterIP, vip: same from node1; by default same from pod"
            .parse()
            .unwrap();
        assert_eq!(line.by_default.unwrap().to_string(), "same from pod");
        assert!(line.stays && line.frontends.len() == 2 && line.vias.len() == 2);
        for wrong in [
            "pod at ClusterIP",
            "pod: refused",
            "PAR1 pod at ClusterIP: refused",
            "pod at ClusterIP [IP]: refused",
        ] {
            assert!(wrong.parse::<Line>().is_err(), "{wrong}");
        }
    }
}
