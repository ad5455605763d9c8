//! An endpoint in the syntax of the groups: `a1`, `b1 terminating`, `a2 zones=zone-a,zone-b nodes=node1`.

use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Value, json};

/// A host in a slice, with its conditions and hints.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoint {
    pub host: String,
    conditions: Conditions,
    zones: Vec<String>,
    nodes: Vec<String>,
    /// The slice has the endpoint's node name.
    has_node: bool,
    /// The number of its slice among the Service's slices of one family.
    pub slice: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conditions {
    Ready,
    /// No conditions.
    Unsaid,
    Unready,
    /// Not ready, though serving.
    ServingUnready,
    /// Terminating, still serving.
    Terminating,
    /// Terminating, no longer serving.
    Ended,
    /// Ready: a Pod that is not ready, in a Service that publishes not-ready addresses.
    Published,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(' ');
        let host = words.next().unwrap_or_default().to_owned();
        let mut endpoint = Self {
            host,
            conditions: Conditions::Ready,
            zones: Vec::new(),
            nodes: Vec::new(),
            has_node: true,
            slice: 1,
        };
        let list = |names: &str| names.split(',').map(str::to_owned).collect();
        for word in words {
            match word.split_once('=') {
                Some(("zones", names)) => endpoint.zones = list(names),
                Some(("nodes", names)) => endpoint.nodes = list(names),
                Some(("slice", number)) => {
                    endpoint.slice = number.parse().map_err(|_| format!("{text}: {word}"))?;
                }
                None if word == "nodeless" => endpoint.has_node = false,
                _ => endpoint.conditions = word.parse().map_err(|()| format!("{text}: what is {word}?"))?,
            }
        }
        Ok(endpoint)
    }
}

impl FromStr for Conditions {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Ok(match word {
            "unsaid" => Self::Unsaid,
            "unready" => Self::Unready,
            "serving-unready" => Self::ServingUnready,
            "terminating" => Self::Terminating,
            "ended" => Self::Ended,
            "published" => Self::Published,
            _ => return Err(()),
        })
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Endpoint {
    /// The endpoint's entry in a slice.
    pub fn object(&self, address: std::net::IpAddr, node: &str) -> Value {
        let mut object = json!({"addresses": [address], "conditions": self.conditions.object()});
        if self.has_node {
            object["nodeName"] = node.into();
        }
        let named = |names: &[String]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
        if !self.zones.is_empty() {
            object["hints"]["forZones"] = named(&self.zones).into();
        }
        if !self.nodes.is_empty() {
            object["hints"]["forNodes"] = named(&self.nodes).into();
        }
        object
    }
}

impl Conditions {
    fn object(self) -> Value {
        let said = |ready: bool, serving: bool, terminating: bool| json!({"ready": ready, "serving": serving, "terminating": terminating});
        match self {
            Self::Ready => said(true, true, false),
            Self::Unsaid => json!({}),
            Self::Unready => said(false, false, false),
            Self::ServingUnready => said(false, true, false),
            Self::Terminating => said(false, true, true),
            Self::Ended => said(false, false, true),
            Self::Published => said(true, false, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_written_as_words_and_becomes_an_entry_of_a_slice() {
        let endpoint: Endpoint = "a1 terminating zones=zone-a,zone-b nodes=node1 slice=2".parse().unwrap();
        assert_eq!(endpoint.slice, 2);
        let expected = json!({
            "addresses": ["10.0.0.1"],
            "nodeName": "node2",
            "conditions": {"ready": false, "serving": true, "terminating": true},
            "hints": {"forZones": [{"name": "zone-a"}, {"name": "zone-b"}], "forNodes": [{"name": "node1"}]},
        });
        assert_eq!(endpoint.object([10, 0, 0, 1].into(), "node2"), expected);
        let silent: Endpoint = "a1 unsaid nodeless".parse().unwrap();
        assert_eq!(
            silent.object([10, 0, 0, 1].into(), "node2"),
            json!({"addresses": ["10.0.0.1"], "conditions": {}})
        );
        assert!("a1 dead".parse::<Endpoint>().is_err());
    }
}
