//! Plays the groups on all sides at once, and says what every row's client has met on each.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use anyhow::{Context as _, Result, anyhow};

use super::ground;
use super::group::Group;
use super::outcome::Outcome;
use super::plane::Plane;
use super::row::{self, Row};
use super::service::Service;
use super::settings::Settings;
use super::side::{Datapath, Side};
use crate::topology::Family;

/// What came of a row.
#[derive(Clone, Debug)]
pub struct Met {
    pub kube_proxy: Outcome,
    pub svc: Outcome,
    /// With its own settings, if the row says what that should be.
    pub by_default: Option<Outcome>,
}

/// A difference that is gone when it is looked at again was chance: a packet lost on a busy machine, a server that was
/// not drawn.
const LOOKS: usize = 3;

/// By the rows' names.
pub fn play(groups: &[Group], rows: &[Row]) -> Result<BTreeMap<String, Met>> {
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

/// All steps of the groups that have the same settings.
fn round(
    plane: &mut Plane,
    sides: &mut [Side],
    settings: Settings,
    groups: &[&Group],
    rows: &[&Row],
) -> Result<BTreeMap<String, Met>> {
    let last = rows.iter().map(|row| row.step).max().unwrap_or(0);
    // Who plays nothing need not be there.
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
            ground::hold(&side.nodes()[0], &plane.held)?;
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

/// Of one step.
fn services(groups: &[&Group], step: usize) -> Vec<(String, Option<Service>)> {
    let of_group = |group: &&Group| -> Vec<_> {
        let services = group.steps.get(step).into_iter().flat_map(|step| &step.services);
        services.map(|(name, service)| (row::object_name(&group.name, name), service.clone())).collect()
    };
    groups.iter().flat_map(of_group).collect()
}

fn meet(plane: &Plane, sides: &[Side], rows: &[&Row]) -> Result<BTreeMap<String, Met>> {
    let mut all = BTreeMap::new();
    let mut left = rows.to_vec();
    for look in 1..=LOOKS {
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
            let met = Met {
                kube_proxy: of(&kube_proxy, row).context("kube-proxy has not played it")?,
                svc: of(&svc, row).context("svc has not played it")?,
                by_default: of(&by_default, row),
            };
            Ok((*row, met))
        });
        let met = met.collect::<Result<Vec<_>>>()?;
        left = met.iter().filter(|(row, met)| !met.is_plain(row)).map(|(row, _)| *row).collect();
        eprintln!("look {look}: {} rows, {} to look at again", met.len(), left.len());
        all.extend(met.into_iter().map(|(row, met)| (row.name.clone(), met)));
        if left.is_empty() {
            break;
        }
    }
    Ok(all)
}

impl Met {
    /// As was expected, on all sides.
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
