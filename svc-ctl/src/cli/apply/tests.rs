//! Folders on a real file system: the output of the commands, and the contents of the folder afterwards.

use super::*;
use crate::cli::validate::text as report;
use crate::dns::zone::ZoneSettings;

struct Folder(PathBuf);

impl Folder {
    fn new(test: &str, files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("svc-folder-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let folder = Self(path);
        files.iter().for_each(|(name, text)| folder.write(name, text));
        folder
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    /// The output of `validate`, without the folder's own name.
    fn validated(&self) -> String {
        report(&self.0, &validate(&self.0, &rules()).unwrap()).replace(&format!("{}/", self.0.display()), "")
    }

    /// The output of `apply` for a file with this name and text, and whether it was refused.
    fn applied(&self, name: &str, text: &str) -> (String, bool) {
        let place =
            Folder::new(&format!("{name}-of-{}", self.0.file_name().unwrap().display()), &[(name, text)]);
        let applied = apply(&place.0.join(name), &self.0, &rules()).unwrap();
        (applied.text.replace(&format!("{}/", self.0.display()), ""), applied.is_refused)
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn rules() -> Rules {
    let domain = "cluster.local.".parse().unwrap();
    let zone = ZoneSettings { domain, addresses: Vec::new(), is_forwarding: false };
    Rules { service_cidrs: vec!["10.96.0.0/16".parse().unwrap()], zone }
}

const WEB: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  ports:\n  - port: 80\n";

#[test]
fn each_kind_of_bad_input_is_named_with_its_file_and_line() {
    let alias = |name: &str, to: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  type: ExternalName\n  externalName: {to}.default.svc.cluster.local\n"
        )
    };
    let fixed = |name: &str, ip: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  clusterIP: {ip}\n  ports: [{{port: 80}}]\n"
        )
    };
    for (files, expected) in [
        (vec![("a.yaml", WEB.to_owned())], ""),
        (
            vec![("a.yaml", WEB.to_owned()), ("b.yaml", format!("# two\n---\n{WEB}"))],
            "b.yaml:6: metadata.name: Service default/web is already defined in a.yaml document 1\n",
        ),
        (vec![("a.yaml", fixed("web", "10.97.0.1"))], "a.yaml:5: Service default/web: spec.clusterIP: 10.97.0.1 is not in --service-cidr\n"),
        (
            vec![("a.yaml", fixed("web", "10.96.0.1")), ("b.yaml", fixed("zoo", "10.96.0.1"))],
            "b.yaml:5: Service default/zoo: spec.clusterIP: 10.96.0.1 is the address of Service default/web\n",
        ),
        (
            vec![("a.yaml", WEB.replace("- port: 80", "- {name: a, port: 80}\n  - {name: b, port: 80}"))],
            "a.yaml:8: Service default/web: spec.ports[1].port: a second port 80/TCP\n",
        ),
        (
            vec![("a.yaml", format!("{}{}", alias("a", "b"), alias("b", "a")))],
            "a.yaml:7: Service default/a: spec.externalName: an alias that leads in a circle: default/a -> default/b -> default/a\n\
             a.yaml:14: Service default/b: spec.externalName: an alias that leads in a circle: default/b -> default/a -> default/b\n",
        ),
        (
            vec![("a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: [\n".to_owned())],
            "a.yaml:4: did not find expected node content at line 4 column 1, while parsing a flow node\n",
        ),
        (
            vec![("a.yaml", WEB.replace("port: 80", "port: http"))],
            "a.yaml:7: Service default/web: spec.ports[0].port: invalid type: string \"http\", expected i32\n",
        ),
        (
            vec![("a.yaml", WEB.replace("  ports", "  selectr: {app: web}\n  ports"))],
            "a.yaml:6: note: Service default/web: spec.selectr: no such field: it has no effect\n",
        ),
        (
            vec![("a.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n".to_owned())],
            "a.yaml:2: note: kind: Deployment (apps/v1) has no effect here\n",
        ),
        (
            vec![(
                "a.yaml",
                "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: c\n    readinessProbe:\n      \
                 tcpSocket: {port: web}\nstatus: {podIP: 10.0.0.1}\n".to_owned(),
            )],
            "a.yaml:8: Pod default/p: spec.containers[0].readinessProbe.tcpSocket.port: the container has no port \"web\"\n",
        ),
    ] {
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let folder = Folder::new("validate", &files);
        assert_eq!(folder.validated(), expected.replace("             ", ""), "{files:?}");
    }
}

#[test]
fn a_file_with_errors_hides_neither_duplicates_nor_circles_nor_conflicts() {
    let broken = "apiVersion: v1\nkind: Service\nmetadata: {name: odd}\nspec:\n  clusterIP: 10.97.0.1\n  ports: [{port: 80}]\n---\n";
    let alias = |name: &str, to: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: ExternalName, externalName: {to}.default.svc.cluster.local}}\n---\n"
        )
    };
    let fixed = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: 10.96.0.1, ports: [{{port: 80}}]}}\n---\n"
        )
    };
    let a = format!("{broken}{WEB}---\n{}{}", alias("x", "y"), fixed("one"));
    // The parser cannot go on after the last document.
    let b = format!("{WEB}---\n{}{}kind: [\n", alias("y", "x"), fixed("two"));
    let folder = Folder::new("hides", &[("a.yaml", &a), ("b.yaml", &b)]);
    let expected = "\
        a.yaml:5: Service default/odd: spec.clusterIP: 10.97.0.1 is not in --service-cidr\n\
        a.yaml:19: Service default/x: spec.externalName: an alias that leads in a circle: default/x -> default/y -> default/x\n\
        b.yaml:4: metadata.name: Service default/web is already defined in a.yaml document 2\n\
        b.yaml:12: Service default/y: spec.externalName: an alias that leads in a circle: default/y -> default/x -> default/y\n\
        b.yaml:17: Service default/two: spec.clusterIP: 10.96.0.1 is the address of Service default/one\n\
        b.yaml:20: did not find expected node content at line 20 column 1, while parsing a flow node\n";
    assert_eq!(folder.validated(), expected);
}

#[test]
fn a_good_file_is_added_and_replaced_and_leaves_nothing_beside_it() {
    let folder = Folder::new("apply", &[]);
    assert_eq!(folder.applied("web.yaml", WEB), ("web.yaml added\n".to_owned(), false));
    let other = WEB.replace("80", "81");
    assert_eq!(folder.applied("web.yaml", &other), ("web.yaml replaced\n".to_owned(), false));
    assert_eq!(fs::read_to_string(folder.0.join("web.yaml")).unwrap(), other);
    assert_eq!(folder.names(), ["web.yaml"]);
}

#[test]
fn a_file_with_a_duplicate_or_an_error_changes_nothing() {
    let folder = Folder::new("duplicate", &[("m.yaml", WEB)]);
    // Whichever of the two comes first by name: the folder is no longer good.
    for name in ["a.yaml", "z.yaml"] {
        let (text, is_refused) = folder.applied(name, WEB);
        assert!(
            is_refused && text.contains("metadata.name: Service default/web is already defined in"),
            "{text}"
        );
    }
    let (text, is_refused) =
        folder.applied("n.yaml", &WEB.replace("port: 80", "port: 0").replace("web", "n"));
    assert!(
        is_refused
            && text.starts_with("n.yaml:7: Service default/n: spec.ports[0].port: 0 is not a port number"),
        "{text}"
    );
    assert_eq!(folder.names(), ["m.yaml"]);
}

#[test]
fn errors_in_other_files_do_not_block_a_good_file() {
    let folder = Folder::new("elsewhere", &[("bad.yaml", "kind: [")]);
    assert_eq!(folder.applied("web.yaml", WEB), ("web.yaml added\n".to_owned(), false));
}

#[test]
fn a_name_that_no_daemon_would_read_is_refused() {
    let folder = Folder::new("name", &[]);
    let error = apply(&folder.0.join("web.txt"), &folder.0, &rules()).err().unwrap().to_string();
    assert!(error.contains("must end in .yaml"), "{error}");
}
