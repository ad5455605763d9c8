//! Parses a container's `readinessProbe` into a request, its period and its thresholds. An error names the field.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe as Written};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::pods::{addresses, is_terminal};
use crate::model::complaint::Complaint;

/// Defaults of an API server.
const PERIOD_SECS: u64 = 10;
const TIMEOUT_SECS: u64 = 1;
const FAILURES: u32 = 3;

/// A container's probe, and how its answers count.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Probe {
    pub question: Question,
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub thresholds: Thresholds,
}

/// Results of one kind in a row that change the readiness.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Thresholds {
    pub successes: u32,
    pub failures: u32,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Question {
    /// A TCP connection to HOST:PORT is accepted.
    Tcp(String),
    /// GET answers with 200 to 399.
    Http { url: String, headers: Vec<(String, String)> },
    /// `grpc.health.v1.Health/Check` at HOST:PORT answers SERVING.
    Grpc { target: String, service: String },
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(target) | Self::Http { url: target, .. } | Self::Grpc { target, .. } => target,
        })
    }
}

/// The field of a container that has a probe, and the probe.
pub type FieldAndProbe = (String, Probe);

/// The probes of Pods that cannot be asked.
pub fn refused_probes<'p>(pods: impl IntoIterator<Item = &'p Pod>) -> Vec<Complaint> {
    pods.into_iter().flat_map(|pod| probes_of(pod).1).collect()
}

/// The probes of a Pod that has an address and runs, and complaints about its invalid probes.
pub fn probes_of(pod: &Pod) -> (Vec<FieldAndProbe>, Vec<Complaint>) {
    let (mut probes, mut complaints) = (Vec::new(), Vec::new());
    let address = addresses(pod).next().filter(|_| !is_terminal(pod));
    let (Some(spec), Some(address)) = (&pod.spec, address) else { return (probes, complaints) };
    let containers = spec.containers.iter().enumerate().map(|(i, c)| (format!("spec.containers[{i}]"), c));
    // A sidecar is an init container that is started again.
    let sidecars = spec.init_containers.iter().flatten().enumerate();
    let sidecars = sidecars.filter(|(_, c)| c.restart_policy.as_deref() == Some("Always"));
    let sidecars = sidecars.map(|(i, c)| (format!("spec.initContainers[{i}]"), c));
    for (path, container) in containers.chain(sidecars) {
        let Some(written) = &container.readiness_probe else { continue };
        let field = format!("{path}.readinessProbe");
        match probe(written, container, address) {
            Ok(probe) => probes.push((field, probe)),
            Err((sub_field, reason)) => {
                complaints.push(Complaint::refused(object(pod), format!("{field}.{sub_field}"), reason));
            }
        }
    }
    (probes, complaints)
}

/// Name of a Pod in complaints.
fn object(pod: &Pod) -> String {
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    format!("Pod {}/{}", name(&pod.metadata.namespace), name(&pod.metadata.name))
}

type FieldError = (String, String);

fn probe(written: &Written, container: &Container, address: IpAddr) -> Result<Probe, FieldError> {
    let seconds = |field, value, default| number(field, value, default).map(Duration::from_secs);
    let count = |field: &str, value: Option<i32>, default: u32| {
        number(field, value, default.into()).map(|n| u32::try_from(n).unwrap_or(u32::MAX))
    };
    Ok(Probe {
        question: question(written, container, address)?,
        initial_delay: seconds("initialDelaySeconds", written.initial_delay_seconds, 0)?,
        period: seconds("periodSeconds", written.period_seconds, PERIOD_SECS)?,
        timeout: seconds("timeoutSeconds", written.timeout_seconds, TIMEOUT_SECS)?,
        thresholds: Thresholds {
            successes: count("successThreshold", written.success_threshold, 1)?,
            failures: count("failureThreshold", written.failure_threshold, FAILURES)?,
        },
    })
}

/// Zero counts as not written, as for an API server.
fn number(field: &str, value: Option<i32>, default: u64) -> Result<u64, FieldError> {
    match value {
        None | Some(0) => Ok(default),
        Some(number) => {
            u64::try_from(number).map_err(|_| (field.to_owned(), format!("{number} is negative")))
        }
    }
}

fn question(written: &Written, container: &Container, address: IpAddr) -> Result<Question, FieldError> {
    let own = address.to_string();
    let host_of =
        |host: &Option<String>| host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| own.clone());
    match (&written.http_get, &written.tcp_socket, &written.grpc, &written.exec) {
        (Some(get), None, None, None) => {
            let port = port(&get.port, container, "httpGet.port")?;
            let scheme = match get.scheme.as_deref().unwrap_or_default() {
                "" | "HTTP" => "http",
                "HTTPS" => "https",
                other => {
                    return Err(("httpGet.scheme".into(), format!("{other:?} is neither HTTP nor HTTPS")));
                }
            };
            let path = get.path.as_deref().unwrap_or("/");
            let slash = if path.starts_with('/') { "" } else { "/" };
            let headers = get.http_headers.iter().flatten();
            Ok(Question::Http {
                url: format!("{scheme}://{}{slash}{path}", host_and_port(&host_of(&get.host), port)),
                headers: headers.map(|h| (h.name.clone(), h.value.clone())).collect(),
            })
        }
        (None, Some(tcp), None, None) => {
            let port = port(&tcp.port, container, "tcpSocket.port")?;
            Ok(Question::Tcp(host_and_port(&host_of(&tcp.host), port)))
        }
        (None, None, Some(grpc), None) => {
            let port = port(&IntOrString::Int(grpc.port), container, "grpc.port")?;
            let service = grpc.service.clone().unwrap_or_default();
            Ok(Question::Grpc { target: host_and_port(&own, port), service })
        }
        (None, None, None, Some(_)) => {
            Err(("exec".into(), "no command of a container is run here; the Pod is not probed".into()))
        }
        (None, None, None, None) => Err(("httpGet".into(), "neither httpGet, tcpSocket nor grpc".into())),
        _ => Err(("httpGet".into(), "more than one of httpGet, tcpSocket, grpc and exec".into())),
    }
}

fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn port(written: &IntOrString, container: &Container, field: &str) -> Result<u16, FieldError> {
    let number = match written {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = |port: &&k8s_openapi::api::core::v1::ContainerPort| port.name.as_ref() == Some(name);
            let found = container.ports.iter().flatten().find(named).map(|port| port.container_port);
            found.or_else(|| name.parse().ok())
        }
    };
    let valid = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0);
    valid.ok_or_else(|| {
        let reason = match written {
            IntOrString::Int(number) => format!("{number} is no port"),
            IntOrString::String(name) => format!("the container has no port {name:?}"),
        };
        (field.to_owned(), reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(probe: &str) -> Result<Probe, String> {
        let pod: Pod = serde_yaml_ng::from_str(&format!(
            "{{metadata: {{name: p, namespace: shop}}, status: {{podIP: 10.0.0.1}}, spec: {{containers: [{{name: a}},
              {{name: c, ports: [{{name: web, containerPort: 8080}}], readinessProbe: {probe}}}]}}}}"
        ))
        .unwrap();
        let (mut probes, complaints) = probes_of(&pod);
        match complaints.first() {
            Some(complaint) => Err(complaint.to_string()),
            None => Ok(probes.remove(0).1),
        }
    }

    #[test]
    fn missing_fields_have_the_kubelets_defaults() {
        let probe = read("{tcpSocket: {port: web}, periodSeconds: 0}").unwrap();
        assert_eq!(probe.question, Question::Tcp("10.0.0.1:8080".into()));
        let seconds = [probe.initial_delay, probe.period, probe.timeout].map(|time| time.as_secs());
        assert_eq!((seconds, probe.thresholds), ([0, 10, 1], Thresholds { successes: 1, failures: 3 }));
    }

    #[test]
    fn fields_that_are_written_count() {
        let probe = read(
            "{httpGet: {port: 81, path: live, scheme: HTTPS, host: 'fd00::1', httpHeaders: [{name: a, value: b}]},
              initialDelaySeconds: 5, periodSeconds: 2, timeoutSeconds: 3, successThreshold: 4, failureThreshold: 6}",
        )
        .unwrap();
        let headers = vec![("a".to_owned(), "b".to_owned())];
        assert_eq!(probe.question, Question::Http { url: "https://[fd00::1]:81/live".into(), headers });
        let seconds = [probe.initial_delay, probe.period, probe.timeout].map(|time| time.as_secs());
        assert_eq!((seconds, probe.thresholds), ([5, 2, 3], Thresholds { successes: 4, failures: 6 }));
        let grpc = read("{grpc: {port: 9000, service: s}}").unwrap().question;
        assert_eq!(grpc, Question::Grpc { target: "10.0.0.1:9000".into(), service: "s".into() });
    }

    #[test]
    fn a_probe_that_cannot_be_asked_is_refused_by_its_field() {
        for (probe, expected) in [
            ("{tcpSocket: {port: db}}", "tcpSocket.port: the container has no port \"db\""),
            ("{tcpSocket: {port: 70000}}", "tcpSocket.port: 70000 is no port"),
            ("{httpGet: {port: 0}}", "httpGet.port: 0 is no port"),
            ("{httpGet: {port: 1, scheme: ftp}}", "httpGet.scheme: \"ftp\" is neither HTTP nor HTTPS"),
            ("{tcpSocket: {port: 1}, periodSeconds: -1}", "periodSeconds: -1 is negative"),
            ("{exec: {command: [a]}}", "exec: no command of a container is run here; the Pod is not probed"),
            ("{}", "httpGet: neither httpGet, tcpSocket nor grpc"),
            (
                "{grpc: {port: 1}, tcpSocket: {port: 1}}",
                "httpGet: more than one of httpGet, tcpSocket, grpc and exec",
            ),
        ] {
            let expected = format!("Pod shop/p: spec.containers[1].readinessProbe.{expected}");
            assert_eq!(read(probe), Err(expected), "{probe}");
        }
    }

    #[test]
    fn sidecars_are_probed_and_a_pod_that_has_no_address_or_has_ended_is_not() {
        let probed = |status: &str| {
            let pod = format!(
                "{{metadata: {{name: p}}, status: {{{status}}}, spec: {{containers: [], initContainers: [
                  {{name: once, readinessProbe: {{tcpSocket: {{port: 1}}}}}},
                  {{name: side, restartPolicy: Always, readinessProbe: {{tcpSocket: {{port: 2}}}}}}]}}}}"
            );
            let (probes, _) = probes_of(&serde_yaml_ng::from_str(&pod).unwrap());
            probes.into_iter().map(|(field, _)| field).collect::<Vec<_>>()
        };
        assert_eq!(probed("podIP: 10.0.0.1"), ["spec.initContainers[1].readinessProbe"]);
        assert!(probed("").is_empty() && probed("podIP: 10.0.0.1, phase: Succeeded").is_empty());
    }
}
