//! Keeps one session with each peer of this node, or the kernel's routes, as the plan says.
//!
//! Only Services that are in force are announced, and a session begins only after the first ones are: a peer that kept the routes of an
//! earlier daemon loses none of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ipnet::IpNet;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::kernel_routes;
use super::report::{self, BgpReport, PeerCounts};
use super::routes::{Plan, plan};
use crate::bgp::notification::Fault;
use crate::bgp::peer::{self, PeerInputs, PeerStatus, Statuses};
use crate::bgp::route::{NextHops, Routes};
use crate::bgp::session::{SessionOptions, State};
use crate::bgp::settings::{BgpSettings, Mode, Peer, RoutesPlace};
use crate::lb::settings::LoadBalancerSettings;
use crate::model::complaint::{Complaint, Kind, Origin};
use crate::model::name::IpFamily;
use crate::model::world::World;
use crate::observe::ledger::Ledger;
use crate::reconcile::Served;

/// Time for an ended session to take its leave before the next one with the same peer begins.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);
/// Pause after the kernel has refused a route.
const RETRY: Duration = Duration::from_secs(5);

/// Channels and files of the announcer.
pub struct Inputs {
    pub node: String,
    pub run_dir: PathBuf,
    pub settings: watch::Receiver<LoadBalancerSettings>,
    /// The wanted world, which withdraws routes.
    pub worlds: watch::Receiver<World>,
    /// The world in the kernel's tables, which announces routes.
    pub served: watch::Receiver<Served>,
    pub counts: watch::Sender<PeerCounts>,
    pub ledger: Ledger,
}

/// Runs for ever. Without a section of BGP it only removes the routes and the report of an earlier daemon.
pub async fn run(mut inputs: Inputs) -> anyhow::Result<()> {
    inputs
        .served
        .wait_for(|served| served.in_force_unix_ms > 0)
        .await
        .context("nothing is served any more")?;
    let (statuses_out, mut statuses) = watch::channel(Statuses::new());
    let earlier = BgpReport::read(&inputs.run_dir).unwrap_or_else(|error| {
        tracing::warn!(error = format!("{error:#}"), "routes of an earlier daemon may be left");
        None
    });
    let place = earlier.and_then(|report| report.routes);
    let mut announcer = Announcer {
        inputs,
        running: BTreeMap::new(),
        statuses: statuses_out,
        shown: None,
        in_kernel: None,
        place,
        retry: None,
        problem: None,
        plan: Arc::default(),
    };
    let mut is_outdated = true;
    loop {
        if std::mem::take(&mut is_outdated) {
            announcer.plan();
        }
        announcer.turn().await;
        let Inputs { settings, worlds, served, .. } = &mut announcer.inputs;
        let retry = announcer.retry;
        // A session that changes its state needs no new plan, which costs time in proportion to the Services.
        is_outdated = tokio::select! {
            changed = settings.changed() => changed.map(|()| true).context("the settings ended")?,
            changed = worlds.changed() => changed.map(|()| true).context("the worlds ended")?,
            changed = served.changed() => changed.map(|()| true).context("nothing is served any more")?,
            changed = statuses.changed() => changed.map(|()| false).context("the sessions ended")?,
            () = async { sleep_until(retry.unwrap_or_else(Instant::now)).await }, if retry.is_some() => false,
        };
        statuses.mark_unchanged();
    }
}

/// A session that runs.
struct Running {
    peer: Peer,
    options: SessionOptions,
    routes: watch::Sender<Routes>,
    end: watch::Sender<Option<Fault>>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    /// The daemon ends: the peer sees a closed connection, and keeps the routes if it restarts gracefully. A session that has
    /// an end to say closes its connection by itself.
    fn drop(&mut self) {
        if self.end.borrow().is_none() {
            self.task.abort();
        }
    }
}

struct Announcer {
    inputs: Inputs,
    running: BTreeMap<String, Running>,
    statuses: watch::Sender<Statuses>,
    shown: Option<BgpReport>,
    /// The kernel's routes of svc, as far as this daemon has brought them.
    in_kernel: Option<(RoutesPlace, BTreeSet<IpNet>)>,
    /// Their place, also if an earlier daemon brought them.
    place: Option<RoutesPlace>,
    retry: Option<Instant>,
    /// Why no session can begin, or the kernel does not have all routes.
    problem: Option<String>,
    plan: Arc<Plan>,
}

impl Announcer {
    fn plan(&mut self) {
        let settings = self.inputs.settings.borrow_and_update().clone();
        let newest = self.inputs.worlds.borrow_and_update().clone();
        let served = self.inputs.served.borrow_and_update().world.clone();
        let plan =
            section(&settings).map(|bgp| plan(&served, &settings, bgp).and(&plan(&newest, &settings, bgp)));
        self.plan = Arc::new(plan.unwrap_or_default());
    }

    async fn turn(&mut self) {
        let settings = self.inputs.settings.borrow().clone();
        let served = self.inputs.served.borrow().world.clone();
        let plan = Arc::clone(&self.plan);
        (self.problem, self.retry) = (None, None);
        let bgp = section(&settings);
        let sessions = bgp.filter(|bgp| bgp.mode == Mode::Sessions);
        self.bring_sessions(sessions, &served, &plan).await;
        self.bring_kernel(bgp, &plan).await;
        self.show(bgp, &plan);
    }

    /// Ends, begins and feeds sessions.
    async fn bring_sessions(&mut self, bgp: Option<&BgpSettings>, world: &World, plan: &Plan) {
        let mut wanted: BTreeMap<String, (Peer, SessionOptions)> = BTreeMap::new();
        if let Some(bgp) = bgp {
            let hops = next_hops(world);
            match bgp.router_id.or(hops.v4) {
                _ if bgp.peers.is_empty() => {
                    self.problem = Some("no peer can be used: no address is announced".to_owned());
                }
                Some(router_id) => {
                    let own = bgp.peers.iter().filter(|peer| plan.by_peer.contains_key(&peer.name));
                    let with_options = |peer: &Peer| (peer.clone(), options(peer, router_id, hops));
                    wanted.extend(own.map(|peer| (peer.name.clone(), with_options(peer))));
                }
                None => {
                    let reason = "routerID is missing, and the node has no IPv4 address to use instead";
                    self.problem = Some(reason.to_owned());
                }
            }
        }
        let names: Vec<String> = self.running.keys().cloned().collect();
        for name in names {
            let is_as_wanted = |running: &Running| {
                wanted.get(&name) == Some(&(running.peer.clone(), running.options.clone()))
            };
            if self.running.get(&name).is_some_and(is_as_wanted) {
                continue;
            }
            let Some(mut running) = self.running.remove(&name) else { continue };
            if wanted.contains_key(&name) {
                // Without a word, so that the peer keeps the routes until the next session (graceful restart).
                running.task.abort();
            } else {
                running.end.send_replace(Some(Fault::Deconfigured));
            }
            if timeout(LEAVE_LIMIT, &mut running.task).await.is_err() {
                tracing::warn!(peer = name, "its session does not end in time");
                running.task.abort();
            }
            self.statuses.send_modify(|all| drop(all.remove(&name)));
        }
        for (name, (peer, options)) in wanted {
            let routes = plan.by_peer.get(&name).cloned().unwrap_or_default();
            match self.running.get(&name) {
                Some(running) => {
                    running
                        .routes
                        .send_if_modified(|known| std::mem::replace(known, routes.clone()) != routes);
                }
                None => {
                    let running = self.begin(peer, options, routes);
                    self.running.insert(name, running);
                }
            }
        }
    }

    fn begin(&self, peer: Peer, options: SessionOptions, routes: Routes) -> Running {
        self.statuses.send_modify(|all| drop(all.insert(peer.name.clone(), PeerStatus::default())));
        let (routes, routes_in) = watch::channel(routes);
        let (end, end_in) = watch::channel(None);
        let inputs = PeerInputs {
            peer: peer.clone(),
            options: options.clone(),
            routes: routes_in,
            end: end_in,
            statuses: self.statuses.clone(),
        };
        Running { peer, options, routes, end, task: tokio::spawn(peer::run(inputs)) }
    }

    /// The kernel's routes are the plan's with `mode: routes`, else none.
    async fn bring_kernel(&mut self, bgp: Option<&BgpSettings>, plan: &Plan) {
        let by_routes = bgp.filter(|bgp| bgp.mode == Mode::Routes);
        let wanted = by_routes.map(|bgp| (bgp.routes, plan.of_kernel.clone()));
        let place = wanted.as_ref().map(|(place, _)| *place);
        if self.in_kernel == wanted && self.place == place {
            return;
        }
        let before = self.place.filter(|before| Some(*before) != place);
        let brought = async {
            if let Some(before) = before {
                kernel_routes::bring(before, &BTreeSet::new()).await?;
            }
            match &wanted {
                Some((place, prefixes)) => kernel_routes::bring(*place, prefixes).await,
                None => Ok(()),
            }
        };
        match brought.await {
            Ok(()) => (self.in_kernel, self.place) = (wanted, place),
            Err(error) => {
                self.problem = Some(format!("the kernel's routes: {error:#}"));
                self.retry = Some(Instant::now() + RETRY);
            }
        }
    }

    fn show(&mut self, bgp: Option<&BgpSettings>, plan: &Plan) {
        let statuses = self.statuses.borrow().clone();
        self.inputs.counts.send_replace(report::counts(&statuses));
        let problem = self.problem.iter().map(|reason| {
            let node = format!("Node {}", self.inputs.node);
            Complaint::new(Kind::Host, node, "loadBalancer.bgp", reason.clone())
        });
        let complaints = statuses.iter().flat_map(|(name, status)| complaints(name, status)).chain(problem);
        self.inputs.ledger.set(Origin::Bgp, complaints.collect());
        let report = bgp.map(|bgp| BgpReport::new(&self.inputs.node, bgp, plan, &statuses));
        let written = match &report {
            Some(report) if self.shown.as_ref() == Some(report) => Ok(()),
            Some(report) => report.write(&self.inputs.run_dir),
            None => BgpReport::remove(&self.inputs.run_dir),
        };
        if let Err(error) = written {
            tracing::warn!(error = format!("{error:#}"), "svc-ctl lb shows an old state");
        }
        self.shown = report;
    }
}

/// The section of BGP, if it counts.
fn section(settings: &LoadBalancerSettings) -> Option<&BgpSettings> {
    settings.bgp.as_ref().filter(|_| settings.announce.is_by_bgp() && !settings.pools.is_empty())
}

/// Complaints of a session that is down, or cannot announce all routes.
fn complaints(name: &str, status: &PeerStatus) -> Vec<Complaint> {
    let down = status.last_error.as_ref().filter(|_| status.state != State::Established);
    let reasons = down.into_iter().chain(&status.shortcoming);
    reasons
        .map(|reason| {
            Complaint::new(Kind::Peer, format!("BGP peer {name}"), "loadBalancer.bgp.peers", reason.clone())
        })
        .collect()
}

fn options(peer: &Peer, router_id: Ipv4Addr, next_hops: NextHops) -> SessionOptions {
    SessionOptions {
        local_as: peer.local_as,
        peer_as: peer.peer_as,
        router_id,
        times: peer.times,
        connect_retry: peer.connect_retry,
        restart_time: peer.restart_time,
        next_hops,
        has_password: peer.password.is_some(),
    }
}

/// The node's own addresses.
fn next_hops(world: &World) -> NextHops {
    let primary = |family| world.node.primary(family).or_else(|| world.addresses.primary(family));
    NextHops {
        v4: primary(IpFamily::V4).and_then(|ip| match ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        }),
        v6: primary(IpFamily::V6).and_then(|ip| match ip {
            IpAddr::V6(ip) => Some(ip),
            IpAddr::V4(_) => None,
        }),
        link_local: None,
    }
}
