//! kube-proxy as a witness: compares clients' results with svc and with kube-proxy, row by row.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use svc_tests::witness::{self, Deviations, Group, Row, RowOutcome, RowResults};
use svc_tests::{agent, cleanup};

/// Seed of the random worlds.
const SEED_ENV: &str = "SVC_WITNESS_SEED";
const SEED: u64 = 1;

fn main() -> ExitCode {
    agent::maybe_run();
    let arguments = Arguments::from_args();
    if !arguments.list {
        cleanup::sweep();
    }
    match trials(&arguments) {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The results of all rows, computed when the first trial needs them.
struct Play {
    groups: Vec<Group>,
    rows: Vec<Row>,
    deviations: Deviations,
    met: OnceLock<Result<BTreeMap<String, RowResults>, String>>,
}

fn trials(arguments: &Arguments) -> Result<Vec<Trial>> {
    let mut groups = Group::load_all(&witness::folder().join("groups"))?;
    let seed = std::env::var(SEED_ENV).ok().map_or(Ok(SEED), |seed| seed.parse())?;
    eprintln!("the random worlds have {SEED_ENV}={seed}");
    groups.extend(witness::random_groups(seed));
    let deviations = Deviations::load(&witness::folder().join("deviations.yaml"))?;
    let mut rows: Vec<Row> = groups.iter().flat_map(Group::rows).collect();
    let idle = deviations.idle(&rows);
    // Rows that the filter excludes are not run.
    let filter = arguments.filter.as_ref();
    let is_wanted = |name: &str| filter.is_none_or(|filter| name.contains(filter));
    rows.retain(|row| is_wanted(&row.name) || row.name_by_default().is_some_and(|name| is_wanted(&name)));
    let play = Arc::new(Play { groups, rows, deviations, met: OnceLock::new() });
    let trial = |row: &Row| {
        let (play, row) = (Arc::clone(&play), row.clone());
        Trial::test(row.name.clone(), move || judge(&play, &row))
    };
    let trial_by_default = |row: &Row| {
        let (play, row) = (Arc::clone(&play), row.clone());
        Some(Trial::test(row.name_by_default()?, move || judge_default(&play, &row)))
    };
    let mut trials: Vec<_> = play.rows.iter().map(trial).collect();
    trials.extend(play.rows.iter().filter_map(trial_by_default));
    trials.push(Trial::test("every listed deviation from kube-proxy is about some row", move || {
        if idle.is_empty() { Ok(()) } else { Err(idle.join("\n").into()) }
    }));
    if filter.is_none() {
        trials.push(Trial::test("clients are answered, refused and left alone often enough", move || {
            vary(&play.rows.iter().map(|row| play.met(row)).collect::<Result<Vec<_>, _>>()?)
        }));
    }
    Ok(trials)
}

impl Play {
    /// Results of a row.
    fn met(&self, row: &Row) -> Result<&RowResults, Failed> {
        let played = self.met.get_or_init(|| {
            witness::play(&self.groups, &self.rows)
                .map_err(|error| format!("the play ended early: {error:#}"))
        });
        Ok(played.as_ref()?.get(&row.name).ok_or("the row was not played")?)
    }
}

/// kube-proxy's result agrees with the row, and svc's with the row or with its deviation.
fn judge(play: &Play, row: &Row) -> Result<(), Failed> {
    let met = play.met(row)?;
    let complain = |what: &str| {
        let RowResults { kube_proxy, svc, .. } = met;
        let definition = &row.definition;
        Err(Failed::from(format!("{what}\nkube-proxy: {kube_proxy}\nsvc:        {svc}\n{definition}")))
    };
    if row.expected.as_ref().is_some_and(|expected| met.kube_proxy != *expected) {
        return complain("kube-proxy does something else than the row says");
    }
    match play.deviations.of(row) {
        None if met.svc != met.kube_proxy => complain("svc does something else than kube-proxy"),
        None => Ok(()),
        Some(_) if met.svc == met.kube_proxy => complain("a deviation is listed, and there is none"),
        Some(deviation) if met.svc != deviation.outcome()? => {
            complain(&format!("svc does something else than the listed {}", deviation.svc))
        }
        Some(_) => Ok(()),
    }
}

/// Two networks with the same defect would agree.
fn vary(all: &[&RowResults]) -> Result<(), Failed> {
    let count = |is_so: fn(&RowOutcome) -> bool| all.iter().filter(|met| is_so(&met.kube_proxy)).count();
    let answered = count(RowOutcome::is_answered);
    let (refused, silent) = (count(RowOutcome::is_refused), count(RowOutcome::is_silent));
    let counted =
        format!("of {} rows {answered} are answered, {refused} refused, {silent} silent", all.len());
    eprintln!("{counted}");
    if answered > 1000 && refused > 100 && silent > 100 { Ok(()) } else { Err(counted.into()) }
}

/// With svc's own settings, the result agrees with the row's.
fn judge_default(play: &Play, row: &Row) -> Result<(), Failed> {
    let met = play.met(row)?;
    if met.by_default == row.by_default {
        return Ok(());
    }
    let outcome = met.by_default.as_ref().map(ToString::to_string).unwrap_or_default();
    Err(format!(
        "svc by default does something else than the row says\nkube-proxy: {}\nsvc:        {outcome}\n{}",
        met.kube_proxy, row.definition
    )
    .into())
}
