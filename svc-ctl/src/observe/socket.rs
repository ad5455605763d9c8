//! Answers, at a Unix socket in the run directory, questions whose answers grow with the number of Services.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::ledger::Complaints;
use super::listeners::Listeners;
use super::status::ComplaintStatus;
use super::summary::complaint_status;
use super::wanted::{wanted, wanted_frontends};
use crate::model::complaint::{Complaint, Origin};
use crate::model::name::IpFamily;
use crate::model::world::World;
use crate::reconcile::InForce;

/// Name of the socket in the run directory.
pub const FILE: &str = "svc.sock";
/// Name of the socket in complaints.
const SUBJECT: &str = "--run-dir";
/// Pause before a failed socket is opened again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Data for the answers.
#[derive(Clone, Debug)]
pub struct SocketData {
    pub complaints: watch::Receiver<Complaints>,
    pub in_force: watch::Receiver<InForce>,
    pub worlds: watch::Receiver<World>,
}

/// Serves for ever.
pub async fn run(run_dir: PathBuf, data: SocketData, listeners: Listeners) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/complaints", get(complaints))
        .route("/services", get(services))
        .route("/wanted", get(wanted_side))
        .route("/wanted/frontends", get(frontends))
        .with_state(data);
    loop {
        match listen(&run_dir) {
            Ok(listener) => {
                listeners.succeeded(SUBJECT);
                if let Err(error) = axum::serve(listener, router.clone()).await {
                    tracing::warn!(%error, "listening at {FILE} ended");
                }
            }
            Err(error) => listeners.failed(SUBJECT, &run_dir.join(FILE).display().to_string(), &error),
        }
        sleep(TRY_AGAIN_AFTER).await;
    }
}

/// Opens the socket for root only. The socket gets its final name, replacing an earlier daemon's, once its
/// permissions are set.
fn listen(run_dir: &Path) -> io::Result<UnixListener> {
    let fresh = format!(".{FILE}.{}", std::process::id());
    let path = run_dir.join(&fresh);
    let _ = fs::remove_file(&path);
    let listener = within(run_dir, |dir| UnixListener::bind(dir.join(&fresh)))?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    fs::rename(&path, run_dir.join(FILE))?;
    Ok(listener)
}

/// Calls `act` with a short path to the directory: the kernel accepts at most 107 octets for a socket's path.
pub(super) fn within<T>(dir: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let dir = File::open(dir)?;
    act(Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())))
}

#[derive(Debug, Deserialize)]
struct NamespaceFilter {
    namespace: Option<String>,
}

async fn complaints(State(data): State<SocketData>, Query(filter): Query<NamespaceFilter>) -> Response {
    let all = data.complaints.borrow().clone();
    json(move || {
        let is_wanted = |origin: &Origin, complaint: &Complaint| match &filter.namespace {
            Some(namespace) => is_in_namespace(origin, complaint, namespace),
            None => true,
        };
        let each =
            all.iter().flat_map(|(origin, list)| list.iter().map(move |complaint| (origin, complaint)));
        let wanted = each.filter(|(origin, complaint)| is_wanted(origin, complaint));
        wanted.map(|(_, complaint)| complaint_status(complaint)).collect::<Vec<ComplaintStatus>>()
    })
    .await
}

fn is_in_namespace(origin: &Origin, complaint: &Complaint, namespace: &str) -> bool {
    if let Some(service) = &complaint.service {
        return &*service.namespace == namespace;
    }
    match origin {
        Origin::Service(service)
        | Origin::Plan(service)
        | Origin::Limits(service)
        | Origin::HealthPort(service)
        | Origin::Alias(service) => &*service.namespace == namespace,
        Origin::Slice(slice) => &*slice.namespace == namespace,
        Origin::Pods => complaint.object.starts_with(&format!("Pod {namespace}/")),
        Origin::Source
        | Origin::Node(_)
        | Origin::ThisNode
        | Origin::NodeAddresses
        | Origin::Listeners
        | Origin::Announced
        | Origin::Bgp
        | Origin::Allocator
        | Origin::AllocatorSource
        | Origin::AllocatorLease
        | Origin::NodeLease
        | Origin::NodeLeases
        | Origin::Configuration
        | Origin::Tables
        | Origin::Writes
        | Origin::Host
        | Origin::Programs
        | Origin::Firewall
        | Origin::Interfaces
        | Origin::DnsAddress(_)
        | Origin::DnsUpstream
        | Origin::RunTime
        | Origin::ServiceCidrs
        | Origin::Sockets => false,
    }
}

/// Names of the service ids in the tables.
async fn services(State(data): State<SocketData>) -> Response {
    let services = data.in_force.borrow().services.clone();
    json(move || services.iter().map(|(key, id)| (id.0, key.to_string())).collect::<BTreeMap<u32, String>>())
        .await
}

#[derive(Debug, Deserialize)]
struct PortInFamily {
    id: u32,
    /// 4 or 6.
    family: u8,
}

/// The wanted side of a service port by its id in the tables; `null` if there is none.
async fn wanted_side(State(data): State<SocketData>, Query(filter): Query<PortInFamily>) -> Response {
    let (services, world) = (data.in_force.borrow().services.clone(), data.worlds.borrow().clone());
    json(move || {
        let (key, _) = services.iter().find(|(_, id)| id.0 == filter.id)?;
        let family = if filter.family == 4 { IpFamily::V4 } else { IpFamily::V6 };
        wanted(&world, key, family)
    })
    .await
}

/// Every frontend that the objects want.
async fn frontends(State(data): State<SocketData>) -> Response {
    let world = data.worlds.borrow().clone();
    json(move || wanted_frontends(&world)).await
}

/// On another thread: a hundred thousand names take a while.
async fn json<T: Serialize + 'static>(make: impl FnOnce() -> T + Send + 'static) -> Response {
    match spawn_blocking(move || serde_json::to_vec(&make())).await {
        Ok(Ok(octets)) => ([(CONTENT_TYPE, "application/json")], octets).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use svc_common::abi::ServicePortId;
    use svc_common::addr::Proto;

    use super::*;
    use crate::model::complaint::Kind;
    use crate::model::name::{ServiceName, ServicePortKey};
    use crate::observe::ask;
    use crate::observe::ledger::Ledger;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_socket_serves_names_and_complaints_to_its_owner() {
        // Longer than the kernel accepts for a socket's path.
        let dir = std::env::temp_dir().join(format!("svc-socket-{}-{}", std::process::id(), "x".repeat(100)));
        fs::create_dir_all(&dir).unwrap();
        let ledger = Ledger::default();
        for namespace in ["red", "blue"] {
            let service = ServiceName::new(namespace, "web");
            let complaint = Complaint::of_service(Kind::Refused, &service, "spec.type", "odd");
            ledger.set(Origin::Service(service), vec![complaint]);
        }
        let key = ServicePortKey {
            service: ServiceName::new("red", "web"),
            port: "http".into(),
            proto: Proto::TCP,
        };
        let in_force =
            InForce { services: [(key, ServicePortId(7))].into_iter().collect(), ..InForce::default() };
        let (_keep, in_force) = watch::channel(in_force);
        assert!(ask::services(&dir).is_err(), "no daemon runs");
        let (_source, worlds) = watch::channel(World::default());
        let data = SocketData { complaints: ledger.subscribe(), in_force, worlds };
        let mut complained = ledger.subscribe();
        let task = tokio::spawn(run(dir.clone(), data, Listeners::new(ledger)));
        while !dir.join(FILE).exists() {
            tokio::task::yield_now().await;
        }
        assert_eq!(fs::metadata(dir.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        let from = dir.clone();
        let (names, all, blue, unknown) = spawn_blocking(move || {
            let complaints = (ask::complaints(&from, None), ask::complaints(&from, Some("blue")));
            (ask::services(&from), complaints.0, complaints.1, ask::wanted(&from, 7, true))
        })
        .await
        .unwrap();
        assert_eq!(unknown.unwrap(), None, "the world has no such Service");
        assert_eq!(names.unwrap(), [(7, "red/web:http/TCP".to_owned())].into());
        assert_eq!(all.unwrap().len(), 2);
        let blue = blue.unwrap();
        assert_eq!(
            blue.iter().map(|c| (&*c.object, &*c.kind)).collect::<Vec<_>>(),
            [("Service blue/web", "refused")]
        );
        assert!(!complained.borrow_and_update().contains_key(&Origin::Listeners));
        task.abort();
        fs::remove_dir_all(&dir).unwrap();
    }
}
