//! One pass over a flow table: removes expired records and stale UDP flows, counts the others.

use std::net::SocketAddr;
use std::time::Duration;

use svc_common::abi::{Direction, Exit, FlowKey, FlowRecord, FlowState, Hook};
use svc_common::addr::{Port, Proto};
use svc_common::datapath::flow::twin_key;
use svc_common::datapath::state::{STAMP_SHIFT, age, is_expired, lifetime};
use svc_common::family::Family;

use super::pass::Pass;
use super::stale::is_stale_udp;
use crate::dataplane::encode::Encode;
use crate::dataplane::entries::{each, open_hash, remove_each};
use crate::dataplane::flows::now;
use crate::dataplane::pins::Pins;
use crate::node::neighbors::NextHop;
use crate::reconcile::InForce;

/// Flag of an update (bpf(2)): only if the key has an entry.
const BPF_EXIST: u64 = 2;

/// Reads the table once. Checks UDP flows against `in_force` if it is given.
pub fn sweep<F: Family>(pins: &Pins, name: &str, in_force: Option<&InForce>) -> anyhow::Result<Pass>
where
    F::Addr: Encode,
{
    let now = now();
    let mut pass = Pass::default();
    let (mut expired, mut stale): (Vec<FlowKey<F::Addr>>, Vec<_>) = (Vec::new(), Vec::new());
    let mut read = 0;
    let info = each(pins, name, |key: FlowKey<F::Addr>, record: FlowRecord<F::Addr>| {
        read += 1;
        if is_expired(key.proto, record.state, now, record.stamp) {
            expired.push(key);
            return;
        }
        if in_force.is_some_and(|in_force| is_stale::<F>(in_force, &key, &record)) {
            stale.push([key, twin_key::<F>(key.proto, &record)]);
            return;
        }
        if record.direction == Direction::FORWARD {
            let is_masqueraded = (record.src, record.sport) != (key.src, key.sport);
            let backend = || SocketAddr::new(record.dst.to_ip(), record.dport.number());
            pass.live.add(record.service, key.proto, is_masqueraded.then(backend));
        }
        if record.exit == Exit::REDIRECT && record.is_resolved() {
            pass.live.next_hops.insert(NextHop { interface: record.oif, mac: record.dmac });
        }
        let ticks = lifetime(key.proto, record.state).saturating_sub(age(now, record.stamp));
        pass.expires_in(Duration::from_nanos((u64::from(ticks) + 1) << STAMP_SHIFT));
    })?;
    pass.info = info;
    let is_over = |key: &FlowKey<F::Addr>, record: &FlowRecord<F::Addr>| {
        is_expired(key.proto, record.state, now, record.stamp)
    };
    pass.removed = remove_each(pins, name, &expired, is_over)?;
    remove_stale::<F>(pins, name, &stale, &mut pass)?;
    pass.present = u64::saturating_sub(read, pass.removed);
    Ok(pass)
}

/// The flow ends: its endpoint is gone (UDP), or serves on another node now. A reverse record is stale with its forward
/// record.
fn is_stale<F: Family>(in_force: &InForce, key: &FlowKey<F::Addr>, record: &FlowRecord<F::Addr>) -> bool
where
    F::Addr: Encode,
{
    let socket = |addr: F::Addr, port: Port| SocketAddr::new(addr.to_ip(), port.number());
    let backend = socket(record.dst, record.dport);
    record.direction == Direction::FORWARD
        && (key.proto == Proto::UDP && is_stale_udp(in_force, socket(key.dst, key.dport), backend)
            || needs_local_backend(record) && in_force.moved_away.contains(&backend))
}

/// A client from outside reaches a backend of this node with its own address. From another node the backend would answer the
/// client directly, with its own address. The client's next packet begins a flow that is masqueraded: datagrams go on, a TCP
/// connection is reset by the backend.
fn needs_local_backend<A>(record: &FlowRecord<A>) -> bool {
    record.exit.is_stack() && record.twin_hook == Hook::UPLINK_EGRESS && record.hook == Hook::INGRESS
}

/// Ends flows, given as keys of the forward and the reverse record. The client's next packet begins a new flow. The reverse
/// record of datagrams is closed instead of removed: replies that are under way still reach the client, and it expires.
fn remove_stale<F: Family>(
    pins: &Pins,
    name: &str,
    flows: &[[FlowKey<F::Addr>; 2]],
    pass: &mut Pass,
) -> anyhow::Result<()>
where
    F::Addr: Encode,
{
    if flows.is_empty() {
        return Ok(());
    }
    let mut map = open_hash::<FlowKey<F::Addr>, FlowRecord<F::Addr>>(pins, name)?;
    for [key, twin] in flows {
        // The reverse key may belong to another flow by now.
        let is_its_twin = |record: FlowRecord<F::Addr>| {
            record.direction == Direction::REVERSE && twin_key::<F>(key.proto, &record) == *key
        };
        // The forward record last: a surviving reverse record that is not closed would make it again.
        match map.get(twin, 0) {
            Ok(record) if is_its_twin(record) && key.proto == Proto::UDP => {
                // An error: the record has just been removed.
                let _ = map.insert(twin, FlowRecord { state: FlowState::RESET, ..record }, BPF_EXIST);
            }
            Ok(record) if is_its_twin(record) => pass.removed += u64::from(map.remove(twin).is_ok()),
            _ => {}
        }
        if map.remove(key).is_ok() {
            pass.removed += 1;
            pass.stale += u64::from(key.proto == Proto::UDP);
        }
    }
    Ok(())
}
