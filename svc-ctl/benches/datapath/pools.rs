//! The measured cases of a node with load-balancer pools: packets of no Service that come by the uplink, and those for an address
//! of a pool that no Service has.

use anyhow::{Result, ensure};
use svc_common::abi::{Counter, FlowKey};
use svc_common::addr::Proto;

use crate::cases::{Case, FamilySetup, Product, TTL, expect, key_of};
use crate::node::{GATEWAY_MAC, UPLINK_MAC};
use crate::packet::{Wire, build};
use crate::tables::{Maps, counter};
use crate::tc::{NEXT, UPLINK_INGRESS};
use crate::wrapper::{Flows, Setting, Wrapper};

/// `TC_ACT_SHOT`.
const SHOT: u32 = 2;
/// One of the addresses that no Service of the cases has.
const UNUSED: u32 = 0xff_ff00;

/// Checks the cases of a family. `prepare` of the cases at TC has run before, and `product` looks up pools.
pub fn prepare<F: Maps + Wire>(
    setup: &FamilySetup,
    wrapper: &mut Wrapper,
    product: &mut Product,
) -> Result<Vec<Case>> {
    let unused = F::other_service(UNUSED);
    F::put_pool(&mut product.ebpf, unused)?;
    let mut cases = Vec::new();
    for (proto, letters) in [(Proto::TCP, "tcp"), (Proto::UDP, "udp")] {
        for (to, dst, verdict) in
            [("node", F::node(), NEXT), ("transit", F::backend(200), NEXT), ("unused", unused, SHOT)]
        {
            let key = FlowKey { proto, ..key_of::<F>(F::client(), dst, 1024, 9) };
            let packet = build::<F>([UPLINK_MAC, GATEWAY_MAC], &key, TTL);
            let setting = Setting {
                wrapper: setup.tc_wrapper,
                template: packet,
                // Clients.
                list: setup.list + 2,
                flows: Flows::One,
                program: product.tc[UPLINK_INGRESS],
            };
            let before = counter(&mut product.ebpf, Counter::DropUnallocated)?;
            expect(setup, to, wrapper.first(&setting)?, verdict, &packet)?;
            let dropped = counter(&mut product.ebpf, Counter::DropUnallocated)? - before;
            ensure!(dropped == u64::from(verdict == SHOT), "{to}: {dropped} packets dropped");
            let what = if verdict == SHOT { "unused address" } else { "not a service" };
            let id = format!("tc.uplink_ingress.pools.{to}.{letters}");
            let name = format!("uplink_ingress, pools, {what}, {to}, {letters}");
            cases.push(setup.case(id, name, setting, None));
        }
    }
    Ok(cases)
}
