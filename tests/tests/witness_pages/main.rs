//! The pages of kube-proxy and of svc on one cluster: every metric by name, every endpoint by the forms that clients
//! accept. `tests/PAGES.md` is written from the answers.

mod endpoints;
mod metrics;
mod page;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use svc_tests::witness::pages::{Pages, Request};
use svc_tests::{agent, cleanup, wait};

use crate::endpoints::{CASES, METRICS, judge};

const PAGE: Request = Request { port: METRICS, path: "/metrics", accept: None };
/// A metric that has series only after a slice with the time of its change.
const PROGRAMMED: &str = "kubeproxy_network_programming_duration_seconds_count";
const LIMIT: Duration = Duration::from_secs(30);

/// Both proxies, started by the first case that asks them.
#[derive(Clone, Default)]
struct Fixture(Arc<OnceLock<Result<Pages, String>>>);

impl Fixture {
    fn pages(&self) -> Result<&Pages, Failed> {
        let started = self.0.get_or_init(|| start().map_err(|error| format!("{error:#}")));
        Ok(started.as_ref()?)
    }

    fn case(&self, name: String, act: impl Fn(&Pages) -> Result<()> + Send + 'static) -> Trial {
        let fixture = self.clone();
        Trial::test(name, move || Ok(act(fixture.pages()?)?))
    }
}

fn main() -> ExitCode {
    agent::maybe_run();
    let mut arguments = Arguments::from_args();
    // The proxies end with the last case.
    arguments.test_threads = Some(1);
    if !arguments.list {
        cleanup::sweep();
    }
    libtest_mimic::run(&arguments, trials()).exit_code()
}

fn trials() -> Vec<Trial> {
    let fixture = Fixture::default();
    let endpoint = |case: &'static endpoints::Case| {
        let Request { port, path, accept } = case.request;
        let accept = accept.map(|accept| format!(" for {accept}")).unwrap_or_default();
        let name = format!("{path} at port {port}{accept} is answered as by kube-proxy (SEM-217, SEM-218)");
        fixture.case(name, move |pages| judge(pages, case))
    };
    let mut trials: Vec<_> = CASES.iter().map(endpoint).collect();
    let name = "every metric of kube-proxy is there with its type, labels and classes, or docs/metrics.md has the reason";
    trials.push(fixture.case(name.to_owned(), |pages| rows(pages).map(drop)));
    let name = "tests/PAGES.md has the responses of both";
    trials.push(fixture.case(name.to_owned(), |pages| page::check(pages, &rows(pages)?)));
    trials
}

fn start() -> Result<Pages> {
    let pages = Pages::start()?;
    pages.remove_endpoints()?;
    wait::until_true("both count how long the change took", LIMIT, || {
        let answers = pages.ask(PAGE)?;
        for (name, page) in [("kube-proxy", answers.kube_proxy), ("svc", answers.svc)] {
            let is_counted = |line: &str| line.starts_with(PROGRAMMED) && !line.ends_with(" 0");
            ensure!(page.body.lines().any(is_counted), "{name} has not counted it");
        }
        Ok(true)
    })?;
    // Answers are counted too.
    for path in ["/healthz", "/livez"] {
        pages.ask(Request { port: 10256, path, accept: None })?;
    }
    Ok(pages)
}

fn rows(pages: &Pages) -> Result<Vec<metrics::Row>> {
    let answers = pages.ask(PAGE)?;
    metrics::compare(&answers.kube_proxy.body, &answers.svc.body)
}
