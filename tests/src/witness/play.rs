//! Runs the groups in all networks at once, and returns every row's results.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use anyhow::{Context as _, Result, anyhow};

use super::api_server::ApiServer;
use super::group::Group;
use super::hosts;
use super::network::{Datapath, ProxyNetwork};
use super::outcome::RowOutcome;
use super::row::{self, Row};
use super::service::Service;
use super::settings::Settings;
use crate::topology::Family;

/// Results of a row.
#[derive(Clone, Debug)]
pub struct RowResults {
    pub kube_proxy: RowOutcome,
    pub svc: RowOutcome,
    /// With svc's own settings, if the row has an expectation for that.
    pub by_default: Option<RowOutcome>,
}

/// On a busy machine an answer may come too late. A row that differs by that alone is played again this many times, and
/// must be as expected each time: in 80 requests a fault that drops one of 25 is missed once in 26 times. Another server,
/// another source, a refusal or an answer in the place of silence is never played again.
const REPEATS: usize = 4;

/// Results by the rows' names.
pub fn play(groups: &[Group], rows: &[Row]) -> Result<BTreeMap<String, RowResults>> {
    let mut api_server = ApiServer::start()?;
    let mut networks = on_all(&Datapath::ALL, |datapath| ProxyNetwork::new(*datapath, &api_server))?;
    let first = networks.first().context("no network")?;
    api_server.introduce(first.nodes())?;
    let mut all = BTreeMap::new();
    for settings in rows.iter().map(|row| row.settings).collect::<BTreeSet<_>>() {
        let groups: Vec<_> = groups.iter().filter(|group| group.settings == settings).collect();
        let rows: Vec<_> = rows.iter().filter(|row| row.settings == settings).collect();
        all.extend(round(&mut api_server, &mut networks, settings, &groups, &rows)?);
    }
    Ok(all)
}

/// All steps of the groups with the same settings.
fn round(
    api_server: &mut ApiServer,
    networks: &mut [ProxyNetwork],
    settings: Settings,
    groups: &[&Group],
    rows: &[&Row],
) -> Result<BTreeMap<String, RowResults>> {
    let last = rows.iter().map(|row| row.step).max().unwrap_or(0);
    // A network without rows need not be started.
    let count =
        networks.iter().take_while(|network| rows.iter().any(|row| network.datapath.plays(row))).count();
    let networks = networks.get_mut(..count).unwrap_or_default();
    let mut all = BTreeMap::new();
    for step in 0..=last {
        let places = networks.first().context("no network")?.places.clone();
        api_server.set(&services(groups, step), &places)?;
        let marker = format!("marker-{}-{step}", settings.number());
        api_server.set(&[(marker.clone(), Some(Service::marker("a1")))], &places)?;
        let at = Family::BOTH.map(|family| api_server.cluster_ip(&marker, family).map(|ip| (ip, 80).into()));
        let at = at.into_iter().collect::<Result<Vec<_>>>()?;
        on_all_mut(networks, |network| {
            hosts::hold(&network.nodes()[0], &api_server.held)?;
            if step == 0 {
                network.start(api_server, settings)?;
            }
            network.await_service(&at)
        })?;
        let rows: Vec<_> = rows.iter().filter(|row| row.step == step).copied().collect();
        all.extend(meet(api_server, networks, &rows)?);
    }
    Ok(all)
}

/// The Services of one step.
fn services(groups: &[&Group], step: usize) -> Vec<(String, Option<Service>)> {
    let of_group = |group: &&Group| -> Vec<_> {
        let services = group.steps.get(step).into_iter().flat_map(|step| &step.services);
        services.map(|(name, service)| (row::object_name(&group.name, name), service.clone())).collect()
    };
    groups.iter().flat_map(of_group).collect()
}

/// All networks play the rows at once. A row has so many attempts that chance does not decide ([`super::group`]), and each
/// attempt has a source port of its own.
fn meet(
    api_server: &ApiServer,
    networks: &[ProxyNetwork],
    rows: &[&Row],
) -> Result<BTreeMap<String, RowResults>> {
    let mut all = BTreeMap::new();
    let mut left = rows.to_vec();
    for repeat in 0..=REPEATS {
        let met = meet_once(api_server, networks, &left)?;
        // After the first time, a row that differs has failed.
        let is_repeated = |(row, met): &&(&Row, RowResults)| match repeat {
            0 => met.differs_by_silence(row),
            _ => met.is_plain(row),
        };
        left = met.iter().filter(is_repeated).map(|(row, _)| *row).collect();
        all.extend(met.into_iter().map(|(row, met)| (row.name.clone(), met)));
        if left.is_empty() {
            break;
        }
        let names: Vec<_> = left.iter().map(|row| row.name.as_str()).collect();
        eprintln!("played again: {}", names.join("; "));
    }
    Ok(all)
}

fn meet_once<'r>(
    api_server: &ApiServer,
    networks: &[ProxyNetwork],
    rows: &[&'r Row],
) -> Result<Vec<(&'r Row, RowResults)>> {
    let mut outcomes = on_all(networks, |network| {
        let rows: Vec<_> = rows.iter().filter(|row| network.datapath.plays(row)).copied().collect();
        let outcomes = network.meet(api_server, &rows)?;
        Ok(rows.iter().map(|row| row.name.clone()).zip(outcomes).collect::<BTreeMap<_, _>>())
    })?
    .into_iter();
    let (kube_proxy, svc, by_default) = (outcomes.next(), outcomes.next(), outcomes.next());
    let of = |network: &Option<BTreeMap<_, _>>, row: &Row| network.as_ref()?.get(&row.name).cloned();
    let met = |row: &&'r Row| {
        let met = RowResults {
            kube_proxy: of(&kube_proxy, row).context("kube-proxy has not played it")?,
            svc: of(&svc, row).context("svc has not played it")?,
            by_default: of(&by_default, row),
        };
        Ok((*row, met))
    };
    rows.iter().map(met).collect()
}

impl RowResults {
    /// As expected, in all networks.
    fn is_plain(&self, row: &Row) -> bool {
        self.is_like(row, RowOutcome::clone)
    }

    /// As expected, but for attempts without an answer beside those with one.
    fn differs_by_silence(&self, row: &Row) -> bool {
        !self.is_plain(row) && self.is_like(row, RowOutcome::heard)
    }

    fn is_like(&self, row: &Row, part: fn(&RowOutcome) -> RowOutcome) -> bool {
        let kube_proxy = part(&self.kube_proxy);
        part(&self.svc) == kube_proxy
            && row.expected.as_ref().is_none_or(|expected| kube_proxy == part(expected))
            && self.by_default.as_ref().map(part) == row.by_default.as_ref().map(part)
    }
}

fn on_all<S: Sync, T: Send>(networks: &[S], act: impl Fn(&S) -> Result<T> + Sync) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let threads: Vec<_> = networks.iter().map(|network| scope.spawn(|| act(network))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a network panicked"))?).collect()
    })
}

fn on_all_mut<S: Send>(networks: &mut [S], act: impl Fn(&mut S) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = networks.iter_mut().map(|network| scope.spawn(|| act(network))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a network panicked"))?)
    })
}
