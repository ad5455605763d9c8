//! Answers and announces the load-balancer addresses of this node: collects the facts, lets each [`Claim`] decide, and
//! carries out its actions.
//!
//! Only Services that are in force are looked at, so an address is announced after the kernel can serve it.

mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rtnetlink::Handle;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use self::show::complain;
use super::Members;
use super::claim::{Action, Claim, Mac, Millis, OtherHost, Situation};
use super::clock;
use super::frames;
use super::groups::Groups;
use super::l2::Allowed;
use super::link::{Announcement, Link};
use super::neighbors::learn;
use super::pulse::Presence;
use super::report::{Count, Report, Row};
use super::settings::LoadBalancerSettings;
use super::wanted::{Demand, Wanted, alone, candidates, may_hold, nodes_to_ask, pool_in_l2, without_link};
use crate::dataplane::announced::{AnnouncedTable, Place};
use crate::dataplane::pins::Pins;
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
    inputs.settings.wait_for(|settings| settings.is_known).await.context("the settings ended")?;
    // Memberships of addresses that an earlier daemon has yielded or given up are left.
    let mut groups = Groups::open(table.places().into_iter())?;
    if is_idle(&inputs.settings.borrow()) {
        groups.follow(std::iter::empty(), false)?;
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
        groups,
        link,
        handle,
        began: clock::now(),
        began_unix_ms: unix_ms(),
        refuses: BTreeSet::new(),
        macs: BTreeMap::new(),
        claims: BTreeMap::new(),
        complaints: None,
        demand: Arc::default(),
        has_followed: false,
        rows: BTreeMap::new(),
        touched: BTreeSet::new(),
        is_stale: true,
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
                announcer.is_stale = true;
                announcer.turn_or_complain().await;
            }
            Ok(()) = announcer.inputs.members.changed() => {
                announcer.is_stale = true;
                announcer.turn_or_complain().await;
            }
        }
    }
}

struct Announcer {
    inputs: Inputs,
    table: AnnouncedTable,
    groups: Groups,
    link: Link,
    handle: Handle,
    began: Millis,
    began_unix_ms: u64,
    /// Pools that this node may not announce.
    refuses: BTreeSet<String>,
    /// Other nodes.
    macs: BTreeMap<Mac, String>,
    claims: BTreeMap<Place, Claim>,
    complaints: Option<(BTreeMap<IpAddr, String>, Option<String>)>,
    /// Addresses of the Services in force.
    demand: Arc<Demand>,
    /// The demand is that of the settings.
    has_followed: bool,
    /// Every address, its interface and its row of the report.
    rows: BTreeMap<IpAddr, (Option<u32>, Row)>,
    /// Addresses of which something has changed since the last turn.
    touched: BTreeSet<IpAddr>,
    /// A fact that concerns all addresses has changed since the last turn.
    is_stale: bool,
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
        let node = Arc::clone(&self.inputs.served.borrow().world.node);
        let uplinks: Vec<&Interface> =
            interfaces.list.iter().filter(|i| i.is_ethernet && is_uplink(&hooks, i)).collect();
        let settings = self.inputs.settings.borrow();
        let is_near = |pool: &str, allowed: &Allowed| {
            let Some(pool) = settings.pools.iter().find(|known| known.name == pool) else { return false };
            let of_network = |i: &&&Interface| i.subnets.iter().any(|net| pool.meets(net.trunc()));
            uplinks.iter().filter(of_network).any(|interface| allowed.has(&interface.name))
        };
        let mut presence = Presence {
            is_excluded: node.is_excluded_from_load_balancers,
            refuses: settings.l2.refused(&node.labels, is_near),
            ..Presence::default()
        };
        for interface in uplinks {
            presence.macs.insert(interface.mac);
            if interface.is_up && interface.has_carrier {
                presence.addresses.extend(&interface.addrs);
            }
        }
        presence
    }

    fn publish_presence(&mut self) {
        let presence = self.presence();
        self.refuses.clone_from(&presence.refuses);
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
        self.touched.insert(said.address);
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
            // The next turn tries everything again.
            self.is_stale = true;
            self.complain_of_foreign_hosts();
        }
    }

    /// Takes the Services in force and the pools, if they have changed.
    fn follow(&mut self) {
        let has_settings = self.inputs.settings.has_changed().unwrap_or(false) || !self.has_followed;
        if !has_settings && !self.inputs.served.has_changed().unwrap_or(false) {
            return;
        }
        let settings = self.inputs.settings.borrow_and_update().clone();
        if has_settings {
            self.has_followed = true;
            self.demand = Arc::default();
            self.is_stale = true;
            self.publish_presence();
        }
        let world = self.inputs.served.borrow_and_update().world.clone();
        if settings.announce.is_by_l2() {
            let held = self.claims.iter().filter(|(_, claim)| claim.is_held());
            let held = held.map(|((ip, _), _)| *ip).collect();
            let pool_of = |ip| pool_in_l2(&settings, &held, ip);
            self.touched.extend(Arc::make_mut(&mut self.demand).follow(&world, pool_of));
        }
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
        self.follow();
        let is_full = std::mem::take(&mut self.is_stale) || is_due;
        let touched = std::mem::take(&mut self.touched);
        let demand = Arc::clone(&self.demand);
        let all = demand.addresses();
        let due: BTreeSet<IpAddr> = match is_full {
            true => all.keys().copied().collect(),
            false => self.due(now).chain(touched.iter().copied()).collect(),
        };
        let has_news = self.look_at(due.iter().filter_map(|ip| Some((*ip, all.get(ip)?))))?;
        if !is_full && touched.is_empty() && !has_news {
            return Ok(());
        }
        self.rows.retain(|address, _| all.contains_key(address));
        self.drop_others(is_due)?;
        self.complain_of_foreign_hosts();
        let addresses = self.rows.values().map(|(_, row)| row.clone()).collect();
        let report = Report { node: self.inputs.node.clone(), addresses };
        self.count(&report);
        self.show(report);
        let held = self.claims.iter().filter(|(_, claim)| claim.is_held()).map(|(place, _)| *place);
        self.groups.follow(held, is_due).context("multicast groups of load-balancer addresses")
    }

    /// Lets the claims of these addresses decide, and carries out their actions. Returns true if a row of the report differs.
    fn look_at<'a>(&mut self, addresses: impl Iterator<Item = (IpAddr, &'a Wanted)>) -> anyhow::Result<bool> {
        let mut addresses = addresses.peekable();
        if addresses.peek().is_none() {
            return Ok(false);
        }
        let observed = self.inputs.interfaces.borrow().clone();
        let interfaces = observed.map(|observed| observed.interfaces).unwrap_or_default();
        let members = self.inputs.members.borrow().clone();
        let own =
            if members.is_empty() { alone(&self.inputs.node, &self.presence()) } else { Members::new() };
        let mut has_news = false;
        for (address, wanted) in addresses {
            let interface = self.interface(&interfaces, address, &wanted.pool);
            let is_held = interface.is_some_and(|i| self.holds((address, i.index)));
            let members = nodes_to_ask(&members, &own, is_held);
            let candidates = interface.map(|i| candidates(members, i, wanted)).unwrap_or_default();
            if let Some(interface) = interface {
                let without_link = without_link(members, interface, wanted);
                self.step(interface, address, wanted, [&candidates, &without_link])?;
            }
            let row = self.row(address, wanted, interface, candidates);
            let row = (interface.map(|interface| interface.index), row);
            has_news |= self.rows.get(&address) != Some(&row);
            self.rows.insert(address, row);
        }
        Ok(has_news)
    }

    /// Addresses whose claims have something to do now.
    fn due(&self, now: Millis) -> impl Iterator<Item = IpAddr> {
        self.claims.iter().filter(move |(_, claim)| now >= claim.due()).map(|((ip, _), _)| *ip)
    }

    fn holds(&self, place: Place) -> bool {
        self.claims.get(&place).is_some_and(Claim::is_held)
    }

    /// The interface whose network an address is of, and that may announce its pool.
    fn interface<'a>(
        &self,
        interfaces: &'a Interfaces,
        address: IpAddr,
        pool: &str,
    ) -> Option<&'a Interface> {
        let hooks = self.inputs.hooks.borrow();
        let labels = Arc::clone(&self.inputs.served.borrow().world.node.labels);
        let allowed = self.inputs.settings.borrow().l2.allowed(pool, &labels);
        // A node that may not announce the address follows it where the others announce it.
        let is_refused = self.refuses.contains(pool);
        let is_near = |i: &&Interface| {
            let may = is_refused || allowed.has(&i.name);
            may && i.is_ethernet && i.subnets.iter().any(|net| net.contains(&address))
        };
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

    /// Gives up addresses that no Service has any more, or that are of another interface now.
    fn drop_others(&mut self, is_due: bool) -> anyhow::Result<()> {
        let before = self.claims.len();
        let is_place = |(address, index): &Place| {
            self.rows.get(address).is_some_and(|(interface, _)| *interface == Some(*index))
        };
        self.claims.retain(|place, _| is_place(place));
        if is_due || self.claims.len() != before {
            for place in self.table.places().into_iter().filter(|place| !is_place(place)) {
                self.table.disarm(place)?;
            }
        }
        Ok(())
    }
}

fn is_uplink(hooks: &HooksStatus, interface: &Interface) -> bool {
    let status = hooks.interfaces.iter().find(|status| status.index == interface.index);
    status.is_some_and(|status| status.role == "uplink" && !status.hooks.is_empty())
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
