//! `svc-ctl why`: the datapath's verdict on a packet, and the rule behind each step.
//!
//! The verdict comes from a dry run of the serving program; the steps are read from the tables that it reads. The wanted
//! side comes from the daemon, if it runs.

mod backends;
mod egress;
pub mod explanation;
mod flow;
mod found;
mod leaving;
mod octets;
mod origin;
mod outcome;
mod packet;
pub mod request;
mod socket;

use anyhow::ensure;
use svc_common::family::{V4, V6};

use self::explanation::Explanation;
use self::origin::Origin;
use self::request::{Client, Request};
use crate::dataplane::dry_run::Net;
use crate::dataplane::maps::Maps;
use crate::dataplane::pins::Pins;
use crate::observe::wanted::Wanted;

/// Asks for the wanted side of a service port by its id. `None`: the daemon does not run, or does not know the port.
pub type AskWanted<'a> = &'a dyn Fn(u32) -> Option<Wanted>;

/// Explains what the datapath does with a packet.
pub fn explain(
    pins: &Pins,
    ask: AskWanted<'_>,
    request: &Request,
    interface: Option<&str>,
) -> anyhow::Result<Explanation> {
    match request.to.is_ipv4() {
        true => of_family::<V4>(pins, ask, request, interface),
        false => of_family::<V6>(pins, ask, request, interface),
    }
}

fn of_family<F: Net>(
    pins: &Pins,
    ask: AskWanted<'_>,
    request: &Request,
    interface: Option<&str>,
) -> anyhow::Result<Explanation> {
    let maps = Maps::open(pins)?;
    let client = match request.client {
        Client::Node => {
            ensure!(
                interface.is_none(),
                "--in: a process of this node sends its packets, which come by no interface; leave --in out, or give the client's address"
            );
            return socket::explain::<F>(pins, maps, ask, request);
        }
        Client::Address(client) => client,
    };
    match origin::find(&maps, client.ip(), interface)? {
        // Only a packet of a live flow has a source port that is known beforehand.
        Origin::Node => match egress::of_node::<F>(pins, &maps, ask, request, client)? {
            Some(explanation) => Ok(explanation),
            None => socket::explain::<F>(pins, maps, ask, request),
        },
        Origin::Interface(interface) => packet::explain::<F>(pins, ask, request, client, &interface),
    }
}
