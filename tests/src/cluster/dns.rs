//! The cluster's DNS, if its image is present.

use anyhow::Result;

use super::images;
use super::settings::Settings;

const MANIFESTS: &str = include_str!("../../cluster/dns.yaml");
/// Placeholder in the manifests for the image's name.
const IMAGE: &str = "svc.local/coredns";

pub(super) const DEPLOYMENT: &str = "deployment/coredns";

/// `None` if there is no image of CoreDNS.
pub(super) fn manifests(settings: &Settings) -> Result<Option<String>> {
    let image = images::find(&images::archives(&settings.images)?, "/coredns:")?;
    Ok(image.map(|image| MANIFESTS.replace(IMAGE, &image)))
}
