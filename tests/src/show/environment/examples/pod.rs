//! The Pods of a manifest, with the parts that the show needs.

use std::net::IpAddr;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_yaml_ng::{Deserializer, Value};

use crate::topology::Addrs;

pub(super) struct Pod {
    pub(super) name: String,
    /// Counts from 1.
    pub(super) node: usize,
    pub(super) addrs: Addrs,
    pub(super) port: u16,
}

/// The Pods of a file, which may have other objects, too.
pub(super) fn read_all(text: &str) -> Result<Vec<Pod>> {
    let mut pods = Vec::new();
    for document in Deserializer::from_str(text) {
        let object = Value::deserialize(document)?;
        if object["kind"] == "Pod" {
            pods.push(Pod::read(&object).context("a Pod of the examples")?);
        }
    }
    Ok(pods)
}

impl Pod {
    fn read(object: &Value) -> Option<Self> {
        let mut addrs =
            object["status"]["podIPs"].as_sequence()?.iter().filter_map(|ip| ip["ip"].as_str()?.parse().ok());
        let (Some(IpAddr::V4(v4)), Some(IpAddr::V6(v6))) = (addrs.next(), addrs.next()) else { return None };
        Some(Self {
            name: object["metadata"]["name"].as_str()?.into(),
            node: object["spec"]["nodeName"].as_str()?.strip_prefix("node")?.parse().ok()?,
            addrs: Addrs { v4, v6 },
            port: u16::try_from(object["spec"]["containers"][0]["ports"][0]["containerPort"].as_u64()?)
                .ok()?,
        })
    }
}
