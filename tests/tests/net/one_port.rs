//! A pod whose sockets share a source port: one is led to the backend by the socket hooks, the other by the packet
//! path. The backend must be able to tell the two apart.

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::Via;
use svc_tests::daemon::Flags;
use svc_tests::topology::{Family, Options, Shape};

use crate::stage::{Stage, scenario};

/// Two rounds over two sockets.
const ANSWERS: usize = 4;

pub fn trials() -> Vec<Trial> {
    let shapes = [(Shape::Routed, "routed"), (Shape::Bridged, "bridged")];
    let trial = |(shape, name): (Shape, &str)| {
        let flags = Flags { pod_sockets: true, ..Flags::default() };
        let options = Options { shape, ..Options::default() };
        let name =
            format!("{name}: a pod dials a ClusterIP and a NodePort from one port at a time (SEM-080)");
        scenario(&name, move |test| Stage::new(test, options, flags, &["near"]), both_are_served)
    };
    shapes.into_iter().map(trial).collect()
}

fn both_are_served(stage: &mut Stage) -> Result<()> {
    for server in ["near", "far", "node1", "node2"] {
        stage.set_backends(&[server])?;
        for family in Family::BOTH {
            let (direct, translated) = (stage.cluster_ip(family), stage.node_port(family));
            stage.soon_answered_by(server, "pod", direct)?;
            stage.soon_answered_by(server, "pod", translated)?;
            for via in [Via::Tcp, Via::UdpConnected] {
                for to in [[direct, translated], [translated, direct]] {
                    let answers = stage.agent("pod")?.ask_from_one_port(via, &to);
                    let answers = answers.with_context(|| format!("{via} {to:?}, served by {server}"))?;
                    ensure!(answers.len() == ANSWERS && answers.iter().all(|a| a.server == server));
                }
            }
        }
    }
    Ok(())
}
