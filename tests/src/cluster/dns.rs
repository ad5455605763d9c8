//! The cluster's DNS, where its image is.

use anyhow::Result;

use super::images;
use super::settings::Settings;

const MANIFESTS: &str = include_str!("../../cluster/dns.yaml");
/// Stands in the manifests where the image's name goes.
const IMAGE: &str = "svc.local/coredns";

pub(super) const DEPLOYMENT: &str = "deployment/coredns";

/// None if there is no image of CoreDNS.
pub(super) fn manifests(settings: &Settings) -> Result<Option<String>> {
    let image = images::find(&images::archives(&settings.images)?, "/coredns:")?;
    Ok(image.map(|image| MANIFESTS.replace(IMAGE, &image)))
}
