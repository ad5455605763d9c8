//! Remembers assigned addresses and ports in memory and in a file, so that a new Service takes none that another one has.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::whole;

use crate::model::complaint::{Complaint, Kind};

/// Name of the file in the folder of `--state-dir`.
const FILE: &str = "assigned.json";

/// Assigned addresses and node ports, by their owner.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Given {
    #[serde(default)]
    pub cluster_ips: BTreeMap<String, IpAddr>,
    #[serde(default)]
    pub node_ports: BTreeMap<String, u16>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub load_balancer_ips: BTreeMap<String, Vec<IpAddr>>,
}

/// [`Given`], and the file in which it outlives the daemon, if there is one.
#[derive(Debug, Default)]
pub struct GivenFile {
    path: Option<PathBuf>,
    pub given: Given,
    /// The known contents of the file.
    written: Given,
    complaint: Option<Complaint>,
}

impl GivenFile {
    /// Reads the file. An unreadable file is reported and counts as empty. It stays as it is until the next write.
    pub fn open(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let read = fs::read(&path).map_err(|error| error.to_string());
        let (given, complaint) = match read.and_then(|text| parse(&text)) {
            Ok(given) => (given, None),
            Err(_) if !path.exists() => (Given::default(), None),
            Err(error) => {
                let reason = format!("{error}; addresses are given as if there were no such file");
                (Given::default(), Some(complain(&path, reason)))
            }
        };
        Self { path: Some(path), written: given.clone(), given, complaint }
    }

    /// Writes the whole file if it has changed. A failed write is tried again with the next change.
    pub fn save(&mut self) -> Option<Complaint> {
        if let Some(path) = &self.path
            && self.given != self.written
        {
            self.complaint = match write(path, &self.given) {
                Ok(()) => {
                    self.written.clone_from(&self.given);
                    None
                }
                Err(error) => Some(complain(path, format!("cannot be written: {error}"))),
            };
        }
        self.complaint.clone()
    }
}

fn complain(path: &Path, reason: String) -> Complaint {
    Complaint::new(Kind::Failed, path.display().to_string(), "", reason)
}

fn parse(text: &[u8]) -> Result<Given, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| error.to_string())
}

fn write(path: &Path, given: &Given) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    whole::replace(path, &serde_json::to_vec_pretty(given)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(test: &str) -> PathBuf {
        std::env::temp_dir().join(format!("svc-given-{test}-{}", std::process::id()))
    }

    #[test]
    fn addresses_that_were_given_outlive_the_daemon() {
        let dir = dir("outlives");
        let mut file = GivenFile::open(&dir);
        assert_eq!(file.save(), None);
        assert!(!dir.exists(), "nothing was given, so nothing is written");
        file.given.cluster_ips.insert("shop/web/IPv4".to_owned(), "10.96.0.9".parse().unwrap());
        file.given.node_ports.insert("shop/web:/TCP".to_owned(), 30_000);
        assert_eq!(file.save(), None);
        assert_eq!(GivenFile::open(&dir).given, file.given);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_that_is_none_is_named_and_replaced_by_the_next_that_is_given() {
        let dir = dir("none");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(FILE), "{\"clusterIps\": {\"shop/web/IPv4\": \"web\"}}").unwrap();
        let mut file = GivenFile::open(&dir);
        let complaint = file.save().unwrap().to_string();
        assert!(
            complaint.contains("assigned.json: clusterIps.shop/web/IPv4: invalid IP address"),
            "{complaint}"
        );
        file.given.node_ports.insert("shop/web:/TCP".to_owned(), 30_000);
        assert_eq!(file.save(), None);
        assert_eq!(GivenFile::open(&dir).given, file.given);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let dir = dir("unwritable");
        fs::write(&dir, "a file where a folder should be").unwrap();
        let mut file = GivenFile::open(&dir);
        file.given.node_ports.insert("shop/web:/TCP".to_owned(), 30_000);
        assert!(file.save().unwrap().to_string().contains("assigned.json: cannot be written: "));
        fs::remove_file(&dir).unwrap();
    }
}
