//! The agent's loop: reads commands, writes results.

use std::io::{self, BufRead, Write};
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use super::address::unspecified;
use super::jobs::Jobs;
use super::protocol::Command;
use super::{bulk, probe, refused, request};

/// Executes commands until stdin is closed.
pub(super) fn stdin() -> Result<()> {
    let mut jobs = Jobs::default();
    for line in io::stdin().lock().lines() {
        let command: Command = serde_json::from_str(&line?)?;
        let outcome = execute(&command, &mut jobs).map_err(|error| format!("{error:#}"));
        writeln!(io::stdout(), "{}", serde_json::to_string(&outcome)?)?;
    }
    Ok(())
}

fn execute(command: &Command, jobs: &mut Jobs) -> Result<Value> {
    match *command {
        Command::Serve { ref name, port } => json(svc_echo::serve(name, &[port], &[port])?),
        Command::ServeAt { ref name, address, port } => json(svc_echo::serve_at(name, address, port)?),
        Command::Probe { ref probes, ports } => json(probe::all(probes, ports)?),
        Command::Ask { via, to, count } => {
            let ask = |n| request::once(via, to).with_context(|| format!("request {n} of {count}"));
            json((1..=count).map(ask).collect::<Result<Vec<_>>>()?)
        }
        Command::Time { via, to, count, sockets } => json(request::time(via, to, count, sockets)?),
        Command::AskLong { via, to, octets } => json(request::long(via, to, octets)?),
        Command::AskFromOnePort { via, ref to } => json(request::from_one_port(via, to)?),
        Command::Bulk { via, to, octets } => json(bulk::both_ways(via, to, octets)?),
        Command::Refused { via, to } => json(refused::probe(via, to)?),
        Command::SourceTowards { to } => json(source_towards(to)?),
        Command::StartLoad { via, to, per_second } => json(jobs.load(via, to, per_second)),
        Command::StartLoadByName { via, ref to, per_second } => {
            json(jobs.load_by_name(via, to.clone(), per_second))
        }
        Command::StartStream { to, per_second } => json(jobs.stream(to, per_second)?),
        Command::StartDatagrams { via, to, per_second, limit_ms, redials } => {
            let limit = Duration::from_millis(limit_ms);
            json(jobs.datagrams(via, to, per_second, limit, redials)?)
        }
        Command::StartBulk { via, to, octets } => json(jobs.bulk(via, to, octets)),
        Command::Look { job } => json(jobs.look(job)?),
        Command::LookAround => json(jobs.look_around()),
        Command::Stop { job } => json(jobs.stop(job)?),
    }
}

fn json(value: impl Serialize) -> Result<Value> {
    Ok(serde_json::to_value(value)?)
}

/// Connecting a UDP socket makes the kernel choose a source and sends nothing.
fn source_towards(to: IpAddr) -> Result<IpAddr> {
    let socket = UdpSocket::bind(unspecified(to))?;
    socket.connect((to, 1)).with_context(|| format!("find the source towards {to}"))?;
    Ok(socket.local_addr()?.ip())
}
