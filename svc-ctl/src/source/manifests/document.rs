//! Parses the text of a file into objects: many documents, `List` kinds, and the defaults of an API server. An error
//! names document and field.

use k8s_openapi::api::core::v1::{Endpoints, Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_yaml_ng::{Deserializer, Value};

use super::unknown::unknown_fields;

/// An object of a kind we use.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    Service(Box<Service>),
    Slice(Box<EndpointSlice>),
    Endpoints(Box<Endpoints>),
    Pod(Box<Pod>),
    Node(Box<Node>),
    Namespace(Box<Namespace>),
}

impl Object {
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Service(_) => "Service",
            Self::Slice(_) => "EndpointSlice",
            Self::Endpoints(_) => "Endpoints",
            Self::Pod(_) => "Pod",
            Self::Node(_) => "Node",
            Self::Namespace(_) => "Namespace",
        }
    }

    fn unknown_fields(&self, written: &Value) -> Vec<String> {
        match self {
            Self::Service(o) => unknown_fields(written, o),
            Self::Slice(o) => unknown_fields(written, o),
            Self::Endpoints(o) => unknown_fields(written, o),
            Self::Pod(o) => unknown_fields(written, o),
            Self::Node(o) => unknown_fields(written, o),
            Self::Namespace(o) => unknown_fields(written, o),
        }
    }

    pub fn as_pod(&self) -> Option<&Pod> {
        if let Self::Pod(pod) = self { Some(pod) } else { None }
    }

    pub fn as_node(&self) -> Option<&Node> {
        if let Self::Node(node) = self { Some(node) } else { None }
    }

    pub const fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Service(o) => &o.metadata,
            Self::Slice(o) => &o.metadata,
            Self::Endpoints(o) => &o.metadata,
            Self::Pod(o) => &o.metadata,
            Self::Node(o) => &o.metadata,
            Self::Namespace(o) => &o.metadata,
        }
    }
}

/// An object and where it stands: documents count from one.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub document: usize,
    /// Its path in the document: `items[3].`, or empty.
    pub prefix: String,
    pub object: Object,
}

impl Found {
    /// Kind, namespace and name.
    pub fn name(&self) -> String {
        let meta = self.object.metadata();
        object_name(self.object.kind(), meta.namespace.as_deref(), meta.name.as_deref().unwrap_or_default())
    }
}

/// A fault of a document. `document` counts from one, as a reader would.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DocumentError {
    pub document: usize,
    /// The place at which the text is no YAML.
    pub line: Option<usize>,
    /// Kind, namespace and name; empty where there is no object yet, or the reason names it.
    pub object: String,
    pub field: String,
    pub reason: String,
}

/// The contents of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    pub objects: Vec<Found>,
    /// Documents of kinds that have no effect here, and fields that no object has.
    pub unused: Vec<DocumentError>,
}

const DEFAULT_NAMESPACE: &str = "default";

/// The fields that a file of Cilium's `--lb-state-file` has instead of a kind.
const CILIUM_LISTS: [(&str, &str, &str); 2] =
    [("services", "v1", "Service"), ("endpoints", "discovery.k8s.io/v1", "EndpointSlice")];

/// Reads a file: the documents that are good, and the errors of the others.
pub fn parse_contents(text: &str) -> (Contents, Vec<DocumentError>) {
    let mut contents = Contents::default();
    let mut errors = Vec::new();
    for (i, document) in Deserializer::from_str(text).enumerate() {
        let document_number = i + 1;
        let at = |field: &str, reason: String| DocumentError {
            document: document_number,
            line: None,
            object: String::new(),
            field: field.into(),
            reason,
        };
        match Value::deserialize(document) {
            Err(error) => {
                let line = error.location().map(|location| location.line());
                errors.push(DocumentError { line, ..at("", error.to_string()) });
                // The parser cannot find its way back after a syntax error.
                break;
            }
            Ok(Value::Null) => {}
            Ok(mut value) => match value.apply_merge() {
                Err(error) => errors.push(at("", error.to_string())),
                Ok(()) => parse_value(&value, document_number, "", None, &mut contents, &mut errors),
            },
        }
    }
    (contents, errors)
}

/// One object, or a list of them. `prefix` is where it stands in the document; `listed` the kind its list implies.
fn parse_value(
    value: &Value,
    document: usize,
    prefix: &str,
    listed: Option<(&str, &str)>,
    contents: &mut Contents,
    errors: &mut Vec<DocumentError>,
) {
    let at = |field: &str, reason: String| {
        let field = format!("{prefix}{field}");
        DocumentError { document, line: None, object: String::new(), field, reason }
    };
    let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    let kind = text("kind").or_else(|| listed.map(|(_, kind)| kind.to_owned()));
    let version = text("apiVersion").or_else(|| listed.map(|(version, _)| version.to_owned()));
    let is_cilium = kind.is_none() && CILIUM_LISTS.iter().any(|(field, ..)| value.get(field).is_some());
    let (Some(kind), Some(version), false) = (kind.as_deref(), version.as_deref(), is_cilium) else {
        if is_cilium {
            for (field, version, kind) in CILIUM_LISTS {
                parse_list(
                    value.get(field),
                    field,
                    Some((version, kind)),
                    document,
                    prefix,
                    contents,
                    errors,
                );
            }
        } else {
            let field = if kind.is_none() { "kind" } else { "apiVersion" };
            errors.push(at(field, "missing: not a Kubernetes object".to_owned()));
        }
        return;
    };
    if let Some(item_kind) = kind.strip_suffix("List") {
        let implied = (!item_kind.is_empty()).then_some((version, item_kind));
        parse_list(value.get("items"), "items", implied, document, prefix, contents, errors);
        return;
    }
    let meta = |field: &str| value.get("metadata")?.get(field)?.as_str();
    let name = meta("name").map(|name| object_name(kind, meta("namespace"), name)).unwrap_or_default();
    let parsed = match (version, kind) {
        ("v1", "Service") => parse_object(value).map(|o| Object::Service(Box::new(o))),
        ("discovery.k8s.io/v1", "EndpointSlice") => parse_object(value).map(|o| Object::Slice(Box::new(o))),
        ("v1", "Endpoints") => parse_object(value).map(|o| Object::Endpoints(Box::new(o))),
        ("v1", "Pod") => parse_object(value).map(|o| Object::Pod(Box::new(o))),
        ("v1", "Node") => parse_object(value).map(|o| Object::Node(Box::new(o))),
        ("v1", "Namespace") => parse_object(value).map(|o| Object::Namespace(Box::new(o))),
        _ => {
            contents.unused.push(at("kind", format!("{kind} ({version}) has no effect here")));
            return;
        }
    };
    match parsed {
        Err((field, reason)) => errors.push(DocumentError { object: name, ..at(&field, reason) }),
        Ok(object) if object.metadata().name.as_deref().unwrap_or_default().is_empty() => {
            errors.push(at("metadata.name", "missing".to_owned()));
        }
        Ok(mut object) => {
            for field in object.unknown_fields(value) {
                let reason = "no such field: it has no effect".to_owned();
                contents.unused.push(DocumentError { object: name.clone(), ..at(&field, reason) });
            }
            default(&mut object);
            contents.objects.push(Found { document, prefix: prefix.to_owned(), object });
        }
    }
}

/// Name of an object in complaints.
fn object_name(kind: &str, namespace: Option<&str>, name: &str) -> String {
    match namespace.filter(|namespace| !namespace.is_empty()) {
        _ if matches!(kind, "Node" | "Namespace") => format!("{kind} {name}"),
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {DEFAULT_NAMESPACE}/{name}"),
    }
}

/// The objects of a list; `implied` are version and kind of objects without them.
fn parse_list(
    list: Option<&Value>,
    field: &str,
    implied: Option<(&str, &str)>,
    document: usize,
    prefix: &str,
    contents: &mut Contents,
    errors: &mut Vec<DocumentError>,
) {
    match list {
        None | Some(Value::Null) => {}
        Some(Value::Sequence(items)) => {
            for (i, item) in items.iter().enumerate() {
                let prefix = format!("{prefix}{field}[{i}].");
                parse_value(item, document, &prefix, implied, contents, errors);
            }
        }
        Some(_) => {
            let field = format!("{prefix}{field}");
            let (object, reason) = (String::new(), "not a list".to_owned());
            errors.push(DocumentError { document, line: None, object, field, reason });
        }
    }
}

fn parse_object<T: DeserializeOwned>(value: &Value) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        (if path == "." { String::new() } else { path }, error.into_inner().to_string())
    })
}

/// Defaults of an API server, for the fields that svc reads.
fn default(object: &mut Object) {
    let meta = match object {
        Object::Node(_) | Object::Namespace(_) => return,
        Object::Service(o) => &mut o.metadata,
        Object::Endpoints(o) => &mut o.metadata,
        Object::Pod(o) => &mut o.metadata,
        Object::Slice(o) => {
            for port in o.ports.iter_mut().flatten() {
                port.name.get_or_insert_default();
            }
            &mut o.metadata
        }
    };
    let namespace = meta.namespace.get_or_insert_default();
    if namespace.is_empty() {
        namespace.push_str(DEFAULT_NAMESPACE);
    }
}

#[cfg(test)]
mod tests;
