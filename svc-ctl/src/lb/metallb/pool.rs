//! Reads an `IPAddressPool`.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::Deserialize;

use super::{Kind, Object, Read};
use crate::lb::pool::PoolSpec;
use crate::lb::selector::Selector;
use crate::model::complaint::Complaint;

const KNOWN: [&str; 4] = ["addresses", "autoAssign", "avoidBuggyIPs", "serviceAllocation"];
const ALLOCATION: &str = "serviceAllocation";
const KNOWN_OF_ALLOCATION: [&str; 4] = ["priority", "namespaces", "namespaceSelectors", "serviceSelectors"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    addresses: Option<Vec<String>>,
    auto_assign: Option<bool>,
    #[serde(rename = "avoidBuggyIPs")]
    avoid_buggy_ips: Option<bool>,
    service_allocation: Option<ServiceAllocation>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceAllocation {
    priority: Option<u32>,
    namespaces: Option<BTreeSet<String>>,
    namespace_selectors: Option<Vec<Selector>>,
    service_selectors: Option<Vec<Selector>>,
}

/// The pool, and remarks on what is used in another way than it is written.
pub fn read(name: &str, object: &Object) -> Read<PoolSpec> {
    let complaint = |field: &str, reason| object.complaint(Kind::Pool, name, field, reason);
    let spec: Spec = object.read().map_err(|(field, reason)| complaint(&field, reason))?;
    let unknown =
        object.unknown("", &KNOWN).into_iter().chain(object.unknown(ALLOCATION, &KNOWN_OF_ALLOCATION));
    let mut remarks: Vec<Complaint> =
        unknown.map(|field| object.unknown_field(Kind::Pool, name, &field)).collect();
    let mut addresses = spec.addresses.unwrap_or_default();
    for (number, text) in addresses.iter_mut().enumerate() {
        let written = text.trim().parse::<IpNet>().ok();
        if let Some(net) = written.filter(|net| net.trunc() != *net) {
            let reason =
                format!("{text} is not on its boundary: it is used as {}, as MetalLB does", net.trunc());
            remarks.push(complaint(&format!("addresses[{number}]"), reason));
            *text = net.trunc().to_string();
        }
    }
    let allocation = spec.service_allocation.unwrap_or_default();
    let pool = PoolSpec {
        name: name.to_owned(),
        addresses,
        auto_assign: spec.auto_assign.unwrap_or(true),
        avoid_buggy_ips: spec.avoid_buggy_ips.unwrap_or(false),
        disabled: false,
        priority: allocation.priority.unwrap_or(0),
        namespaces: allocation.namespaces.unwrap_or_default(),
        namespace_selectors: allocation.namespace_selectors.unwrap_or_default(),
        service_selectors: allocation.service_selectors.unwrap_or_default(),
    };
    Ok((pool, remarks))
}
