//! Reads an `L2Advertisement`.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Kind, Object, Read};
use crate::lb::l2::Rule;
use crate::lb::selector::{Labels, Selector};

const KNOWN: [&str; 4] = ["ipAddressPools", "ipAddressPoolSelectors", "nodeSelectors", "interfaces"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    ip_address_pools: Option<BTreeSet<String>>,
    ip_address_pool_selectors: Option<Vec<Selector>>,
    node_selectors: Option<Vec<Selector>>,
    interfaces: Option<BTreeSet<String>>,
}

/// Pools, and the nodes that announce them.
#[derive(Clone, Debug)]
pub struct Advertisement {
    names: BTreeSet<String>,
    selectors: Vec<Selector>,
    pub rule: Rule,
}

impl Advertisement {
    /// An advertisement that names and selects no pool is for all of them.
    pub fn is_for(&self, pool: &str, labels: &Labels) -> bool {
        let is_for_all = self.names.is_empty() && self.selectors.is_empty();
        is_for_all
            || self.names.contains(pool)
            || self.selectors.iter().any(|selector| selector.selects(labels))
    }
}

/// The advertisement, and remarks on fields that are not used.
pub fn read(name: &str, object: &Object) -> Read<Advertisement> {
    let complaint = |field: &str, reason| object.complaint(Kind::L2Advertisement, name, field, reason);
    let spec: Spec = object.read().map_err(|(field, reason)| complaint(&field, reason))?;
    let remarks = object.remarks(Kind::L2Advertisement, name, &KNOWN);
    let rule = Rule {
        nodes: spec.node_selectors.unwrap_or_default(),
        interfaces: spec.interfaces.unwrap_or_default(),
    };
    let advertisement = Advertisement {
        names: spec.ip_address_pools.unwrap_or_default(),
        selectors: spec.ip_address_pool_selectors.unwrap_or_default(),
        rule,
    };
    Ok((advertisement, remarks))
}
