//! The measured cases of the programs at TC. All packets from and to pods pass these.

use anyhow::{Context as _, Result, ensure};
use svc_common::abi::{Counter, FlowKey};
use svc_common::addr::{Port, Proto};

use crate::cases::{
    Case, FamilySetup, PASS_TARGET, Product, TTL, client_key, client_variant, expect, key_of, variant,
};
use crate::node::{BACKEND_PORT, GATEWAY_MAC, SERVICE_PORT, UPLINK_MAC};
use crate::packet::{Wire, build};
use crate::tables::{Maps, counter};
use crate::wrapper::{Flows, MANY, Setting, Wrapper};

/// `TCX_NEXT`.
pub const NEXT: u32 = u32::MAX;
const EMPTY: &str = "floor: empty program at TC";
const LOOKUP: &str = "floor: LRU look-up at TC, 1 flow";

/// Positions in [`TC_PROGRAMS`](crate::wrapper::TC_PROGRAMS).
pub const POD_INGRESS: usize = 0;
const POD_EGRESS: usize = 1;
pub const UPLINK_INGRESS: usize = 2;
const UPLINK_EGRESS: usize = 3;

/// Checks the cases of a family. `prepare` of the XDP cases has run before.
pub fn prepare<F: Maps + Wire>(
    setup: &FamilySetup,
    wrapper: &mut Wrapper,
    product: &mut Product,
) -> Result<Vec<Case>> {
    let setting = |template, list, flows, program| Setting {
        wrapper: setup.tc_wrapper,
        template,
        list: setup.list + list,
        flows,
        program,
    };
    let macs = [UPLINK_MAC, GATEWAY_MAC];
    let [empty, lookup] = setup.tc_floors;
    let known = build::<F>(macs, &key_of::<F>(F::client(), F::node(), 1024, crate::node::NODE_PORT), TTL);
    let mut cases = Vec::new();
    for (id, name, program) in [("floor.tc.empty", EMPTY, empty), ("floor.tc.lookup.flows_1", LOOKUP, lookup)]
    {
        let setting = setting(known, 0, Flows::One, program);
        expect(setup, name, wrapper.first(&setting)?, NEXT, &known)?;
        cases.push(setup.case(id, name, setting, None));
    }

    // Packets of no Service: list 2 has clients, list 3 the node as sender.
    let from_node = FlowKey { src: F::node(), ..key_of::<F>(F::client(), F::backend(200), 1024, 9) };
    let node_variant =
        |i: u32| variant::<F>(&FlowKey { sport: Port::new(32_768 + (i & 0x7fff) as u16), ..from_node });
    wrapper.set_variants(setup.list + 3, (0..MANY).map(node_variant))?;
    let paths = [
        (POD_INGRESS, "pod_ingress", 2, F::client(), F::backend(200)),
        (POD_EGRESS, "pod_egress", 2, F::client(), F::backend(200)),
        (UPLINK_INGRESS, "uplink_ingress.node", 2, F::client(), F::node()),
        (UPLINK_INGRESS, "uplink_ingress.transit", 2, F::client(), F::backend(200)),
        (UPLINK_EGRESS, "uplink_egress.transit", 2, F::client(), F::backend(200)),
        (UPLINK_EGRESS, "uplink_egress.node", 3, F::node(), F::backend(200)),
    ];
    for (program, path, list, src, dst) in paths {
        for (proto, letters) in [(Proto::TCP, "tcp"), (Proto::UDP, "udp")] {
            let first = if list == 3 { 32_768 } else { 1024 };
            let packet = build::<F>(macs, &FlowKey { proto, ..key_of::<F>(src, dst, first, 9) }, TTL);
            for (flows, tuples) in [(Flows::One, "1"), (Flows::Many, "64k")] {
                let setting = setting(packet, list, flows, product.tc[program]);
                expect(setup, path, wrapper.first(&setting)?, NEXT, &packet)?;
                let id = format!("tc.{path}.pass.{letters}.tuples_{tuples}");
                let name = format!("{path}, not a service, {letters}, {tuples}");
                cases.push(setup.case(id, name, setting, Some((LOOKUP, PASS_TARGET))));
            }
        }
    }

    // A pod's flows to a ClusterIP with one backend on this node: DNAT at pod ingress, undone at pod egress.
    let there = key_of::<F>(F::client(), F::cluster_ip(), 1024, SERVICE_PORT);
    wrapper.set_variants(setup.list + 4, (0..MANY).map(|i| client_variant::<F>(&there, i)))?;
    let service = build::<F>(macs, &there, TTL);
    let forwards = |flows| setting(service, 4, flows, product.tc[POD_INGRESS]);
    let translated = FlowKey { dst: F::local_backend(), dport: Port::new(BACKEND_PORT), ..there };
    for new in [1, 0] {
        let before = counter(&mut product.ebpf, Counter::FlowNew)?;
        let first = wrapper.first(&forwards(Flows::One))?;
        expect(setup, "pod_ingress", first, NEXT, &build::<F>(macs, &translated, TTL))?;
        let made = counter(&mut product.ebpf, Counter::FlowNew)? - before;
        ensure!(made == new, "{}: {made} flows made at pod ingress, expected {new}", setup.name);
    }
    wrapper.run(&forwards(Flows::Many), MANY)?;
    F::assure(&mut product.ebpf)?;
    let records: std::collections::HashMap<_, _> = F::flows(&mut product.ebpf)?.into_iter().collect();
    for i in 0..MANY {
        records.get(&client_key::<F>(&there, i)).with_context(|| format!("flow {i} has no record"))?;
    }
    // All replies come from one tuple; the wrapper varies the source, so only one flow is measured.
    let back = build::<F>(macs, &translated.swapped(), TTL);
    wrapper.set_variants(setup.list + 5, (0..MANY).map(|_| variant::<F>(&translated.swapped())))?;
    let reverses = setting(back, 5, Flows::One, product.tc[POD_EGRESS]);
    expect(setup, "pod_egress", wrapper.first(&reverses)?, NEXT, &build::<F>(macs, &there.swapped(), TTL))?;
    for (flows, number) in [(Flows::One, "1"), (Flows::Many, "64k")] {
        let id = format!("tc.pod_ingress.established.flows_{number}");
        cases.push(setup.case(id, format!("pod_ingress, established, {number}"), forwards(flows), None));
    }
    let (id, name) = ("tc.pod_egress.established.flows_1", "pod_egress, established, 1");
    cases.push(setup.case(id, name, reverses, None));
    Ok(cases)
}
