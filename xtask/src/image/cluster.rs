//! The images of a cluster, as tars that every node imports: nothing is pulled from a registry.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::oci::Image;
use crate::components::{self, Programs};
use crate::file_tree::{FileTree, read};
use crate::{build, project};

/// Names of the pause image for the kubelet and for the tests of the locked release.
const PAUSE: [&str; 2] = ["registry.k8s.io/pause:3.10.2", "registry.k8s.io/pause:3.10"];

/// A second name of the test server, for updates of a Deployment.
const NEXT_ECHO: &str = "svc.local/echo:next";

/// Sets of images for a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageSet {
    /// pause, svc, echo.
    Ours,
    /// Also DNS.
    Dns,
    /// Also the images of Kubernetes' own tests.
    Conformance,
}

/// Writes them to `target/cluster/images`, and removes all others.
pub fn write(wanted: ImageSet, programs: &Programs) -> Result<PathBuf> {
    let folder = project::target_dir().join("cluster/images");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let echo = read(&build::program("svc-echo", "svc-echo", &[])?)?;
    let mut images = vec![
        ("svc", super::svc(&super::name("svc"))?),
        ("echo", one_program(vec![super::name("echo"), NEXT_ECHO.into()], "/svc-echo", echo.clone())),
        ("pause", Image { command: vec!["pause"], user: "65535:65535", ..pause(echo) }),
    ];
    if wanted != ImageSet::Ours {
        let names = vec![format!("svc.local/coredns:{}", components::COREDNS.version()?)];
        images.push(("coredns", one_program(names, "/coredns", read(programs.get("coredns")?)?)));
    }
    if wanted == ImageSet::Conformance {
        images.extend(super::e2e::images(programs)?);
    }
    let mut names = BTreeSet::new();
    for (name, image) in images {
        let path = folder.join(name).with_extension("tar");
        let written = image.write(&path).with_context(|| format!("image {name}"))?;
        eprintln!("image {name}: {:.1} MB", written.size as f64 / 1e6);
        names.insert(path);
    }
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if !names.contains(&path) {
            fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
    }
    Ok(folder)
}

/// The pause program is our test server with another command.
fn pause(echo: Vec<u8>) -> Image {
    one_program(PAUSE.map(str::to_owned).to_vec(), "/svc-echo", echo)
}

pub(super) fn one_program(names: Vec<String>, path: &'static str, content: Vec<u8>) -> Image {
    let mut root = FileTree::default();
    root.program(path, content);
    Image { names, root, entrypoint: vec![path], ..Image::default() }
}
