//! `svc-ctl apply`: a file into the folder of manifests, if the folder is good with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};

use super::args::ApplyArgs;
use super::output::emit;
use super::validate::{rules, text};
use crate::source::manifests::validate::{Finding, Rules, validate};
use crate::source::manifests::whole;

/// Exits with 1 and changes nothing if something is wrong with the file, or with the folder because of it.
pub fn main(args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    let applied = apply(&args.file, &args.to, &rules(&args.rules))?;
    emit(&applied.text)?;
    Ok(if applied.is_refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

struct Applied {
    text: String,
    is_refused: bool,
}

fn apply(file: &Path, folder: &Path, rules: &Rules) -> anyhow::Result<Applied> {
    let name = file.file_name().with_context(|| format!("{}: not a file", file.display()))?;
    let is_manifest = |path: &Path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("yaml" | "yml" | "json")) && !name.to_string_lossy().starts_with('.')
    };
    ensure!(is_manifest(file), "{}: the name must end in .yaml, .yml or .json", file.display());
    let contents = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    ensure!(folder.is_dir(), "{}: not a folder of manifests (--to DIR)", folder.display());
    let before = validate(folder, rules)?;
    let after = validate(Trial::new(folder, Path::new(name), &contents)?.path(), rules)?;
    // Earlier findings in other files are no reason to refuse this one.
    let is_news = |finding: &&Finding| finding.file == name.to_string_lossy() || !before.contains(finding);
    let news: Vec<Finding> = after.iter().filter(is_news).cloned().collect();
    let mut text = text(folder, &news);
    let is_refused = news.iter().any(|finding| !finding.is_harmless);
    if !is_refused {
        let target = folder.join(name);
        let word = if target.exists() { "replaced" } else { "added" };
        whole::replace(&target, &contents).with_context(|| format!("writing {}", target.display()))?;
        text.push_str(&format!("{} {word}\n", target.display()));
    }
    Ok(Applied { text, is_refused })
}

/// A copy of the folder with the file in it.
struct Trial(PathBuf);

impl Trial {
    fn new(folder: &Path, name: &Path, contents: &[u8]) -> anyhow::Result<Self> {
        let suffix = fastrand::u64(..);
        let trial = Self(std::env::temp_dir().join(format!("svc-apply-{}-{suffix:x}", std::process::id())));
        fs::create_dir(&trial.0).with_context(|| format!("making {}", trial.0.display()))?;
        for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if path.is_file()
                && let Some(name) = path.file_name()
            {
                fs::copy(&path, trial.0.join(name)).with_context(|| format!("copying {}", path.display()))?;
            }
        }
        fs::write(trial.0.join(name), contents).context("writing the trial")?;
        Ok(trial)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests;
