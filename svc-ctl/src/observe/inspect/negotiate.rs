//! Chooses the form of a document as kube-proxy does (SEM-218): text for people; JSON or YAML for clients that name
//! the type.

use axum::http::header::{CONTENT_TYPE, WARNING};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::answer::Document;

/// The API group that a client must name.
const GROUP: &str = "config.k8s.io";
const VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];
const DEPRECATED: &str = "v1alpha1";
/// kube-proxy chooses one at random between names and values, so that no program parses the text.
const DELIMITERS: [&str; 4] = [":", ": ", "=", " "];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Text,
    Json(&'static str),
    Yaml(&'static str),
}

/// The document in the first supported form that `accept` names.
pub fn answer<D: Document>(accept: &str, document: &D) -> Response {
    match choose(accept, D::KIND) {
        Some(Form::Text) => {
            let text = document.text(random_delimiter());
            ([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
        }
        Some(Form::Json(version)) => {
            let text = serde_json::to_string_pretty(&document.object(version)).unwrap_or_default();
            typed("json", D::KIND, D::PATH, version, text)
        }
        Some(Form::Yaml(version)) => {
            let text = serde_yaml_ng::to_string(&document.object(version)).unwrap_or_default();
            typed("yaml", D::KIND, D::PATH, version, text)
        }
        None => refused(),
    }
}

fn choose(accept: &str, kind: &str) -> Option<Form> {
    if accept.trim().is_empty() {
        return Some(Form::Text);
    }
    accept.split(',').find_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next()?;
        if matches!(media, "text/plain" | "text/*" | "*/*") {
            return Some(Form::Text);
        }
        let (mut names_kind, mut names_group, mut version) = (false, false, None);
        for parameter in parts {
            match parameter.split_once('=')? {
                ("as", value) => names_kind = value == kind,
                ("g", value) => names_group = value == GROUP,
                ("v", value) => version = VERSIONS.into_iter().find(|known| *known == value),
                _ => {}
            }
        }
        let version = version.filter(|_| names_kind && names_group)?;
        match media {
            "application/json" => Some(Form::Json(version)),
            "application/yaml" => Some(Form::Yaml(version)),
            _ => None,
        }
    })
}

fn typed(form: &str, kind: &str, path: &str, version: &'static str, text: String) -> Response {
    let media = format!("application/{form};g={GROUP};v={version};as={kind}");
    let mut response = ([(CONTENT_TYPE, media)], text + "\n").into_response();
    let text =
        format!("299 - \"This version of the {path} endpoint is deprecated. Please use a newer version.\"");
    if version == DEPRECATED
        && let Ok(warning) = HeaderValue::from_str(&text)
    {
        response.headers_mut().insert(WARNING, warning);
    }
    response
}

fn refused() -> Response {
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "only the following media types are accepted: application/json, application/yaml, text/plain",
        "reason": "NotAcceptable",
        "code": 406,
    });
    let text = serde_json::to_string_pretty(&status).unwrap_or_default();
    (StatusCode::NOT_ACCEPTABLE, [(CONTENT_TYPE, "application/json")], text).into_response()
}

fn random_delimiter() -> &'static str {
    let nanosecond = jiff::Timestamp::now().subsec_nanosecond().unsigned_abs() as usize;
    DELIMITERS[nanosecond / 1_000 % DELIMITERS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sem_218_a_client_gets_the_first_supported_form_that_it_names() {
        let typed = |media: &str, version: &str| format!("{media};as=Statusz;v={version};g=config.k8s.io");
        for (accept, form) in [
            (String::new(), Some(Form::Text)),
            ("*/*".to_owned(), Some(Form::Text)),
            ("text/plain;q=0.5".to_owned(), Some(Form::Text)),
            ("application/json".to_owned(), None),
            ("application/xml".to_owned(), None),
            (typed("application/json", "v1beta1"), Some(Form::Json("v1beta1"))),
            (typed("application/yaml", "v1alpha1"), Some(Form::Yaml("v1alpha1"))),
            (typed("application/cbor", "v1beta1"), None),
            (typed("application/json", "v2"), None),
            (typed("application/json", "v1beta1").replace("Statusz", "Other"), None),
            (
                format!("application/json, {}", typed("application/yaml", "v1beta1")),
                Some(Form::Yaml("v1beta1")),
            ),
        ] {
            assert_eq!(choose(&accept, "Statusz"), form, "{accept}");
        }
    }
}
