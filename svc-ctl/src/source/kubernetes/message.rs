//! Parses lists and watches of the API server, object by object: an invalid object affects no other.

use kube::core::Status;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::failure::Failure;
use super::read::{ANNOTATION_LIST_ENDS, Kind, Meta};

/// One message of a list or a watch.
pub enum Message<T> {
    /// An object.
    Object(T),
    /// An object that cannot be parsed.
    Unreadable(Unreadable),
    Deleted(Meta),
    /// A version to continue from. It may complete a streamed list.
    Bookmark {
        version: Option<String>,
        ends_list: bool,
    },
    /// The connection broke within a line.
    Cut,
}

/// An invalid object.
#[derive(Debug)]
pub struct Unreadable {
    pub meta: Meta,
    /// Path of the first invalid field.
    pub field: String,
    pub reason: String,
}

/// A page of a list.
#[derive(Deserialize)]
pub struct Page<'a> {
    #[serde(default)]
    pub metadata: PageMeta,
    #[serde(borrow, default)]
    pub items: Vec<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PageMeta {
    pub resource_version: Option<String>,
    #[serde(rename = "continue")]
    pub token: Option<String>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OnlyMetadata {
    metadata: Meta,
}

/// One object of a list.
pub fn read_object<T: Kind>(json: &RawValue) -> Message<T> {
    let json = json.get();
    if let Ok(object) = serde_json::from_str(json) {
        return Message::Object(object);
    }
    let meta = serde_json::from_str::<OnlyMetadata>(json).unwrap_or_default().metadata;
    // Parsed a second time, for the path of the field.
    match serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json)) {
        Ok(object) => Message::Object(object),
        Err(error) => {
            let (field, reason) = (error.path().to_string(), error.inner().to_string());
            Message::Unreadable(Unreadable { meta, field, reason })
        }
    }
}

/// One line of a watch.
pub fn read_line<T: Kind>(line: &str) -> Result<Message<T>, Failure> {
    let line: Line<'_> = match serde_json::from_str(line) {
        Ok(line) => line,
        Err(error) if error.is_eof() => return Ok(Message::Cut),
        Err(error) => {
            return Err(Failure::of_text(format!("a watch has sent an unreadable message: {error}")));
        }
    };
    let meta = || serde_json::from_str::<OnlyMetadata>(line.object.get()).unwrap_or_default().metadata;
    match line.kind {
        "ADDED" | "MODIFIED" => Ok(read_object(line.object)),
        "DELETED" => Ok(Message::Deleted(meta())),
        "BOOKMARK" => {
            let meta = meta();
            let ends_list = meta.annotations.is_some_and(|kept| kept.0.contains_key(ANNOTATION_LIST_ENDS));
            Ok(Message::Bookmark { version: meta.resource_version, ends_list })
        }
        "ERROR" => {
            let status = serde_json::from_str::<Status>(line.object.get());
            Err(status.map_or_else(|error| Failure::of_text(error.to_string()), |s| Failure::of_status(&s)))
        }
        other => Err(Failure::of_text(format!("a watch says {other:?}"))),
    }
}
