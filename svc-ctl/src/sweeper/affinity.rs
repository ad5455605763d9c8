//! One pass over a session affinity table: removes expired entries and those whose backend is no longer an endpoint
//! of the service port; counts the others.

use std::time::Duration;

use svc_common::abi::{AffinityKey, AffinityValue};
use svc_common::datapath::affinity::{AFFINITY_SHIFT, is_over};

use super::pass::Pass;
use super::stale::may_stay;
use crate::dataplane::affinity::now;
use crate::dataplane::encode::Encode;
use crate::dataplane::entries::{each, remove_each};
use crate::dataplane::pins::Pins;
use crate::reconcile::InForce;

/// Reads the table once. Checks entries against `in_force` if it is given.
pub fn sweep<A: Encode>(pins: &Pins, name: &str, in_force: Option<&InForce>) -> anyhow::Result<Pass> {
    let now = now();
    let is_gone = |key: &AffinityKey<A>, value: &AffinityValue| {
        // An unconnected socket looks up another backend by itself (SEM-124).
        !key.is_of_socket()
            && in_force.is_some_and(|in_force| !may_stay(in_force, key.service, value.backend))
    };
    let mut pass = Pass::default();
    let (mut read, mut found) = (0, Vec::new());
    let info = each(pins, name, |key: AffinityKey<A>, value: AffinityValue| {
        read += 1;
        if is_over(now, value.until) || is_gone(&key, &value) {
            found.push(key);
            return;
        }
        let units = u64::from(value.until.wrapping_sub(now));
        pass.expires_in(Duration::from_nanos(units << AFFINITY_SHIFT));
    })?;
    pass.info = info;
    let is_to_go =
        |key: &AffinityKey<A>, value: &AffinityValue| is_over(now, value.until) || is_gone(key, value);
    pass.removed = remove_each(pins, name, &found, is_to_go)?;
    pass.present = u64::saturating_sub(read, pass.removed);
    Ok(pass)
}
