//! A case: what is prepared on the nodes, and what each client meets in each of three ways.

use anyhow::{Context, Result};
use libtest_mimic::Trial;
use svc_tests::daemon::Flags;
use svc_tests::standin;
use svc_tests::topology::{Addrs, Options};

use crate::lab::Lab;

/// What serves Services.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// Nothing.
    Direct,
    /// Rules of nft as kube-proxy's: the control.
    Nft,
    Svc,
}

/// What is dialled; a Service by the name of its backend.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// A host's own address.
    Own(&'static str),
    ClusterIp(&'static str),
    /// At node1.
    NodePort(&'static str),
    NodePortAt(&'static str, Addrs),
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub enum Met {
    Server(&'static str),
    Refusal,
    Silence,
}

/// A client, what it dials, and what it meets, over TCP and UDP and in both families.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub client: &'static str,
    to: Target,
    /// What is dialled where nothing serves Services.
    directly: Target,
    direct: Met,
    nft: Met,
    svc: Met,
}

impl Row {
    /// The server answers in every way; where nothing serves Services it is dialled by its own address.
    pub const fn answered(client: &'static str, to: Target, server: &'static str) -> Self {
        let met = Met::Server(server);
        Self { client, to, directly: Target::Own(server), direct: met, nft: met, svc: met }
    }

    /// The same address meets the same in every way.
    pub const fn always(client: &'static str, to: Target, met: Met) -> Self {
        Self { client, to, directly: to, direct: met, nft: met, svc: met }
    }

    pub const fn direct(self, met: Met) -> Self {
        Self { direct: met, ..self }
    }

    pub const fn nft(self, met: Met) -> Self {
        Self { nft: met, ..self }
    }

    pub const fn svc(self, met: Met) -> Self {
        Self { svc: met, ..self }
    }

    pub fn in_way(&self, way: Way) -> (Target, Met) {
        match way {
            Way::Direct => (self.directly, self.direct),
            Way::Nft => (self.to, self.nft),
            Way::Svc => (self.to, self.svc),
        }
    }
}

/// One case of docs/coexistence.md.
pub struct Case {
    /// Its number and a sentence.
    pub name: String,
    pub options: Options,
    pub pod_sockets: bool,
    pub flags: &'static [&'static str],
    /// What the node has besides svc.
    pub prepare: fn(&mut Lab) -> Result<()>,
    pub rows: Vec<Row>,
    /// What else holds with svc.
    pub also: fn(&mut Lab) -> Result<()>,
}

impl Case {
    /// A case of routed pods, default flags but for the sockets of pods, and nothing else to see.
    pub fn new(number: &str, sentence: &str, rows: Vec<Row>) -> Self {
        Self {
            name: format!("{number}: {sentence}"),
            options: Options::default(),
            pod_sockets: false,
            flags: &[],
            prepare: |_| Ok(()),
            rows,
            also: |_| Ok(()),
        }
    }

    pub fn trial(self) -> Trial {
        let name = self.name.clone();
        Trial::test(name, move || {
            let short: String = self.name.split(' ').filter_map(|word| word.chars().next()).collect();
            let mut lab =
                Lab::new(&short, self.options).map_err(|error| format!("no laboratory: {error:#}"))?;
            let played = self.play(&mut lab);
            played.map_err(|error| format!("{error:#}\n{}", lab.world.diagnosis()).into())
        })
    }

    fn play(&self, lab: &mut Lab) -> Result<()> {
        (self.prepare)(lab).context("prepare")?;
        // On a busy machine the hosts of a new laboratory take a moment to find each other.
        lab.soon(Way::Direct, &self.rows)?;
        let nodes = || lab.world.topology.nodes.iter();
        nodes().try_for_each(|node| standin::install(node, &lab.services))?;
        lab.check(Way::Nft, &self.rows)?;
        nodes().try_for_each(standin::remove)?;
        let flags = Flags { pod_sockets: self.pod_sockets, ..Flags::default() };
        lab.world.start_with(flags, self.flags)?;
        lab.check(Way::Svc, &self.rows)?;
        (self.also)(lab)
    }
}
