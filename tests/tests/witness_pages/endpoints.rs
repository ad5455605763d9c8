//! Requests to both proxies, and the parts of the responses that must agree.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::Value;
use svc_tests::http::Response;
use svc_tests::witness::pages::{Answers, Pages, Request};

const HEALTH: u16 = 10256;
pub const METRICS: u16 = 10249;

/// A request, and the reason if svc answers it in another way.
#[derive(Clone, Copy)]
pub struct Case {
    pub request: Request,
    pub deviation: Option<&'static str>,
}

const fn case(port: u16, path: &'static str, accept: Option<&'static str>) -> Case {
    Case { request: Request { port, path, accept }, deviation: None }
}

const fn deviates(case: Case, why: &'static str) -> Case {
    Case { deviation: Some(why), ..case }
}

/// `Accept: MEDIA;as=KIND;v=VERSION;g=config.k8s.io`.
macro_rules! typed {
    ($media:literal, $kind:literal, $version:literal) => {
        Some(concat!($media, ";as=", $kind, ";v=", $version, ";g=config.k8s.io"))
    };
}

const STATUS: &str = "svc has no Go version and no emulation version";
const OWN_FLAGS: &str = "each has its own flags";

pub const CASES: &[Case] = &[
    case(HEALTH, "/healthz", None),
    case(HEALTH, "/livez", None),
    deviates(case(HEALTH, "/readyz", None), "kube-proxy has no such page; the kubelet asks svc there"),
    case(HEALTH, "/", None),
    case(METRICS, "/healthz", None),
    case(METRICS, "/healthz?verbose", None),
    case(METRICS, "/healthz/ping", None),
    case(METRICS, "/livez", None),
    case(METRICS, "/readyz", None),
    case(METRICS, "/version", None),
    case(METRICS, "/debug/pprof/", None),
    deviates(case(METRICS, "/proxyMode", None), "the mode is named `svc`"),
    deviates(case(METRICS, "/configz", None), "svc shows the fields that have a meaning in svc"),
    case(METRICS, "/metrics", None),
    case(METRICS, "/metrics", Some("text/html")),
    case(METRICS, "/metrics", Some("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")),
    deviates(
        case(METRICS, "/metrics", Some("application/openmetrics-text;version=1.0.0")),
        "svc knows OpenMetrics",
    ),
    deviates(
        case(METRICS, "/metrics/slis", None),
        "svc has `process_start_time_seconds` at `/metrics` alone",
    ),
    deviates(case(METRICS, "/statusz", None), STATUS),
    deviates(case(METRICS, "/statusz", Some("*/*")), STATUS),
    deviates(case(METRICS, "/statusz", Some("text/plain")), STATUS),
    case(METRICS, "/statusz", Some("text/html")),
    case(METRICS, "/statusz", Some("application/json")),
    case(METRICS, "/statusz", Some("application/yaml")),
    deviates(case(METRICS, "/statusz", typed!("application/json", "Statusz", "v1beta1")), STATUS),
    deviates(case(METRICS, "/statusz", typed!("application/yaml", "Statusz", "v1beta1")), STATUS),
    deviates(case(METRICS, "/statusz", typed!("application/json", "Statusz", "v1alpha1")), STATUS),
    deviates(case(METRICS, "/statusz", typed!("*/*", "Statusz", "v1beta1")), STATUS),
    deviates(case(METRICS, "/statusz", typed!("application/*", "Statusz", "v1beta1")), STATUS),
    deviates(
        case(METRICS, "/statusz", typed!("text/plain;q=0.1, application/json", "Statusz", "v1beta1")),
        STATUS,
    ),
    deviates(case(METRICS, "/statusz", typed!("*/*, application/json;q=0.1", "Statusz", "v1beta1")), STATUS),
    case(METRICS, "/statusz", typed!("application/cbor", "Statusz", "v1beta1")),
    case(METRICS, "/statusz", typed!("application/json", "Statusz", "v2")),
    case(METRICS, "/statusz", typed!("application/json", "Flagz", "v1beta1")),
    case(METRICS, "/statusz", typed!("text/plain", "Statusz", "v1beta1")),
    deviates(case(METRICS, "/flagz", None), OWN_FLAGS),
    case(METRICS, "/flagz", Some("application/json")),
    deviates(case(METRICS, "/flagz", typed!("application/json", "Flagz", "v1beta1")), OWN_FLAGS),
    deviates(case(METRICS, "/flagz", typed!("application/yaml", "Flagz", "v1alpha1")), OWN_FLAGS),
];

/// Headers that must be the same.
const HEADERS: [&str; 3] = ["content-type", "warning", "x-content-type-options"];

/// The parts of an answer that do not depend on time and place.
#[derive(Debug, Eq, PartialEq)]
pub struct Shape {
    pub status: u16,
    headers: Vec<Option<String>>,
    /// Paths of a document's fields; the words before values of a text.
    fields: BTreeSet<String>,
}

impl Shape {
    pub fn of(answer: &Response) -> Self {
        let headers = HEADERS.map(|name| {
            // Only the newest clients ask for other escaping of names.
            answer.headers.get(name).map(|value| value.replace("; escaping=underscores", ""))
        });
        let kind = answer.headers.get("content-type").map_or("", String::as_str);
        let document: Option<Value> = match kind.split(';').next() {
            Some("application/json") => serde_json::from_str(&answer.body).ok(),
            Some("application/yaml") => serde_yaml_ng::from_str(&answer.body).ok(),
            _ => None,
        };
        let mut fields = BTreeSet::new();
        match document {
            Some(document) => paths("", &document, &mut fields),
            // `metrics` compares these.
            None if answer.body.contains("# TYPE kubeproxy_") => {}
            None => fields.extend(answer.body.lines().map(first_word)),
        }
        Self { status: answer.status, headers: headers.to_vec(), fields }
    }

    pub fn kind(&self) -> &str {
        self.headers.first().and_then(Option::as_deref).unwrap_or_default()
    }

    /// Status and headers are the same.
    fn is_like(&self, other: &Self) -> bool {
        (self.status, &self.headers) == (other.status, &other.headers)
    }
}

fn paths(above: &str, value: &Value, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().for_each(|(name, value)| paths(&format!("{above}.{name}"), value, all));
        }
        _ => drop(all.insert(above.to_owned())),
    }
}

/// `/statusz` and `/flagz` choose the delimiter behind it at random.
fn first_word(line: &str) -> String {
    line.split([':', '=', ' ']).next().unwrap_or_default().to_owned()
}

/// Fails if svc's answer has another shape without a deviation, or the same one with it.
pub fn judge(pages: &Pages, case: &Case) -> Result<()> {
    let Answers { kube_proxy, svc } = pages.ask(case.request)?;
    let (theirs, ours) = (Shape::of(&kube_proxy), Shape::of(&svc));
    // Values count where neither time nor names are in them.
    let is_same = theirs == ours && (kube_proxy.body.len() > 40 || kube_proxy.body == svc.body);
    let both = || format!("kube-proxy: {theirs:?}\n{}\nsvc: {ours:?}\n{}", kube_proxy.body, svc.body);
    match case.deviation {
        None => ensure!(is_same, "the answers differ\n{}", both()),
        Some(_) => ensure!(!is_same, "a deviation is listed, and there is none\n{}", both()),
    }
    let may_differ = ["/readyz", "/metrics"].contains(&case.request.path) && case.deviation.is_some();
    ensure!(may_differ || theirs.is_like(&ours), "status or headers differ\n{}", both());
    Ok(())
}
