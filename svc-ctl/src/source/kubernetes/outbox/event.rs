//! Converts a notice into a Kubernetes Event.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use super::REPEAT_AFTER;
use super::notice::Notice;
use crate::model::complaint::Kind;
use crate::model::name::ServiceName;

/// Maximum octets of a note and of a name in the API.
const LONGEST_NOTE: usize = 1024;
const LONGEST_NAME: usize = 253;

/// The Event for a notice about the object with this uid. Its name is made from its text, its object and the period.
/// So a thousand nodes with the same notice make one Event, and a later period makes another.
pub fn event(notice: &Notice, uid: Option<&str>, node_name: &str, now: Timestamp) -> Event {
    let Notice { service, kind, text, .. } = notice;
    let is_of_all_nodes = service.is_some() && kind.is_same_on_every_node();
    let period = now.as_second().max(0).cast_unsigned() / REPEAT_AFTER.as_secs();
    let said_by = if is_of_all_nodes { "" } else { node_name };
    let hash =
        fingerprint(&[kind.event_reason(), text, said_by, uid.unwrap_or_default(), &period.to_string()]);
    let hash = format!(".{hash:016x}");
    let (object_kind, namespace, name) = match service {
        Some(service) => ("Service", Some(service.namespace.to_string()), service.name.as_ref()),
        None => ("Node", None, node_name),
    };
    let prefix = name[..name.floor_char_boundary(LONGEST_NAME - hash.len())].trim_end_matches(['.', '-']);
    Event {
        metadata: ObjectMeta {
            // Events about objects without a namespace are stored in this one.
            namespace: Some(namespace.clone().unwrap_or_else(|| "default".to_owned())),
            name: Some(format!("{prefix}{hash}")),
            ..ObjectMeta::default()
        },
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some(object_kind.to_owned()),
            namespace,
            name: Some(name.to_owned()),
            uid: uid.map(str::to_owned),
            ..ObjectReference::default()
        }),
        event_time: Some(MicroTime(now)),
        type_: Some("Warning".to_owned()),
        reason: Some(kind.event_reason().to_owned()),
        action: Some(kind.event_action().to_owned()),
        note: Some(text[..text.floor_char_boundary(LONGEST_NOTE)].to_owned()),
        reporting_controller: Some("svc".to_owned()),
        reporting_instance: Some(node_name.to_owned()),
        ..Event::default()
    }
}

/// The daemon has started: an Event on the Node, like kube-proxy's (SEM-252).
pub fn starting(node_name: &str, version: &str, now: Timestamp) -> Event {
    let text = format!("svc {version} serves Services on this node");
    let notice = Notice { service: None, kind: Kind::Node, text, is_summary: false };
    let like = event(&notice, Some(node_name), node_name, now);
    let hash = fingerprint(&["Starting", node_name, &now.to_string()]);
    Event { action: Some("Start".to_owned()), ..normal(like, node_name, hash, "Starting") }
}

/// An Event about an action of svc for a Service.
pub fn about_service(meta: &ObjectMeta, reason: &str, note: &str, node_name: &str, now: Timestamp) -> Event {
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let name = meta.name.as_deref().unwrap_or_default();
    let service = Some(ServiceName::new(namespace, name));
    let notice = Notice { service, kind: Kind::NoAddress, text: note.to_owned(), is_summary: false };
    let like = event(&notice, meta.uid.as_deref(), node_name, now);
    normal(like, name, fingerprint(&[reason, note, &now.to_string()]), reason)
}

/// An Event about no problem, once for each time.
fn normal(like: Event, object: &str, hash: u64, reason: &str) -> Event {
    let prefix = &object[..object.floor_char_boundary(LONGEST_NAME - 17)];
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{hash:016x}", prefix.trim_end_matches(['.', '-']))),
            ..like.metadata
        },
        type_: Some("Normal".to_owned()),
        reason: Some(reason.to_owned()),
        ..like
    }
}

/// FNV-1a over all parts, each followed by an octet that no text has. All builds of svc make the same name for a
/// notice.
fn fingerprint(parts: &[&str]) -> u64 {
    let octets = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    octets.fold(0xcbf2_9ce4_8422_2325, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3))
}
