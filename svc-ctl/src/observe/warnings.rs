//! Tells the people who own a Service what does not work for it: once, as long as the Service lives.

use std::collections::BTreeSet;

use tokio::sync::{mpsc, watch};

use crate::model::name::ServiceName;
use crate::model::warning::{Reason, Warning};
use crate::reconcile::ReconcileStatus;

/// Follows the reconcile loop until it is gone.
pub async fn run(mut status: watch::Receiver<ReconcileStatus>, warn: mpsc::Sender<Warning>) {
    let mut told = BTreeSet::new();
    loop {
        let new = untold(&status.borrow_and_update(), &mut told);
        for warning in new {
            let Warning { service, reason, note } = &warning;
            // What is refused has been in the log already.
            if *reason != Reason::Refused {
                tracing::warn!(%service, reason = reason.word(), note, "warning");
            }
            // Where Services come from takes no warnings: then the log has it.
            let _ = warn.send(warning).await;
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// What nobody has heard yet. A warning that comes and goes is not new, as long as there is its Service.
fn untold(status: &ReconcileStatus, told: &mut BTreeSet<Warning>) -> Vec<Warning> {
    let live: BTreeSet<&ServiceName> = status.services.values().map(|key| &key.service).collect();
    let refused = status.rejected.iter().filter_map(Warning::of);
    let now: BTreeSet<Warning> = status.warnings.iter().cloned().chain(refused).collect();
    told.retain(|old| live.contains(&old.service) || now.contains(old));
    now.into_iter().filter(|warning| told.insert(warning.clone())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use svc_common::abi::ServiceId;
    use svc_common::addr::Proto;

    use super::*;
    use crate::model::name::ServicePortKey;
    use crate::model::rejected::Rejected;

    #[test]
    fn a_warning_is_told_once_as_long_as_its_service_lives() {
        let service = ServiceName::new("default", "a");
        let key = ServicePortKey { service: service.clone(), port: "".into(), proto: Proto::SCTP };
        let refused = vec![Rejected::of_service(&service, "spec.type", "\"Odd\" is no type")];
        let warning = Warning { service, reason: Reason::SctpFragments, note: "port 80/SCTP".to_owned() };
        let status = |lives: bool, is_warned: bool| ReconcileStatus {
            services: Arc::new(
                lives.then(|| (ServiceId(1), key.clone())).into_iter().collect::<BTreeMap<_, _>>(),
            ),
            warnings: Arc::new(is_warned.then(|| warning.clone()).into_iter().collect()),
            rejected: if is_warned { refused.clone() } else { Vec::new() },
            ..ReconcileStatus::default()
        };
        let mut told = BTreeSet::new();
        let mut heard = |lives, is_warned| {
            let new = untold(&status(lives, is_warned), &mut told);
            new.iter().map(|w| format!("{} {}", w.reason.word(), w.note)).collect::<Vec<_>>()
        };
        let both = ["Refused spec.type: \"Odd\" is no type", "SctpFragmentsDropped port 80/SCTP"];
        assert_eq!(heard(true, true), both);
        assert!(heard(true, true).is_empty());
        // Its endpoints are gone for a moment.
        assert!(heard(true, false).is_empty() && heard(true, true).is_empty());
        // It is another Service when it comes back. One of which nothing is served lives by its refusal.
        assert!(heard(false, false).is_empty());
        assert_eq!(heard(false, true), both);
        assert!(heard(false, true).is_empty());
    }
}
