//! Pods that dial a ClusterIP.

use svc_common::abi::Counter::*;
use svc_common::abi::{FlowState, Hook};
use svc_tests::packet::flow::flow;
use svc_tests::packet::row::*;
use svc_tests::packet::wire::*;

pub fn rows() -> Vec<Row> {
    vec![
        row(
            "a pod's first packet to a ClusterIP goes to a local backend through the stack (placement law b)",
        )
        .service(cluster_ip("vip:80", &["pod-b:8080"]))
        .sees(
            pod_in("pod0", first("pod-a:4000", "vip:80"))
                .passes(first("pod-a:4000", "pod-b:8080"))
                .counts(&[FlowNew]),
        )
        .leaves(flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080")),
    ]
}
