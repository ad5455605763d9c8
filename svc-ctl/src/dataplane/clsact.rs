//! Removing our clsact filters and the qdiscs they were in (kernels without tcx).

use aya::programs::TcAttachType;
use aya::programs::tc::qdisc_detach_program;
use nix::net::if_::if_nameindex;

const PROGRAMS: [(&str, TcAttachType); 6] = [
    ("pod_ingress", TcAttachType::Ingress),
    ("pod_egress", TcAttachType::Egress),
    ("uplink_ingress", TcAttachType::Ingress),
    ("uplink_egress", TcAttachType::Egress),
    ("tunnel_ingress", TcAttachType::Ingress),
    ("tunnel_egress", TcAttachType::Egress),
];

/// Removes our filters from every interface; answers how many programs there were.
pub fn remove_all() -> anyhow::Result<usize> {
    let mut removed = 0;
    for interface in &if_nameindex()? {
        let name = interface.name().to_string_lossy();
        for (program, place) in PROGRAMS {
            // No such filter, no such qdisc: what is wanted.
            removed += usize::from(qdisc_detach_program(&name, place, program).is_ok());
        }
    }
    Ok(removed)
}
