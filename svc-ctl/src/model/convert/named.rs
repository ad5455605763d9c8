//! Converts Services that have names but no frontends.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;

use super::service::{ServiceKind, convert_proxied};
use super::{Converted, Refusals, Scope};
use crate::model::named::NamedService;
use crate::model::parse::parse_dns_name;

/// `None` if only the tables read the model, or if the Service is proxied here.
pub fn convert_named_service(object: &core::Service, scope: Scope) -> Converted<NamedService> {
    let mut refusals = Refusals::new("Service", &object.metadata);
    let has_name = object.metadata.name.as_ref().is_some_and(|name| !name.is_empty());
    let (Some(spec), true, Scope::TablesAndNames) = (&object.spec, has_name, scope) else {
        return refusals.done(None);
    };
    match ServiceKind::of(object) {
        ServiceKind::Proxied => refusals.done(None),
        ServiceKind::Headless => refusals.done(Some(NamedService::Headless)),
        ServiceKind::ExternalName => {
            let name = refusals.keep("spec.externalName", parse_external_name(spec));
            refusals.done(name.map(|name| NamedService::ExternalName(name.into())))
        }
        ServiceKind::Foreign => {
            let Converted { value, refused } = convert_proxied(object, spec, refusals);
            Converted { value: value.map(|service| NamedService::Foreign(Box::new(service))), refused }
        }
    }
}

fn parse_external_name(spec: &core::ServiceSpec) -> Result<&str, String> {
    let name = parse_dns_name(spec.external_name.as_deref().unwrap_or_default())?;
    match name.parse::<IpAddr>() {
        Ok(_) => Err(format!("{name:?} is an address: an alias needs a name")),
        Err(_) => Ok(name),
    }
}
