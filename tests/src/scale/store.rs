//! State of the stub API server: prepared objects of each resource, events, and watchers.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use super::http;

/// One resource, as its paths and objects name it.
#[derive(Debug)]
pub struct ResourceKind {
    pub path: &'static str,
    pub kind: &'static str,
    pub api_version: &'static str,
}

pub const SERVICES: usize = 0;
pub const SLICES: usize = 1;
pub const NODES: usize = 2;
pub const NAMESPACES: usize = 4;

pub const RESOURCES: [ResourceKind; 5] = [
    ResourceKind { path: "/api/v1/services", kind: "Service", api_version: "v1" },
    ResourceKind {
        path: "/apis/discovery.k8s.io/v1/endpointslices",
        kind: "EndpointSlice",
        api_version: "discovery.k8s.io/v1",
    },
    ResourceKind { path: "/api/v1/nodes", kind: "Node", api_version: "v1" },
    ResourceKind {
        path: "/apis/networking.k8s.io/v1/servicecidrs",
        kind: "ServiceCIDR",
        api_version: "networking.k8s.io/v1",
    },
    ResourceKind { path: "/api/v1/namespaces", kind: "Namespace", api_version: "v1" },
];

/// Version of all objects until they change.
const FIRST_VERSION: u64 = 1_000_000;
/// Octets of a list that are copied under the store's lock and then written at once.
const PORTION: usize = 256 << 10;

/// Objects begin with `"metadata"`. An event has kind and version before that, an item of a list does not.
#[derive(Debug)]
pub struct Store {
    version: u64,
    objects: [Vec<Arc<str>>; RESOURCES.len()],
    log: Vec<Logged>,
    watches: Vec<(usize, Arc<TcpStream>)>,
    /// When the last item of the latest complete list was written.
    pub listed: [Option<Instant>; RESOURCES.len()],
    /// Events that were created.
    pub created: u64,
    /// Requests that the stub could not answer.
    pub unknown: Vec<String>,
}

#[derive(Debug)]
struct Logged {
    version: u64,
    resource: usize,
    line: Vec<u8>,
}

impl Store {
    pub fn new(objects: [Vec<String>; RESOURCES.len()]) -> Self {
        let version = FIRST_VERSION.to_string();
        let ready = |objects: Vec<String>| {
            objects.iter().map(|text| text.replace("$VERSION", &version).into()).collect()
        };
        Self {
            version: FIRST_VERSION,
            objects: objects.map(ready),
            log: Vec::new(),
            watches: Vec::new(),
            listed: [None; RESOURCES.len()],
            created: 0,
            unknown: Vec::new(),
        }
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn count(&self, resource: usize) -> usize {
        self.objects[resource].len()
    }

    /// The only object of a resource that has one.
    pub fn first(&self, resource: usize) -> Option<String> {
        self.objects[resource].first().map(|object| whole(resource, object))
    }

    /// Replaces objects and notifies watchers, in one write. Returns the time before the write.
    pub fn replace(&mut self, resource: usize, changes: Vec<(usize, String)>) -> Instant {
        let mut chunks = Vec::new();
        for (place, object) in changes {
            self.version += 1;
            let object: Arc<str> = object.replace("$VERSION", &self.version.to_string()).into();
            let line = event_line("MODIFIED", resource, &object);
            http::push_chunk(&mut chunks, &line);
            self.log.push(Logged { version: self.version, resource, line });
            if let Some(old) = self.objects[resource].get_mut(place) {
                *old = object;
            }
        }
        let written = Instant::now();
        self.watches.retain(|(of, stream)| *of != resource || (&**stream).write_all(&chunks).is_ok());
        written
    }

    /// Fills a buffer with a list's next objects, as events or items, and returns the position of the next one.
    pub fn portion(
        &self,
        resource: usize,
        from: usize,
        to: usize,
        as_events: bool,
        into: &mut Vec<u8>,
    ) -> usize {
        let mut next = from;
        for object in self.objects[resource].get(from..to).into_iter().flatten() {
            if into.len() >= PORTION {
                break;
            }
            if as_events {
                push_event(into, "ADDED", resource, object);
            } else {
                into.extend_from_slice(if into.is_empty() { b"{" } else { b",{" });
                into.extend_from_slice(object.as_bytes());
            }
            next += 1;
        }
        next
    }

    /// Sends the events since a version, and then all new ones.
    pub fn watch(
        &mut self,
        resource: usize,
        since: u64,
        ends_list: bool,
        stream: &Arc<TcpStream>,
    ) -> io::Result<()> {
        let mut chunks = Vec::new();
        if ends_list {
            http::push_chunk(&mut chunks, &bookmark(resource, since));
        }
        for logged in self.log.iter().filter(|logged| logged.resource == resource && logged.version > since) {
            http::push_chunk(&mut chunks, &logged.line);
        }
        (&**stream).write_all(&chunks)?;
        self.watches.push((resource, Arc::clone(stream)));
        Ok(())
    }

    pub fn forget(&mut self, stream: &Arc<TcpStream>) {
        self.watches.retain(|(_, other)| !Arc::ptr_eq(stream, other));
    }

    /// The history reaches back that far.
    pub const fn knows(since: u64) -> bool {
        since >= FIRST_VERSION
    }
}

fn whole(resource: usize, object: &str) -> String {
    let ResourceKind { kind, api_version, .. } = &RESOURCES[resource];
    format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",{object}")
}

fn push_event(into: &mut Vec<u8>, what: &str, resource: usize, object: &str) {
    let ResourceKind { kind, api_version, .. } = &RESOURCES[resource];
    for part in [
        "{\"type\":\"",
        what,
        "\",\"object\":{\"kind\":\"",
        kind,
        "\",\"apiVersion\":\"",
        api_version,
        "\",",
        object,
        "}\n",
    ] {
        into.extend_from_slice(part.as_bytes());
    }
}

fn event_line(what: &str, resource: usize, object: &str) -> Vec<u8> {
    let mut line = Vec::with_capacity(object.len() + 96);
    push_event(&mut line, what, resource, object);
    line
}

fn bookmark(resource: usize, version: u64) -> Vec<u8> {
    let object = format!(
        "\"metadata\":{{\"resourceVersion\":\"{version}\",\"creationTimestamp\":null,\
         \"annotations\":{{\"k8s.io/initial-events-end\":\"true\"}}}}}}"
    );
    event_line("BOOKMARK", resource, &object)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn store() -> Store {
        let object =
            |name: &str| format!("\"metadata\":{{\"name\":\"{name}\",\"resourceVersion\":\"$VERSION\"}}}}");
        Store::new([vec![object("a"), object("b"), object("c")], vec![], vec![object("n")], vec![], vec![]])
    }

    #[test]
    fn a_list_is_json_as_events_and_as_items() {
        let (store, mut events, mut items) = (store(), Vec::new(), Vec::new());
        assert_eq!(store.portion(SERVICES, 0, 3, true, &mut events), 3);
        let lines: Vec<Value> = events
            .split(|octet| *octet == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[2]["object"]["metadata"]["name"], "c");
        store.portion(SERVICES, 1, 3, false, &mut items);
        let items: Value = serde_json::from_slice(&[b"[", items.as_slice(), b"]"].concat()).unwrap();
        assert_eq!(items[1]["metadata"]["resourceVersion"], "1000000");
        let end: Value = serde_json::from_slice(&bookmark(SERVICES, 7)).unwrap();
        assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    }

    #[test]
    fn a_change_has_a_new_version_and_is_in_the_next_list() {
        let mut store = store();
        store.replace(SERVICES, vec![(1, "\"metadata\":{\"resourceVersion\":\"$VERSION\"}}".to_owned())]);
        let mut items = Vec::new();
        store.portion(SERVICES, 1, 2, false, &mut items);
        assert_eq!(items, b"{\"metadata\":{\"resourceVersion\":\"1000001\"}}");
        assert_eq!(store.version(), 1_000_001);
    }
}
