//! Asks for the Lease of the node that gives addresses.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use tokio::sync::watch;
use tokio::time::sleep;

use super::super::failure::Failure;
use super::{answer, complain, time};
use crate::lb::claim::Millis;
use crate::lb::clock::now;
use crate::lb::election::{DURATION, Election, LeaseRecord, PERIOD, Step};
use crate::model::complaint::Origin;
use crate::observe::ledger::Ledger;

const NAME: &str = "svc-allocator";
/// A longer duration in the Lease is not honoured, because no node could take over for so long. Nor is a shorter one:
/// its holder may act for as long as svc does.
const LONGEST: Millis = 4 * DURATION;

/// Publishes the time until which this node gives addresses. Runs for ever. A failure counts as a missing renewal.
pub async fn campaign(
    leases: &Api<Lease>,
    node: &str,
    granted: &watch::Sender<Option<Millis>>,
    ledger: &Ledger,
) {
    let mut election = Election::new(node.to_owned());
    loop {
        // Another node was faster.
        let failure = turn(leases, node, &mut election).await.err().filter(|f| f.code != Some(409));
        complain(ledger, Origin::AllocatorLease, "the Lease of the allocator", failure.as_ref());
        granted.send_replace(election.acts_until());
        sleep(Duration::from_millis(PERIOD)).await;
    }
}

async fn turn(leases: &Api<Lease>, node: &str, election: &mut Election) -> Result<(), Failure> {
    let lease = answer(leases.get_opt(NAME)).await?;
    let asked_at = now();
    let step = election.see(lease.as_ref().map(record), asked_at);
    let transitions = lease.as_ref().and_then(|lease| lease.spec.as_ref()?.lease_transitions).unwrap_or(0);
    let acquired = lease.as_ref().and_then(|lease| lease.spec.as_ref()?.acquire_time.clone());
    let is_mine = step == Step::Renew;
    let spec = LeaseSpec {
        holder_identity: Some(node.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION / 1_000).ok(),
        renew_time: Some(time()),
        acquire_time: acquired.filter(|_| is_mine).or_else(|| Some(time())),
        lease_transitions: Some(if step == Step::Take { transitions.saturating_add(1) } else { transitions }),
        ..LeaseSpec::default()
    };
    match (step, lease) {
        (Step::Wait, _) => return Ok(()),
        // The write names the version that was read. If two nodes take the Lease, one of them is refused.
        (_, Some(lease)) => {
            let lease = Lease { spec: Some(spec), ..lease };
            answer(leases.replace(NAME, &PostParams::default(), &lease)).await?;
        }
        (_, None) => {
            let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(spec) };
            answer(leases.create(&PostParams::default(), &lease)).await?;
        }
    }
    if !is_mine {
        tracing::info!("this node gives load-balancer addresses");
    }
    election.grant(asked_at);
    Ok(())
}

fn record(lease: &Lease) -> LeaseRecord {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok());
    let renewed = spec.and_then(|spec| Some(spec.renew_time.as_ref()?.0.to_string()));
    LeaseRecord {
        holder: spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default(),
        renewed: renewed.unwrap_or_default(),
        duration: seconds.map_or(DURATION, |s| s.saturating_mul(1_000).clamp(DURATION, LONGEST)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_duration_of_a_lease_is_believed_within_bounds() {
        for (seconds, expected) in [
            (None, DURATION),
            (Some(15), 15_000),
            (Some(40), 40_000),
            (Some(0), DURATION),
            (Some(-1), DURATION),
            (Some(i32::MAX), LONGEST),
        ] {
            let spec = LeaseSpec { lease_duration_seconds: seconds, ..LeaseSpec::default() };
            let lease = Lease { spec: Some(spec), ..Lease::default() };
            assert_eq!(record(&lease).duration, expected, "{seconds:?}");
        }
    }
}
