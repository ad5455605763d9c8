//! The cluster's pods, with the data needed to send them traffic.

use std::net::IpAddr;

use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    /// Empty until it is scheduled.
    pub node: String,
    /// Addresses of both families, as far as assigned.
    pub ips: Vec<IpAddr>,
    pub is_ready: bool,
    /// It is terminating.
    pub is_ending: bool,
}

impl Pod {
    /// The pods of `kubectl get pods -o json`.
    pub(super) fn of_list(list: &Value) -> Vec<Self> {
        list["items"].as_array().into_iter().flatten().map(Self::of).collect()
    }

    fn of(pod: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (metadata, status) = (&pod["metadata"], &pod["status"]);
        let ips = status["podIPs"].as_array().into_iter().flatten();
        let mut conditions = status["conditions"].as_array().into_iter().flatten();
        Self {
            namespace: text(&metadata["namespace"]),
            name: text(&metadata["name"]),
            node: text(&pod["spec"]["nodeName"]),
            ips: ips.filter_map(|entry| entry["ip"].as_str()?.parse().ok()).collect(),
            is_ready: conditions.any(|entry| entry["type"] == "Ready" && entry["status"] == "True"),
            is_ending: !metadata["deletionTimestamp"].is_null(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_terminating_pod_may_be_ready() {
        let list = json!({"items": [{
            "metadata": {"namespace": "a", "name": "b", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "n1"},
            "status": {
                "podIPs": [{"ip": "10.244.1.2"}, {"ip": "fd00:244:0:1::2"}],
                "conditions": [
                    {"type": "Initialized", "status": "False"},
                    {"type": "Ready", "status": "True"},
                ],
            },
        }]});
        let wanted = Pod {
            namespace: "a".into(),
            name: "b".into(),
            node: "n1".into(),
            ips: vec!["10.244.1.2".parse().unwrap(), "fd00:244:0:1::2".parse().unwrap()],
            is_ready: true,
            is_ending: true,
        };
        assert_eq!(Pod::of_list(&list), [wanted]);
    }
}
