//! Conversion cases: YAML in, model or refusals out.

use std::net::IpAddr;
use std::num::NonZeroU32;

use svc_common::addr::Proto;

use super::*;
use crate::model::endpoint::Slice;
use crate::model::service::Service;

fn service(yaml: &str) -> Converted<Service> {
    convert_service(&serde_yaml_ng::from_str(yaml).unwrap())
}

fn slice(yaml: &str) -> Converted<Slice> {
    convert_slice(&serde_yaml_ng::from_str(yaml).unwrap(), Scope::Tables)
}

fn fields<T>(converted: &Converted<T>) -> Vec<&str> {
    converted.refused.iter().map(|r| r.field.as_str()).collect()
}

#[test]
fn sem_001_sem_002_sem_003_headless_external_name_and_foreign_services_are_not_ours() {
    for yaml in [
        "{metadata: {name: a}, spec: {clusterIP: None, ports: [{port: 80}]}}",
        "{metadata: {name: a}, spec: {clusterIPs: [None], ports: [{port: 80}]}}",
        "{metadata: {name: a}, spec: {clusterIP: None}}",
        "{metadata: {name: a}, spec: {type: ExternalName, clusterIP: 10.0.0.1, ports: [{port: 80}]}}",
        "{metadata: {name: a, labels: {service.kubernetes.io/service-proxy-name: ''}},
          spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}}",
    ] {
        let converted = service(yaml);
        assert_eq!((converted.value, converted.refused), (None, Vec::new()), "{yaml}");
    }
}

#[test]
fn sem_005_a_family_without_cluster_ip_has_no_addresses() {
    let converted = service(
        "{metadata: {name: a}, spec: {clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1], ipFamilies: [IPv4],
          externalIPs: [192.0.2.1, '2001:db8::1'], ports: [{port: 80, nodePort: 30080}]}}",
    );
    let families = converted.value.unwrap().families;
    assert_eq!(families.len(), 1);
    assert_eq!(families[0].external_ips, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    assert!(converted.refused.is_empty());
}

#[test]
fn sem_006_dual_stack_takes_the_address_of_each_family() {
    let converted = service(
        "{metadata: {name: a}, spec: {clusterIP: 'fd00::1', clusterIPs: ['fd00::1', 10.0.0.1],
          ipFamilies: [IPv6, IPv4], ports: [{port: 53, protocol: UDP}, {port: 53, name: tcp}]}}",
    );
    let value = converted.value.unwrap();
    assert_eq!(value.families.len(), 2);
    assert_eq!(value.ports.iter().map(|p| p.proto).collect::<Vec<_>>(), [Proto::UDP, Proto::TCP]);
}

#[test]
fn sem_009_par_126_sloppy_addresses_are_canonical() {
    let converted = service(
        "{metadata: {name: a}, spec: {type: LoadBalancer, clusterIP: 172.30.0.041, externalIPs: [192.168.099.022],
          loadBalancerSourceRanges: [' 203.0.113.000/025'], ports: [{port: 80}]},
          status: {loadBalancer: {ingress: [{ip: 1.2.3.004}]}}}",
    );
    assert!(converted.refused.is_empty());
    let family = &converted.value.unwrap().families[0];
    assert_eq!(family.cluster_ip.to_string(), "172.30.0.41");
    assert_eq!(family.external_ips[0].to_string(), "192.168.99.22");
    assert_eq!(family.load_balancer_ips[0].to_string(), "1.2.3.4");
    assert_eq!(family.source_ranges[0].to_string(), "203.0.113.0/25");
}

#[test]
fn sem_013_par_125_load_balancer_entries_follow_their_ip_mode() {
    let converted = service(
        "{metadata: {name: a}, spec: {type: LoadBalancer, clusterIP: 10.0.0.1, ports: [{port: 80}]},
          status: {loadBalancer: {ingress: [{ip: 1.1.1.1, ipMode: VIP}, {ip: 1.1.1.2}, {ip: 1.1.1.3, ipMode: Proxy},
          {hostname: lb.example}, {ip: ''}]}}}",
    );
    let ips: Vec<String> =
        converted.value.unwrap().families[0].load_balancer_ips.iter().map(ToString::to_string).collect();
    assert_eq!(ips, ["1.1.1.1", "1.1.1.2"]);
}

#[test]
fn sem_013_only_the_mode_vip_is_handled() {
    let converted = service(
        "{metadata: {name: a}, spec: {type: LoadBalancer, clusterIP: 10.0.0.1, ports: [{port: 80}]},
          status: {loadBalancer: {ingress: [{ip: 1.1.1.1, ipMode: Vip}]}}}",
    );
    assert_eq!(fields(&converted), ["status.loadBalancer.ingress[0].ipMode"]);
    assert!(converted.value.unwrap().families[0].load_balancer_ips.is_empty());
}

#[test]
fn sem_030_an_address_with_only_invalid_source_ranges_admits_no_client() {
    let load_balancer_ips = |ranges: &str| {
        let converted = service(&format!(
            "{{metadata: {{name: a}}, spec: {{type: LoadBalancer, clusterIPs: [10.0.0.1, 'fd00::1'],
              loadBalancerSourceRanges: [{ranges}], ports: [{{port: 80}}]}},
              status: {{loadBalancer: {{ingress: [{{ip: 1.1.1.1}}, {{ip: 'fd00::9'}}]}}}}}}"
        ));
        let families = converted.value.unwrap().families;
        families.iter().map(|family| family.load_balancer_ips.len()).collect::<Vec<_>>()
    };
    assert_eq!(load_balancer_ips(""), [1, 1]);
    // Ranges of one family do not restrict the other family.
    assert_eq!(load_balancer_ips("10.0.0.0/8"), [1, 1]);
    assert_eq!(load_balancer_ips("10.0.0.0/33"), [0, 0]);
    assert_eq!(load_balancer_ips("10.0.0.0/33, 10.0.0.0/8"), [1, 0]);
}

#[test]
fn an_object_without_a_name_is_refused() {
    let nameless = service("{metadata: {}, spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}}");
    assert_eq!((fields(&nameless), &nameless.value), (vec!["metadata.name"], &None));
    let nameless =
        slice("{metadata: {labels: {kubernetes.io/service-name: a}}, addressType: IPv4, endpoints: []}");
    assert_eq!((fields(&nameless), &nameless.value), (vec!["metadata.name"], &None));
    let nameless = convert_node(&serde_yaml_ng::from_str("{metadata: {name: ''}}").unwrap());
    assert_eq!((fields(&nameless), &nameless.value), (vec!["metadata.name"], &None));
}

#[test]
fn sem_019_an_invalid_type_or_policy_is_named_and_counts_as_the_default() {
    let converted = service(
        "{metadata: {name: a}, spec: {type: Cluster, clusterIP: 10.0.0.1, externalIPs: [192.0.2.1],
          externalTrafficPolicy: local, internalTrafficPolicy: All, ports: [{port: 80}]}}",
    );
    assert_eq!(fields(&converted), ["spec.type", "spec.internalTrafficPolicy", "spec.externalTrafficPolicy"]);
    let value = converted.value.unwrap();
    assert!(!value.internal_local && !value.external_local);
}

#[test]
fn a_rejection_names_the_field_and_spares_the_rest() {
    let converted = service(
        "{metadata: {name: a, namespace: shop}, spec: {type: NodePort, clusterIP: 10.0.0.1, externalIPs: [nowhere],
          ports: [{port: 80, nodePort: 70000}, {port: 0, name: b, nodePort: 1}, {port: 81, name: c, protocol: ICMP},
          {port: 82, name: d, nodePort: 30082}, {port: 83, name: d, nodePort: 30083}, {port: 84, name: e}]}}",
    );
    assert_eq!(
        fields(&converted),
        [
            "spec.externalIPs[0]",
            "spec.ports[0].nodePort",
            "spec.ports[1].port",
            "spec.ports[2].protocol",
            "spec.ports[4].name",
            "spec.ports[5].nodePort"
        ]
    );
    assert!(converted.refused.iter().all(|r| r.object == "Service shop/a"));
    let value = converted.value.unwrap();
    assert_eq!(value.ports.iter().map(|p| p.port.get()).collect::<Vec<_>>(), [80, 82, 84]);
}

#[test]
fn sem_010_ports_of_all_three_protocols_are_served() {
    let converted = service(
        "{metadata: {name: a}, spec: {clusterIP: 10.0.0.1, ports: [{port: 80, name: a},
          {port: 81, name: b, protocol: SCTP}, {port: 82, name: b, protocol: UDP}]}}",
    );
    assert!(converted.refused.is_empty());
    let value = converted.value.unwrap();
    let ports: Vec<(u16, Proto)> = value.ports.iter().map(|p| (p.port.get(), p.proto)).collect();
    assert_eq!(ports, [(80, Proto::TCP), (81, Proto::SCTP), (82, Proto::UDP)]);
}

#[test]
fn sem_006_invalid_cluster_ips_are_refused() {
    for (spec, field) in [
        ("clusterIP: 10.0.0", "spec.clusterIP"),
        ("clusterIP: 127.0.0.1", "spec.clusterIP"),
        ("clusterIPs: [10.0.0.1], ipFamilies: [IPv6]", "spec.clusterIPs[0]"),
        ("type: ClusterIP", "spec.clusterIP"),
    ] {
        let yaml = format!("{{metadata: {{name: a}}, spec: {{{spec}, ports: [{{port: 80}}]}}}}");
        let converted = service(&yaml);
        assert_eq!(fields(&converted), [field], "{spec}");
        assert_eq!(converted.value, None);
    }
}

#[test]
fn sem_019_external_policy_counts_only_for_services_with_external_addresses() {
    let local = |spec: &str| {
        let yaml = format!(
            "{{metadata: {{name: a}}, spec: {{clusterIP: 10.0.0.1, externalTrafficPolicy: Local, {spec}}}}}"
        );
        service(&yaml).value.unwrap().external_local
    };
    assert!(local("type: NodePort"));
    assert!(local("type: LoadBalancer"));
    assert!(local("externalIPs: [192.0.2.1]"));
    assert!(!local("type: ClusterIP"));
}

#[test]
fn sem_035_affinity_lasts_for_its_timeout_or_three_hours() {
    let convert = |spec: &str| {
        let yaml = format!("{{metadata: {{name: a}}, spec: {{clusterIP: 10.0.0.1, {spec}}}}}");
        let converted = service(&yaml);
        let rejected: Vec<String> = converted.refused.iter().map(ToString::to_string).collect();
        (converted.value.unwrap().affinity.map(NonZeroU32::get), rejected)
    };
    let timeout = |seconds: i32| {
        format!(
            "sessionAffinity: ClientIP, sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {seconds}}}}}"
        )
    };
    assert_eq!(convert("ports: []"), (None, vec![]));
    assert_eq!(convert("sessionAffinity: None"), (None, vec![]));
    for spec in [
        "sessionAffinity: ClientIP",
        "sessionAffinity: ClientIP, sessionAffinityConfig: {}",
        "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {}}",
    ] {
        assert_eq!(convert(spec), (Some(10_800), vec![]), "{spec}");
    }
    for seconds in [1, 86_400] {
        assert_eq!(convert(&timeout(seconds)), (Some(seconds as u32), vec![]));
    }
    for seconds in [-1, 0, 86_401] {
        let reason = format!(
            "Service default/a: spec.sessionAffinityConfig.clientIP.timeoutSeconds: {seconds} is not between 1 and \
             86400: 10800 is used"
        );
        assert_eq!(convert(&timeout(seconds)), (Some(10_800), vec![reason]));
    }
    let reason = "Service default/a: spec.sessionAffinity: \"Cookie\" is not an affinity (None, ClientIP)";
    assert_eq!(convert("sessionAffinity: Cookie"), (None, vec![reason.to_owned()]));
}

#[test]
fn sem_044_sem_048_the_first_address_counts_and_conditions_default_to_ready_and_serving() {
    let converted = slice(
        "{metadata: {name: s, labels: {kubernetes.io/service-name: web}}, addressType: IPv4,
          ports: [{name: '', port: 80}],
          endpoints: [{addresses: [10.180.00.001, 10.0.0.9]}, {addresses: [10.0.0.2], conditions: {ready: false}},
          {addresses: []}]}",
    );
    let value = converted.value.unwrap();
    assert_eq!(value.endpoints.len(), 2);
    let (a, b) = (&value.endpoints[0], &value.endpoints[1]);
    assert_eq!(a.addr.to_string(), "10.180.0.1");
    assert!(a.ready && a.serving && !a.terminating);
    assert!(!b.ready && b.serving && !b.terminating);
}

#[test]
fn sem_004_sem_042_sem_043_slices_of_headless_services_and_host_names_are_left_out() {
    for (yaml, rejected) in [
        (
            "{metadata: {name: s, labels: {kubernetes.io/service-name: w, service.kubernetes.io/headless: ''}}, addressType: IPv4, endpoints: []}",
            0,
        ),
        (
            "{metadata: {name: s, labels: {kubernetes.io/service-name: w}}, addressType: FQDN, endpoints: []}",
            0,
        ),
        (
            "{metadata: {name: s, labels: {kubernetes.io/service-name: w}}, addressType: IPX, endpoints: []}",
            1,
        ),
        (
            "{metadata: {name: s, labels: {kubernetes.io/service-name: ''}}, addressType: IPv4, endpoints: []}",
            1,
        ),
        ("{metadata: {name: s}, addressType: IPv4, endpoints: []}", 1),
    ] {
        let converted = slice(yaml);
        assert_eq!((converted.value, converted.refused.len()), (None, rejected), "{yaml}");
    }
}

#[test]
fn sem_045_bad_slice_entries_are_named_and_spare_the_rest() {
    let converted = slice(
        "{metadata: {name: s, labels: {kubernetes.io/service-name: web}}, addressType: IPv4,
          ports: [{port: 80}, {name: a}, {name: b, port: 99999}, {name: c, port: 80, protocol: X}, {name: d, port: 1}],
          endpoints: [{addresses: ['fd00::1']}, {addresses: [oops]}, {addresses: [0.0.0.0]}, {addresses: [10.0.0.1]}]}",
    );
    assert_eq!(
        fields(&converted),
        [
            "ports[0]",
            "ports[1]",
            "ports[2].port",
            "ports[3].protocol",
            "endpoints[0].addresses[0]",
            "endpoints[1].addresses[0]",
            "endpoints[2].addresses[0]"
        ]
    );
    let value = converted.value.unwrap();
    assert_eq!((value.ports.len(), value.endpoints.len()), (1, 1));
}

#[test]
fn a_node_lists_internal_addresses_first() {
    let converted = convert_node(
        &serde_yaml_ng::from_str(
            "{metadata: {name: n1, labels: {topology.kubernetes.io/zone: z1}}, status: {addresses: [
              {type: ExternalIP, address: 192.0.2.1}, {type: Hostname, address: n1},
              {type: InternalIP, address: 10.0.0.1}, {type: InternalIP, address: 'fd00::1'}]}}",
        )
        .unwrap(),
    );
    let node = converted.value.unwrap();
    assert_eq!(node.zone.as_deref(), Some("z1"));
    let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.1", "fd00::1", "192.0.2.1"]);
}

#[test]
fn sem_211_a_node_about_to_be_removed_is_not_eligible() {
    let is_eligible =
        |yaml: &str| convert_node(&serde_yaml_ng::from_str(yaml).unwrap()).value.unwrap().is_eligible;
    assert!(is_eligible("{metadata: {name: a}}"));
    assert!(is_eligible("{metadata: {name: a}, spec: {taints: [{key: other, effect: NoExecute}]}}"));
    let taint =
        "{metadata: {name: a}, spec: {taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]}}";
    assert!(!is_eligible(taint));
    assert!(!is_eligible("{metadata: {name: a, deletionTimestamp: '2026-01-01T00:00:00Z'}}"));
}
