//! Writes a document in the form that the client accepts (SEM-218): text for people; JSON or YAML for clients that name
//! the type.

use axum::http::header::{CONTENT_TYPE, WARNING};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::accept::{Form, GROUP, choose, wants_yaml};
use super::answer::Document;

const DEPRECATED: &str = "v1alpha1";
/// kube-proxy chooses one at random between names and values, so that no program parses the text.
const DELIMITERS: [&str; 4] = [":", ": ", "=", " "];

/// The document in the form that `accept` asks for.
pub fn answer<D: Document>(accept: &str, document: &D) -> Response {
    match choose(accept, D::KIND) {
        Some(Form::Text) => {
            let text = document.text(random_delimiter());
            ([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
        }
        Some(Form::Json(version)) => {
            let text = serde_json::to_string_pretty(&document.object(version)).unwrap_or_default() + "\n";
            typed("json", D::KIND, D::PATH, version, text)
        }
        Some(Form::Yaml(version)) => {
            let text = serde_yaml_ng::to_string(&document.object(version)).unwrap_or_default();
            typed("yaml", D::KIND, D::PATH, version, text)
        }
        None => refused(wants_yaml(accept)),
    }
}

fn typed(form: &str, kind: &str, path: &str, version: &'static str, text: String) -> Response {
    let media = format!("application/{form};g={GROUP};v={version};as={kind}");
    let mut response = ([(CONTENT_TYPE, media)], text).into_response();
    let text =
        format!("299 - \"This version of the {path} endpoint is deprecated. Please use a newer version.\"");
    if version == DEPRECATED
        && let Ok(warning) = HeaderValue::from_str(&text)
    {
        response.headers_mut().insert(WARNING, warning);
    }
    response
}

fn refused(is_yaml: bool) -> Response {
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "only the following media types are accepted: application/json, application/yaml, text/plain",
        "reason": "NotAcceptable",
        "code": 406,
    });
    let (kind, text) = match is_yaml {
        true => ("application/yaml", serde_yaml_ng::to_string(&status).unwrap_or_default()),
        false => ("application/json", serde_json::to_string_pretty(&status).unwrap_or_default()),
    };
    (StatusCode::NOT_ACCEPTABLE, [(CONTENT_TYPE, kind)], text).into_response()
}

fn random_delimiter() -> &'static str {
    let nanosecond = jiff::Timestamp::now().subsec_nanosecond().unsigned_abs() as usize;
    DELIMITERS[nanosecond / 1_000 % DELIMITERS.len()]
}
