//! The two records of a flow: finds the key of one by the other, and compares them.

use svc_common::abi::{FlowKey, FlowRecord};
use svc_common::addr::Proto;
use svc_common::datapath::flow::twin_key;

use crate::net::Net;

/// Writes the key of a record's twin field by field: a whole assignment becomes a call of memmove, one call frame more than
/// Linux 6.1 allows here.
#[inline(always)]
pub fn put_twin_key<F: Net>(proto: Proto, record: &FlowRecord<F::Addr>, to: &mut FlowKey<F::Addr>) {
    let key = twin_key::<F>(proto, record);
    (to.src, to.dst) = (key.src, key.dst);
    (to.sport, to.dport) = (key.sport, key.dport);
    (to.proto, to._pad) = (key.proto, [0; 3]);
}

/// The record under the key of this record's twin is its twin. Another flow may have that tuple by now; a server on the
/// node may answer from another address.
#[inline(always)]
pub fn is_twin<A: Copy + Eq>(key: &FlowKey<A>, record: &FlowRecord<A>, other: &FlowRecord<A>) -> bool {
    (other.dst == key.src || record.wildcard_source != 0)
        && other.dport == key.sport
        && other.src == key.dst
        && other.sport == key.dport
}
