//! The ranges of ClusterIPs, as the API server's ServiceCIDR objects name them.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::sleep;

use super::failure::{Failure, Pauses};
use super::few;
use crate::model::complaint::{Complaint, Kind, Origin};
use crate::observe::ledger::Ledger;

const OBJECT: &str = "Kubernetes API";
const FIELD: &str = "ServiceCIDRs";

/// Publishes the ranges for ever. While they cannot be read, the earlier ones stay in force.
pub async fn follow(client: &Client, publish: watch::Sender<Vec<IpNet>>, ledger: &Ledger) {
    let mut pauses = Pauses::default();
    loop {
        match turn(client, &publish, ledger).await {
            Ok(()) => {
                pauses.reset();
                sleep(few::PAUSE).await;
            }
            Err(failure) => {
                let reason = format!(
                    "{}: addresses that no Service has are left alone where their range is not known (--service-cidr)",
                    failure.text
                );
                ledger.set(Origin::ServiceCidrs, vec![Complaint::new(Kind::Source, OBJECT, FIELD, reason)]);
                sleep(pauses.after(&failure, false)).await;
            }
        }
    }
}

/// Lists them, and follows them until the watch ends.
async fn turn(client: &Client, publish: &watch::Sender<Vec<IpNet>>, ledger: &Ledger) -> Result<(), Failure> {
    few::turn(&Api::<ServiceCIDR>::all(client.clone()), |all| {
        let (ranges, complaints) = ranges(all.values());
        ledger.set(Origin::ServiceCidrs, complaints);
        publish.send_if_modified(|known| {
            let is_new = *known != ranges;
            known.clone_from(&ranges);
            is_new
        });
    })
    .await
}

/// The CIDRs of all objects, each once, and the texts that are no CIDR.
fn ranges<'a>(objects: impl IntoIterator<Item = &'a ServiceCIDR>) -> (Vec<IpNet>, Vec<Complaint>) {
    let (mut ranges, mut complaints) = (Vec::new(), Vec::new());
    for object in objects {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        for text in object.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten()) {
            match text.parse::<IpNet>() {
                Ok(range) => ranges.push(range.trunc()),
                Err(_) => {
                    let reason = format!("{text:?} is not a CIDR");
                    complaints.push(Complaint::refused(format!("ServiceCIDR {name}"), "spec.cidrs", reason));
                }
            }
        }
    }
    ranges.sort();
    ranges.dedup();
    (ranges, complaints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_all_objects_count_once_and_other_texts_are_named() {
        let object = |name: &str, cidrs: &[&str]| -> ServiceCIDR {
            let json = serde_json::json!({"metadata": {"name": name}, "spec": {"cidrs": cidrs}});
            serde_json::from_value(json).unwrap()
        };
        let objects = [
            object("kubernetes", &["10.96.0.0/16", "fd00:96::/112"]),
            object("more", &["10.97.0.0/16", "10.96.0.0/16", "10.98.0.0"]),
            serde_json::from_str(r#"{"metadata": {"name": "empty"}}"#).unwrap(),
        ];
        let (ranges, complaints) = ranges(&objects);
        let texts: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.96.0.0/16", "10.97.0.0/16", "fd00:96::/112"]);
        let texts: Vec<String> = complaints.iter().map(ToString::to_string).collect();
        assert_eq!(texts, [r#"ServiceCIDR more: spec.cidrs: "10.98.0.0" is not a CIDR"#]);
    }
}
