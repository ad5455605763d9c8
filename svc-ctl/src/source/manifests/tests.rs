//! The folder as a whole, on a real file system.

use std::time::Duration;

use tokio::sync::mpsc;

use super::*;
use crate::model::complaint::Origin;
use crate::observe::ledger::Ledger;
use crate::source::event::{Event, SourceEvent};

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

/// The result of a scan in short words, and the number of complaints then.
fn scan(manifests: &mut Manifests, writing: &[&str]) -> Option<(Vec<String>, usize)> {
    let batch = next_batch(manifests, writing)?;
    Some((words(&batch), manifests.report().len()))
}

fn next_batch(manifests: &mut Manifests, writing: &[&str]) -> Option<Batch> {
    let is_new = manifests.read(&writing.iter().map(ToString::to_string).collect());
    is_new.then(|| manifests.batch(&Health::default()))
}

fn said(words: &[&str], complaints: usize) -> Option<(Vec<String>, usize)> {
    Some((words.iter().map(ToString::to_string).collect(), complaints))
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
    };
    batch.iter().map(one).collect()
}

const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: web},
    spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80}]}}";
const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {app: web}},
    spec: {containers: []}, status: {podIP: 10.0.0.1}}";

#[test]
fn the_first_scan_lists_and_later_ones_send_changes() {
    let folder = Folder::new("scan");
    folder.write("web.yaml", SERVICE);
    folder.write(".web.yaml.swp", "not yaml: [");
    folder.write("README.md", "not yaml: [");
    let mut manifests = Manifests::open(&folder.0).unwrap();
    let expected = [
        "service init",
        "service list web",
        "service done",
        "slice init",
        "slice done",
        "node init",
        "node done",
    ];
    assert_eq!(scan(&mut manifests, &[]), said(&expected, 0));
    folder.write("pod.yaml", POD);
    assert_eq!(scan(&mut manifests, &[]), said(&["slice apply web:pods:0"], 0));
    folder.write("pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: [");
    assert_eq!(scan(&mut manifests, &[]), said(&[], 1));
    std::fs::remove_file(folder.0.join("pod.yaml")).unwrap();
    assert_eq!(scan(&mut manifests, &[]), said(&["slice delete web:pods:0"], 0));
}

#[test]
fn a_folder_in_which_nothing_changes_costs_no_work() {
    let folder = Folder::new("idle");
    folder.write("web.yaml", SERVICE);
    folder.write("bad.yaml", "not yaml: [");
    std::os::unix::fs::symlink("/nonexistent", folder.0.join("dangling.yaml")).unwrap();
    std::fs::create_dir(folder.0.join("folder.yaml")).unwrap();
    let mut manifests = Manifests::open(&folder.0).unwrap();
    assert_eq!(scan(&mut manifests, &[]).map(|(_, complaints)| complaints), Some(3));
    assert_eq!(scan(&mut manifests, &[]), None);
    std::fs::remove_dir_all(&folder.0).unwrap();
    assert!(scan(&mut manifests, &[]).is_some());
    assert_eq!(scan(&mut manifests, &[]), None);
}

#[test]
fn a_file_that_is_being_written_is_left_alone() {
    let folder = Folder::new("writing");
    folder.write("web.yaml", SERVICE);
    let mut manifests = Manifests::open(&folder.0).unwrap();
    scan(&mut manifests, &[]);
    folder.write("web.yaml", "half");
    assert_eq!(scan(&mut manifests, &["web.yaml"]), None);
    assert_eq!(scan(&mut manifests, &[]), said(&[], 1));
}

#[test]
fn a_folder_that_goes_away_leaves_everything_in_force() {
    let folder = Folder::new("away");
    folder.write("web.yaml", SERVICE);
    let mut manifests = Manifests::open(&folder.0).unwrap();
    scan(&mut manifests, &[]);
    std::fs::remove_dir_all(&folder.0).unwrap();
    assert_eq!(scan(&mut manifests, &[]), said(&[], 1));
    assert!(Manifests::open(&folder.0).is_err());
}

#[tokio::test]
async fn edits_arrive_as_events() {
    let folder = Folder::new("watch");
    folder.write("web.yaml", SERVICE);
    let (send, mut receive) = mpsc::channel(8);
    let (path, ledger) = (folder.0.clone(), Ledger::default());
    let complaints = ledger.clone();
    let task =
        tokio::spawn(async move { follow::run(path, follow::Options::default(), send, &ledger).await });
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
    assert_eq!(complaints.get(&Origin::Source), []);
    drop(receive);
    tokio::time::timeout(limit, task).await.unwrap().unwrap().unwrap();
}

/// The next batch in short words.
async fn next_words(receive: &mut mpsc::Receiver<Batch>) -> Vec<String> {
    words(&tokio::time::timeout(Duration::from_secs(10), receive.recv()).await.unwrap().unwrap())
}

/// Every way in which people and programs put a new text in place of an old one, on the folder that a daemon watches.
#[tokio::test]
async fn a_change_arrives_once_and_whole_however_it_is_made() {
    type Change = fn(&Folder, &str);
    let ways: [(&str, Change); 7] = [
        ("in place", |folder, text| folder.write("pod.yaml", text)),
        ("an editor that renames", |folder, text| {
            std::fs::rename(folder.0.join("pod.yaml"), folder.0.join("pod.yaml~")).unwrap();
            folder.write("pod.yaml", text);
            std::fs::remove_file(folder.0.join("pod.yaml~")).unwrap();
        }),
        ("rsync", |folder, text| {
            folder.write(".pod.yaml.Xq3fG1", text);
            std::fs::rename(folder.0.join(".pod.yaml.Xq3fG1"), folder.0.join("pod.yaml")).unwrap();
        }),
        ("rsync --inplace", |folder, text| {
            use std::io::Write as _;
            let mut file = std::fs::File::options().write(true).open(folder.0.join("pod.yaml")).unwrap();
            text.as_bytes().chunks(16).for_each(|chunk| file.write_all(chunk).unwrap());
            file.set_len(text.len() as u64).unwrap();
        }),
        ("git checkout", |folder, text| {
            std::fs::remove_file(folder.0.join("pod.yaml")).unwrap();
            folder.write("pod.yaml", text);
        }),
        ("cp --remove-destination", |folder, text| {
            folder.write("copy", text);
            std::fs::remove_file(folder.0.join("pod.yaml")).unwrap();
            std::fs::copy(folder.0.join("copy"), folder.0.join("pod.yaml")).unwrap();
        }),
        ("a link to another file", |folder, text| {
            folder.write("other", text);
            std::os::unix::fs::symlink("other", folder.0.join(".link")).unwrap();
            std::fs::rename(folder.0.join(".link"), folder.0.join("pod.yaml")).unwrap();
        }),
    ];
    for (n, (way, change)) in ways.into_iter().enumerate() {
        let folder = Folder::new(&format!("way{n}"));
        folder.write("web.yaml", SERVICE);
        folder.write("pod.yaml", POD);
        let (send, mut receive) = mpsc::channel(8);
        let (path, ledger) = (folder.0.clone(), Ledger::default());
        let complaints = ledger.clone();
        let task =
            tokio::spawn(async move { follow::run(path, follow::Options::default(), send, &ledger).await });
        assert_eq!(next_words(&mut receive).await[4], "slice list web:pods:0", "{way}");
        change(&folder, &POD.replace("10.0.0.1", "10.0.0.200"));
        assert_eq!(next_words(&mut receive).await, ["slice apply web:pods:0"], "{way}");
        // Another file's event comes next: the change was one, and the Pod was never away.
        folder.write("node.yaml", "{apiVersion: v1, kind: Node, metadata: {name: n}}");
        assert_eq!(next_words(&mut receive).await, ["node apply n"], "{way}");
        assert_eq!(complaints.get(&Origin::Source), [], "{way}");
        task.abort();
    }
}

/// As a kubelet writes a ConfigMap: `web.yaml -> ..data/web.yaml`, `..data -> ..1`, then another `..data` over it.
#[tokio::test]
async fn all_files_of_a_config_map_change_together() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new("configmap");
    let version = |n: u32, address: &str| {
        std::fs::create_dir(folder.0.join(format!("..{n}"))).unwrap();
        folder.write(&format!("..{n}/web.yaml"), &SERVICE.replace("port: 80", &format!("port: {n}")));
        folder.write(&format!("..{n}/pod.yaml"), &POD.replace("10.0.0.1", address));
        symlink(format!("..{n}"), folder.0.join("..data_tmp")).unwrap();
        std::fs::rename(folder.0.join("..data_tmp"), folder.0.join("..data")).unwrap();
    };
    version(1, "10.0.0.1");
    for name in ["web.yaml", "pod.yaml"] {
        symlink(format!("..data/{name}"), folder.0.join(name)).unwrap();
    }
    let (send, mut receive) = mpsc::channel(8);
    let (path, ledger) = (folder.0.clone(), Ledger::default());
    let task =
        tokio::spawn(async move { follow::run(path, follow::Options::default(), send, &ledger).await });
    assert_eq!(next_words(&mut receive).await[1], "service list web");
    version(2, "10.0.0.2");
    assert_eq!(next_words(&mut receive).await, ["service apply web", "slice apply web:pods:0"]);
    task.abort();
}

#[test]
fn a_service_without_a_cluster_ip_gets_one_of_the_range_and_keeps_it_when_others_come() {
    let folder = Folder::new("assigned");
    folder.write(
        "a.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}",
    );
    let mut manifests =
        Manifests::open(&folder.0).unwrap().with_service_cidrs(vec!["10.96.0.0/16".parse().unwrap()]);
    let cluster_ips = |batch: Batch| -> Vec<String> {
        let ip = |event: SourceEvent| match event {
            SourceEvent::Service(Event::InitApply(service) | Event::Apply(service)) => {
                service.spec?.cluster_ip
            }
            _ => None,
        };
        batch.into_iter().filter_map(ip).collect()
    };
    let given = cluster_ips(next_batch(&mut manifests, &[]).unwrap());
    assert!(given.len() == 1 && given[0].starts_with("10.96."), "{given:?}");
    folder.write(
        "b.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: also}, spec: {ports: [{port: 80}]}}",
    );
    let more = cluster_ips(next_batch(&mut manifests, &[]).unwrap());
    assert!(more.len() == 1 && more != given, "only the new one is reported: {more:?}");
}
