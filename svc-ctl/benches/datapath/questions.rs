//! The measured cases of a packet without a record at an address of a Service: what it asks before a flow begins, and the ways
//! in which none does.

use std::net::UdpSocket;

use anyhow::{Context as _, Result, ensure};
use svc_common::abi::{Counter, FlowKey};
use svc_common::addr::{Port, Proto};
use svc_ctl::dataplane::encode::Encode;

use crate::cases::{
    Case, FILL, FamilySetup, INSERT, Product, TTL, XDP_PASS, XDP_TX, expect, key_of, variant,
};
use crate::node::{GATEWAY_MAC, NODE_PORT, SERVICE_PORT, UPLINK_MAC};
use crate::packet::{LEN, SYN, Wire, build, with_flags};
use crate::tables::{Maps, counter};
use crate::tc::{NEXT, POD_INGRESS};
use crate::wrapper::{Flows, MANY, Setting, Wrapper};

/// Source ports of clients, below those of the other cases.
const OLDER: u16 = 900;
const ANSWER: u16 = 901;

/// Checks the cases of a family. `prepare` of the other cases has run before, and has filled the flow table of `product`.
pub fn prepare<F: Maps + Wire>(
    setup: &FamilySetup,
    wrapper: &mut Wrapper,
    product: &mut Product,
) -> Result<Vec<Case>>
where
    F::Addr: Encode,
{
    let macs = [UPLINK_MAC, GATEWAY_MAC];
    let xdp = |template: [u8; LEN], list, flows| Setting {
        wrapper: setup.wrapper,
        template,
        list: setup.list + list,
        flows,
        program: product.program,
    };
    let mut cases = Vec::new();

    // A SYN asks for no socket and for no older connection.
    let to_node = key_of::<F>(F::client(), F::node(), 1024, NODE_PORT);
    let tcp = FlowKey { proto: Proto::TCP, ..to_node };
    let syn = xdp(with_flags::<F>(macs, &tcp, TTL, SYN), 0, Flows::Fresh);
    begins_flow(wrapper, &mut product.ebpf, &syn, XDP_TX)?;
    cases.push(setup.case("xdp.new.syn.full", "new flow each SYN, table full", syn, Some((INSERT, 1.0))));

    // A datagram at a ClusterIP asks for neither. The variants are those of the established flows at pod ingress.
    let to_service = key_of::<F>(F::client(), F::cluster_ip(), 1024, SERVICE_PORT);
    let pod = Setting {
        wrapper: setup.tc_wrapper,
        template: build::<F>(macs, &to_service, TTL),
        list: setup.list + 4,
        flows: Flows::Fresh,
        program: product.tc[POD_INGRESS],
    };
    begins_flow(wrapper, &mut product.ebpf, &pod, NEXT)?;
    cases.push(setup.case(
        "tc.pod_ingress.new.full",
        "pod_ingress, new flow each packet, table full",
        pod,
        Some((INSERT, 1.0)),
    ));

    // A segment of a connection that is older than its frontend.
    let older = FlowKey { sport: Port::new(OLDER), ..tcp };
    F::store_older(&mut product.ebpf, &older)?;
    let segment = build::<F>(macs, &older, TTL);
    wrapper.set_variants(setup.list + 6, (0..MANY).map(|_| variant::<F>(&older)))?;
    let past = xdp(segment, 6, Flows::One);
    expect(setup, "older connection", wrapper.first(&past)?, XDP_PASS, &segment)?;
    cases.push(setup.case("xdp.past.older", "at a NodePort, older connection", past, None));

    // A datagram that answers a socket of the node.
    let answer = FlowKey { sport: Port::new(ANSWER), ..to_node };
    let datagram = build::<F>(macs, &answer, TTL);
    wrapper.set_variants(setup.list + 7, (0..MANY).map(|_| variant::<F>(&answer)))?;
    let past = xdp(datagram, 7, Flows::One);
    let socket = UdpSocket::bind((answer.dst.to_ip(), NODE_PORT)).context("a socket at the NodePort")?;
    socket.connect((answer.src.to_ip(), ANSWER))?;
    expect(setup, "answer to the node", wrapper.first(&past)?, XDP_PASS, &datagram)?;
    // Until the process ends.
    std::mem::forget(socket);
    cases.push(setup.case("xdp.past.socket", "at a NodePort, answer to a socket of the node", past, None));
    Ok(cases)
}

/// Fills the flow table and checks that each packet begins a flow.
fn begins_flow(wrapper: &mut Wrapper, ebpf: &mut aya::Ebpf, fresh: &Setting, verdict: u32) -> Result<()> {
    wrapper.run(fresh, FILL)?;
    let before = counter(ebpf, Counter::FlowNew)?;
    let (out, _) = wrapper.first(fresh)?;
    ensure!(out == verdict, "a new flow's packet: verdict {out}, expected {verdict}");
    ensure!(counter(ebpf, Counter::FlowNew)? == before + 1, "no new flow was made");
    Ok(())
}
