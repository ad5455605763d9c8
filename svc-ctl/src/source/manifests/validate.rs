//! Checks a folder without serving it. Each finding has a file and a line.

use std::collections::BTreeMap;
use std::path::Path;

use ipnet::IpNet;

use super::Manifests;
use super::given::Given;
use super::health::Health;
use super::health::probe::refused_probes;
use super::lines::Lines;
use super::world::World;
use crate::dns::complaints::circles;
use crate::dns::zone::{Zone, ZoneSettings};
use crate::model::complaint::Complaint;
use crate::model::store::Store;

/// A fault and its place.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Finding {
    pub file: String,
    /// Counts from one; 0 is the file as a whole.
    pub line: usize,
    /// Kind, namespace and name; empty where there is no object yet.
    pub object: String,
    pub field: String,
    pub reason: String,
    /// A part of the file has no effect here.
    pub is_harmless: bool,
}

/// Settings that decide whether a file is valid.
#[derive(Clone, Debug)]
pub struct Rules {
    pub service_cidrs: Vec<IpNet>,
    pub zone: ZoneSettings,
}

/// All faults of a folder or a file, and of its objects together.
pub fn validate(path: &Path, rules: &Rules) -> anyhow::Result<Vec<Finding>> {
    let mut manifests =
        Manifests::open(path)?.with_service_cidrs(rules.service_cidrs.clone()).with_bad_files();
    manifests.read(&Default::default());
    let texts = manifests.texts();
    let lines: BTreeMap<&str, Lines<'_>> =
        texts.iter().map(|(file, text)| (file.as_str(), Lines::of(text))).collect();
    let (found, faults) = manifests.files().found();
    let line = |file: &str, document: usize, field: &str| match document {
        0 => 0,
        _ => lines.get(file).map_or(0, |lines| lines.line(document, field)),
    };
    let mut findings: Vec<Finding> = Vec::new();
    for fault in &faults {
        let error = &fault.error;
        findings.push(Finding {
            file: fault.file.to_owned(),
            line: error.line.unwrap_or_else(|| line(fault.file, error.document, &error.field)),
            object: error.object.clone(),
            field: error.field.clone(),
            reason: error.reason.clone(),
            is_harmless: fault.is_harmless,
        });
    }
    let places: BTreeMap<String, _> =
        found.iter().map(|(file, found)| (found.name(), (*file, *found))).collect();
    let objects: Vec<_> = found.iter().map(|(_, found)| &found.object).collect();
    let mut complaints = refused_probes(objects.iter().filter_map(|object| object.as_pod()));
    let mut world = World::with_health(&objects, &Health::default());
    complaints.extend(world.conflicts());
    complaints.extend(world.assign(&rules.service_cidrs, &mut Given::default()));
    complaints.extend(complaints_of_model(&world, &rules.zone));
    for Complaint { object, field, reason, .. } in complaints {
        let Some((file, found)) = places.get(&object) else {
            // An object that the folder does not write, such as a slice made of Pods: its object is named.
            findings.push(Finding {
                file: String::new(),
                line: 0,
                object,
                field,
                reason,
                is_harmless: false,
            });
            continue;
        };
        let line = line(file, found.document, &format!("{}{field}", found.prefix));
        findings.push(Finding { file: (*file).to_owned(), line, object, field, reason, is_harmless: false });
    }
    findings.sort_unstable();
    findings.dedup();
    Ok(findings)
}

/// The daemon's complaints, and aliases that lead in a circle.
fn complaints_of_model(world: &World, zone: &ZoneSettings) -> Vec<Complaint> {
    let mut store = Store::new("").with_names();
    world.list().into_iter().for_each(|event| store.take(event));
    let complaints = store.take_complaints().into_iter().flat_map(|(_, complaints)| complaints);
    let mut zone = Zone::new(zone.clone());
    zone.set_world(store.world(), 0);
    complaints.chain(circles(&zone)).collect()
}
