//! The last good state of every file, and the file that counts if two define the same object.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use ipnet::IpNet;

use super::document::{Contents, DocumentError, Found, Object, parse_contents};
use super::rules::{self, faults_of};
use crate::model::complaint::Complaint;

/// One file: the objects in force, and the faults of its newest state.
#[derive(Debug, Default)]
struct File {
    good: Contents,
    /// There has been a good state.
    had_good: bool,
    bad: Vec<DocumentError>,
}

/// All files by name.
#[derive(Debug, Default)]
pub struct Files {
    files: BTreeMap<String, File>,
    /// Services are checked by the rules of an API server, with these ranges.
    rules: Option<Vec<IpNet>>,
    /// The good documents of a bad file count too.
    counts_bad_files: bool,
}

/// Something that is wrong with a file.
#[derive(Clone, Debug)]
pub struct Fault<'f> {
    pub file: &'f str,
    pub error: Cow<'f, DocumentError>,
    /// The contents that stay in force, or nothing.
    consequence: &'static str,
    /// The document is of a kind that has no effect here.
    pub is_harmless: bool,
}

impl Fault<'_> {
    fn complaint(&self) -> Complaint {
        let reason = format!("{}{}", self.error.reason, self.consequence);
        let place = place(self.file, self.error.document);
        let object = match self.error.object.as_str() {
            "" => place,
            object => format!("{place}, {object}"),
        };
        Complaint::refused(object, self.error.field.as_str(), reason)
    }
}

impl Files {
    /// Also checks Services as an API server with these ranges does. If it would refuse a Service, the file's last good
    /// state stays in force.
    pub fn with_rules(ranges: Vec<IpNet>) -> Self {
        Self { rules: Some(ranges), ..Self::default() }
    }

    /// Also takes the readable objects of a bad file, to check them together with all other objects. Half an edit must
    /// not come into force.
    #[must_use]
    pub fn with_bad_files(self) -> Self {
        Self { counts_bad_files: true, ..self }
    }

    /// Updates a file that is new, has changed, or could not be read. After a bad edit the last good state stays in
    /// force.
    pub fn update(&mut self, name: &str, text: Result<&str, String>) {
        let rules = self.rules.as_deref();
        let file = self.files.entry(name.to_owned()).or_default();
        let whole = |reason: String| {
            let (object, field) = (String::new(), String::new());
            vec![DocumentError { document: 0, line: None, object, field, reason }]
        };
        let (contents, errors) = match text {
            Err(reason) => (Contents::default(), whole(reason)),
            // Editors cut a file before they write it again.
            Ok(text) if text.trim().is_empty() && !file.good.objects.is_empty() => {
                (Contents::default(), whole("empty: remove the file if its objects shall go".to_owned()))
            }
            Ok(text) => {
                let (contents, mut errors) = parse_contents(text);
                errors.extend(rules.iter().flat_map(|ranges| judge(&contents, ranges)));
                (contents, errors)
            }
        };
        if errors.is_empty() || self.counts_bad_files {
            file.good = contents;
            file.had_good = true;
        }
        file.bad = errors;
    }

    /// A file is gone, and with it its objects.
    pub fn remove(&mut self, name: &str) {
        self.files.remove(name);
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The objects in force, and everything there is to report.
    pub fn objects(&self) -> (Vec<&Object>, Vec<Complaint>) {
        let (found, faults) = self.found();
        let objects = found.into_iter().map(|(_, found)| &found.object).collect();
        (objects, faults.iter().map(Fault::complaint).collect())
    }

    /// The objects in force with their files, and the faults of files.
    pub fn found(&self) -> (Vec<(&str, &Found)>, Vec<Fault<'_>>) {
        let mut faults = Vec::new();
        let mut owners: BTreeMap<(&str, &str, &str), (&str, &Found)> = BTreeMap::new();
        for (name, file) in &self.files {
            let consequence = if file.had_good {
                "; the file's last good state stays in force"
            } else {
                "; nothing of the file is in force"
            };
            let fault =
                |error, consequence, is_harmless| Fault { file: name, error, consequence, is_harmless };
            faults.extend(file.bad.iter().map(|e| fault(Cow::Borrowed(e), consequence, false)));
            faults.extend(file.good.unused.iter().map(|e| fault(Cow::Borrowed(e), "", true)));
            for found in &file.good.objects {
                let meta = found.object.metadata();
                let namespace = meta.namespace.as_deref().unwrap_or_default();
                let key = (found.object.kind(), namespace, meta.name.as_deref().unwrap_or_default());
                match owners.entry(key) {
                    Entry::Vacant(free) => drop(free.insert((name, found))),
                    Entry::Occupied(owner) => {
                        let &(owner_file, owner) = owner.get();
                        let place = place(owner_file, owner.document);
                        let consequence = if self.counts_bad_files { "" } else { ", which stays in force" };
                        let reason = format!("{} is already defined in {place}{consequence}", found.name());
                        let field = format!("{}metadata.name", found.prefix);
                        let (document, object) = (found.document, String::new());
                        let error = DocumentError { document, line: None, object, field, reason };
                        faults.push(fault(Cow::Owned(error), "", false));
                    }
                }
            }
        }
        (owners.into_values().collect(), faults)
    }
}

fn judge(contents: &Contents, ranges: &[IpNet]) -> Vec<DocumentError> {
    let services = contents.objects.iter().filter_map(|found| match &found.object {
        Object::Service(service) => Some((found, faults_of(service, ranges))),
        _ => None,
    });
    let error = |found: &Found, (field, reason): rules::Fault| DocumentError {
        document: found.document,
        line: None,
        object: found.name(),
        field: format!("{}{field}", found.prefix),
        reason,
    };
    services.flat_map(|(found, faults)| faults.into_iter().map(move |fault| error(found, fault))).collect()
}

/// A document of a file as people count; document 0 is the file itself.
fn place(name: &str, document: usize) -> String {
    match document {
        0 => name.to_owned(),
        number => format!("{name} document {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "{apiVersion: v1, kind: Service, metadata: {name: a}}";
    const B: &str = "{apiVersion: v1, kind: Service, metadata: {name: b}}";

    fn names(files: &Files) -> Vec<String> {
        files.objects().0.iter().map(|o| o.metadata().name.clone().unwrap()).collect()
    }

    fn report(files: &Files) -> Vec<String> {
        files.objects().1.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_bad_document_leaves_the_whole_file_at_its_last_good_state() {
        let mut files = Files::default();
        files.update("x.yaml", Ok(A));
        files.update("x.yaml", Ok(&format!("{B}\n---\nkind: 7")));
        assert_eq!(names(&files), ["a"]);
        assert_eq!(
            report(&files),
            [
                "x.yaml document 2: kind: missing: not a Kubernetes object; the file's last good state stays in force"
            ]
        );
        files.update("x.yaml", Ok(&format!("{B}\n---\n{A}")));
        assert_eq!(names(&files), ["a", "b"]);
        assert!(report(&files).is_empty());
    }

    #[test]
    fn a_new_file_that_is_bad_has_no_last_good_state() {
        let mut files = Files::default();
        files.update("x.yaml", Ok("kind: 7"));
        let text = report(&files).join("");
        assert!(text.ends_with("; nothing of the file is in force"), "{text}");
    }

    #[test]
    fn an_emptied_or_unreadable_file_keeps_its_objects_and_a_removed_one_does_not() {
        let mut files = Files::default();
        files.update("x.yaml", Ok(A));
        files.update("x.yaml", Ok(""));
        assert_eq!((names(&files).len(), report(&files).len()), (1, 1));
        files.update("x.yaml", Err("permission denied".to_owned()));
        assert_eq!((names(&files).len(), report(&files).len()), (1, 1));
        files.remove("x.yaml");
        assert_eq!((names(&files).len(), report(&files).len()), (0, 0));
    }

    #[test]
    fn a_service_that_an_api_server_would_refuse_leaves_the_last_good_state() {
        let mut files = Files::with_rules(vec!["10.96.0.0/16".parse().unwrap()]);
        let service = |ip: &str| {
            format!("{{apiVersion: v1, kind: List, items: [{{apiVersion: v1, kind: Service, metadata: {{name: a}},
                spec: {{clusterIP: {ip}, ports: [{{port: 80}}]}}}}]}}")
        };
        files.update("x.yaml", Ok(&service("10.96.0.1")));
        files.update("x.yaml", Ok(&service("10.97.0.1")));
        let Object::Service(in_force) = files.objects().0[0] else { panic!("not a Service") };
        assert_eq!(in_force.spec.as_ref().unwrap().cluster_ip.as_deref(), Some("10.96.0.1"));
        assert_eq!(
            report(&files),
            [
                "x.yaml document 1, Service default/a: items[0].spec.clusterIP: 10.97.0.1 is not in --service-cidr; the file's last good state stays in force"
            ]
        );
    }

    #[test]
    fn of_two_files_with_one_object_the_first_by_name_counts() {
        let mut files = Files::default();
        files.update("b.yaml", Ok(&format!("{B}\n---\n{A}")));
        files.update("a.yaml", Ok(A));
        assert_eq!(names(&files), ["a", "b"]);
        assert_eq!(
            report(&files),
            [
                "b.yaml document 2: metadata.name: Service default/a is already defined in a.yaml document 1, which stays in force"
            ]
        );
    }
}
