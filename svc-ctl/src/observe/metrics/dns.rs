//! Responses of the name server, where `--dns` starts one.

use std::fmt;

use super::Part;
use super::page::{Page, label};
use crate::dns::counts::DnsCounts;

#[derive(Debug)]
pub struct Dns(pub Option<DnsCounts>);

impl Part for Dns {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let rows = self.0.as_ref().map(DnsCounts::read).unwrap_or_default();
        let samples = rows.into_iter().map(|(domain, code, count)| {
            let mut labels = label("code", code);
            labels.push(("domain", domain.into()));
            (labels, count)
        });
        page.counters(
            "svc_dns_responses",
            "Responses of DNS, by code, for names of the cluster's domain and others; no series without --dns.",
            samples,
        )
    }
}
