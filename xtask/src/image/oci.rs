//! Writes an image as a tar for containerd (`ctr images import`) and docker (`docker load`): an OCI layout, and
//! docker's manifest list. The same contents give the same octets.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, Header};

use crate::file_tree::FileTree;

/// Contents of an image.
#[derive(Debug, Default)]
pub struct Image {
    /// All its names, like `svc.local/svc:0.1.0`.
    pub names: Vec<String>,
    pub root: FileTree,
    pub entrypoint: Vec<&'static str>,
    pub command: Vec<&'static str>,
    /// `UID:GID`; root if empty.
    pub user: &'static str,
}

/// A written image.
#[derive(Debug)]
pub struct Written {
    /// Octets of the tar.
    pub size: u64,
    /// Digest of the manifest, `sha256:...`, as a registry would show it.
    pub digest: String,
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Image {
    /// Written under another name and renamed, so that no reader sees a part of it. An identical file is not written
    /// again, so that a cluster made from it stays up to date.
    pub fn write(&self, path: &Path) -> Result<Written> {
        let layer = Blob::new(LAYER, self.root.tar(0)?);
        let config = Blob::json(CONFIG, &self.config(&layer));
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": config.descriptor(), "layers": [layer.descriptor()],
        });
        let manifest = Blob::json(MANIFEST, &manifest);
        let mut archive = Builder::new(Vec::new());
        append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        append(&mut archive, "index.json", &octets(&self.index(&manifest)))?;
        append(&mut archive, "manifest.json", &octets(&self.list_for_docker(&config, &layer)))?;
        for blob in [&config, &layer, &manifest] {
            append(&mut archive, &blob.path(), &blob.content)?;
        }
        let archive = archive.into_inner()?;
        if !fs::read(path).is_ok_and(|present| present == archive) {
            let partial = path.with_extension("partial");
            fs::write(&partial, &archive).with_context(|| partial.display().to_string())?;
            fs::rename(&partial, path).with_context(|| path.display().to_string())?;
        }
        Ok(Written { size: archive.len() as u64, digest: manifest.digest })
    }

    fn config(&self, layer: &Blob) -> Value {
        json!({
            "architecture": architecture(), "os": "linux", "created": "1970-01-01T00:00:00Z",
            "config": {
                "Entrypoint": self.entrypoint, "Cmd": self.command, "User": self.user,
                "WorkingDir": "/", "Env": [PATH],
            },
            "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
            "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask image" }],
        })
    }

    fn index(&self, manifest: &Blob) -> Value {
        let named = self.names.iter().map(|name| {
            let mut entry = manifest.descriptor();
            entry["platform"] = json!({ "architecture": architecture(), "os": "linux" });
            let tag = name.rsplit(':').next();
            entry["annotations"] =
                json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag });
            entry
        });
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": named.collect::<Vec<_>>() })
    }

    fn list_for_docker(&self, config: &Blob, layer: &Blob) -> Value {
        json!([{ "Config": config.path(), "RepoTags": self.names, "Layers": [layer.path()] }])
    }
}

/// Content addressed by its hash.
struct Blob {
    media_type: &'static str,
    content: Vec<u8>,
    digest: String,
}

impl Blob {
    fn new(media_type: &'static str, content: Vec<u8>) -> Self {
        let hash = Sha256::digest(&content);
        let digest = hash.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
        Self { media_type, content, digest: format!("sha256:{digest}") }
    }

    fn json(media_type: &'static str, value: &Value) -> Self {
        Self::new(media_type, octets(value))
    }

    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.content.len() })
    }

    fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }
}

fn octets(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Go's name of this machine's architecture, which is also the target.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn append(archive: &mut Builder<impl Write>, name: &str, content: &[u8]) -> Result<()> {
    let mut header = header();
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, name, content).with_context(|| name.to_owned())
}

fn header() -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_contents_give_equal_octets_and_every_blob_is_what_its_name_says() {
        let folder = crate::project::target_dir().join("tmp").join(format!("image-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let image = || {
            let mut root = FileTree::default();
            root.folder_with_mode("/tmp", 0o1777);
            root.program("/bin/a", vec![7; 1000]);
            root.link("/bin/b", "a");
            Image { names: vec!["svc.local/a:1".into()], root, ..Image::default() }
        };
        let (first, second) = (folder.join("1.tar"), folder.join("2.tar"));
        let written = image().write(&first).unwrap();
        assert_eq!(written.digest, image().write(&second).unwrap().digest);
        assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
        let made = fs::metadata(&first).unwrap().modified().unwrap();
        image().write(&first).unwrap();
        assert_eq!(fs::metadata(&first).unwrap().modified().unwrap(), made, "what is there stays");

        let mut found = Vec::new();
        for entry in tar::Archive::new(fs::File::open(&first).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            std::io::copy(&mut entry, &mut content).unwrap();
            if name.starts_with("blobs/") {
                assert_eq!(Blob::new(LAYER, content).path(), name);
            }
            found.push(name);
        }
        assert!(found.contains(&format!("blobs/{}", written.digest.replace(':', "/"))), "{found:?}");
        fs::remove_dir_all(folder).unwrap();
    }
}
