//! A small stand-in for the Kubernetes API: lists in pages, watches from a resource version on, bookmarks, and faults on
//! request.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::watch;

#[path = "watch.rs"]
mod watches;

/// Faults; each happens once.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The list is answered with this status.
    List(u16),
    /// The watch is answered with this status.
    Watch(u16),
    /// The watch sends a 410 event.
    WatchGone,
    /// The watch sends half a line and ends.
    WatchCut,
    /// The watch sends a bookmark with the newest resource version and ends.
    WatchBookmark,
}

#[derive(Debug, Default)]
struct Data {
    version: u64,
    /// By plural and namespace/name.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    /// Plural, resource version, event.
    log: Vec<(String, u64, Value)>,
    faults: HashMap<String, VecDeque<Fault>>,
    requests: Vec<String>,
    /// Objects that were sent to be created.
    created: Vec<Value>,
    /// The `Authorization` header of the last request.
    authorization: Option<String>,
    /// Watches may not begin before this version.
    oldest: u64,
    /// Watches of an earlier epoch end.
    epoch: u64,
    /// By plural: every watch is answered with these lines and ends at once.
    short_watches: BTreeMap<String, String>,
    /// By plural: every request is answered with this status.
    refused: BTreeMap<String, u16>,
}

#[derive(Clone)]
pub struct StandIn {
    data: Arc<Mutex<Data>>,
    news: watch::Sender<u64>,
    pub url: String,
}

type Params = BTreeMap<String, String>;

impl StandIn {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let this = Self { data: Arc::default(), news: watch::channel(0).0, url };
        let router = Router::new()
            .route("/api/v1/{plural}", get(serve))
            .route("/api/v1/namespaces/{namespace}/{plural}/{name}", get(serve_one))
            .route("/apis/events.k8s.io/v1/namespaces/{namespace}/events", post(create))
            .route("/apis/discovery.k8s.io/v1/{plural}", get(serve))
            .route("/apis/networking.k8s.io/v1/{plural}", get(serve))
            .with_state(this.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        this
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates or updates an object, written as YAML or JSON.
    pub fn apply(&self, text: &str) {
        let mut object: Value = serde_yaml_ng::from_str(text).expect("YAML");
        let kind = object["kind"].as_str().unwrap_or_default();
        let plural = format!("{}s", kind.to_lowercase());
        let key = key(&object);
        let mut data = self.data();
        data.version += 1;
        let version = data.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let known = data.objects.get(&plural).and_then(|objects| objects.get(&key));
        let uid = known.map_or_else(|| json!(format!("uid-{version}")), |old| old["metadata"]["uid"].clone());
        object["metadata"]["uid"] = uid;
        object["metadata"]["managedFields"] = json!([{"manager": "test", "operation": "Update"}]);
        let old = data.objects.entry(plural.clone()).or_default().insert(key, object.clone());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        data.log.push((plural, version, json!({"type": kind, "object": object})));
        drop(data);
        self.news.send_replace(version);
    }

    /// Deletes an object.
    pub fn delete(&self, plural: &str, key: &str) {
        let mut data = self.data();
        data.version += 1;
        let version = data.version;
        let mut object = data.objects.entry(plural.to_owned()).or_default().remove(key).expect("an object");
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        data.log.push((plural.to_owned(), version, json!({"type": "DELETED", "object": object})));
        drop(data);
        self.news.send_replace(version);
    }

    /// Objects that were sent to be created.
    pub fn created(&self) -> Vec<Value> {
        self.data().created.clone()
    }

    /// The `Authorization` header of the last request.
    pub fn authorization(&self) -> Option<String> {
        self.data().authorization.clone()
    }

    /// Forgets the history: watches from earlier versions are answered with 410.
    pub fn forget(&self) {
        let mut data = self.data();
        data.oldest = data.version;
    }

    /// Ends all current watches, so that they start again (and run into pending faults).
    pub fn break_watches(&self) {
        let mut data = self.data();
        data.epoch += 1;
        let version = data.version;
        drop(data);
        self.news.send_replace(version);
    }

    pub fn fail(&self, plural: &str, faults: &[Fault]) {
        self.data().faults.entry(plural.to_owned()).or_default().extend(faults.iter().cloned());
    }

    /// From now on every watch sends these lines and ends at once; `None` stops that.
    pub fn end_watches(&self, plural: &str, lines: Option<&str>) {
        let mut data = self.data();
        data.epoch += 1;
        match lines {
            Some(lines) => data.short_watches.insert(plural.to_owned(), lines.to_owned()),
            None => data.short_watches.remove(plural),
        };
        let version = data.version;
        drop(data);
        self.news.send_replace(version);
    }

    /// From now on every request is answered with this status; `None` stops that.
    pub fn refuse(&self, plural: &str, code: Option<u16>) {
        let mut data = self.data();
        match code {
            Some(code) => data.refused.insert(plural.to_owned(), code),
            None => data.refused.remove(plural),
        };
    }

    /// Number of faults that have not happened yet.
    pub fn faults_left(&self) -> usize {
        self.data().faults.values().map(VecDeque::len).sum()
    }

    /// Requests so far: plural and parameters in order.
    pub fn requests(&self, plural: &str) -> Vec<String> {
        let prefix = format!("{plural} ");
        self.data().requests.iter().filter_map(|r| r.strip_prefix(&prefix)).map(str::to_owned).collect()
    }

    fn refusal(&self, plural: &str) -> Option<u16> {
        self.data().refused.get(plural).copied()
    }

    fn take_fault(&self, plural: &str, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut data = self.data();
        let queue = data.faults.get_mut(plural)?;
        queue.front().is_some_and(wanted).then(|| queue.pop_front()).flatten()
    }
}

fn key(object: &Value) -> String {
    let meta = &object["metadata"];
    match meta["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{}", meta["name"].as_str().unwrap_or_default()),
        None => meta["name"].as_str().unwrap_or_default().to_owned(),
    }
}

async fn serve(
    State(api): State<StandIn>,
    Path(plural): Path<String>,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Response {
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    api.data().authorization = authorization.map(str::to_owned);
    let line = params.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("&");
    api.data().requests.push(format!("{plural} {line}"));
    if let Some(code) = api.refusal(&plural) {
        return status(code, "Refused");
    }
    if params.get("watch").is_some_and(|w| w == "true") {
        return watches::serve(api, &plural, &params);
    }
    serve_list(&api, &plural, &params)
}

/// One object by its name.
async fn serve_one(
    State(api): State<StandIn>,
    Path((namespace, plural, name)): Path<(String, String, String)>,
) -> Response {
    let found =
        api.data().objects.get(&plural).and_then(|all| all.get(&format!("{namespace}/{name}"))).cloned();
    found.map_or_else(|| status(404, "NotFound"), |object| Json(object).into_response())
}

async fn create(State(api): State<StandIn>, Json(object): Json<Value>) -> Response {
    if let Some(code) = api.refusal("events") {
        return status(code, "Refused");
    }
    let created = &mut api.data().created;
    if created.iter().any(|known| key(known) == key(&object)) {
        return status(409, "AlreadyExists");
    }
    created.push(object.clone());
    Json(object).into_response()
}

fn status(code: u16, reason: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": format!("stand-in says {code}")});
    (StatusCode::from_u16(code).unwrap_or(StatusCode::IM_A_TEAPOT), Json(body)).into_response()
}

fn serve_list(api: &StandIn, plural: &str, params: &Params) -> Response {
    if let Some(Fault::List(code)) = api.take_fault(plural, |f| matches!(f, Fault::List(_))) {
        return status(code, "Fault");
    }
    let data = api.data();
    let all: Vec<&Value> = data.objects.get(plural).into_iter().flat_map(|o| o.values()).collect();
    let start = params.get("continue").and_then(|c| c.parse().ok()).unwrap_or(0_usize);
    let limit = params.get("limit").and_then(|l| l.parse().ok()).unwrap_or(usize::MAX);
    let page: Vec<&&Value> = all.iter().skip(start).take(limit).collect();
    let next = start + page.len();
    let mut meta = json!({"resourceVersion": data.version.to_string()});
    if next < all.len() {
        meta["continue"] = json!(next.to_string());
    }
    let (version, kind) = match plural {
        "services" => ("v1", "ServiceList"),
        "nodes" => ("v1", "NodeList"),
        "servicecidrs" => ("networking.k8s.io/v1", "ServiceCIDRList"),
        _ => ("discovery.k8s.io/v1", "EndpointSliceList"),
    };
    Json(json!({"apiVersion": version, "kind": kind, "metadata": meta, "items": page})).into_response()
}
