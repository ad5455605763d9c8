//! Warnings as Kubernetes' Events on the Service they are about.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use crate::model::warning::Warning;

/// Publishes what comes until nobody warns any more. An Event that the API does not take is lost: it is also in the
/// status and in the log.
pub async fn publish(client: Client, node_name: &str, mut warnings: mpsc::Receiver<Warning>) {
    let reporter = Reporter { controller: "svc".to_owned(), instance: Some(node_name.to_owned()) };
    let recorder = Recorder::new(client, reporter);
    while let Some(warning) = warnings.recv().await {
        let regarding = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            namespace: Some(warning.service.namespace.to_string()),
            name: Some(warning.service.name.to_string()),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: EventType::Warning,
            reason: warning.reason.to_owned(),
            note: Some(warning.note),
            action: "Listen".to_owned(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &regarding).await {
            tracing::warn!(service = %warning.service, %error, "publishing an Event");
        }
    }
}
