//! The testbed of the scenarios: the usual hosts and one Service, whose endpoints a scenario changes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::{Agent, Job, Report, Via};
use crate::daemon::Flags;
use crate::manifests::{SERVER_PORT, SERVICE_PORT, Service};
use crate::topology::{Family, Options, Shape, service};
use crate::wait;
use crate::world::{CHANGE_LIMIT, World};
use anyhow::{Context, Result, ensure};
use libtest_mimic::{Completion, Failed, Trial};

pub const NODE_PORT: u16 = 30080;
/// "At once": well below the second after which a SYN is repeated.
pub const AT_ONCE_MS: u64 = 500;

/// Client pod `pod` and server `near` on node1, server `far` on node2, servers on both nodes, Service `web`.
#[derive(Debug)]
pub struct Testbed {
    pub world: World,
}

impl Testbed {
    pub fn new(test: &str, options: Options, flags: Flags, backends: &[&str]) -> Result<Self> {
        let mut testbed = Self::without_svc(test, options)?;
        testbed.set_backends(backends)?;
        testbed.world.start(flags)?;
        Ok(testbed)
    }

    /// The hosts and their servers alone.
    pub fn without_svc(test: &str, options: Options) -> Result<Self> {
        let mut world = World::new(test, options)?;
        for (node, pod) in [(1, "pod"), (1, "near"), (2, "far")] {
            world.topology.node_mut(node).add_pod(pod)?.host.agent.serve(SERVER_PORT)?;
        }
        for node in &world.topology.nodes {
            node.host.agent.serve(SERVER_PORT)?;
        }
        Ok(Self { world })
    }

    /// From now on the client can also dial pods by their own addresses.
    pub fn route_client_to_pods(&self) -> Result<()> {
        let topology = &self.world.topology;
        topology.nodes.iter().try_for_each(|node| {
            let (pods, via) = (node.pod_cidrs(), node.host.addrs);
            topology.client.netns.ip(&format!(
                "route add {}/24 via {}\nroute add {}/64 via {}",
                pods.v4, via.v4, pods.v6, via.v6
            ))
        })
    }

    /// Rewrites the Service's manifest with these hosts as endpoints.
    pub fn set_backends(&self, names: &[&str]) -> Result<()> {
        self.world.folder.write("web.yaml", &self.manifest(names)?)
    }

    pub fn manifest(&self, names: &[&str]) -> Result<String> {
        Ok(self.service(names)?.yaml())
    }

    /// Service `web` with these hosts as endpoints.
    pub fn service(&self, names: &[&str]) -> Result<Service> {
        let backends = names.iter().map(|name| self.world.backend(name)).collect::<Result<_>>()?;
        let (name, cluster) = ("web".into(), service(10));
        Ok(Service { name, cluster, node_port: NODE_PORT, external: None, affinity: None, backends })
    }

    pub fn agent(&self, name: &str) -> Result<&Arc<Agent>> {
        Ok(&self.world.topology.host(name)?.agent)
    }

    pub fn bridged(&self) -> bool {
        self.world.topology.options.shape == Shape::Bridged
    }

    pub fn cluster_ip(&self, family: Family) -> SocketAddr {
        (service(10).of(family), SERVICE_PORT).into()
    }

    /// The NodePort at node1.
    pub fn node_port(&self, family: Family) -> SocketAddr {
        (self.world.topology.node(1).host.addrs.of(family), NODE_PORT).into()
    }

    /// One request; this server must answer.
    pub fn answered_by(&self, server: &str, client: &str, via: Via, to: SocketAddr) -> Result<()> {
        let answers = self.agent(client)?.ask(via, to, 1)?;
        let names: Vec<&str> = answers.iter().map(|answer| answer.server.as_str()).collect();
        ensure!(names == [server], "expected {server} to answer {client} at {to}, {names:?} did");
        Ok(())
    }

    /// Like [`Self::answered_by`], within the time that a changed manifest may take.
    pub fn soon_answered_by(&self, server: &str, client: &str, to: SocketAddr) -> Result<()> {
        wait::until_true(&format!("{server} answers {client}"), CHANGE_LIMIT, || {
            self.answered_by(server, client, Via::Tcp, to).map(|()| true)
        })
    }

    /// Like [`Self::answered_by`], over every kind of socket and both families, to the ClusterIP.
    pub fn served_at_cluster_ip(&self, server: &str, client: &str) -> Result<()> {
        for family in Family::BOTH {
            for via in [Via::Tcp, Via::UdpConnected, Via::UdpUnconnected] {
                let to = self.cluster_ip(family);
                self.answered_by(server, client, via, to).with_context(|| format!("{client} {via} {to}"))?;
            }
        }
        Ok(())
    }
}

/// Waits until a job has had this many more correct replies, whatever else it had.
pub fn until_more(job: &Job, more: u64) -> Result<Report> {
    until_more_than(&job.look()?, job, more)
}

/// Like [`until_more`], counted from an earlier report.
pub fn until_more_than(start: &Report, job: &Job, more: u64) -> Result<Report> {
    wait::until(&format!("{more} more answers"), Duration::from_secs(10), || {
        let now = job.look()?;
        Ok((now.ok >= start.ok + more || now.failed > start.failed).then_some(now))
    })
}

/// Fails if a background job had a single failure.
pub fn no_failure(what: &str, report: &Report) -> Result<()> {
    let Report { ok, failed, first_failure, .. } = report;
    ensure!(*failed == 0, "{what}: {failed} of {} failed, first {first_failure:?}", ok + failed);
    ensure!(*ok > 0, "{what}: nothing was tried");
    Ok(())
}

/// A scenario as a test: a sentence, its testbed, and its actions.
pub fn scenario(
    sentence: &str,
    set: impl FnOnce(&str) -> Result<Testbed> + Send + 'static,
    act: impl FnOnce(&mut Testbed) -> Result<()> + Send + 'static,
) -> Trial {
    let name = sentence.to_owned();
    Trial::test(sentence, move || play(&name, set, act))
}

/// Like [`scenario`], skipped if the first function returns why this machine cannot run it.
pub fn scenario_unless(
    hindrance: impl FnOnce() -> Result<Option<String>> + Send + 'static,
    sentence: &str,
    set: impl FnOnce(&str) -> Result<Testbed> + Send + 'static,
    act: impl FnOnce(&mut Testbed) -> Result<()> + Send + 'static,
) -> Trial {
    let name = sentence.to_owned();
    Trial::ignorable_test(sentence, move || match hindrance()? {
        Some(reason) => Ok(Completion::ignored_with(reason)),
        None => play(&name, set, act).map(|()| Completion::Completed),
    })
}

fn play(
    sentence: &str,
    set: impl FnOnce(&str) -> Result<Testbed>,
    act: impl FnOnce(&mut Testbed) -> Result<()>,
) -> Result<(), Failed> {
    let short: String = sentence.split(' ').filter_map(|word| word.chars().next()).collect();
    let mut testbed = set(&short).map_err(|error| Failed::from(format!("no testbed: {error:#}")))?;
    act(&mut testbed).map_err(|error| format!("{error:#}\n{}", testbed.world.diagnosis()).into())
}
