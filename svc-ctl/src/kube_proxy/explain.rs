//! Explains how svc treats each field of a configuration file.

use super::document::{Tree, parse};
use super::fields::{FIELDS, Field, Meaning, Shape, find};
use super::honour::ValueMeaning;
use super::k3s;
use super::line::{Line, Verdict, pods_by_cluster_cidr};

/// The type of the file.
const KIND: &str = "KubeProxyConfiguration";
const GROUP: &str = "kubeproxy.config.k8s.io";
const VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
/// The key of kubeadm's ConfigMap that has the file.
pub const CONFIG_MAP_KEY: &str = "config.conf";
/// svc's own section: another document of the file.
const OWN_VERSION: &str = "svc/v1alpha1";
pub const OWN_KIND: &str = "SvcConfiguration";
/// A field of svc's own section that is itself a section with objects.
pub const LOAD_BALANCER: &str = "loadBalancer";

/// A file, field by field.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Explained {
    pub lines: Vec<Line>,
}

impl Explained {
    /// The flags of `svc-ctl run` that have the same effect as the file, with their fields. Of two flags of one name
    /// the last counts.
    pub fn flags(&self) -> Vec<(&str, &str, &str)> {
        let flag = |line| match line {
            &Line { ref field, verdict: Verdict::Honoured(Some((ref name, ref value))), .. } => {
                Some((field.as_str(), name.as_str(), value.as_str()))
            }
            _ => None,
        };
        self.lines.iter().filter_map(flag).collect()
    }
}

/// Reads a file. An error says why nothing of it can be used.
pub fn explain(text: &str) -> Result<Explained, String> {
    let mut explained = Explained::default();
    let mut has_configuration = false;
    for document in parse(text)? {
        let kind = document.get("kind").and_then(Tree::text).unwrap_or_default().to_owned();
        let version = document.get("apiVersion").and_then(Tree::text).unwrap_or_default().to_owned();
        match (kind.as_str(), version.as_str()) {
            ("ConfigMap", "v1") => {
                let file =
                    document.get("data").and_then(|data| data.get(CONFIG_MAP_KEY)).and_then(Tree::text);
                let file = file.ok_or(format!("this ConfigMap has no data.{CONFIG_MAP_KEY}"))?;
                explained.lines.extend(explain(file)?.lines);
                has_configuration = true;
            }
            (KIND, VERSION) => {
                explained.lines.extend(lines(&document));
                has_configuration = true;
            }
            (OWN_KIND, OWN_VERSION) => {
                explained.lines.extend(own_lines(&document));
                has_configuration |= document.get(LOAD_BALANCER).is_some();
            }
            (KIND, other) if other.starts_with(GROUP) => {
                return Err(format!("apiVersion {other} is not known here: write the file as {VERSION}"));
            }
            ("", "") if k3s::is_k3s(&document) => {
                explained.lines.extend(k3s::lines(&document));
                has_configuration = true;
            }
            (kind, version) => {
                return Err(format!("{kind:?} of {version:?} is not a {KIND} of {VERSION}"));
            }
        }
    }
    match has_configuration || !explained.lines.is_empty() {
        true => Ok(explained),
        false => Err("the file is empty".to_owned()),
    }
}

fn lines(document: &Tree) -> Vec<Line> {
    let mut lines = Vec::new();
    walk(document, "", document, &mut lines);
    // With a cluster CIDR and no mode, kube-proxy takes the CIDR for the pods' addresses.
    let has = |name| document.get(name).and_then(Tree::text).is_some_and(|text| !text.is_empty());
    if has("clusterCIDR") && !has("detectLocalMode") {
        lines.push(pods_by_cluster_cidr("detectLocalMode"));
    }
    lines
}

/// Explains the fields of an object, in the order of the file.
fn walk(object: &Tree, path: &str, document: &Tree, lines: &mut Vec<Line>) {
    let Tree::Map(entries) = object else { return };
    for (number, (name, value)) in entries.iter().enumerate() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let is_last = !entries[number + 1..].iter().any(|(later, _)| later == name);
        let line = |verdict| Line { field: path.clone(), value: value.to_string(), verdict };
        let Some(field) = find(&path) else {
            lines.push(line(Verdict::Ignored(unknown(&path))));
            continue;
        };
        if !is_last {
            lines.push(line(Verdict::Ignored("it stands there again further down")));
            continue;
        }
        if matches!(field.meaning, Meaning::Parent) && matches!(value, Tree::Map(_) | Tree::Null) {
            walk(value, &path, document, lines);
        } else if !matches!(field.path, "apiVersion" | "kind") {
            lines.push(line(verdict(field, value, document)));
        }
    }
}

/// A field in the wrong case is the most frequent typing error.
fn unknown(path: &str) -> &'static str {
    match FIELDS.iter().any(|field| field.path.eq_ignore_ascii_case(path)) {
        true => "unknown field; one of that name has other capitals",
        false => "unknown field",
    }
}

fn verdict(field: &Field, value: &Tree, document: &Tree) -> Verdict {
    if *value == Tree::Null {
        return match field.meaning {
            Meaning::None(why) => Verdict::NoMeaning(why),
            Meaning::Honoured(_) | Meaning::Parent => Verdict::Honoured(None),
        };
    }
    if let Some(wanted) = misfit(field.shape, value) {
        return Verdict::Refused(format!("it is {}, and should be {wanted}", value.kind()));
    }
    match field.meaning {
        Meaning::None(why) => Verdict::NoMeaning(why),
        Meaning::Parent => Verdict::Honoured(None),
        Meaning::Honoured(honour) => match honour(value, document) {
            Ok(ValueMeaning::Flag(name, value)) => Verdict::Honoured(Some((name.to_owned(), value))),
            Ok(ValueMeaning::Default) => Verdict::Honoured(None),
            Ok(ValueMeaning::Nothing(why)) => Verdict::NoMeaning(why),
            Err(why) => Verdict::Refused(why),
        },
    }
}

/// The expected kind of value, if it is another one.
fn misfit(shape: Shape, value: &Tree) -> Option<&'static str> {
    let (fits, wanted) = match shape {
        Shape::Bool => (matches!(value, Tree::Bool(_)), "true or false"),
        Shape::Integer => (matches!(value, Tree::Integer(_)), "a whole number"),
        Shape::Number => (matches!(value, Tree::Integer(_) | Tree::Float(_)), "a number"),
        Shape::Text => (matches!(value, Tree::Text(_)), "text"),
        Shape::Duration => (value.text().is_some_and(is_duration), "a duration like 1h30m"),
        Shape::FlushTime => {
            let is_time = matches!(value, Tree::Integer(_)) || value.text().is_some_and(is_duration);
            (is_time, "a duration like 5s or nanoseconds")
        }
        Shape::TextList => {
            let is_text = |value: &Tree| matches!(value, Tree::Text(_));
            (matches!(value, Tree::List(values) if values.iter().all(is_text)), "a list of text")
        }
        Shape::List => (matches!(value, Tree::List(_)), "a list"),
        Shape::Switches => {
            let is_switch = |(_, value): &(String, Tree)| matches!(value, Tree::Bool(_));
            (matches!(value, Tree::Map(values) if values.iter().all(is_switch)), "names with true or false")
        }
        Shape::Object => (matches!(value, Tree::Map(_)), "an object"),
    };
    (!fits).then_some(wanted)
}

/// `0`, or numbers with units, as Go reads them.
fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut has_part = false;
    while !rest.is_empty() {
        let number = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let unit = ["ns", "us", "µs", "ms", "s", "m", "h"].into_iter().find(|unit| {
            let after = number.strip_prefix(*unit);
            after.is_some_and(|after| after.is_empty() || after.starts_with(|c: char| c.is_ascii_digit()))
        });
        let Some(unit) = unit.filter(|_| number.len() < rest.len()) else { return false };
        rest = &number[unit.len()..];
        has_part = true;
    }
    has_part
}

/// svc's own section: fields are flags of `svc-ctl run` as one word with capitals. The command line decides whether
/// there is such a flag and whether it accepts the value.
fn own_lines(document: &Tree) -> Vec<Line> {
    let Tree::Map(entries) = document else { return Vec::new() };
    let own =
        entries.iter().filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind" | LOAD_BALANCER));
    let line = |(name, value): &(String, Tree)| {
        let verdict = match flag_value(value) {
            Some(value) => Verdict::Honoured(Some((flag_name(name), value))),
            None => {
                Verdict::Refused(format!("it is {}, and should be a value or a list of values", value.kind()))
            }
        };
        Line { field: name.clone(), value: value.to_string(), verdict }
    };
    own.map(line).collect()
}

fn flag_value(value: &Tree) -> Option<String> {
    match value {
        Tree::Bool(value) => Some(value.to_string()),
        Tree::Integer(value) => Some(value.to_string()),
        Tree::Text(value) => Some(value.clone()),
        Tree::List(values) => {
            values.iter().map(flag_value).collect::<Option<Vec<_>>>().map(|all| all.join(","))
        }
        Tree::Null | Tree::Float(_) | Tree::Map(_) => None,
    }
}

/// `flowTableSize` is `flow-table-size`, `serviceCIDR` is `service-cidr`.
fn flag_name(field: &str) -> String {
    let mut name = String::new();
    let mut was_upper = false;
    for character in field.chars() {
        if character.is_uppercase() && !was_upper {
            name.push('-');
        }
        was_upper = character.is_uppercase();
        name.extend(character.to_lowercase());
    }
    name
}
