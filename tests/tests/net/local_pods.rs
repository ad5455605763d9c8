//! Local pods by their interfaces (SEM-090): at a ClusterIP a backend of another node sees a local pod, and this node in the
//! place of every other client (SEM-081).

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::Via;
use svc_tests::daemon::Flags;
use svc_tests::testbed::{Testbed, scenario};
use svc_tests::topology::{Family, Options, Shape};

/// Flags of a daemon, and which clients are local pods to it.
struct Case {
    sentence: &'static str,
    shape: Shape,
    flags: &'static [&'static str],
    clients: &'static [(&'static str, bool)],
}

const BY_BRIDGE: &str = "--detect-local-mode=bridge-interface";
const BY_PREFIX: &str = "--detect-local-mode=interface-name-prefix";

/// Without these flags the pods `pod` and `near` are local. Their interfaces are called `vethpod` and `vethnear`; bridged ones are
/// ports of `cni0`.
const CASES: [Case; 4] = [
    Case {
        sentence: "only pods whose interfaces have the configured prefix are local (SEM-090)",
        shape: Shape::Routed,
        flags: &[BY_PREFIX, "--pod-interface-name-prefix=vethp"],
        clients: &[("pod", true), ("near", false), ("client", false)],
    },
    Case {
        sentence: "with another prefix other pods are local (SEM-090)",
        shape: Shape::Bridged,
        flags: &[BY_PREFIX, "--pod-interface-name-prefix=vethn"],
        clients: &[("pod", false), ("near", true), ("client", false)],
    },
    Case {
        sentence: "pods at the configured bridge are local (SEM-090)",
        shape: Shape::Bridged,
        flags: &[BY_BRIDGE, "--pod-bridge-interface=cni0"],
        clients: &[("pod", true), ("near", true), ("client", false)],
    },
    Case {
        sentence: "pods at another bridge than the configured one are not local (SEM-090)",
        shape: Shape::Bridged,
        flags: &[BY_BRIDGE, "--pod-bridge-interface=cni1"],
        clients: &[("pod", false), ("near", false), ("client", false)],
    },
];

pub fn trials() -> Vec<Trial> {
    let trial = |case: &'static Case| {
        let set = |test: &str| {
            let options = Options { shape: case.shape, ..Options::default() };
            let mut testbed = Testbed::without_svc(test, options)?;
            // The CNI's masquerade would hide the pod's address from another node.
            testbed.world.end_cni_masquerade()?;
            testbed.set_backends(&["far"])?;
            testbed.world.start_with(Flags::default(), case.flags)?;
            Ok(testbed)
        };
        scenario(case.sentence, set, |testbed| check(testbed, case.clients))
    };
    CASES.iter().map(trial).collect()
}

fn check(testbed: &mut Testbed, clients: &[(&str, bool)]) -> Result<()> {
    let topology = &testbed.world.topology;
    for family in Family::BOTH {
        for &(client, is_local) in clients {
            let owner = if is_local { client } else { "node1" };
            for via in [Via::Tcp, Via::UdpConnected, Via::UdpUnconnected] {
                let seen = seen_by_far(testbed, client, via, family)?;
                let expected = topology.host(owner)?.addrs.of(family);
                ensure!(
                    seen == expected,
                    "{client} {via} {family:?}: far sees {seen}, not {owner}'s {expected}"
                );
            }
        }
    }
    Ok(())
}

/// The address from which the backend sees a request to the ClusterIP.
fn seen_by_far(testbed: &Testbed, client: &str, via: Via, family: Family) -> Result<IpAddr> {
    let to = testbed.cluster_ip(family);
    let answers = testbed.agent(client)?.ask(via, to, 1).with_context(|| format!("{client} {via} {to}"))?;
    let answer = answers.first().context("no answer")?;
    ensure!(answer.server == "far", "{} answers {client} at {to}", answer.server);
    Ok(answer.seen_from.ip())
}
