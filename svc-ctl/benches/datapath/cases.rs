//! The measured cases: the program, the lower bound to compare with, and a check that the first packet is treated
//! correctly.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use svc_common::abi::{Counter, FlowKey};
use svc_common::addr::{Port, Proto};
use svc_common::family::Family;

use crate::node::{BACKENDS, GATEWAY_MAC, NODE_PORT, Plan, REMOTE_MAC, UPLINK_MAC};
use crate::packet::{LEN, Wire, build};
use crate::tables::{Maps, counter, moved};
use crate::wrapper::{Flows, MANY, Setting, Variant, Wrapper};

/// Packets of no Service may cost this many look-ups of one flow.
pub const PASS_TARGET: f64 = 0.8;
const XDP_DROP: u32 = 1;
pub const XDP_PASS: u32 = 2;
pub const XDP_TX: u32 = 3;
pub const TTL: u8 = 64;
/// Enough packets to fill a flow table twice.
pub const FILL: u32 = 300_000;

#[derive(Debug)]
pub struct Case {
    pub family: &'static str,
    /// Its name in the report, without the family: `xdp.established.forward.flows_1`.
    pub id: String,
    pub name: String,
    pub setting: Setting,
    /// The lower bound to compare with (a case of the same family), and the ratio to keep.
    pub against: Option<(&'static str, f64)>,
}

/// A loaded product: its maps, and its index among the programs under test.
pub struct Product {
    pub ebpf: Ebpf,
    pub program: u32,
    /// Programs at TC, in the order of [`TC_PROGRAMS`](crate::wrapper::TC_PROGRAMS).
    pub tc: [u32; 4],
}

const EMPTY: &str = "floor: empty program";
pub const TURN: &str = "floor: parse + TX";
/// F1 of the targets.
pub const LOOKUP_ONE: &str = "floor: LRU look-up, 1 flow";
const LOOKUP: &str = "floor: LRU look-up, 64k flows";
pub const INSERT: &str = "floor: LRU insert, table full";

/// Data that the cases of a family share.
pub struct FamilySetup {
    pub name: &'static str,
    pub wrapper: &'static str,
    /// Indices of the bench's programs `empty`, `turn`, `lookup`, `insert`.
    pub floors: [u32; 4],
    /// Indices of the bench's programs `empty_tc`, `lookup_tc`, and the wrapper at TC.
    pub tc_floors: [u32; 2],
    pub tc_wrapper: &'static str,
    /// Index of the first of this family's lists of variants.
    pub list: u32,
    /// Target of an established flow, in look-ups of one flow.
    pub one: f64,
}

impl FamilySetup {
    pub fn case(
        &self,
        id: impl Into<String>,
        name: impl Into<String>,
        setting: Setting,
        against: Option<(&'static str, f64)>,
    ) -> Case {
        Case { family: self.name, id: id.into(), name: name.into(), setting, against }
    }
}

/// Sets up a family and checks each of its cases. `established` keeps its flows, `flooded` gets only new ones, and `limited`
/// begins one a second.
pub fn prepare<F: Maps + Wire>(
    setup: &FamilySetup,
    wrapper: &mut Wrapper,
    established: &mut Product,
    flooded: &mut Product,
    limited: &mut Product,
) -> Result<Vec<Case>> {
    let forward_key = key_of::<F>(F::client(), F::node(), 1024, NODE_PORT);
    let forward = build::<F>([UPLINK_MAC, GATEWAY_MAC], &forward_key, TTL);
    wrapper.set_variants(setup.list, (0..MANY).map(|i| client_variant::<F>(&forward_key, i)))?;
    let setting =
        |template, list, flows, program| Setting { wrapper: setup.wrapper, template, list, flows, program };
    let forwards = |flows, program| setting(forward, setup.list, flows, program);
    // The first packet makes the flow, the second finds its record; both must come out the same.
    let service = forwards(Flows::One, established.program);
    let translated = |product: &mut Product| -> Result<FlowKey<F::Addr>> {
        let flows: HashMap<_, _> = F::flows(&mut product.ebpf)?.into_iter().collect();
        let to = flows.get(&forward_key).context("the first packet left no record")?;
        ensure!((1..=BACKENDS).any(|n| to.dst == F::backend(n)), "{:?} is no backend", to.dst);
        ensure!(to.src == F::node(), "masqueraded as {:?}", to.src);
        Ok(key_of::<F>(to.src, to.dst, to.sport.number(), to.dport.number()))
    };
    for new in [1, 0] {
        let before = counter(&mut established.ebpf, Counter::FlowNew)?;
        let first = wrapper.first(&service)?;
        let counters = moved(&mut established.ebpf)?;
        let to =
            translated(established).with_context(|| format!("verdict {}, counters {counters:?}", first.0))?;
        expect(setup, "forward", first, XDP_TX, &build::<F>([REMOTE_MAC, UPLINK_MAC], &to, TTL - 1))?;
        let made = counter(&mut established.ebpf, Counter::FlowNew)? - before;
        ensure!(made == new, "{}: {made} flows made, expected {new}", setup.name);
    }

    // Makes all flows. Later runs visit them in another order, so that no table is walked in order of insertion.
    wrapper.run(&forwards(Flows::Many, established.program), MANY)?;
    F::assure(&mut established.ebpf)?;
    let records: HashMap<_, _> = F::flows(&mut established.ebpf)?.into_iter().collect();
    let pairs = (0..MANY).map(|i| {
        let key = client_key::<F>(&forward_key, i);
        let record = records.get(&key).with_context(|| format!("flow {i} has no record"))?;
        let reply = key_of::<F>(record.dst, record.src, record.dport.number(), record.sport.number());
        let reverse = records.get(&reply).with_context(|| format!("flow {i} has no reverse record"))?;
        Ok([(key, *record), (reply, *reverse)])
    });
    let pairs: Vec<_> = pairs.collect::<Result<_>>()?;
    let shuffled = || (0..MANY).map(|i| &pairs[shuffle(i) as usize]);
    wrapper.set_variants(setup.list, shuffled().map(|[(key, _), _]| variant::<F>(key)))?;
    wrapper.set_variants(setup.list + 1, shuffled().map(|[_, (reply, _)]| variant::<F>(reply)))?;
    let reply = pairs[0][1].0;
    let reverse = build::<F>([UPLINK_MAC, REMOTE_MAC], &reply, TTL);
    let reverses = |flows| setting(reverse, setup.list + 1, flows, established.program);
    let first = wrapper.first(&reverses(Flows::One))?;
    let back = build::<F>([GATEWAY_MAC, UPLINK_MAC], &forward_key.swapped(), TTL - 1);
    expect(setup, "reverse", first, XDP_TX, &back)?;

    // Tuples without a Service: to the node, and in transit.
    let none = |dst| key_of::<F>(F::client(), dst, 1024, 9);
    wrapper.set_variants(setup.list + 2, (0..MANY).map(|i| client_variant::<F>(&none(F::node()), i)))?;
    let mut passing = Vec::new();
    for (to, dst) in [("node", F::node()), ("transit", F::backend(200))] {
        let other = build::<F>([UPLINK_MAC, GATEWAY_MAC], &none(dst), TTL);
        for (flows, tuples) in [(Flows::One, "1"), (Flows::Many, "64k")] {
            let setting = setting(other, setup.list + 2, flows, established.program);
            expect(setup, "pass", wrapper.first(&setting)?, XDP_PASS, &other)?;
            let (id, name) =
                (format!("xdp.pass.{to}.tuples_{tuples}"), format!("not a service, {to}, {tuples}"));
            passing.push(setup.case(id, name, setting, Some((LOOKUP_ONE, PASS_TARGET))));
        }
    }

    // A full flow table, and a new flow with each packet.
    let fresh = forwards(Flows::Fresh, flooded.program);
    wrapper.run(&fresh, FILL)?;
    let before = counter(&mut flooded.ebpf, Counter::FlowNew)?;
    let (verdict, _) = wrapper.first(&fresh)?;
    ensure!(verdict == XDP_TX, "{}: a new flow's packet: verdict {verdict}", setup.name);
    ensure!(
        counter(&mut flooded.ebpf, Counter::FlowNew)? == before + 1,
        "{}: no new flow was made",
        setup.name
    );

    // A flood beyond the limit of new flows. The other family may have spent the CPU's budget.
    let beyond = forwards(Flows::Fresh, limited.program);
    wrapper.run(&beyond, 2)?;
    let before = counter(&mut limited.ebpf, Counter::DropNewFlowLimit)?;
    let (verdict, _) = wrapper.first(&beyond)?;
    let dropped = counter(&mut limited.ebpf, Counter::DropNewFlowLimit)? - before;
    ensure!((verdict, dropped) == (XDP_DROP, 1), "{}: {dropped} dropped, verdict {verdict}", setup.name);

    // The lower bounds, over as many entries.
    let [empty, turn, lookup, insert] = setup.floors;
    F::fill_floor(&mut wrapper.ebpf, pairs.as_flattened())?;
    wrapper.run(&forwards(Flows::Fresh, insert), FILL)?;
    let turned = build::<F>([GATEWAY_MAC, UPLINK_MAC], &forward_key, TTL);
    expect(setup, EMPTY, wrapper.first(&forwards(Flows::One, empty))?, XDP_PASS, &forward)?;
    expect(setup, TURN, wrapper.first(&forwards(Flows::One, turn))?, XDP_TX, &turned)?;
    expect(setup, LOOKUP, wrapper.first(&forwards(Flows::One, lookup))?, XDP_TX, &turned)?;

    let many = |product: &Product| forwards(Flows::Many, product.program);
    let mut cases = vec![
        setup.case("floor.empty", EMPTY, forwards(Flows::One, empty), None),
        setup.case("floor.turn", TURN, forwards(Flows::One, turn), None),
        setup.case("floor.lookup.flows_1", LOOKUP_ONE, forwards(Flows::One, lookup), None),
        setup.case("floor.lookup.flows_64k", LOOKUP, forwards(Flows::Many, lookup), None),
        setup.case("floor.insert", INSERT, forwards(Flows::Fresh, insert), None),
    ];
    cases.extend(passing);
    let (one, forward, reverse) =
        (Some((LOOKUP_ONE, setup.one)), "established, forward", "established, reverse");
    let id = |direction: &str, flows: &str| format!("xdp.established.{direction}.flows_{flows}");
    cases.push(setup.case(id("forward", "1"), format!("{forward}, 1 flow"), service, one));
    cases.push(setup.case(id("reverse", "1"), format!("{reverse}, 1 flow"), reverses(Flows::One), one));
    let all = Some((LOOKUP, 0.9));
    cases.push(setup.case(id("forward", "64k"), format!("{forward}, 64k flows"), many(established), all));
    cases.push(setup.case(id("reverse", "64k"), format!("{reverse}, 64k flows"), reverses(Flows::Many), all));
    cases.push(setup.case("xdp.new.full", "new flow each packet, table full", fresh, Some((INSERT, 1.0))));
    let name = "flood above the limit of new flows";
    cases.push(setup.case("xdp.new.limited", name, beyond, Some((INSERT, 0.3))));
    Ok(cases)
}

pub fn expect(
    setup: &FamilySetup,
    what: &str,
    out: (u32, [u8; LEN]),
    verdict: u32,
    packet: &[u8; LEN],
) -> Result<()> {
    let name = setup.name;
    ensure!(out.0 == verdict, "{name}, {what}: verdict {}, expected {verdict}", out.0);
    ensure!(out.1 == *packet, "{name}, {what}:\n got {:02x?}\nwant {packet:02x?}", out.1);
    Ok(())
}

pub fn key_of<F: Family>(src: F::Addr, dst: F::Addr, sport: u16, dport: u16) -> FlowKey<F::Addr> {
    FlowKey { src, dst, sport: Port::new(sport), dport: Port::new(dport), proto: Proto::UDP, _pad: [0; 3] }
}

pub fn variant<F: Wire>(key: &FlowKey<F::Addr>) -> Variant {
    let (sport, dport) = (key.sport.number().to_be_bytes(), key.dport.number().to_be_bytes());
    Variant { addr: F::tail(key.src), sport, dport }
}

/// The `i`-th client: 32k ports of two addresses.
pub fn client_key<F: Plan>(first: &FlowKey<F::Addr>, i: u32) -> FlowKey<F::Addr> {
    let src = if i & 0x8000 == 0 { first.src } else { F::second_client() };
    FlowKey { src, sport: Port::new(1024 + (i & 0x7fff) as u16), ..*first }
}

/// A fixed permutation of the variants that keeps the first one first.
fn shuffle(i: u32) -> u32 {
    let mixed = ((i ^ (i >> 8)) * 40_503) & (MANY - 1);
    ((mixed ^ (mixed >> 7)) * 20_021) & (MANY - 1)
}

pub fn client_variant<F: Wire + Plan>(first: &FlowKey<F::Addr>, i: u32) -> Variant {
    variant::<F>(&client_key::<F>(first, i))
}
