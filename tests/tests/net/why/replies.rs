//! Packets of live flows in the direction of the reply.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use svc_tests::topology::Family;
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

use super::{Add, FORWARDED, ask, expect};
use svc_tests::testbed::{Testbed, no_failure};

pub fn add(add: &mut Add<'_>) {
    let plain = Default::default();
    add(
        "the reply of a pod goes where its record says, from the frontend (SEM-079)",
        plain,
        &["near"],
        replies,
    );
    add("the reply of the node itself is translated at egress (SEM-079)", plain, &["node1"], replies);
    add("the reply of a remote backend goes to its client (SEM-079)", plain, &["far"], replies);
}

/// The records of the flows to a frontend in the other direction, by `get flows`.
fn reverse_records(testbed: &mut Testbed, frontend: &str) -> Result<Vec<Value>> {
    let (node, daemon) = testbed.world.on_node(1)?;
    let flows = daemon.get(node, "flows")?;
    let is_it = |flow: &&Value| flow["direction"] == "reverse" && flow["becomes_from"] == frontend;
    Ok(flows.as_array().context("no list of flows")?.iter().filter(is_it).cloned().collect())
}

fn replies(testbed: &mut Testbed) -> Result<()> {
    for family in Family::BOTH {
        for (client, to) in [("client", testbed.node_port(family)), ("pod", testbed.cluster_ip(family))] {
            let stream = testbed.agent(client)?.start_stream(to, 20)?;
            let record = wait::until("the reply has a record", CHANGE_LIMIT, || {
                Ok(reverse_records(testbed, &to.to_string())?.pop())
            })?;
            let end = |field: &str| record[field].as_str().map(str::to_owned).context("no address");
            let answered = ask(testbed, &end("from")?, end("to")?.parse()?, "TCP")?;
            expect(&answered, FORWARDED, "forwarded")?;
            for (field, expected) in
                [("backend", "from"), ("source", "becomes_from"), ("destination", "becomes_to")]
            {
                ensure!(answered.1[field] == record[expected], "{field}: {record:#}: {:#}", answered.1);
            }
            no_failure("the stream", &stream.stop()?)?;
        }
    }
    Ok(())
}
