//! A Service with very many endpoints: clients from outside reach each of them.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, bail, ensure};
use libtest_mimic::Trial;
use svc_tests::packet::place::{Family, in_family};
use svc_tests::packet::trial::Shared;

use crate::ask::{Origin, PacketOutcome};
use crate::edits::{World, trial};

const ENDPOINTS: u32 = 5_000;
/// Most endpoints of a slice that the API server allows.
const OF_A_SLICE: u32 = 1_000;
/// So many clients miss one of 5,000 backends, each with at least 32 of 262,144 places, in one of 10^12 trials.
const CLIENTS: u32 = 300_000;
const PORT: u16 = 8_000;

pub fn trials(lab: &Shared) -> Vec<Trial> {
    [Family::V4, Family::V6]
        .map(|family| {
            let name =
                format!("clients from outside reach each of 5,000 endpoints of a Service [{family:?}]");
            trial(
                lab,
                name,
                objects(),
                match family {
                    Family::V4 => |world| reach_each(world, Family::V4),
                    Family::V6 => |world| reach_each(world, Family::V6),
                },
            )
        })
        .into()
}

fn external_ip() -> Ipv4Addr {
    Ipv4Addr::new(1, 2, 3, 4)
}

fn endpoint(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 240, 0, 0).to_bits() + number)
}

fn objects() -> String {
    let both = [Family::V4, Family::V6];
    let external = both.map(|family| format!("'{}'", in_family(external_ip(), family))).join(", ");
    let mut text = format!(
        "-- all.yaml --\napiVersion: v1\nkind: Service\nmetadata: {{name: many}}\nspec:\n  clusterIPs: [172.30.1.1, \
         'fd00::ac1e:101']\n  externalIPs: [{external}]\n  ports: [{{port: {PORT}, protocol: UDP}}]\n"
    );
    for family in both {
        for first in (0..ENDPOINTS).step_by(OF_A_SLICE as usize) {
            let endpoints = (first..first + OF_A_SLICE)
                .map(|n| format!("{{addresses: ['{}']}}", in_family(endpoint(n), family)))
                .collect::<Vec<_>>()
                .join(", ");
            let of = if family == Family::V4 { "IPv4" } else { "IPv6" };
            text.push_str(&format!(
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: many-{of}-{first}, labels: \
                 {{kubernetes.io/service-name: many}}}}\naddressType: {of}\nports: [{{name: '', port: 4000, protocol: \
                 UDP}}]\nendpoints: [{endpoints}]\n"
            ));
        }
    }
    text
}

fn reach_each(world: &mut World<'_>, family: Family) -> Result<()> {
    world.apply(&["all.yaml"])?;
    let dst = SocketAddr::new(in_family(external_ip(), family), PORT);
    let mut missing: BTreeSet<SocketAddr> =
        (0..ENDPOINTS).map(|n| (in_family(endpoint(n), family), 4_000).into()).collect();
    for client in 0..CLIENTS {
        let [_, a, b, c] = client.to_be_bytes();
        let src = SocketAddr::new(in_family(Ipv4Addr::new(203, 0, a, b), family), 1_024 + u16::from(c));
        let PacketOutcome::Reaches { backend, .. } = world.send(Origin::Outside, src, dst)? else {
            bail!("{src} reaches no backend");
        };
        missing.remove(&backend);
        if missing.is_empty() {
            return Ok(());
        }
    }
    ensure!(missing.is_empty(), "{} endpoints are never reached", missing.len());
    Ok(())
}
