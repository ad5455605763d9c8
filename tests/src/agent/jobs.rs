//! Background jobs of an agent: requests at a rate, or one long connection.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::bulk;
use super::protocol::{Answer, MOST_MOMENTS, Moment, NamedServer, Report, Via};
use super::request::{self, Datagrams};
use super::resolve::resolve;

const BULKS_PER_SECOND: u32 = 100;

#[derive(Default)]
pub(super) struct Jobs(Vec<Job>);

struct Job {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Default)]
struct State {
    stop: bool,
    report: Report,
    last_answer: Option<Instant>,
}

impl Jobs {
    pub(super) fn load(&mut self, via: Via, to: SocketAddr, per_second: u32) -> usize {
        self.start(per_second, move |_| request::once(via, to))
    }

    pub(super) fn load_by_name(&mut self, via: Via, to: NamedServer, per_second: u32) -> usize {
        self.start(per_second, move |_| request::once(via, resolve(&to)?))
    }

    pub(super) fn stream(&mut self, to: SocketAddr, per_second: u32) -> Result<usize> {
        let mut stream = request::connect(to)?;
        Ok(self.start(per_second, move |n| request::ask(&mut stream, to, &format!("tick-{n}"))))
    }

    /// One socket with one source port for all requests; with `redials`, until an error.
    pub(super) fn datagrams(
        &mut self,
        via: Via,
        to: SocketAddr,
        per_second: u32,
        limit: Duration,
        redials: bool,
    ) -> Result<usize> {
        let open = move || {
            let socket = Datagrams::open(via, to)?;
            socket.set_limit(limit).map(|()| socket)
        };
        let mut socket = open()?;
        Ok(self.start(per_second, move |n| {
            let outcome = socket.ask(&format!("tick-{n}"));
            if outcome.is_err() && redials {
                socket = open()?;
            }
            outcome
        }))
    }

    /// Exchanges of that many octets each way.
    pub(super) fn bulk(&mut self, via: Via, to: SocketAddr, octets: usize) -> usize {
        self.start(BULKS_PER_SECOND, move |_| {
            bulk::both_ways(via, to, octets).map(|()| Answer { server: String::new(), seen_from: to })
        })
    }

    fn start(&mut self, per_second: u32, act: impl FnMut(u64) -> Result<Answer> + Send + 'static) -> usize {
        let shared = Arc::new(Shared::default());
        let worker = Arc::clone(&shared);
        let pause = Duration::from_secs(1) / per_second.max(1);
        let thread = Some(thread::spawn(move || worker.repeat(pause, act)));
        self.0.push(Job { shared, thread });
        self.0.len() - 1
    }

    pub(super) fn look(&self, job: usize) -> Result<Report> {
        Ok(self.0.get(job).context("no such job")?.shared.lock().report.clone())
    }

    pub(super) fn look_around(&self) -> Report {
        self.0.iter().map(|job| job.shared.lock().report.clone()).fold(Report::default(), Report::and)
    }

    pub(super) fn stop(&mut self, job: usize) -> Result<Report> {
        let job = self.0.get_mut(job).context("no such job")?;
        job.shared.lock().stop = true;
        job.shared.stopped.notify_all();
        if let Some(thread) = job.thread.take() {
            let _ = thread.join();
        }
        let report = job.shared.lock().report.clone();
        Ok(report)
    }
}

impl Shared {
    /// Acts once per pause until stopped. A slow act delays the next one.
    fn repeat(&self, pause: Duration, mut act: impl FnMut(u64) -> Result<Answer>) {
        for n in 0.. {
            let (due, began) = (Instant::now() + pause, Moment::now());
            let outcome = act(n);
            let mut state = self.lock();
            if outcome.is_ok() {
                let last = state.last_answer.replace(Instant::now());
                let gap = last.map_or(Duration::ZERO, |last| last.elapsed());
                state.report.longest_gap = state.report.longest_gap.max(gap);
            }
            state.report.count(outcome, began.ok());
            let rest = due.saturating_duration_since(Instant::now());
            let waited = self.stopped.wait_timeout_while(state, rest, |state| !state.stop);
            if waited.unwrap_or_else(PoisonError::into_inner).0.stop {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    fn count(&mut self, outcome: Result<Answer>, began: Option<Moment>) {
        match outcome {
            Ok(answer) => {
                self.ok += 1;
                *self.by_server.entry(answer.server).or_default() += 1;
            }
            Err(error) => {
                self.failed += 1;
                let is_reset = |cause: &(dyn std::error::Error + 'static)| {
                    let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
                    kind == Some(io::ErrorKind::ConnectionReset)
                };
                self.resets += u64::from(error.chain().any(is_reset));
                if self.failed_began.len() < MOST_MOMENTS {
                    self.failed_began.extend(began);
                }
                self.first_failure.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }
}
