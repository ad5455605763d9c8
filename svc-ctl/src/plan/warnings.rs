//! What svc does not do for a Service that is asked for it: nothing is wrong with the Service, and its owner should know
//! (`docs/deviations.md`).

use std::collections::BTreeSet;

use svc_common::addr::Proto;

use crate::model::service::{Service, ServicePort};
use crate::model::store::Snapshot;
use crate::model::warning::{Reason, Warning};

/// One of a reason for each Service, naming the ports.
pub fn plan_warnings(snapshot: &Snapshot) -> BTreeSet<Warning> {
    let mut warnings = BTreeSet::new();
    for service in snapshot.services.values() {
        let sctp: Vec<&ServicePort> = service.ports.iter().filter(|p| p.proto == Proto::SCTP).collect();
        let moved: Vec<&ServicePort> =
            sctp.iter().copied().filter(|port| is_moved(snapshot, service, port)).collect();
        let mut warn = |reason, ports: &[&ServicePort], what| {
            let names: Vec<String> = ports.iter().map(|p| format!("{}/SCTP", p.port)).collect();
            if !names.is_empty() {
                let note = format!("port {}: {what}", names.join(", "));
                warnings.insert(Warning { service: service.name.clone(), reason, note });
            }
        };
        let from_nodes = "processes and pods on a node's own network are not served; other pods and clients from outside are";
        let fragments = "packets in fragments are dropped, because their port is translated";
        warn(Reason::SctpFromNodes, &sctp, from_nodes);
        warn(Reason::SctpFragments, &moved, fragments);
    }
    warnings
}

/// Its packets get another port: the checksum of SCTP covers it together with all of the packet, of which a fragment has a
/// part.
fn is_moved(snapshot: &Snapshot, service: &Service, port: &ServicePort) -> bool {
    let slices = snapshot.slices.get(&service.name).into_iter().flatten();
    let mut numbers = slices.flat_map(|s| &s.ports).filter(|p| p.name == port.name && p.proto == port.proto);
    port.node_port.is_some() || numbers.any(|p| p.port != port.port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::sample::store;

    fn warnings(ports: &str, target: u16) -> Vec<String> {
        let service = format!("{{metadata: {{name: a}}, spec: {{clusterIP: 10.96.0.1, ports: [{ports}]}}}}");
        let slice = format!(
            "{{metadata: {{name: s, labels: {{kubernetes.io/service-name: a}}}}, addressType: IPv4,
            ports: [{{name: s, protocol: SCTP, port: {target}}}], endpoints: [{{addresses: [10.0.0.1]}}]}}"
        );
        let warnings = plan_warnings(&store(&[service], &[slice]).snapshot().unwrap());
        warnings.into_iter().map(|w| format!("{} {}", w.reason.word(), w.note)).collect()
    }

    #[test]
    fn sem_010_what_is_not_done_for_sctp_is_said_by_port() {
        let of = |ports, target| {
            let all = warnings(ports, target);
            all.iter().map(|w| w.split(':').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        let web = "{name: web, port: 80}";
        assert!(of(web, 7777).is_empty());
        let same = format!("{web}, {{name: s, port: 7777, protocol: SCTP}}");
        assert_eq!(of(&same, 7777), ["SctpFromNodesNotServed port 7777/SCTP"]);
        let both = ["SctpFromNodesNotServed port 7777/SCTP", "SctpFragmentsDropped port 7777/SCTP"];
        assert_eq!(of(&same, 8888), both);
        let node_port = format!("{web}, {{name: s, port: 7777, protocol: SCTP, nodePort: 30777}}");
        assert_eq!(of(&node_port, 7777), both);
    }
}
