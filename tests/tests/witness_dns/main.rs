//! CoreDNS as a witness: every name of a world, every type, by UDP and TCP, with and without EDNS. svc's name server
//! answers the same, except for the deviations in `docs/dns.md`; one that never occurs is an error.
//!
//! CoreDNS is `SVC_COREDNS`, or `coredns` below `SVC_CLUSTER_BIN`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use libtest_mimic::{Arguments, Failed, Trial};
use svc_tests::names::ask::{Transport, ask};
use svc_tests::names::coredns::CoreDns;
use svc_tests::names::deviations::{ALL, Verdict, explain};
use svc_tests::names::objects::Manifests;
use svc_tests::names::questions::{TYPES, names};
use svc_tests::names::random::{KNOWN, manifests};
use svc_tests::names::svc_dns::SvcDns;
use svc_tests::witness;

/// Seed of the random worlds.
const SEED_ENV: &str = "SVC_WITNESS_SEED";
const RANDOM_WORLDS: u64 = 8;
/// Number of differences that are shown, by name and type.
const SHOWN: usize = 20;
/// EDNS of the queries: none, or the payload size of most resolvers.
const PAYLOADS: [Option<u16>; 2] = [None, Some(1232)];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    match trials(&arguments) {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn trials(arguments: &Arguments) -> Result<Vec<Trial>> {
    let mut worlds = written()?;
    let seed = std::env::var(SEED_ENV).ok().map_or(Ok(1), |seed| seed.parse::<u64>())?;
    eprintln!("the random worlds have {SEED_ENV}={seed}");
    worlds.extend((0..RANDOM_WORLDS).map(|n| (format!("random {n}"), manifests(seed * 1000 + n))));
    let title = |name: &str| format!("svc names {name} as CoreDNS does (SEM-320 to SEM-328)");
    let (mut trials, mut shown) = (Vec::new(), BTreeSet::new());
    for (name, manifests) in worlds {
        let result = match arguments.list {
            true => Ok(()),
            false => compare(&manifests, &mut shown).map_err(|error| format!("{error:#}")),
        };
        trials.push(Trial::test(title(&name), move || result.map_err(Failed::from)));
    }
    let idle: Vec<&str> = ALL.into_iter().filter(|name| !shown.contains(name)).collect();
    let every = move || match idle.is_empty() {
        true => Ok(()),
        false => Err(Failed::from(format!("no question shows: {idle:?}"))),
    };
    trials.push(Trial::test("every deviation from CoreDNS shows", every));
    Ok(trials)
}

/// The worlds of `tests/witness/names`.
fn written() -> Result<Vec<(String, Manifests)>> {
    let folder = witness::folder().join("names");
    let mut worlds = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        worlds.push((name, Manifests::parse(&text).with_context(|| path.display().to_string())?));
    }
    worlds.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(worlds)
}

fn coredns() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("SVC_COREDNS") {
        return Ok(given.into());
    }
    let folder =
        std::env::var_os("SVC_CLUSTER_BIN").context("neither SVC_COREDNS nor SVC_CLUSTER_BIN is set")?;
    Ok(PathBuf::from(folder).join("coredns"))
}

fn compare(manifests: &Manifests, shown: &mut BTreeSet<&'static str>) -> Result<()> {
    let svc_dns = SvcDns::start(manifests.world())?;
    let theirs = CoreDns::start(&coredns()?, manifests.api_store()?, "", KNOWN)?;
    let (mut asked, mut differences) = (0, BTreeMap::new());
    for name in names(manifests) {
        for record_type in TYPES {
            for (by, payload) in
                [Transport::Udp, Transport::Tcp].into_iter().flat_map(|by| PAYLOADS.map(|p| (by, p)))
            {
                asked += 1;
                let theirs = ask(theirs.address, &name, record_type, by, payload)
                    .with_context(|| format!("CoreDNS: {name} {record_type}"))?;
                let svc_dns = ask(svc_dns.address, &name, record_type, by, payload)
                    .with_context(|| format!("svc: {name} {record_type}"))?;
                match explain(&name, record_type, &theirs, &svc_dns) {
                    Verdict::Equal => {}
                    Verdict::Deviates(deviation) => drop(shown.insert(deviation)),
                    Verdict::Differs => {
                        let text = format!("{by:?} {payload:?}\n  CoreDNS {theirs:?}\n  svc     {svc_dns:?}");
                        differences.entry(format!("{name} {record_type}")).or_insert(text);
                    }
                }
            }
        }
    }
    eprintln!("{asked} questions");
    let first: Vec<String> =
        differences.iter().take(SHOWN).map(|(question, text)| format!("{question} {text}")).collect();
    anyhow::ensure!(
        differences.is_empty(),
        "{} names and types of {asked} questions differ:\n{}",
        differences.len(),
        first.join("\n")
    );
    Ok(())
}
