//! A case: the preparation of the nodes, and each client's result in each of three variants.

use anyhow::{Context, Result};
use libtest_mimic::{Completion, Trial};
use svc_tests::daemon::Flags;
use svc_tests::standin;
use svc_tests::topology::{Addrs, Options, missing_kind};

use crate::lab::Lab;

/// The proxy that serves Services.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// No proxy.
    Direct,
    /// nft rules like kube-proxy's: the control.
    Nft,
    Svc,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::Direct, Self::Nft, Self::Svc];
}

/// The destination; a Service is named after its backend.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// A host's own address.
    Own(&'static str),
    ClusterIp(&'static str),
    External(&'static str),
    /// At node1.
    NodePort(&'static str),
    NodePortAt(&'static str, Addrs),
}

/// Result of a request.
#[derive(Clone, Copy, Debug)]
pub enum ClientOutcome {
    Server(&'static str),
    Refusal,
    Silence,
    /// Refusal, silence, or no route.
    NoAnswer,
    /// An ICMP error of a router reaches the client's socket.
    Unreachable,
}

/// A client, its destination, and its result, over TCP and UDP and in both families.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub client: &'static str,
    to: Target,
    /// The destination without a proxy.
    directly: Target,
    direct: ClientOutcome,
    nft: ClientOutcome,
    svc: ClientOutcome,
}

impl Row {
    /// The server answers in every variant; without a proxy the client dials the server's own address.
    pub const fn answered(client: &'static str, to: Target, server: &'static str) -> Self {
        let met = ClientOutcome::Server(server);
        Self { client, to, directly: Target::Own(server), direct: met, nft: met, svc: met }
    }

    /// Clients of each place and backends of each place, all answered.
    pub fn of_each_place() -> Vec<Self> {
        vec![
            Self::answered("client", Target::NodePort("far"), "far"),
            Self::answered("client", Target::NodePort("near"), "near"),
            Self::answered("pod", Target::NodePort("far"), "far"),
            Self::answered("pod", Target::NodePort("pod"), "pod"),
            Self::answered("pod", Target::ClusterIp("pod"), "pod"),
            Self::answered("node1", Target::ClusterIp("far"), "far"),
        ]
    }

    /// The same address gives the same result in every variant.
    pub const fn always(client: &'static str, to: Target, met: ClientOutcome) -> Self {
        Self { client, to, directly: to, direct: met, nft: met, svc: met }
    }

    pub const fn direct(self, met: ClientOutcome) -> Self {
        Self { direct: met, ..self }
    }

    pub const fn nft(self, met: ClientOutcome) -> Self {
        Self { nft: met, ..self }
    }

    pub const fn svc(self, met: ClientOutcome) -> Self {
        Self { svc: met, ..self }
    }

    pub fn in_way(&self, way: Way) -> (Target, ClientOutcome) {
        match way {
            Way::Direct => (self.directly, self.direct),
            Way::Nft => (self.to, self.nft),
            Way::Svc => (self.to, self.svc),
        }
    }
}

/// A further check and, for the page, its sentence.
pub type Check<F> = Option<(&'static str, F)>;

/// One case of docs/coexistence.md.
pub struct Case {
    /// Its number and a sentence.
    pub name: String,
    pub options: Options,
    pub pod_sockets: bool,
    pub flags: &'static [&'static str],
    /// Kinds of devices that the case needs. Without one of them it is skipped.
    pub kinds: &'static [&'static str],
    /// Prepares what the node has beside svc.
    pub prepare: fn(&mut Lab) -> Result<()>,
    pub rows: Vec<Row>,
    /// Further checks in each variant.
    pub each: Check<fn(&mut Lab, Way) -> Result<()>>,
    /// Further checks with svc.
    pub also: Check<fn(&mut Lab) -> Result<()>>,
}

impl Case {
    /// A case with routed pods, default flags except for the sockets of pods, and no further checks.
    pub fn new(number: &str, sentence: &str, rows: Vec<Row>) -> Self {
        Self {
            name: format!("{number}: {sentence}"),
            options: Options::default(),
            pod_sockets: false,
            flags: &[],
            kinds: &[],
            prepare: |_| Ok(()),
            rows,
            each: None,
            also: None,
        }
    }

    pub fn trial(self) -> Trial {
        let name = self.name.clone();
        Trial::ignorable_test(name, move || {
            for kind in self.kinds {
                if let Some(reason) = missing_kind(kind)? {
                    return Ok(Completion::ignored_with(reason));
                }
            }
            let initials = self.name.split(' ').filter_map(|word| word.chars().next());
            let short: String = self.kinds.concat().chars().chain(initials).collect();
            let mut lab =
                Lab::new(&short, self.options).map_err(|error| format!("no laboratory: {error:#}"))?;
            let played = self.play(&mut lab);
            played.map_err(|error| format!("{error:#}\n{}", lab.world.diagnosis()))?;
            Ok(Completion::Completed)
        })
    }

    fn play(&self, lab: &mut Lab) -> Result<()> {
        (self.prepare)(lab).context("prepare")?;
        // On a busy machine the hosts of a new lab need a moment to resolve each other.
        lab.soon(Way::Direct, &self.rows)?;
        self.check_each(lab, Way::Direct)?;
        lab.world.topology.nodes.iter().try_for_each(|node| standin::install(node, &lab.services))?;
        lab.check(Way::Nft, &self.rows)?;
        self.check_each(lab, Way::Nft)?;
        lab.world.topology.nodes.iter().try_for_each(standin::remove)?;
        let flags = Flags { pod_sockets: self.pod_sockets, ..Flags::default() };
        lab.world.start_with(flags, self.flags)?;
        lab.check(Way::Svc, &self.rows)?;
        self.check_each(lab, Way::Svc)?;
        match self.also {
            Some((sentence, check)) => check(lab).context(sentence),
            None => Ok(()),
        }
    }

    fn check_each(&self, lab: &mut Lab, way: Way) -> Result<()> {
        match self.each {
            Some((sentence, check)) => check(lab, way).with_context(|| format!("{way:?}: {sentence}")),
            None => Ok(()),
        }
    }
}
