//! Watches of the stand-in: from a version on, or with a list at the beginning.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use serde_json::{Value, json};

use super::{Fault, Params, StandIn, status};

fn bookmark(plural: &str, version: u64, ends_list: bool) -> Value {
    let (api_version, kind) = match plural {
        "services" => ("v1", "Service"),
        "nodes" => ("v1", "Node"),
        _ => ("discovery.k8s.io/v1", "EndpointSlice"),
    };
    let mut meta = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
    if ends_list {
        meta["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    json!({"type": "BOOKMARK", "object": {"apiVersion": api_version, "kind": kind, "metadata": meta}})
}

pub fn serve(api: StandIn, plural: &str, params: &Params) -> Response {
    let fault = api.take_fault(plural, |f| !matches!(f, Fault::List(_)));
    let data = api.data();
    let mut from: u64 = params.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0);
    let mut first = Vec::new();
    match fault {
        Some(Fault::Watch(code)) => return status(code, if code == 410 { "Expired" } else { "Fault" }),
        Some(Fault::WatchCut) => {
            return Body::from("{\"type\":\"MODIFIED\",\"object\":{\"kind\":\"Serv").into_response();
        }
        Some(Fault::WatchBookmark) => {
            return Body::from(format!("{}\n", bookmark(plural, data.version, false))).into_response();
        }
        Some(Fault::WatchGone) => return gone(),
        Some(Fault::List(_)) | None => {}
    }
    if params.get("sendInitialEvents").is_some_and(|s| s == "true") {
        let objects = data.objects.get(plural).into_iter().flat_map(|o| o.values());
        first.extend(objects.map(|o| json!({"type": "ADDED", "object": o})));
        first.push(bookmark(plural, data.version, true));
        from = data.version;
    } else if from < data.oldest {
        return gone();
    }
    if let Some(lines) = data.short_watches.get(plural) {
        return Body::from(lines.clone()).into_response();
    }
    let epoch = data.epoch;
    drop(data);
    let first: String = first.iter().map(|e| format!("{e}\n")).collect();
    let (plural, news) = (plural.to_owned(), api.news.subscribe());
    let lines = stream::unfold((news, from, first), move |(mut news, mut from, mut first)| {
        let (api, plural) = (api.clone(), plural.clone());
        async move {
            loop {
                let is_over = {
                    let data = api.data();
                    let due = data.log.iter().filter(|(p, v, _)| *p == plural && *v > from);
                    first.extend(due.map(|(_, _, event)| format!("{event}\n")));
                    from = data.version.max(from);
                    data.epoch != epoch
                };
                if !first.is_empty() {
                    let bytes = Bytes::from(std::mem::take(&mut first));
                    return Some((Ok::<_, Infallible>(bytes), (news, from, first)));
                }
                if is_over || news.changed().await.is_err() {
                    return None;
                }
            }
        }
    });
    Body::from_stream(lines).into_response()
}

fn gone() -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 410,
        "reason": "Expired", "message": "too old resource version"});
    Body::from(format!("{}\n", json!({"type": "ERROR", "object": status}))).into_response()
}
