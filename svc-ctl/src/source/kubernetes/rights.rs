//! Asks the API server for its version and for svc's rights. Changes nothing.

use std::net::IpAddr;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};

/// Requests of svc: verb, group, resource, and whether it is required for serving.
const USED: [(&str, &str, &str, bool); 10] = [
    ("list", "", "services", true),
    ("watch", "", "services", true),
    ("list", "discovery.k8s.io", "endpointslices", true),
    ("watch", "discovery.k8s.io", "endpointslices", true),
    ("list", "", "nodes", false),
    ("watch", "", "nodes", false),
    ("list", "networking.k8s.io", "servicecidrs", false),
    ("watch", "networking.k8s.io", "servicecidrs", false),
    ("get", "", "services", false),
    ("create", "events.k8s.io", "events", false),
];

/// The server's version.
pub async fn version(client: &Client) -> anyhow::Result<String> {
    Ok(client.apiserver_version().await?.git_version)
}

/// The name of every Node, and its first InternalIP.
pub async fn nodes(client: &Client) -> anyhow::Result<Vec<(String, Option<IpAddr>)>> {
    let list = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let address = |node: &Node| {
        let addresses = node.status.as_ref()?.addresses.as_ref()?;
        let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
        internal.filter_map(|address| address.address.parse().ok()).next()
    };
    Ok(list
        .items
        .into_iter()
        .map(|node| (node.metadata.name.clone().unwrap_or_default(), address(&node)))
        .collect())
}

/// The requests of svc: name, whether it is allowed, and whether it is required for serving.
pub async fn rights(client: &Client) -> anyhow::Result<Vec<(String, bool, bool)>> {
    let mut rights = Vec::new();
    for (verb, group, resource, is_needed) in USED {
        let is_allowed = is_allowed(client, verb, group, resource, None).await?;
        rights.push((format!("{verb} {resource}"), is_allowed, is_needed));
    }
    Ok(rights)
}

/// Whether svc may do this, in one namespace or in all. Everybody may ask, and the answer is no refusal in the API server's audit
/// log.
pub async fn is_allowed(
    client: &Client,
    verb: &str,
    group: &str,
    resource: &str,
    namespace: Option<&str>,
) -> kube::Result<bool> {
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        namespace: namespace.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        ..SelfSubjectAccessReviewSpec::default()
    };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
