//! Finds fields that an object does not have. Otherwise a misspelt field would have no effect without any message.

use serde::Serialize;
use serde_yaml_ng::Value;

/// The paths of fields that are written and that the object, read from the same text, does not have.
pub fn unknown_fields(written: &Value, object: &impl Serialize) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(known) = serde_yaml_ng::to_value(object) {
        compare(written, &known, "", &mut found);
    }
    found
}

fn compare(written: &Value, known: &Value, path: &str, found: &mut Vec<String>) {
    match (written, known) {
        (Value::Mapping(fields), Value::Mapping(known)) => {
            for (name, value) in fields {
                let Some(text) = name.as_str() else { continue };
                let path = if path.is_empty() { text.to_owned() } else { format!("{path}.{text}") };
                match known.get(name) {
                    Some(known) => compare(value, known, &path, found),
                    // A null stands for a missing value.
                    None if value.is_null() => {}
                    None => found.push(path),
                }
            }
        }
        (Value::Sequence(items), Value::Sequence(known)) => {
            for (i, (item, known)) in items.iter().zip(known).enumerate() {
                compare(item, known, &format!("{path}[{i}]"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Pod, Service};
    use serde::de::DeserializeOwned;

    use super::*;

    fn unknown<T: DeserializeOwned + Serialize>(text: &str) -> Vec<String> {
        let written: Value = serde_yaml_ng::from_str(text).unwrap();
        let object: T = serde_yaml_ng::from_str(text).unwrap();
        unknown_fields(&written, &object)
    }

    #[test]
    fn a_misspelt_field_is_found_by_its_path() {
        let text = "{apiVersion: v1, kind: Service, metadata: {name: a, lables: {}}, stats: 1,
            spec: {selectr: {a: b}, ports: [{port: 80}, {port: 81, targetport: 8080}]}}";
        let expected = ["metadata.lables", "stats", "spec.selectr", "spec.ports[1].targetport"];
        assert_eq!(unknown::<Service>(text), expected);
    }

    #[test]
    fn labels_nulls_and_fields_that_svc_does_not_read_are_no_unknown_fields() {
        let service = "{apiVersion: v1, kind: Service, spec: {clusterIP: null, selector: {any.name/x: y}, ports: []},
            metadata: {name: a, annotations: {}, creationTimestamp: null, managedFields: [{fieldsV1: {'f:spec': {}}}]},
            status: {loadBalancer: {}, nosuchfield: null}}";
        assert_eq!(unknown::<Service>(service), Vec::<String>::new());
        let pod = "{apiVersion: v1, kind: Pod, spec: {restartPolicy: Always, containers: [{name: c, image: i,
            resources: {limits: {cpu: 0.5, memory: 1Gi}}, readinessProbe: {httpGet: {port: http}}}]}}";
        assert_eq!(unknown::<Pod>(pod), Vec::<String>::new());
    }
}
