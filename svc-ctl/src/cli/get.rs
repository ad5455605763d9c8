//! `svc-ctl get`: what the kernel's tables hold, read from the pins.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use comfy_table::{Table, presets};
use serde::Serialize;
use svc_common::abi::{BackendId, Extent};

use super::args::{GetArgs, Output, What};
use super::output::emit;
use crate::dataplane::bpf::BpfStore;
use crate::dataplane::maps::Maps;
use crate::dataplane::pins::Pins;
use crate::dataplane::store::MapStore as _;
use crate::dataplane::{affinity, flows};
use crate::observe::ask;
use crate::plan::render::{frontend_text, locality_text};
use crate::plan::tables::Tables;

#[derive(Debug, Serialize)]
struct ServiceRow {
    service: String,
    frontend: String,
    backends: Vec<SocketAddr>,
    /// Backends for clients from outside, where `externalTrafficPolicy: Local` makes them others.
    local_backends: Vec<SocketAddr>,
    /// Seconds that a client stays with its backend; 0: not at all.
    affinity_seconds: u32,
    flows: u64,
    packets: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct BackendRow {
    id: u32,
    address: SocketAddr,
    locality: &'static str,
}

#[derive(Debug, Serialize)]
struct FlowRow {
    service_name: String,
    #[serde(flatten)]
    flow: flows::Flow,
}

#[derive(Debug, Serialize)]
struct StayRow {
    service_name: String,
    /// Missing once the backend is in no table any more.
    address: Option<SocketAddr>,
    #[serde(flatten)]
    stay: affinity::Stay,
}

/// Names by service id, as the daemon has them. Without a daemon there are none, and that is said beside the output.
fn names(args: &GetArgs) -> BTreeMap<u32, String> {
    ask::services(&args.run_dir.run_dir).unwrap_or_else(|error| {
        eprintln!("svc-ctl: Services are shown by number, because only a running daemon knows their names: {error:#}");
        BTreeMap::new()
    })
}

/// What the daemon calls it, or its number.
fn service_name(names: &BTreeMap<u32, String>, id: u32) -> String {
    names.get(&id).cloned().unwrap_or_else(|| format!("#{id}"))
}

pub fn main(args: &GetArgs) -> anyhow::Result<()> {
    let pins = Pins::existing(&args.pins.pin_dir)?;
    let mut store = BpfStore(Maps::open(&pins)?);
    match args.what {
        What::Services => {
            let tables = store.dump()?;
            let names = names(args);
            show(args.output, &services(&tables, &store.0, &names), service_table)
        }
        What::Backends => {
            let tables = store.dump()?;
            show(args.output, &backends(&tables), backend_table)
        }
        What::Flows => {
            let names = names(args);
            let row = |flow: flows::Flow| FlowRow { service_name: service_name(&names, flow.service), flow };
            let rows: Vec<FlowRow> = flows::list(&pins)?.into_iter().map(row).collect();
            show(args.output, &rows, flow_table)
        }
        What::Affinity => {
            let tables = store.dump()?;
            let names = names(args);
            show(args.output, &stays(affinity::list(&pins)?, &tables, &names), stay_table)
        }
    }
}

fn show<T: Serialize>(output: Output, rows: &[T], table: fn(&[T]) -> Table) -> anyhow::Result<()> {
    match output {
        Output::Json => emit(&format!("{}\n", serde_json::to_string_pretty(rows)?)),
        Output::Table => emit(&format!("{}\n", table(rows))),
    }
}

fn services(tables: &Tables, maps: &Maps, names: &BTreeMap<u32, String>) -> Vec<ServiceRow> {
    let addresses = |extent: Extent| -> Vec<SocketAddr> {
        let ids = tables.extents.get(&extent).map_or(&[][..], |set| set);
        ids.iter().filter_map(|id| tables.backends.get(id)).map(|b| (b.addr, b.port).into()).collect()
    };
    tables
        .frontends
        .iter()
        .map(|(frontend, entry)| {
            let counters = maps.service(entry.service);
            ServiceRow {
                service: service_name(names, entry.service.0),
                frontend: frontend_text(frontend),
                backends: addresses(entry.cluster),
                local_backends: addresses(entry.local),
                affinity_seconds: entry.affinity,
                flows: counters.flows,
                packets: counters.packets,
                bytes: counters.bytes,
            }
        })
        .collect()
}

fn backends(tables: &Tables) -> Vec<BackendRow> {
    let row = |(id, b): (BackendId, &crate::plan::tables::Backend)| BackendRow {
        id: id.0,
        address: (b.addr, b.port).into(),
        locality: locality_text(b.locality),
    };
    tables.backends.iter().map(row).collect()
}

fn stays(list: Vec<affinity::Stay>, tables: &Tables, names: &BTreeMap<u32, String>) -> Vec<StayRow> {
    let row = |stay: affinity::Stay| StayRow {
        service_name: service_name(names, stay.service),
        address: tables.backends.get(&BackendId(stay.backend)).map(|b| (b.addr, b.port).into()),
        stay,
    };
    list.into_iter().map(row).collect()
}

fn plain_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.iter().copied());
    table
}

fn list(addresses: &[SocketAddr]) -> String {
    if addresses.is_empty() {
        return "-".to_owned();
    }
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn service_table(rows: &[ServiceRow]) -> Table {
    let mut table =
        plain_table(&["SERVICE", "FRONTEND", "BACKENDS", "LOCAL BACKENDS", "FLOWS", "PACKETS", "BYTES"]);
    for r in rows {
        table.add_row([
            r.service.clone(),
            r.frontend.clone(),
            list(&r.backends),
            list(&r.local_backends),
            r.flows.to_string(),
            r.packets.to_string(),
            r.bytes.to_string(),
        ]);
    }
    table
}

fn backend_table(rows: &[BackendRow]) -> Table {
    let mut table = plain_table(&["ID", "ADDRESS", "WHERE"]);
    for r in rows {
        table.add_row([r.id.to_string(), r.address.to_string(), r.locality.to_owned()]);
    }
    table
}

fn flow_table(rows: &[FlowRow]) -> Table {
    let mut table =
        plain_table(&["DIRECTION", "PROTO", "PACKET", "BECOMES", "AT", "WAY", "STATE", "AGE", "SERVICE"]);
    for row in rows {
        let r = &row.flow;
        let proto = match r.proto {
            6 => "TCP".to_owned(),
            17 => "UDP".to_owned(),
            other => other.to_string(),
        };
        table.add_row([
            r.direction.to_owned(),
            proto,
            format!("{} > {}", r.from, r.to),
            format!("{} > {}", r.becomes_from, r.becomes_to),
            r.hook.to_owned(),
            r.way.to_owned(),
            r.state.clone(),
            format!("{}/{}", r.age, r.lifetime),
            row.service_name.clone(),
        ]);
    }
    table
}

fn stay_table(rows: &[StayRow]) -> Table {
    let mut table = plain_table(&["SERVICE", "CLIENT", "BACKEND", "FOR"]);
    for r in rows {
        table.add_row([
            r.service_name.clone(),
            r.stay.client.clone(),
            r.address.map_or_else(|| format!("#{}", r.stay.backend), |a| a.to_string()),
            format!("{} s", r.stay.seconds_left),
        ]);
    }
    table
}
