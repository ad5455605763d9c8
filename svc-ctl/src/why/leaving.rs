//! Describes how a translated packet leaves: backend, masquerade, exit.

use std::net::{IpAddr, SocketAddr};

use svc_common::abi::*;

use super::backends::{place, pod_of};
use super::explanation::Explanation;
use super::origin::{Interface, name_of};
use crate::dataplane::dry_run::{DryRun, DryRunResult, Net};
use crate::dataplane::encode::Encode;
use crate::dataplane::lookup;
use crate::dataplane::pins::Pins;
use crate::dataplane::reach::{Route, RoutedPacket, neighbor, route_of};
use crate::lb::claim::mac_text;

/// A translated packet.
pub struct Leaving<'a, A> {
    pub pins: &'a Pins,
    pub interface: &'a Interface,
    pub key: &'a FlowKey<A>,
    pub ran: &'a DryRunResult<A>,
    /// The frontend that began the flow. `None`: the flow is older.
    pub frontend: Option<FrontendValue>,
    pub is_pod: bool,
}

impl<A: Encode + Eq> Leaving<'_, A> {
    /// Adds the steps.
    pub fn steps<F: Net<Addr = A>>(&self, explanation: &mut Explanation, dry: &mut DryRun) {
        let (Some(record), Some(destination), Some(source)) =
            (self.ran.record, explanation.destination, explanation.source)
        else {
            return;
        };
        let locality = self.locality::<F>(dry, destination);
        if let (Some(frontend), Some(locality)) = (self.frontend, locality) {
            let who = pod_of(&explanation.endpoints, destination);
            explanation.step("backend", &["SEM-080"], format!("{destination}, {}; {who}", place(locality)));
            self.masquerade(explanation, &frontend, locality, source, record.exit);
        }
        if self.ran.ports_taken > 0 {
            let text = format!("{} tried before belong to other live flows", self.ran.ports_taken);
            explanation.step("source port", &["SEM-080"], text);
        }
        let exit = self.exit_text(dry, &record, destination);
        explanation.step("leaves", &[], format!("{source} > {destination}{exit}"));
    }

    fn locality<F: Net<Addr = A>>(&self, dry: &mut DryRun, backend: SocketAddr) -> Option<Locality> {
        let frontend = self.frontend?;
        let extents = [frontend.cluster, frontend.local];
        let members = extents.map(|extent| lookup::members::<F>(&mut dry.live, extent).unwrap_or_default());
        members.iter().flatten().find(|member| member.address == backend).map(|member| member.locality)
    }

    /// Says whether this node's address replaces the client's, and why.
    fn masquerade(
        &self,
        explanation: &mut Explanation,
        frontend: &FrontendValue,
        locality: Locality,
        source: SocketAddr,
        exit: Exit,
    ) {
        let is_masqueraded = source.ip() != self.key.src.to_ip();
        let (bit, client) = match self.is_pod {
            true => (FrontendFlags::MASQUERADE_PODS, "local pods"),
            false => (FrontendFlags::MASQUERADE_OTHERS, "clients that are no local pods"),
        };
        let is_external = frontend.flags.has(FrontendFlags::EXTERNAL);
        let rule = match (is_external, frontend.flags.has(FrontendFlags::LOCAL_ONLY)) {
            (true, true) => "SEM-085",
            (true, false) => "SEM-083",
            _ => "SEM-081",
        };
        let (rules, text): (&[&'static str], _) = if exit == Exit::HAIRPIN {
            (&["SEM-084", "SEM-100"], format!("yes, to {source}: the client is its own backend"))
        } else if is_masqueraded && !frontend.flags.has(bit) {
            (
                &["SEM-087"],
                format!("yes, to {source}: client and backend are behind one bridge, which is the uplink"),
            )
        } else if is_masqueraded {
            (&[rule, "SEM-087"], format!("yes, to {source}: this frontend masquerades {client}"))
        } else if locality == Locality::HOST {
            (&["SEM-086"], "no: the backend is this node itself".to_owned())
        } else if frontend.flags.has(bit) {
            (&[rule], "no: the backend is a pod of this node, whose replies pass this node".to_owned())
        } else {
            (&[rule], format!("no: this frontend does not masquerade {client}"))
        };
        explanation.step("masquerade", rules, text);
    }

    /// XDP sends the packet on before TC sees it.
    fn is_by_xdp(&self, dry: &DryRun, record: &FlowRecord<A>) -> bool {
        let index = self.interface.index;
        let has_xdp =
            ["native", "generic"].iter().any(|mode| self.pins.link(&format!("xdp-{mode}-{index}")).exists());
        let takes = record.oif == index
            || dry.live.ifaces.get(&record.oif, 0).is_ok_and(|out| out.flags.has(IfaceFlags::TAKES_XDP));
        has_xdp && takes && record.is_resolved()
    }

    /// The exit, in words.
    fn exit_text(&self, dry: &DryRun, record: &FlowRecord<A>, destination: SocketAddr) -> String {
        let back = &self.interface.name;
        match record.exit {
            Exit::HAIRPIN => format!(" by redirect, back out of {back}"),
            Exit::REDIRECT if record.oif == 0 => " by redirect".to_owned(),
            Exit::REDIRECT => {
                let next = match (record.dmac, record.is_resolved()) {
                    (FlowRecord::<A>::NO_LINK_HEADER, _) => String::new(),
                    (_, false) => ", whose next hop is unresolved: the kernel asks for it".to_owned(),
                    (mac, true) => format!(", next hop {}", mac_text(mac)),
                };
                let mtu = if record.mtu == 0 { String::new() } else { format!(", MTU {}", record.mtu) };
                let by = if self.is_by_xdp(dry, record) { "XDP" } else { "redirect" };
                format!(" by {by} out of {}{next}{mtu}", name_of(record.oif))
            }
            _ => {
                let second = match self.ran.second {
                    Some((_, second)) if second.hook == Hook::POD_EGRESS => {
                        "; masqueraded at egress of the pod"
                    }
                    Some(_) => "; masqueraded at egress of the uplink",
                    None => "",
                };
                let packet = RoutedPacket {
                    from: (record.src.to_ip(), record.sport.number()).into(),
                    to: destination,
                    proto: self.key.proto,
                    iif: Some(self.interface.routed_by()),
                };
                let route = match route_of(&packet) {
                    Ok(route) if route.is_local => ", to this node itself".to_owned(),
                    Ok(route) => format!(
                        ", which routes it out of {}{}",
                        name_of(route.oif),
                        next_hop(&route, destination.ip())
                    ),
                    Err(error) => format!(", which does not route it ({error})"),
                };
                let reply = match record.exit {
                    Exit::STACK_BY_SOURCE => {
                        "; its reply leaves by the route of the address that was dialled"
                    }
                    _ => "",
                };
                format!(" through the stack{route}{second}{reply}")
            }
        }
    }
}

/// The neighbor that gets the packet, in words. Nothing where the device has none, as a tunnel without an Ethernet header.
fn next_hop(route: &Route, destination: IpAddr) -> String {
    let hop = route.gateway.unwrap_or(destination);
    let via = route.gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
    match neighbor(hop, route.oif) {
        Ok(Some(mac)) => format!("{via}, neighbor {}", mac_text(mac)),
        Ok(None) => format!("{via}, neighbor not resolved yet"),
        Err(_) => via,
    }
}
