//! `svc-ctl get`: contents of the kernel's tables, read from the pins.

mod diff;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use comfy_table::{Table, presets};
use serde::Serialize;
use svc_common::abi::{BackendId, Extent, FrontendFlags};

use super::args::{GetArgs, Output, What};
use super::filter::ips;
use super::output::emit;
use crate::dataplane::bpf::BpfStore;
use crate::dataplane::maps::Maps;
use crate::dataplane::pins::Pins;
use crate::dataplane::store::MapStore as _;
use crate::dataplane::{affinity, flows};
use crate::observe::ask;
use crate::plan::render::{frontend_text, locality_text};
use crate::plan::tables::Tables;

#[derive(Debug, Default, Serialize)]
struct ServiceRow {
    service: String,
    frontend: String,
    backends: Vec<SocketAddr>,
    /// Backends for clients from outside, if `externalTrafficPolicy: Local` makes them differ.
    local_backends: Vec<SocketAddr>,
    /// `local`: `externalTrafficPolicy: Local`. `source-ranges`: only some sources may use it. `maglev`: clients from outside
    /// choose by a table.
    policy: Vec<&'static str>,
    /// Timeout of session affinity; 0: no session affinity.
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
struct AffinityRow {
    service_name: String,
    /// Missing if no table has the backend any more.
    address: Option<SocketAddr>,
    #[serde(flatten)]
    entry: affinity::AffinityEntry,
}

/// Names by service id, from the daemon. Without a daemon the map is empty and stderr says so, unless a filter needs it.
fn names(args: &GetArgs) -> anyhow::Result<BTreeMap<u32, String>> {
    match ask::services(&args.run_dir.run_dir) {
        Ok(names) => Ok(names),
        Err(error) if args.filter.needs_names() || args.diff => {
            Err(error.context("only a running daemon knows the names of Services"))
        }
        Err(error) => {
            eprintln!(
                "svc-ctl: Services are shown by number, because only a running daemon knows their names: {error:#}"
            );
            Ok(BTreeMap::new())
        }
    }
}

/// The daemon's name for the id, or the id itself.
fn service_name(names: &BTreeMap<u32, String>, id: u32) -> String {
    names.get(&id).cloned().unwrap_or_else(|| format!("#{id}"))
}

pub fn main(args: &GetArgs) -> anyhow::Result<ExitCode> {
    let pins = Pins::existing(&args.pins.pin_dir)?;
    let mut store = BpfStore(Maps::open(&pins)?);
    let filter = &args.filter;
    ensure!(!args.diff || args.what == What::Services, "--diff is for `get services`");
    ensure!(
        !filter.needs_names() || args.what != What::Backends,
        "backends are shared by Services: use --address, or `get services` with --namespace and --name"
    );
    match args.what {
        What::Services => {
            let names = names(args)?;
            let tables = store.dump()?;
            let mut rows = services(&tables, &store.0, &names);
            if !args.diff {
                rows.retain(|(addr, row)| {
                    let backends = ips(row.backends.iter().chain(&row.local_backends));
                    filter.matches(&row.service, backends.chain([*addr]))
                });
            }
            let rows: Vec<ServiceRow> = rows.into_iter().map(|(_, row)| row).collect();
            if args.diff {
                return show_diff(args, &rows);
            }
            show(args, &rows, service_table, NONE_MATCHES)
        }
        What::Backends => {
            let mut rows = backends(&store.dump()?);
            rows.retain(|row| filter.matches("", [row.address.ip()]));
            show(args, &rows, backend_table, NONE_MATCHES)
        }
        What::Flows => {
            let names = names(args)?;
            let row = |flow: flows::Flow| FlowRow { service_name: service_name(&names, flow.service), flow };
            let mut rows: Vec<FlowRow> = flows::list(&pins)?.into_iter().map(row).collect();
            rows.retain(|FlowRow { service_name, flow }| {
                filter
                    .matches(service_name, ips([&flow.from, &flow.to, &flow.becomes_from, &flow.becomes_to]))
            });
            show(args, &rows, flow_table, NONE_MATCHES)
        }
        What::Affinity => {
            let names = names(args)?;
            let tables = store.dump()?;
            let mut rows = affinity_rows(affinity::list(&pins)?, &tables, &names);
            rows.retain(|row| {
                let client = row.entry.client.parse().ok();
                filter.matches(&row.service_name, ips(&row.address).chain(client))
            });
            show(args, &rows, affinity_table, NONE_MATCHES)
        }
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Exit code of `--diff` if anything differs; 1 and 2 are errors of the command itself.
const DIFFERS: u8 = 3;

/// Shows the rows that differ from the wanted side.
fn show_diff(args: &GetArgs, kernel: &[ServiceRow]) -> anyhow::Result<ExitCode> {
    let wanted = ask::wanted_frontends(&args.run_dir.run_dir).context("asking for the wanted frontends")?;
    let mut rows = diff::differences(wanted, kernel);
    rows.retain(|row| {
        let frontend = row.frontend.split('/').next().and_then(|text| text.parse::<SocketAddr>().ok());
        args.filter.matches(&row.service, ips(row.missing.iter().chain(&row.surplus).chain(&frontend)))
    });
    show(args, &rows, diff::table, without_difference(args.filter.is_given()))?;
    Ok(if rows.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) })
}

/// The message if nothing differs, with the extent of the comparison.
const fn without_difference(is_filtered: bool) -> &'static str {
    match is_filtered {
        false => {
            "the kernel has every frontend that the objects want, with the wanted backends and no others (source ranges, session \
             affinity and masquerade are not compared)"
        }
        true => {
            "no frontend that matches the filters is missing, surplus or has other backends than wanted (source ranges, session \
             affinity and masquerade are not compared)"
        }
    }
}

const NONE_MATCHES: &str = "nothing matches the filters";

/// Shows rows. Without any, stderr has a word about that if filters or `--diff` were given.
fn show<T: Serialize>(
    args: &GetArgs,
    rows: &[T],
    table: fn(&[T]) -> Table,
    without_rows: &str,
) -> anyhow::Result<()> {
    if rows.is_empty() && (args.filter.is_given() || args.diff) {
        eprintln!("svc-ctl: {without_rows}");
    }
    match args.output {
        Output::Json => emit(&format!("{}\n", serde_json::to_string_pretty(rows)?)),
        Output::Table => emit(&format!("{}\n", table(rows))),
    }
}

/// Every frontend: its address and its row.
fn services(tables: &Tables, maps: &Maps, names: &BTreeMap<u32, String>) -> Vec<(IpAddr, ServiceRow)> {
    let addresses = |extent: Extent| -> Vec<SocketAddr> {
        let ids = tables.extents.get(&extent).map_or(&[][..], |set| set);
        ids.iter().filter_map(|id| tables.backends.get(id)).map(|b| (b.addr, b.port).into()).collect()
    };
    tables
        .frontends
        .iter()
        .map(|(frontend, entry)| {
            let counters = maps.service(entry.service);
            let bits = [
                (entry.flags.has(FrontendFlags::LOCAL_ONLY), "local"),
                (entry.flags.has(FrontendFlags::SOURCE_RANGES), "source-ranges"),
                (entry.maglev.count != 0, "maglev"),
            ];
            let row = ServiceRow {
                service: service_name(names, entry.service.0),
                frontend: frontend_text(frontend),
                backends: addresses(entry.cluster),
                local_backends: addresses(entry.local),
                policy: bits.iter().filter(|(is_set, _)| *is_set).map(|(_, word)| *word).collect(),
                affinity_seconds: entry.affinity,
                flows: counters.flows,
                packets: counters.packets,
                bytes: counters.bytes,
            };
            (frontend.addr, row)
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

fn affinity_rows(
    list: Vec<affinity::AffinityEntry>,
    tables: &Tables,
    names: &BTreeMap<u32, String>,
) -> Vec<AffinityRow> {
    let row = |entry: affinity::AffinityEntry| AffinityRow {
        service_name: service_name(names, entry.service),
        address: tables.backends.get(&BackendId(entry.backend)).map(|b| (b.addr, b.port).into()),
        entry,
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
    let mut table = plain_table(&[
        "SERVICE",
        "FRONTEND",
        "BACKENDS",
        "LOCAL BACKENDS",
        "POLICY",
        "FLOWS",
        "PACKETS",
        "BYTES",
    ]);
    for r in rows {
        table.add_row([
            r.service.clone(),
            r.frontend.clone(),
            list(&r.backends),
            list(&r.local_backends),
            if r.policy.is_empty() { "-".to_owned() } else { r.policy.join(",") },
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
        plain_table(&["DIRECTION", "PROTO", "PACKET", "BECOMES", "AT", "EXIT", "STATE", "AGE", "SERVICE"]);
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
            r.exit.to_owned(),
            r.state.clone(),
            format!("{}/{}", r.age, r.lifetime),
            row.service_name.clone(),
        ]);
    }
    table
}

fn affinity_table(rows: &[AffinityRow]) -> Table {
    let mut table = plain_table(&["SERVICE", "CLIENT", "BACKEND", "FOR"]);
    for r in rows {
        table.add_row([
            r.service_name.clone(),
            r.entry.client.clone(),
            r.address.map_or_else(|| format!("#{}", r.entry.backend), |a| a.to_string()),
            format!("{} s", r.entry.seconds_left),
        ]);
    }
    table
}
