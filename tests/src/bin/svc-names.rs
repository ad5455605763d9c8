//! Measures svc's name server and the real CoreDNS: the same Services and queries, one server after the other.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};
use svc_tests::names::coredns::CoreDns;
use svc_tests::names::load::{latency, questions, rate};
use svc_tests::names::objects::Manifests;
use svc_tests::names::svc_dns::SvcDns;
use svc_tests::scale::process::Process;

const NAMESPACES: usize = 50;
/// CPU of the servers, and that of the client.
const SERVER: usize = 0;
const CLIENT: usize = 1;
/// Queries per second at which latency is measured.
const STEADY: u32 = 10_000;

#[derive(Parser)]
#[command(about = "Measure svc's name server beside CoreDNS")]
struct Cli {
    /// CoreDNS; without it svc alone is measured
    #[arg(long, value_name = "FILE")]
    coredns: Option<PathBuf>,
    /// Services with four endpoints each
    #[arg(long, default_value_t = 10_000)]
    services: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds, svc and CoreDNS in turn
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Run svc's name server: print its address and end with stdin
    #[arg(long, hide = true)]
    serve: bool,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if cli.serve {
        let svc_dns = SvcDns::start(manifests(cli.services).world())?;
        println!("{}", svc_dns.address);
        std::io::stdin().lines().for_each(drop);
        return Ok(());
    }
    let manifests = manifests(cli.services);
    let names: Vec<String> = (0..cli.services).map(|n| format!("{}.svc.cluster.local", name(n))).collect();
    let list = questions(&names, "A")?;
    let mut svc_dns = Command::new(std::env::current_exe()?)
        .args(["--serve", "--services", &cli.services.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start svc's name server")?;
    let mut line = String::new();
    BufReader::new(svc_dns.stdout.take().context("its output")?).read_line(&mut line)?;
    let mut servers = vec![("svc", line.trim().parse()?, Process(svc_dns.id()))];
    // Started last, so that it does not disturb. Configured as by kubeadm.
    let coredns = cli.coredns.as_ref().map(|program| {
        let plugins = "errors\n cache 30\n loadbalance\n";
        CoreDns::start(program, manifests.api_store()?, plugins, &names[0])
    });
    let coredns = coredns.transpose()?;
    servers.extend(coredns.iter().map(|server| ("CoreDNS", server.address, server.process())));
    pin(std::process::id(), CLIENT)?;
    for (_, _, process) in &servers {
        pin_threads(process.0, SERVER)?;
    }
    let duration = Duration::from_secs(cli.seconds);
    println!("| round | server | questions/s | per CPU second | p50 at {STEADY}/s | p99 | lost |");
    println!("|---|---|---|---|---|---|---|");
    for round in 1..=cli.rounds {
        for (server, address, process) in &servers {
            let found = rate(*address, *process, &list, duration)?;
            let (p50, p99, lost) = latency(*address, &list, STEADY, duration)?;
            println!(
                "| {round} | {server} | {:.0} | {:.0} | {p50:?} | {p99:?} | {} |",
                found.a_second,
                found.a_processor_second,
                found.lost + lost
            );
        }
    }
    drop(svc_dns.stdin.take());
    svc_dns.wait()?;
    Ok(())
}

fn pin(pid: u32, processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    sched_setaffinity(Pid::from_raw(pid.cast_signed()), &set).context("pin a thread")
}

/// Pins all threads of a process; later threads inherit it.
fn pin_threads(pid: u32, processor: usize) -> Result<()> {
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).context("its threads")? {
        pin(task?.file_name().to_string_lossy().parse()?, processor)?;
    }
    Ok(())
}

fn name(n: usize) -> String {
    format!("shop-{n:06}.team-{:02}", n % NAMESPACES)
}

fn manifests(services: usize) -> Manifests {
    let mut documents: Vec<Value> = (0..NAMESPACES)
        .map(|n| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("team-{n:02}")}}))
        .collect();
    for n in 0..services {
        let full = name(n);
        let (service, namespace) = full.split_once('.').unwrap_or_default();
        let ip = format!("10.{}.{}.{}", 96 + n / 62_500, n / 250 % 250, n % 250 + 1);
        documents.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": service, "namespace": namespace},
            "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}}));
        let endpoint = |k: usize| {
            json!({"addresses": [format!("10.{}.{}.{}", 128 + k, n / 250 % 250, n % 250 + 1)],
            "conditions": {"ready": true}})
        };
        documents.push(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": format!("{service}-x"), "namespace": namespace,
                "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [endpoint(0), endpoint(1), endpoint(2), endpoint(3)]}));
    }
    let text = documents.iter().map(|document| format!("{document}\n---\n")).collect();
    Manifests { text, documents }
}
