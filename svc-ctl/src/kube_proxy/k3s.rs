//! The configuration file of k3s and RKE2 (`/etc/rancher/k3s/config.yaml`): it has no type, and has kube-proxy's
//! arguments in a list.

use super::document::Tree;
use super::flags::IGNORED;
use super::line::{Line, Verdict, pods_by_cluster_cidr};

/// kube-proxy's arguments, as `name=value`.
const ARGUMENTS: [&str; 2] = ["kube-proxy-arg", "kube-proxy-arg+"];
/// A setting of k3s that becomes an argument of kube-proxy.
const CLUSTER_CIDR: &str = "cluster-cidr";
const OF_K3S: &str = "it configures k3s, and not its kube-proxy";

/// Whether this is such a file.
pub fn is_k3s(document: &Tree) -> bool {
    let has = |key: &&str| document.get(key).is_some();
    !["kind", "apiVersion"].iter().any(has) && (ARGUMENTS.iter().any(has) || has(&CLUSTER_CIDR))
}

/// Every setting of the file, in its order.
pub fn lines(document: &Tree) -> Vec<Line> {
    let Tree::Map(entries) = document else { return Vec::new() };
    let mut lines = Vec::new();
    for (key, value) in entries {
        match key.as_str() {
            key if ARGUMENTS.contains(&key) => match arguments(value) {
                Some(arguments) => lines.extend(arguments.into_iter().map(|text| argument(key, text))),
                None => lines.push(refused(key, value, "a text or a list of text")),
            },
            CLUSTER_CIDR => match arguments(value) {
                Some(cidrs) => lines.push(honoured(key, value, CLUSTER_CIDR, cidrs.join(","))),
                None => lines.push(refused(key, value, "a text or a list of text")),
            },
            key => lines.push(Line {
                field: key.to_owned(),
                value: value.to_string(),
                verdict: Verdict::NoMeaning(OF_K3S),
            }),
        }
    }
    let has = |flag: &str| {
        lines.iter().any(|line| matches!(&line.verdict, Verdict::Honoured(Some((name, _))) if name == flag))
    };
    if has(CLUSTER_CIDR) && !has("detect-local-mode") {
        lines.push(pods_by_cluster_cidr("kube-proxy-arg: detect-local-mode"));
    }
    lines
}

/// k3s takes one text for a list of one.
fn arguments(value: &Tree) -> Option<Vec<&str>> {
    match value {
        Tree::Text(text) => Some(vec![text]),
        Tree::List(values) => values.iter().map(Tree::text).collect(),
        _ => None,
    }
}

/// `name=value`, or the name of a switch.
fn argument(key: &str, text: &str) -> Line {
    let text = text.trim_start_matches("--");
    let (name, value) = text.split_once('=').unwrap_or((text, "true"));
    let field = format!("{key}: {name}");
    let value = Tree::Text(value.to_owned());
    match IGNORED.iter().find(|flag| flag.name == name) {
        Some(flag) => Line { field, value: value.to_string(), verdict: Verdict::NoMeaning(flag.why) },
        None => honoured(&field, &value, name, value.text().unwrap_or_default().to_owned()),
    }
}

fn honoured(field: &str, value: &Tree, flag: &str, text: String) -> Line {
    let verdict = Verdict::Honoured(Some((flag.to_owned(), text)));
    Line { field: field.to_owned(), value: value.to_string(), verdict }
}

fn refused(field: &str, value: &Tree, wanted: &str) -> Line {
    let verdict = Verdict::Refused(format!("it is {}, and should be {wanted}", value.kind()));
    Line { field: field.to_owned(), value: value.to_string(), verdict }
}
