//! The labels of Namespaces, for pools that select Namespaces by them.

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::sleep;

use super::super::failure::Pauses;
use super::super::few;
use super::complain;
use crate::lb::selector::Namespaces;
use crate::model::complaint::Origin;
use crate::observe::ledger::Ledger;

const FIELD: &str = "Namespaces, which pools select: no address is given or taken back until they are read";

/// Publishes them for ever. While they cannot be read, the earlier ones count.
pub async fn follow(client: &Client, known: &watch::Sender<Option<Namespaces>>, ledger: &Ledger) {
    let (api, mut pauses) = (Api::<Namespace>::all(client.clone()), Pauses::default());
    loop {
        let turn = few::turn(&api, |all| {
            complain(ledger, Origin::Namespaces, FIELD, None);
            let labels = |object: &Namespace| object.metadata.labels.clone().unwrap_or_default();
            let now = Some(all.iter().map(|(name, object)| (name.clone(), labels(object))).collect());
            known.send_if_modified(|known| std::mem::replace(known, now.clone()) != now);
        });
        let pause = match turn.await {
            Ok(()) => {
                pauses.reset();
                few::PAUSE
            }
            Err(failure) => {
                complain(ledger, Origin::Namespaces, FIELD, Some(&failure));
                pauses.after(&failure, false)
            }
        };
        sleep(pause).await;
    }
}
