//! One case: a world, flows, and a sequence of events.

use std::fmt;

use svc_tests::model::memory::Direction;
use svc_tests::model::packet::Shape;
use svc_tests::model::world::{Tuple, World};

#[derive(Clone)]
pub struct Case {
    pub world: World,
    pub flows: Vec<Flow>,
    pub steps: Vec<Step>,
}

/// A client's tuple, and the interface by which its packets come.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub interface: &'static str,
    pub tuple: Tuple,
}

#[derive(Clone, Debug)]
pub enum Step {
    /// A packet of a flow's client.
    Client { flow: usize, shape: Shape, delivery: Delivery },
    /// A reply of the flow's backend; nothing if the flow has none.
    Backend { flow: usize, shape: Shape, delivery: Delivery },
    /// The client sends to the flow's backend directly, from the same port.
    Direct { flow: usize, shape: Shape, delivery: Delivery },
    /// A host on the path sends an ICMP error in this direction, about a packet of this shape.
    Error { flow: usize, by: Direction, shape: Shape, octets: usize, is_router: bool, delivery: Delivery },
    /// That many ticks pass.
    Age(u32),
    /// Kubernetes' objects change.
    Change(Box<World>),
}

/// Path of a packet to the programs.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// By XDP first, if there is XDP.
    pub by_xdp: bool,
    /// A card has summed the whole packet (CHECKSUM_COMPLETE): the kernel checks that the sum is updated.
    pub is_summed: bool,
    /// The server answers from another address of the node.
    pub elsewhere: bool,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_world(f, &self.world)?;
        for (i, step) in self.steps.iter().enumerate() {
            write!(f, "  {:3} ", i + 1)?;
            match step {
                Step::Client { flow, shape, delivery } => {
                    let Flow { interface, tuple } = self.flows[*flow];
                    writeln!(f, "flow {flow}, client by {interface}: {tuple:?} {shape:?} {delivery:?}")?;
                }
                Step::Backend { flow, shape, delivery } => {
                    writeln!(f, "flow {flow}, its backend answers: {shape:?} {delivery:?}")?;
                }
                Step::Direct { flow, shape, delivery } => {
                    writeln!(f, "flow {flow}, client to its backend itself: {shape:?} {delivery:?}")?;
                }
                Step::Error { flow, by, shape, octets, is_router, delivery } => {
                    let who = if *is_router { "a router before" } else { "" };
                    writeln!(
                        f,
                        "flow {flow}, {who} {by:?} complains, {octets} octets of {shape:?} {delivery:?}"
                    )?;
                }
                Step::Age(ticks) => writeln!(f, "{ticks} ticks pass")?,
                Step::Change(world) => {
                    writeln!(f, "Kubernetes says something else:")?;
                    write_world(f, world)?;
                }
            }
        }
        Ok(())
    }
}

fn write_world(f: &mut fmt::Formatter<'_>, world: &World) -> fmt::Result {
    let World { zone, node_ports, has_pod_addresses, settings, services, slices, broken: _ } = world;
    writeln!(f, "  zone {zone:?}, NodePorts at {node_ports:?}, own addresses {has_pod_addresses}")?;
    writeln!(f, "  {settings:?}")?;
    services.iter().try_for_each(|service| writeln!(f, "  {service:?}"))?;
    for slice in slices {
        writeln!(f, "  slice {} of {}, ports {:?}", slice.name, slice.service, slice.ports)?;
        slice.endpoints.iter().try_for_each(|endpoint| writeln!(f, "    {endpoint:?}"))?;
    }
    Ok(())
}
