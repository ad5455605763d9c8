//! Verdicts and reasons beyond a plain forward.

use anyhow::{Result, ensure};
use svc_tests::manifests::{SERVER_PORT, Service};
use svc_tests::topology::{Family, service};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

use super::{Add, DROPPED, FORWARDED, NO_SERVICE, ask, expect, has_step, name};
use svc_tests::testbed::Testbed;

pub fn add(add: &mut Add<'_>) {
    let plain = Default::default();
    add("no socket hook serves SCTP of the node (SEM-010)", plain, &["near"], sctp);
    add(
        "a client of policy Local without local backend is dropped (SEM-061, SEM-094)",
        plain,
        &["far"],
        dropped,
    );
    add("the route is that of the whole packet", plain, &["near"], routed);
}

fn sctp(testbed: &mut Testbed) -> Result<()> {
    let (name_of_service, node_port) = ("assoc".into(), 30_081);
    let of_tcp =
        Service { name: name_of_service, cluster: service(11), node_port, ..testbed.service(&["near"])? };
    let text = of_tcp.yaml().replace("UDP", "SCTP").replace("udp", "sctp");
    testbed.world.folder.write("assoc.yaml", &text)?;
    for family in Family::BOTH {
        let to = (service(11).of(family), 80).into();
        let pod = name(testbed, "pod", family)?;
        // A bridge learns the port of a pod by its packets.
        testbed.answered_by("near", "pod", svc_tests::agent::Via::Tcp, testbed.cluster_ip(family))?;
        wait::until_true("the Service is served", CHANGE_LIMIT, || {
            Ok(ask(testbed, &pod, to, "SCTP").is_ok_and(|answered| answered.0 == FORWARDED))
        })?;
        let own = testbed.world.topology.node(1).host.addrs.of(family).to_string();
        for client in ["node", &own] {
            let answered = ask(testbed, client, to, "SCTP")?;
            expect(&answered, NO_SERVICE, "no-service")?;
            has_step(&answered, "connect", "SCTP", "SEM-010")?;
            has_step(&answered, "frontend", "default/assoc", "")?;
            expect(&ask(testbed, client, to, "TCP")?, FORWARDED, "forwarded")?;
            // Neither is an unknown port refused.
            expect(&ask(testbed, client, (to.ip(), 81).into(), "SCTP")?, NO_SERVICE, "no-service")?;
        }
    }
    Ok(())
}

fn dropped(testbed: &mut Testbed) -> Result<()> {
    let policies = "  internalTrafficPolicy: Local\n  externalTrafficPolicy: Local\n  ports:\n";
    let text = testbed.manifest(&["far"])?.replacen("  ports:\n", policies, 1);
    testbed.world.folder.write("web.yaml", &text)?;
    for family in Family::BOTH {
        let client = name(testbed, "client", family)?;
        wait::until_true("the policy is in force", CHANGE_LIMIT, || {
            Ok(ask(testbed, &client, testbed.cluster_ip(family), "TCP")?.0 == DROPPED)
        })?;
        for to in [testbed.cluster_ip(family), testbed.node_port(family)] {
            let answered = ask(testbed, &client, to, "TCP")?;
            expect(&answered, DROPPED, "dropped")?;
            ensure!(answered.1["reason"] == "drop_no_local_endpoint", "{:#}", answered.1);
            has_step(&answered, "left out", "on another node, and the traffic policy is Local", "SEM-061")?;
            has_step(&answered, "leaves", "a dropped packet has no answer", "SEM-094")?;
        }
        expect(&ask(testbed, "node", testbed.node_port(family), "TCP")?, FORWARDED, "forwarded")?;
    }
    Ok(())
}

/// A rule for the port of the backend has no route. That of the backend's address alone has one.
fn routed(testbed: &mut Testbed) -> Result<()> {
    for family in Family::BOTH {
        let (pod, to) = (name(testbed, "pod", family)?, testbed.cluster_ip(family));
        testbed.answered_by("near", "pod", svc_tests::agent::Via::Tcp, to)?;
        let before = ask(testbed, &pod, to, "TCP")?;
        expect(&before, FORWARDED, "forwarded")?;
        if testbed.bridged() {
            // Past the stack, by a redirect between ports of one bridge.
            continue;
        }
        has_step(&before, "leaves", "routes it out of vethnear", "")?;
        let node = &testbed.world.topology.node(1).host.netns;
        node.ip_of(
            family,
            &format!(
                "rule add priority 10 iif vethpod from {pod} ipproto tcp dport {SERVER_PORT} lookup 77\n\
                 route add unreachable default table 77"
            ),
        )?;
        has_step(&ask(testbed, &pod, to, "TCP")?, "leaves", "does not route it", "")?;
        has_step(&ask(testbed, &pod, to, "UDP")?, "leaves", "routes it out of vethnear", "")?;
    }
    Ok(())
}
