//! `cargo xtask image`: makes the image of svc without a docker daemon: one static program and nothing else. The same
//! code makes the images of a cluster (`cluster`).

pub mod cluster;
pub mod debian_tree;
mod e2e;
pub mod oci;

use std::path::PathBuf;

use anyhow::Result;

use crate::file_tree::{FileTree, read};
use crate::{build, project, setup};
use oci::Image;

#[derive(clap::Args)]
pub struct Args {
    /// Where to write the tar (default: target/svc-image.tar)
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name of the image
    #[arg(long, value_name = "NAME:TAG", default_value_t = name("svc"))]
    tag: String,
}

pub fn main(args: &Args) -> Result<()> {
    setup::for_building()?;
    let output = args.output.clone().unwrap_or_else(|| project::target_dir().join("svc-image.tar"));
    let written = svc(&args.tag)?.write(&output)?;
    println!("{}  {:.1} MB  {}", args.tag, written.size as f64 / 1e6, written.digest);
    println!("{}", output.display());
    Ok(())
}

/// The product: no shell, no libraries, only folders that the container runtime mounts.
fn svc(name: &str) -> Result<Image> {
    of_program(name, read(&build::svc_ctl()?)?)
}

/// The same of a program that is built already.
pub fn of_program(name: &str, program: Vec<u8>) -> Result<Image> {
    let mut root = FileTree::default();
    root.program("/svc-ctl", program);
    Ok(Image { names: vec![name.into()], root, entrypoint: vec!["/svc-ctl"], ..Image::default() })
}

/// An image under a name that belongs to no registry, so that nothing tries to fetch it.
pub fn name(image: &str) -> String {
    format!("svc.local/{image}:{}", env!("CARGO_PKG_VERSION"))
}
