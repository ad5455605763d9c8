//! Answers and announces the load-balancer addresses of this node: collects the facts, lets each [`Claim`] decide, and
//! carries out its actions.
//!
//! Only Services that are in force are looked at, so an address is announced after the kernel can serve it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rtnetlink::Handle;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::Members;
use super::claim::{Action, Claim, Mac, Millis, OtherHost, Situation, mac_text};
use super::clock;
use super::frames;
use super::link::{Announcement, Link};
use super::neighbors::learn;
use super::pulse::Presence;
use super::report::{Count, Report, Row};
use super::settings::LoadBalancerSettings;
use super::wanted::{Wanted, alone, candidates, may_hold, nodes_to_ask, wanted, without_link};
use crate::dataplane::announced::{AnnouncedTable, Place};
use crate::dataplane::pins::Pins;
use crate::model::complaint::{Complaint, Kind, Origin};
use crate::model::name::IpFamily;
use crate::node::watch::Observed;
use crate::node::{Interface, Interfaces};
use crate::observe::ledger::Ledger;
use crate::programs::HooksStatus;
use crate::reconcile::Served;

/// Pause after a failure to open sockets.
const RETRY: Duration = Duration::from_secs(5);
/// Interval between looks at claims, and between probes.
const TICK: Duration = Duration::from_millis(100);
/// Interval between look-ups of yielded entries in the table, and of other nodes' link-layer addresses in the kernel.
const LOOK: Millis = 1_000;

/// Channels and files of the announcer.
pub struct Inputs {
    pub node: String,
    pub run_dir: PathBuf,
    pub pins: Pins,
    pub settings: watch::Receiver<LoadBalancerSettings>,
    pub members: watch::Receiver<Members>,
    pub served: watch::Receiver<Served>,
    pub interfaces: watch::Receiver<Option<Observed>>,
    pub hooks: watch::Receiver<HooksStatus>,
    pub count: watch::Sender<Count>,
    pub ledger: Ledger,
    pub presence: watch::Sender<Option<Presence>>,
    /// Nodes that fail are noticed.
    pub notices_failures: bool,
}

impl Inputs {
    /// Settings without which pools do less than their name promises.
    fn shortcoming(&self) -> Option<&'static str> {
        let text = "without --node-heartbeat no node counts as failed: its addresses stay with it";
        (!self.notices_failures).then_some(text)
    }
}

/// Runs for ever. Without pools it only removes the addresses that an earlier daemon announced.
pub async fn run(mut inputs: Inputs) -> anyhow::Result<()> {
    let mut table = AnnouncedTable::open(&inputs.pins)?;
    let is_idle =
        |settings: &LoadBalancerSettings| settings.pools.is_empty() || !settings.announce.is_by_l2();
    // Addresses that an earlier daemon announced stay until the first Services are in force.
    inputs
        .served
        .wait_for(|served| served.in_force_unix_ms > 0)
        .await
        .context("nothing is served any more")?;
    if is_idle(&inputs.settings.borrow()) {
        table.places().into_iter().try_for_each(|place| table.disarm(place))?;
        if let Err(error) = Report::remove(&inputs.run_dir) {
            tracing::warn!(error = format!("{error:#}"), "svc-ctl lb shows an old state");
        }
    }
    inputs.settings.wait_for(|settings| !is_idle(settings)).await.context("the settings ended")?;
    let link = loop {
        match Link::open() {
            Ok(link) => break link,
            Err(error) => {
                complain(
                    &inputs,
                    Vec::new(),
                    Some(&format!("announcing load-balancer addresses: {error:#}")),
                );
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    let (connection, handle, _) = rtnetlink::new_connection().context("opening netlink")?;
    tokio::spawn(connection);
    let mut announcer = Announcer {
        inputs,
        table,
        link,
        handle,
        began: clock::now(),
        began_unix_ms: unix_ms(),
        macs: BTreeMap::new(),
        claims: BTreeMap::new(),
        complaints: None,
        wanted: None,
        failure: None,
        deaf: None,
        shown: None,
        looked: None,
        taken: 0,
        given_up: 0,
    };
    // No address that the programs answer for is given up before this node's own interfaces are known.
    announcer.inputs.interfaces.wait_for(Option::is_some).await.context("the interfaces ended")?;
    announcer.inputs.hooks.wait_for(|hooks| !hooks.interfaces.is_empty()).await.context("the hooks ended")?;
    announcer.publish_presence();
    announcer.adopt();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            said = announcer.link.hear() => match said {
                Ok(said) => {
                    announcer.deaf = None;
                    announcer.hear(said);
                }
                // The next turn reports the error. The pause keeps a lasting error from becoming a hot loop.
                Err(error) => {
                    announcer.deaf = Some(format!("listening for addresses: {error:#}"));
                    tokio::time::sleep(TICK).await;
                }
            },
            _ = ticks.tick() => announcer.turn_or_complain().await,
            // A link that is lost is given up at once, and the other nodes learn of it.
            Ok(()) = announcer.inputs.interfaces.changed() => {
                announcer.publish_presence();
                announcer.turn_or_complain().await;
            }
            Ok(()) = announcer.inputs.members.changed() => announcer.turn_or_complain().await,
        }
    }
}

struct Announcer {
    inputs: Inputs,
    table: AnnouncedTable,
    link: Link,
    handle: Handle,
    began: Millis,
    began_unix_ms: u64,
    /// Other nodes.
    macs: BTreeMap<Mac, String>,
    claims: BTreeMap<Place, Claim>,
    complaints: Option<(BTreeMap<IpAddr, String>, Option<String>)>,
    /// Addresses of the Services in force, until these change.
    wanted: Option<Arc<BTreeMap<IpAddr, Wanted>>>,
    /// Why the last turn was not complete. The next one tries again.
    failure: Option<String>,
    /// Why other hosts' announcements could not be received, until one is.
    deaf: Option<String>,
    shown: Option<Report>,
    looked: Option<Millis>,
    taken: u64,
    given_up: u64,
}

impl Announcer {
    fn now(&self) -> Millis {
        clock::now().saturating_sub(self.began)
    }

    /// Adopts the addresses that the programs answer for already.
    fn adopt(&mut self) {
        let now = self.now();
        for place in self.table.places().into_iter().filter(|place| self.table.is_armed(*place)) {
            self.claims.insert(place, Claim::adopted(place.0, &self.inputs.node, now));
        }
    }

    /// The uplinks with carrier, for this node's Lease.
    fn presence(&self) -> Presence {
        let observed = self.inputs.interfaces.borrow().clone();
        let interfaces = observed.map(|observed| observed.interfaces).unwrap_or_default();
        let hooks = self.inputs.hooks.borrow().clone();
        let is_excluded = self.inputs.served.borrow().world.node.is_excluded_from_load_balancers;
        let mut presence = Presence { is_excluded, ..Presence::default() };
        for interface in interfaces.list.iter().filter(|i| i.is_ethernet && is_uplink(&hooks, i)) {
            presence.macs.insert(interface.mac);
            if interface.is_up && interface.has_carrier {
                presence.addresses.extend(&interface.addrs);
            }
        }
        presence
    }

    fn publish_presence(&self) {
        let presence = self.presence();
        self.inputs.presence.send_if_modified(|known| {
            let is_new = known.as_ref() != Some(&presence);
            *known = Some(presence);
            is_new
        });
    }

    fn hear(&mut self, said: Announcement) {
        let now = self.now();
        let own: BTreeSet<Mac> = {
            let observed = self.inputs.interfaces.borrow();
            observed.iter().flat_map(|o| o.interfaces.list.iter().map(|interface| interface.mac)).collect()
        };
        if own.contains(&said.mac) {
            return;
        }
        let node = self.macs.get(&said.mac).cloned();
        let is_stranger = node.is_none() && self.inputs.members.borrow().is_empty();
        for ((address, index), claim) in self.claims.iter_mut().filter(|((ip, _), _)| *ip == said.address) {
            if claim.is_held() && !self.table.is_armed((*address, *index)) {
                claim.yielded(node.clone(), now);
                self.given_up += 1;
            } else if !is_stranger {
                claim.hear(node.clone().map_or(OtherHost::Foreign(said.mac), OtherHost::Node), now);
            }
        }
    }

    /// A failure concerns load-balancer addresses alone, and does not end the daemon.
    async fn turn_or_complain(&mut self) {
        self.failure = self.turn().await.err().map(|error| format!("{error:#}"));
        if self.failure.is_some() {
            self.complain_of_foreign_hosts();
        }
    }

    /// Plans the addresses again if Services or pools have changed.
    fn wanted(&mut self) -> Arc<BTreeMap<IpAddr, Wanted>> {
        let has_changed = self.inputs.served.has_changed().unwrap_or(false)
            || self.inputs.settings.has_changed().unwrap_or(false);
        if let (false, Some(wanted)) = (has_changed, &self.wanted) {
            return Arc::clone(wanted);
        }
        let settings = self.inputs.settings.borrow_and_update().clone();
        let served = self.inputs.served.borrow_and_update().clone();
        let wanted = Arc::new(match settings.announce.is_by_l2() {
            true => wanted(&served.world, &settings),
            false => BTreeMap::new(),
        });
        self.wanted = Some(Arc::clone(&wanted));
        wanted
    }

    async fn turn(&mut self) -> anyhow::Result<()> {
        let now = self.now();
        let is_due = self.looked.is_none_or(|looked| now >= looked + LOOK);
        if is_due {
            self.looked = Some(now);
            self.publish_presence();
            let members = self.inputs.members.borrow().clone();
            // Until the nodes are known the programs yield to those that an earlier daemon knew.
            if !members.is_empty() {
                learn(&self.handle, &self.inputs.node, &members, &mut self.macs).await?;
                self.table.set_nodes(&self.macs.keys().copied().collect())?;
            }
            for (place, claim) in self.claims.iter_mut().filter(|(_, claim)| claim.is_held()) {
                if !self.table.is_armed(*place) {
                    claim.yielded(None, now);
                    self.given_up += 1;
                }
            }
        }
        let wanted = self.wanted();
        let observed = self.inputs.interfaces.borrow().clone();
        let interfaces = observed.map(|observed| observed.interfaces).unwrap_or_default();
        let members = self.inputs.members.borrow().clone();
        let own =
            if members.is_empty() { alone(&self.inputs.node, &self.presence()) } else { Members::new() };
        let mut report = Report { node: self.inputs.node.clone(), addresses: Vec::new() };
        let mut places = BTreeSet::new();
        for (address, wanted) in wanted.iter() {
            let interface = self.interface(&interfaces, *address);
            let is_held = interface.is_some_and(|i| self.holds((*address, i.index)));
            let members = nodes_to_ask(&members, &own, is_held);
            let candidates = interface.map(|i| candidates(members, i, wanted)).unwrap_or_default();
            if let Some(interface) = interface {
                places.insert((*address, interface.index));
                let without_link = without_link(members, interface);
                self.step(interface, *address, wanted, [&candidates, &without_link])?;
            }
            report.addresses.push(self.row(*address, wanted, interface, candidates));
        }
        self.drop_others(&places, is_due)?;
        self.complain_of_foreign_hosts();
        self.count(&report);
        self.show(report);
        Ok(())
    }

    fn holds(&self, place: Place) -> bool {
        self.claims.get(&place).is_some_and(Claim::is_held)
    }

    /// The interface whose network an address is of.
    fn interface<'a>(&self, interfaces: &'a Interfaces, address: IpAddr) -> Option<&'a Interface> {
        let hooks = self.inputs.hooks.borrow();
        let is_near = |i: &&Interface| i.is_ethernet && i.subnets.iter().any(|net| net.contains(&address));
        interfaces.list.iter().filter(is_near).find(|interface| is_uplink(&hooks, interface))
    }

    fn step(
        &mut self,
        interface: &Interface,
        address: IpAddr,
        wanted: &Wanted,
        [candidates, without_link]: [&BTreeSet<String>; 2],
    ) -> anyhow::Result<()> {
        let now = self.now();
        let place = (address, interface.index);
        let may_hold = may_hold(&self.inputs.node, interface, wanted, candidates);
        let situation = Situation { now, node: &self.inputs.node, candidates, without_link, may_hold };
        let claim = self.claims.entry(place).or_insert_with(|| Claim::new(address, now));
        for action in claim.step(&situation) {
            match action {
                Action::Arm => {
                    self.taken += 1;
                    self.table.arm(place, interface.mac)?;
                    tracing::info!(%address, interface = interface.name, why = claim.why(), "this node answers for a load-balancer address");
                }
                Action::Disarm => {
                    self.given_up += 1;
                    self.table.disarm(place)?;
                    tracing::info!(%address, interface = interface.name, why = claim.why(), "this node does not answer any more");
                }
                Action::Probe => {
                    let frame = frames::probe(address, interface.mac, source(interface, address));
                    send(&self.link, interface, frame.into_iter().collect());
                }
                Action::Announce => {
                    send(&self.link, interface, frames::announcements(address, interface.mac))
                }
            }
        }
        Ok(())
    }

    /// Addresses that no Service has any more, or that are of another interface now.
    fn drop_others(&mut self, places: &BTreeSet<Place>, is_due: bool) -> anyhow::Result<()> {
        let before = self.claims.len();
        self.claims.retain(|place, _| places.contains(place));
        if is_due || self.claims.len() != before {
            for place in self.table.places().into_iter().filter(|place| !places.contains(place)) {
                self.table.disarm(place)?;
            }
        }
        Ok(())
    }

    fn row(
        &self,
        address: IpAddr,
        wanted: &Wanted,
        interface: Option<&Interface>,
        candidates: BTreeSet<String>,
    ) -> Row {
        let claim = interface.and_then(|interface| self.claims.get(&(address, interface.index)));
        Row {
            address,
            services: wanted.services.iter().map(ToString::to_string).collect(),
            interface: interface.map(|interface| interface.name.clone()).unwrap_or_default(),
            owner: claim.and_then(Claim::owner).map(str::to_owned),
            since_unix_ms: self.began_unix_ms + claim.map_or(0, Claim::since),
            why: match (interface, claim) {
                (None, _) => "no interface of this node has its network".to_owned(),
                _ if !wanted.has_endpoint => "no endpoint is ready".to_owned(),
                (_, Some(claim)) => claim.why().to_owned(),
                (_, None) => String::new(),
            },
            candidates,
        }
    }

    /// Complains of addresses that a foreign host has.
    fn complain_of_foreign_hosts(&mut self) {
        let now = self.now();
        let conflicts = self.claims.iter().filter_map(|((address, _), claim)| {
            let reason = match (claim.conflict(), claim.intruder(now)) {
                (Some(mac), _) => {
                    format!(
                        "{} has {address} and is no node of the cluster: it is not announced",
                        mac_text(mac)
                    )
                }
                (None, Some(mac)) => format!(
                    "{} announces {address} and is no node of the cluster: clients reach it or this node",
                    mac_text(mac)
                ),
                (None, None) => return None,
            };
            Some((*address, reason))
        });
        let complaints = (
            conflicts.collect::<BTreeMap<IpAddr, String>>(),
            self.failure.clone().or_else(|| self.deaf.clone()),
        );
        if Some(&complaints) == self.complaints.as_ref() {
            return;
        }
        let list = complaints.0.iter().flat_map(|(address, reason)| {
            let row = self.wanted.iter().find_map(|wanted| wanted.get(address));
            let services = row.into_iter().flat_map(|wanted| &wanted.services);
            services.map(|service| {
                Complaint::of_service(Kind::AddressInUse, service, "status.loadBalancer", reason.clone())
            })
        });
        complain(&self.inputs, list.collect(), complaints.1.as_deref());
        self.complaints = Some(complaints);
    }

    fn count(&self, report: &Report) {
        let conflicts = self.claims.values().filter(|claim| claim.conflict().is_some()).count() as u64;
        let of = |is: &dyn Fn(Option<&str>) -> bool| {
            report.addresses.iter().filter(|row| is(row.owner.as_deref())).count() as u64
        };
        let node = self.inputs.node.as_str();
        let count = Count {
            here: of(&|owner| owner == Some(node)),
            elsewhere: of(&|owner| owner.is_some_and(|owner| owner != node)),
            unanswered: of(&|owner| owner.is_none()).saturating_sub(conflicts),
            conflicts,
            taken: self.taken,
            given_up: self.given_up,
        };
        self.inputs.count.send_replace(count);
    }

    fn show(&mut self, report: Report) {
        if self.shown.as_ref() == Some(&report) {
            return;
        }
        if let Err(error) = report.write(&self.inputs.run_dir) {
            tracing::warn!(error = format!("{error:#}"), "svc-ctl lb shows an old state");
        }
        self.shown = Some(report);
    }
}

fn is_uplink(hooks: &HooksStatus, interface: &Interface) -> bool {
    let status = hooks.interfaces.iter().find(|status| status.index == interface.index);
    status.is_some_and(|status| status.role == "uplink" && !status.hooks.is_empty())
}

/// Sets all complaints of the announcer.
fn complain(inputs: &Inputs, mut complaints: Vec<Complaint>, failure: Option<&str>) {
    let of_node = |reason: &str| {
        Complaint::new(Kind::Host, format!("Node {}", inputs.node), "loadBalancer", reason.to_owned())
    };
    complaints.extend(inputs.shortcoming().into_iter().chain(failure).map(of_node));
    inputs.ledger.set(Origin::Announced, complaints);
}

/// Frames that cannot be sent are sent again at the next turn of their claim.
fn send(link: &Link, interface: &Interface, frames: Vec<Vec<u8>>) {
    for frame in frames {
        if let Err(error) = link.send(interface.index, &frame) {
            tracing::debug!(interface = interface.name, %error, "a frame could not be sent");
        }
    }
}

/// An address of the interface to ask from.
fn source(interface: &Interface, address: IpAddr) -> Option<Ipv6Addr> {
    let own = interface.addrs.iter().find(|ip| IpFamily::of(**ip) == IpFamily::of(address))?;
    match own {
        IpAddr::V6(ip) => Some(*ip),
        IpAddr::V4(_) => None,
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
