//! Parsing of objects as API servers send them.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use super::*;
use crate::model::convert::{LABEL_SERVICE_NAME, LABEL_ZONE};
use crate::model::convert::{Scope, convert_node, convert_service, convert_slice};

/// Metadata as `kubectl apply` leaves them.
fn metadata(name: &str, labels: &Value) -> Value {
    let mut labels = labels.clone();
    labels["app.kubernetes.io/name"] = json!("web");
    json!({
        "name": name, "namespace": "shop", "uid": "6b1f6d2c-6a4f-4a0e-a5d5-0c7ef2d86c0e", "resourceVersion": "4711",
        "generation": 3, "creationTimestamp": "2026-01-02T03:04:05Z", "labels": labels,
        "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": "{\"apiVersion\":\"v1\",\"kind\":\"Service\"}".repeat(8),
            "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T03:04:05Z",
            "svc/selection": "maglev",
        },
        "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": name, "uid": "1", "controller": true}],
        "managedFields": [{"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
            "time": "2026-01-02T03:04:05Z", "fieldsType": "FieldsV1", "fieldsV1": {
                "f:metadata": {"f:annotations": {".": {}, "f:kubectl.kubernetes.io/last-applied-configuration": {}},
                    "f:labels": {".": {}, "f:app.kubernetes.io/name": {}, "f:kubernetes.io/service-name": {}},
                    "f:ownerReferences": {".": {}, "k:{\"uid\":\"1\"}": {}}},
                "f:spec": {"f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {},
                    "f:port": {}, "f:protocol": {}, "f:targetPort": {}}}, "f:selector": {}, "f:type": {}}}}],
    })
}

fn service(n: usize) -> Value {
    let ip = format!("10.{}.{}.1", n / 256, n % 256);
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(&format!("web-{n}"), &json!({})),
        "spec": {"type": "LoadBalancer", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "selector": {"app": "web"}, "externalIPs": ["192.0.2.1"],
            "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30001,
            "allocateLoadBalancerNodePorts": true, "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
            "loadBalancerSourceRanges": ["10.0.0.0/8"],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 30080}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9", "ipMode": "VIP"}]},
            "conditions": [{"type": "Ready", "status": "True", "reason": "Ok", "message": "ok",
                "lastTransitionTime": "2026-01-02T03:04:05Z"}]},
    })
}

fn slice(n: usize) -> Value {
    let endpoint = |i: usize| {
        json!({
            "addresses": [format!("10.{i}.{}.{}", n / 256, n % 256)], "nodeName": "node1", "zone": "a",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "node1"}]},
            "targetRef": {"kind": "Pod", "namespace": "shop", "name": "web-7c9d5b6f4-abcde", "uid": "u", "resourceVersion": "1"},
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": metadata(&format!("web-{n}-x7kq2"), &json!({LABEL_SERVICE_NAME: format!("web-{n}")})),
        "endpoints": (1..=4).map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}],
    })
}

fn node() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": metadata("node1", &json!({LABEL_ZONE: "a"})),
        "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"], "taints": [{"key": "k", "effect": "NoSchedule"}]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "n"}],
            "images": [{"names": ["a", "b"], "sizeBytes": 7}], "capacity": {"cpu": "4"}},
    })
}

#[test]
fn reading_parts_of_an_object_gives_the_same_model() {
    fn both<T: Kind>(object: &Value) -> (T::Object, T::Object)
    where
        T::Object: DeserializeOwned,
    {
        let text = object.to_string();
        let read: T = serde_json::from_str(&text).unwrap();
        (serde_json::from_str(&text).unwrap(), read.into_object())
    }
    let (whole, read) = both::<Service>(&service(1));
    assert_eq!(convert_service(&whole).value, convert_service(&read).value);
    assert!(convert_service(&read).value.is_some_and(|s| s.selection.is_some() && s.created.is_some()));
    let (whole, read) = both::<Slice>(&slice(1));
    assert_eq!(
        convert_slice(&whole, Scope::TablesAndNames).value,
        convert_slice(&read, Scope::TablesAndNames).value
    );
    assert!(convert_slice(&read, Scope::TablesAndNames).value.is_some_and(|s| s.endpoints.len() == 4));
    let (whole, read) = both::<Node>(&node());
    assert_eq!(convert_node(&whole).value, convert_node(&read).value);
    assert!(convert_node(&read).value.is_some_and(|n| n.zone.is_some() && n.pod_cidrs.len() == 1));
}

#[test]
fn fields_that_are_not_read_may_have_any_value() {
    let mut odd = service(1);
    odd["metadata"]["managedFields"] = json!(7);
    odd["metadata"]["ownerReferences"] = Value::Null;
    odd["status"]["conditions"] = json!("odd");
    let read: Service = serde_json::from_str(&odd.to_string()).unwrap();
    assert!(convert_service(&read.into_object()).value.is_some());
    for field in ["metadata", "spec", "status"] {
        odd[field] = Value::Null;
    }
    assert!(serde_json::from_str::<Service>(&odd.to_string()).is_err(), "metadata that is null is no object");
}

/// `cargo test --release -p svc-ctl --lib cost_of_objects -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn cost_of_objects() {
    const COUNT: usize = 10_000;
    fn measure<O>(what: &str, texts: &[String], read: impl Fn(&str) -> O) {
        // SAFETY: mallinfo2 only reads the allocator's counters.
        let used = || unsafe { libc::mallinfo2() }.uordblks;
        let cpu_time = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
        let (before, began) = (used(), cpu_time());
        let objects: Vec<O> = texts.iter().map(|text| read(text)).collect();
        let (time, memory) = (cpu_time() - began, used() - before);
        println!("{what}: {:?} and {} octets an object", time / COUNT as u32, memory / objects.len());
    }
    let services: Vec<String> = (0..COUNT).map(|n| service(n).to_string()).collect();
    let slices: Vec<String> = (0..COUNT).map(|n| slice(n).to_string()).collect();
    println!("{} octets a Service, {} a slice", services[0].len(), slices[0].len());
    for _ in 0..2 {
        measure("Service, whole", &services, |t| Box::new(serde_json::from_str::<core::Service>(t).unwrap()));
        measure("Service, read", &services, |t| {
            Box::new(serde_json::from_str::<Service>(t).unwrap().into_object())
        });
        measure("EndpointSlice, whole", &slices, |t| {
            Box::new(serde_json::from_str::<discovery::EndpointSlice>(t).unwrap())
        });
        measure("EndpointSlice, read", &slices, |t| {
            Box::new(serde_json::from_str::<Slice>(t).unwrap().into_object())
        });
    }
}
