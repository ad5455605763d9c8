//! Objects from YAML for both servers: as JSON of an API server, and as svc's world.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize as _;
use serde_json::Value;
use svc_ctl::model::store::Store as Model;
use svc_ctl::model::world::World;
use svc_ctl::source::manifests::files::Files;
use svc_ctl::source::manifests::world::World as Objects;

use crate::scale::store::{NAMESPACES, RESOURCES, SERVICES, SLICES, Store};

/// Manifests of Services, EndpointSlices and Namespaces.
#[derive(Clone, Debug)]
pub struct Manifests {
    pub text: String,
    pub documents: Vec<Value>,
}

impl Manifests {
    pub fn parse(text: &str) -> Result<Self> {
        let documents = serde_yaml_ng::Deserializer::from_str(text).map(Value::deserialize);
        let documents = documents.collect::<Result<_, _>>().context("the manifests")?;
        Ok(Self { text: text.to_owned(), documents })
    }

    /// The objects of an API server.
    pub fn api_store(&self) -> Result<Store> {
        let mut objects: [Vec<String>; RESOURCES.len()] = Default::default();
        for document in self.documents.iter().filter(|document| !document.is_null()) {
            let mut document = document.clone();
            let kind = document["kind"].as_str().unwrap_or_default().to_owned();
            let resource = match kind.as_str() {
                "Service" => SERVICES,
                "EndpointSlice" => SLICES,
                "Namespace" => NAMESPACES,
                other => bail!("{other:?} is of no use here"),
            };
            // Filled in by the store.
            document["metadata"]["resourceVersion"] = "$VERSION".into();
            let fields = document.as_object_mut().context("an object")?;
            fields.retain(|name, _| name != "kind" && name != "apiVersion");
            // The store writes the opening brace with kind and version.
            objects[resource].push(document.to_string().trim_start_matches('{').to_owned());
        }
        Ok(Store::new(objects))
    }

    /// The objects as svc's world.
    pub fn world(&self) -> World {
        let (mut files, mut model) = (Files::default(), Model::new("node1").with_names());
        files.update("all.yaml", Ok(&self.text));
        let (objects, _) = files.objects();
        Objects::of(&objects).list().into_iter().for_each(|event| model.take(event));
        model.world().clone()
    }
}
