//! The test's side of an agent: starts it, sends commands, ends it.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde::de::DeserializeOwned;

use super::protocol::{
    Answer, Command, NamedServer, Probe, Refusal, Report, Sockets, SourcePorts, Tried, Via,
};
use crate::cgroup::Cgroup;
use crate::cleanup::THIS_PROGRAM;
use crate::netns::Netns;

/// Longer than any command of an agent, each of which has its own timeout.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

const SOON: Duration = Duration::from_millis(200);

/// A process that opens sockets on behalf of a test.
#[derive(Debug)]
pub struct Agent {
    name: String,
    child: Child,
    pipe: Mutex<Pipe>,
}

#[derive(Debug)]
struct Pipe {
    commands: ChildStdin,
    answers: Receiver<String>,
}

impl Agent {
    pub fn start(name: &str, netns: &Netns, cgroup: &Cgroup) -> Result<Self> {
        let mut command = netns.command(THIS_PROGRAM)?;
        cgroup.contain(&mut command)?;
        // `run` is for xtask, whose command line must name a subcommand before it gets here.
        command.arg("run").env(super::ENV, name).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Outside of the terminal's foreground process group: the test handles Ctrl-C, not the agent.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().with_context(|| format!("start agent {name}"))?;
        let commands = child.stdin.take().context("the agent's stdin")?;
        let stdout = BufReader::new(child.stdout.take().context("the agent's stdout")?);
        let (send, answers) = channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Ok(Self { name: name.into(), child, pipe: Mutex::new(Pipe { commands, answers }) })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn serve(&self, port: u16) -> Result<()> {
        self.serve_as(&self.name, port)
    }

    /// Like [`Self::serve`], with another name.
    pub fn serve_as(&self, name: &str, port: u16) -> Result<()> {
        self.call(&Command::Serve { name: name.into(), port })
    }

    /// Serves with that name at a port of one address.
    pub fn serve_at(&self, name: &str, address: IpAddr, port: u16) -> Result<()> {
        self.call(&Command::ServeAt { name: name.into(), address, port })
    }

    pub fn ask(&self, via: Via, to: SocketAddr, count: u32) -> Result<Vec<Answer>> {
        self.call(&Command::Ask { via, to, count })
    }

    /// The time that these requests take, one after the other.
    pub fn time(&self, via: Via, to: SocketAddr, count: u32, sockets: Sockets) -> Result<Duration> {
        self.call(&Command::Time { via, to, count, sockets }).map(Duration::from_nanos)
    }

    /// Sends a datagram of that many octets; the reply is as long.
    pub fn ask_long(&self, via: Via, to: SocketAddr, octets: usize) -> Result<Answer> {
        self.call(&Command::AskLong { via, to, octets })
    }

    /// Two rounds of one request to each address, from sockets that share a source port.
    pub fn ask_from_one_port(&self, via: Via, to: &[SocketAddr]) -> Result<Vec<Answer>> {
        self.call(&Command::AskFromOnePort { via, to: to.to_vec() })
    }

    pub fn bulk(&self, via: Via, to: SocketAddr, octets: usize) -> Result<()> {
        self.call(&Command::Bulk { via, to, octets })
    }

    pub fn refused(&self, via: Via, to: SocketAddr) -> Result<Refusal> {
        self.call(&Command::Refused { via, to })
    }

    /// The results of each probe's requests.
    pub fn probe(&self, probes: Vec<Probe>) -> Result<Vec<Vec<Tried>>> {
        self.call(&Command::Probe { probes, ports: SourcePorts::Any })
    }

    /// The same, where no request may meet the flow of an earlier one.
    pub fn probe_from_fresh_ports(&self, probes: Vec<Probe>) -> Result<Vec<Vec<Tried>>> {
        self.call(&Command::Probe { probes, ports: SourcePorts::Fresh })
    }

    pub fn source_towards(&self, to: IpAddr) -> Result<IpAddr> {
        self.call(&Command::SourceTowards { to })
    }

    pub fn start_load(self: &Arc<Self>, via: Via, to: SocketAddr, per_second: u32) -> Result<Job> {
        let id = self.call(&Command::StartLoad { via, to, per_second })?;
        Ok(Job { agent: Arc::clone(self), id })
    }

    pub fn start_load_by_name(self: &Arc<Self>, via: Via, to: &NamedServer, per_second: u32) -> Result<Job> {
        let id = self.call(&Command::StartLoadByName { via, to: to.clone(), per_second })?;
        Ok(Job { agent: Arc::clone(self), id })
    }

    pub fn start_stream(self: &Arc<Self>, to: SocketAddr, per_second: u32) -> Result<Job> {
        let id = self.call(&Command::StartStream { to, per_second })?;
        Ok(Job { agent: Arc::clone(self), id })
    }

    /// One unconnected socket with one source port. Shows how soon a socket gets replies again after an interruption.
    pub fn start_datagrams(self: &Arc<Self>, via: Via, to: SocketAddr, per_second: u32) -> Result<Job> {
        self.start_datagrams_within(SOON, via, to, per_second)
    }

    pub fn start_datagrams_within(
        self: &Arc<Self>,
        limit: Duration,
        via: Via,
        to: SocketAddr,
        per_second: u32,
    ) -> Result<Job> {
        self.datagrams(limit, via, to, per_second, false)
    }

    /// A connected socket, replaced by a new one after an error. A late reply counts as success: this tests whether
    /// the socket works.
    pub fn start_redialling(self: &Arc<Self>, to: SocketAddr, per_second: u32) -> Result<Job> {
        self.datagrams(super::LIMIT, Via::UdpConnected, to, per_second, true)
    }

    fn datagrams(
        self: &Arc<Self>,
        limit: Duration,
        via: Via,
        to: SocketAddr,
        per_second: u32,
        redials: bool,
    ) -> Result<Job> {
        let limit_ms = u64::try_from(limit.as_millis())?;
        let id = self.call(&Command::StartDatagrams { via, to, per_second, limit_ms, redials })?;
        Ok(Job { agent: Arc::clone(self), id })
    }

    /// Exchanges of many octets in the background, contents compared at both ends.
    pub fn start_bulk(self: &Arc<Self>, via: Via, to: SocketAddr, octets: usize) -> Result<Job> {
        let id = self.call(&Command::StartBulk { via, to, octets })?;
        Ok(Job { agent: Arc::clone(self), id })
    }

    /// The sum of all jobs.
    pub fn look_around(&self) -> Result<Report> {
        self.call(&Command::LookAround)
    }

    fn call<T: DeserializeOwned>(&self, command: &Command) -> Result<T> {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        let line = serde_json::to_string(command)?;
        writeln!(pipe.commands, "{line}").with_context(|| format!("command agent {}: {line}", self.name))?;
        let answer = pipe.answers.recv_timeout(ANSWER_LIMIT);
        let answer = answer.with_context(|| format!("no answer of agent {} to {line}", self.name))?;
        let outcome: Result<T, String> = serde_json::from_str(&answer).context(answer)?;
        outcome.map_err(|error| anyhow!("{}: {error}", self.name))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A background load or stream in an agent. It runs until it is stopped or the agent ends.
#[derive(Debug)]
pub struct Job {
    agent: Arc<Agent>,
    id: usize,
}

impl Job {
    pub fn look(&self) -> Result<Report> {
        self.agent.call(&Command::Look { job: self.id })
    }

    pub fn stop(self) -> Result<Report> {
        self.agent.call(&Command::Stop { job: self.id })
    }
}
