//! Runs the groups in all networks at once, and returns every row's results.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use anyhow::{Context as _, Result, anyhow};

use super::group::Group;
use super::hosts;
use super::outcome::Outcome;
use super::plane::Plane;
use super::row::{self, Row};
use super::service::Service;
use super::settings::Settings;
use super::side::{Datapath, Side};
use crate::topology::Family;

/// Results of a row.
#[derive(Clone, Debug)]
pub struct RowResults {
    pub kube_proxy: Outcome,
    pub svc: Outcome,
    /// With svc's own settings, if the row has an expectation for that.
    pub by_default: Option<Outcome>,
}

/// A row may differ once by chance: a server was never selected, or a client's port has a flow of the step before. Such a
/// row is repeated this many times, and must be as expected each time. A fault of every other request does not pass by
/// being repeated.
const REPEATS: usize = 4;

/// Results by the rows' names.
pub fn play(groups: &[Group], rows: &[Row]) -> Result<BTreeMap<String, RowResults>> {
    let mut plane = Plane::start()?;
    let mut sides = on_all(&Datapath::ALL, |datapath| Side::new(*datapath, &plane))?;
    let first = sides.first().context("no side")?;
    plane.introduce(first.nodes())?;
    let mut all = BTreeMap::new();
    for settings in rows.iter().map(|row| row.settings).collect::<BTreeSet<_>>() {
        let groups: Vec<_> = groups.iter().filter(|group| group.settings == settings).collect();
        let rows: Vec<_> = rows.iter().filter(|row| row.settings == settings).collect();
        all.extend(round(&mut plane, &mut sides, settings, &groups, &rows)?);
    }
    Ok(all)
}

/// All steps of the groups with the same settings.
fn round(
    plane: &mut Plane,
    sides: &mut [Side],
    settings: Settings,
    groups: &[&Group],
    rows: &[&Row],
) -> Result<BTreeMap<String, RowResults>> {
    let last = rows.iter().map(|row| row.step).max().unwrap_or(0);
    // A network without rows need not be started.
    let count = sides.iter().take_while(|side| rows.iter().any(|row| side.datapath.plays(row))).count();
    let sides = sides.get_mut(..count).unwrap_or_default();
    let mut all = BTreeMap::new();
    for step in 0..=last {
        let places = sides.first().context("no side")?.places.clone();
        plane.set(&services(groups, step), &places)?;
        let marker = format!("marker-{}-{step}", settings.number());
        plane.set(&[(marker.clone(), Some(Service::marker("a1")))], &places)?;
        let at = Family::BOTH.map(|family| plane.cluster_ip(&marker, family).map(|ip| (ip, 80).into()));
        let at = at.into_iter().collect::<Result<Vec<_>>>()?;
        on_all_mut(sides, |side| {
            hosts::hold(&side.nodes()[0], &plane.held)?;
            if step == 0 {
                side.start(plane, settings)?;
            }
            side.await_service(&at)
        })?;
        let rows: Vec<_> = rows.iter().filter(|row| row.step == step).copied().collect();
        all.extend(meet(plane, sides, &rows)?);
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

fn meet(plane: &Plane, sides: &[Side], rows: &[&Row]) -> Result<BTreeMap<String, RowResults>> {
    let mut all = BTreeMap::new();
    let mut left = rows.to_vec();
    for repeat in 0..=REPEATS {
        let mut outcomes = on_all(sides, |side| {
            let rows: Vec<_> = left.iter().filter(|row| side.datapath.plays(row)).copied().collect();
            Ok(rows
                .iter()
                .map(|row| row.name.clone())
                .zip(side.meet(plane, &rows)?)
                .collect::<BTreeMap<_, _>>())
        })?
        .into_iter();
        let (kube_proxy, svc, by_default) = (outcomes.next(), outcomes.next(), outcomes.next());
        let of = |side: &Option<BTreeMap<_, _>>, row: &Row| side.as_ref()?.get(&row.name).cloned();
        let met = left.iter().map(|row| {
            let met = RowResults {
                kube_proxy: of(&kube_proxy, row).context("kube-proxy has not played it")?,
                svc: of(&svc, row).context("svc has not played it")?,
                by_default: of(&by_default, row),
            };
            Ok((*row, met))
        });
        let met = met.collect::<Result<Vec<_>>>()?;
        // After the first time, a row that differs has failed.
        let is_repeated = |(row, met): &&(&Row, RowResults)| met.is_plain(row) == (repeat > 0);
        left = met.iter().filter(is_repeated).map(|(row, _)| *row).collect();
        eprintln!("repeat {repeat}: {} rows, {} to be repeated", met.len(), left.len());
        all.extend(met.into_iter().map(|(row, met)| (row.name.clone(), met)));
        if left.is_empty() {
            break;
        }
    }
    Ok(all)
}

impl RowResults {
    /// As expected, in all networks.
    pub fn is_plain(&self, row: &Row) -> bool {
        self.svc == self.kube_proxy
            && row.expected.as_ref().is_none_or(|expected| self.kube_proxy == *expected)
            && self.by_default == row.by_default
    }
}

fn on_all<S: Sync, T: Send>(sides: &[S], act: impl Fn(&S) -> Result<T> + Sync) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let threads: Vec<_> = sides.iter().map(|side| scope.spawn(|| act(side))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a side panicked"))?).collect()
    })
}

fn on_all_mut<S: Send>(sides: &mut [S], act: impl Fn(&mut S) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = sides.iter_mut().map(|side| scope.spawn(|| act(side))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a side panicked"))?)
    })
}
