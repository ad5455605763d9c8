//! The section `loadBalancer` of svc's own part of the configuration file, as JSON: it has objects in it, and no flag says the
//! same.

use serde_json::Value;

use crate::kube_proxy::document::{Tree, parse};
use crate::kube_proxy::explain::{CONFIG_MAP_KEY, LOAD_BALANCER, OWN_KIND};

/// The section, if there is one. The text has been explained already, so errors of it are known.
pub fn section(text: &str) -> Option<Value> {
    let documents = parse(text).ok()?;
    documents.iter().find_map(|document| {
        let kind = document.get("kind").and_then(Tree::text)?;
        match kind {
            OWN_KIND => document.get(LOAD_BALANCER).map(json),
            "ConfigMap" => section(document.get("data")?.get(CONFIG_MAP_KEY)?.text()?),
            _ => None,
        }
    })
}

fn json(tree: &Tree) -> Value {
    match tree {
        Tree::Null => Value::Null,
        Tree::Bool(value) => (*value).into(),
        Tree::Integer(value) => (*value).into(),
        Tree::Float(value) => (*value).into(),
        Tree::Text(value) => value.clone().into(),
        Tree::List(values) => values.iter().map(json).collect(),
        Tree::Map(entries) => {
            Value::Object(entries.iter().map(|(key, value)| (key.clone(), json(value))).collect())
        }
    }
}
