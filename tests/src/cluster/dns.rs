//! The cluster's DNS, where its image is.

use anyhow::Result;

use super::control_plane::ControlPlane;
use super::images;

const MANIFESTS: &str = include_str!("../../cluster/dns.yaml");
/// Stands in the manifests where the image's name goes.
const IMAGE: &str = "svc.local/coredns";

pub(super) const DEPLOYMENT: &str = "deployment/coredns";

/// False if there is no image of CoreDNS.
pub(super) fn apply(plane: &ControlPlane) -> Result<bool> {
    let archives = images::archives(&plane.settings().images)?;
    let Some(image) = images::find(&archives, "/coredns:")? else { return Ok(false) };
    plane.apply(&MANIFESTS.replace(IMAGE, &image))?;
    Ok(true)
}
