//! An adversary: its disturbance of the nodes, and the failures that clients may see.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::Report;
use svc_tests::daemon::Flags;
use svc_tests::testbed::Testbed;
use svc_tests::topology::Options;

use crate::streams::{self, Stream};
use crate::table::{Line, Table};

/// Disturbs the nodes for that long, and then restores them.
pub type Disturbance = fn(&mut Testbed, Duration) -> Result<()>;

#[derive(Clone, Copy, Debug)]
pub struct Adversary {
    pub name: &'static str,
    /// The part of the network that the disturbance itself cuts. Meanwhile new connections and datagrams may fail. Open
    /// connections must outlive it.
    pub cuts: Option<&'static str>,
    pub disturbance: Disturbance,
}

impl Adversary {
    pub fn trial(self, length: Duration, table: &Arc<Mutex<Table>>) -> Trial {
        let table = Arc::clone(table);
        Trial::test(self.name, move || {
            let short: String = self.name.split(' ').filter_map(|word| word.chars().next()).collect();
            let mut testbed = testbed_of(&short).map_err(|error| format!("no testbed: {error:#}"))?;
            let line = self.play(&mut testbed, length);
            let line = line.map_err(|error| format!("{error:#}\n{}", testbed.world.diagnosis()))?;
            table.lock().unwrap_or_else(PoisonError::into_inner).insert(self.name, line);
            Ok(())
        })
    }

    fn play(self, testbed: &mut Testbed, length: Duration) -> Result<Line> {
        let mut streams = streams::start(testbed)?;
        streams.iter().try_for_each(Stream::goes_on).context("before")?;
        streams.iter_mut().try_for_each(Stream::begin)?;
        (self.disturbance)(testbed, length).context("the adversary")?;
        let ended = Instant::now();
        let answers: Vec<u64> = streams.iter().map(Stream::answers).collect::<Result<_>>()?;
        streams.iter().zip(answers).try_for_each(|(stream, answers)| stream.heals(answers))?;
        let healed = ended.elapsed();
        let reports: Vec<Report> = streams.iter().map(Stream::report).collect::<Result<_>>()?;
        let mut wrong = String::new();
        for (stream, report) in streams.iter().zip(&reports) {
            let may_fail = self.cuts.is_some() && !stream.is_connection();
            if let (false, Err(error)) = (may_fail, stream.has_no_failure(report)) {
                writeln!(wrong, "{error:#}")?;
            }
        }
        ensure!(wrong.is_empty(), "{wrong}");
        streams.iter().try_for_each(Stream::goes_on).context("afterwards")?;
        let report = reports.into_iter().fold(Report::default(), Report::and);
        Ok(Line { report, cuts: self.cuts, healed })
    }
}

/// The usual hosts without a CNI's masquerade. Service `web` has two endpoints, Service `steady` one; pod `spare` on node1 has no part in them.
fn testbed_of(test: &str) -> Result<Testbed> {
    let mut testbed = Testbed::without_svc(test, Options::default())?;
    testbed.world.topology.node_mut(1).add_pod("spare")?;
    testbed.world.end_cni_masquerade()?;
    testbed.set_backends(&["near", "far"])?;
    streams::add_steady(&testbed)?;
    testbed.world.start(Flags::default())?;
    Ok(testbed)
}
