//! The folder as a whole, on a real file system.

use super::*;
use crate::source::event::Event;

struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("svc-manifests-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Events as short words.
fn words(batch: &Batch) -> Vec<String> {
    fn word<T>(kind: &str, event: &Event<T>, name: impl Fn(&T) -> Option<String>) -> String {
        let name = |o| name(o).unwrap_or_default();
        match event {
            Event::Init => format!("{kind} init"),
            Event::InitApply(o) => format!("{kind} list {}", name(o)),
            Event::InitDone => format!("{kind} done"),
            Event::Apply(o) => format!("{kind} apply {}", name(o)),
            Event::Delete(o) => format!("{kind} delete {}", name(o)),
        }
    }
    let one = |event: &SourceEvent| match event {
        SourceEvent::Service(e) => word("service", e, |o| o.metadata.name.clone()),
        SourceEvent::Slice(e) => word("slice", e, |o| o.metadata.name.clone()),
        SourceEvent::Node(e) => word("node", e, |o| o.metadata.name.clone()),
        SourceEvent::Report(list) => format!("report {}", list.len()),
    };
    batch.iter().map(one).collect()
}

const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: web},
    spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80}]}}";
const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {app: web}},
    spec: {containers: []}, status: {podIP: 10.0.0.1}}";

#[test]
fn the_first_scan_lists_and_later_ones_tell_the_changes() {
    let folder = Folder::new("scan");
    folder.write("web.yaml", SERVICE);
    folder.write(".web.yaml.swp", "not yaml: [");
    folder.write("README.md", "not yaml: [");
    let mut manifests = Manifests::open(&folder.0).unwrap();
    let none = BTreeSet::new();
    let expected = [
        "service init",
        "service list web",
        "service done",
        "slice init",
        "slice done",
        "node init",
        "node done",
        "report 0",
    ];
    assert_eq!(words(&manifests.scan(&none)), expected);
    assert!(manifests.scan(&none).is_empty());
    folder.write("pod.yaml", POD);
    assert_eq!(words(&manifests.scan(&none)), ["slice apply web:pods:0"]);
    folder.write("pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: [");
    assert_eq!(words(&manifests.scan(&none)), ["report 1"]);
    std::fs::remove_file(folder.0.join("pod.yaml")).unwrap();
    assert_eq!(words(&manifests.scan(&none)), ["slice delete web:pods:0", "report 0"]);
}

#[test]
fn a_file_that_is_being_written_is_left_alone() {
    let folder = Folder::new("writing");
    folder.write("web.yaml", SERVICE);
    let mut manifests = Manifests::open(&folder.0).unwrap();
    manifests.scan(&BTreeSet::new());
    folder.write("web.yaml", "half");
    assert!(manifests.scan(&BTreeSet::from(["web.yaml".to_owned()])).is_empty());
    assert_eq!(words(&manifests.scan(&BTreeSet::new())), ["report 1"]);
}

#[test]
fn a_folder_that_goes_away_leaves_everything_in_force() {
    let folder = Folder::new("away");
    folder.write("web.yaml", SERVICE);
    let mut manifests = Manifests::open(&folder.0).unwrap();
    manifests.scan(&BTreeSet::new());
    std::fs::remove_dir_all(&folder.0).unwrap();
    assert_eq!(words(&manifests.scan(&BTreeSet::new())), ["report 1"]);
    assert!(Manifests::open(&folder.0).is_err());
}

#[tokio::test]
async fn edits_arrive_as_events() {
    let folder = Folder::new("watch");
    folder.write("web.yaml", SERVICE);
    let (send, mut receive) = mpsc::channel(8);
    let task = tokio::spawn(run(folder.0.clone(), send));
    let limit = Duration::from_secs(10);
    let mut next = async || words(&tokio::time::timeout(limit, receive.recv()).await.unwrap().unwrap());
    assert_eq!(next().await[1], "service list web");
    folder.write("pod.yaml", POD);
    assert_eq!(next().await, ["slice apply web:pods:0"]);
    // As editors and configuration maps do it: a new file takes the place of the old.
    folder.write("new", &POD.replace("10.0.0.1", "10.0.0.2"));
    std::fs::rename(folder.0.join("new"), folder.0.join("pod.yaml")).unwrap();
    assert_eq!(next().await, ["slice apply web:pods:0"]);
    std::fs::remove_file(folder.0.join("web.yaml")).unwrap();
    assert_eq!(next().await, ["service delete web", "slice delete web:pods:0"]);
    drop(receive);
    tokio::time::timeout(limit, task).await.unwrap().unwrap().unwrap();
}
