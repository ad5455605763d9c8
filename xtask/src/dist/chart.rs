//! The chart as a package, made by Helm. Helm stores each file's time of change, so it packs a copy in which all files
//! have the time of the commit.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use crate::{components, project};

pub fn package(folder: &Path, time: u64) -> Result<()> {
    components::compilers(&[components::HELM])?;
    let programs = components::programs(&[components::HELM])?;
    let copy = super::fresh_folder("chart")?.join("svc");
    copy_at(&project::root().join("deploy/chart"), &copy, time)?;
    super::output(
        Command::new(programs.get("helm")?).arg("package").arg(&copy).arg("--destination").arg(folder),
    )?;
    Ok(())
}

fn copy_at(from: &Path, to: &Path, time: u64) -> Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_at(&entry.path(), &copy, time)?;
            continue;
        }
        let context = || copy.display().to_string();
        fs::copy(entry.path(), &copy).with_context(context)?;
        let file = File::options().write(true).open(&copy).with_context(context)?;
        file.set_modified(UNIX_EPOCH + Duration::from_secs(time)).with_context(context)?;
    }
    Ok(())
}
