//! Warnings as Kubernetes' Events on the Service they are about.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::mpsc;

use crate::model::warning::Warning;

/// Octets of a note that the API takes.
const LONGEST_NOTE: usize = 1024;
/// The API's answer where an object of that name is there.
const CONFLICT: u16 = 409;

/// Publishes what comes until nobody warns any more. An Event that the API does not take is lost: it is also in the log.
pub async fn publish(client: Client, node_name: &str, mut warnings: mpsc::Receiver<Warning>) {
    while let Some(warning) = warnings.recv().await {
        let events = Api::<Event>::namespaced(client.clone(), &warning.service.namespace);
        match events.create(&PostParams::default(), &event(&warning, node_name)).await {
            Ok(_) => {}
            // Another node has said so, or we before a restart.
            Err(kube::Error::Api(status)) if status.code == CONFLICT => {}
            Err(error) => tracing::warn!(service = %warning.service, %error, "publishing an Event"),
        }
    }
}

/// Named by what it says: of what is so on every node, a thousand nodes make one Event.
fn event(warning: &Warning, node_name: &str) -> Event {
    let Warning { service, reason, note } = warning;
    let mut hash = DefaultHasher::new();
    (reason.word(), note, (!reason.is_everywhere()).then_some(node_name)).hash(&mut hash);
    let [namespace, name] = [&service.namespace, &service.name].map(|text| Some(text.to_string()));
    Event {
        metadata: ObjectMeta {
            namespace: namespace.clone(),
            name: Some(format!("{}.{:016x}", service.name, hash.finish())),
            ..ObjectMeta::default()
        },
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            namespace,
            name,
            ..ObjectReference::default()
        }),
        event_time: Some(MicroTime(Timestamp::now())),
        type_: Some("Warning".to_owned()),
        reason: Some(reason.word().to_owned()),
        action: Some(reason.action().to_owned()),
        note: Some(note[..note.floor_char_boundary(LONGEST_NOTE)].to_owned()),
        reporting_controller: Some("svc".to_owned()),
        reporting_instance: Some(node_name.to_owned()),
        ..Event::default()
    }
}
