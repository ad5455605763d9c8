//! The Go toolchain: the machine's if it is new enough for a module, else one in the cache. The latter is downloaded
//! as a Go module by any older Go, so only the module proxy must be reachable.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{cache, debian, project};

/// The release to download if the machine has no Go, or one that is too old.
const FETCHED: &str = "1.26.8";

/// A go command and its version.
#[derive(Debug)]
pub struct Go {
    pub program: PathBuf,
    pub version: String,
}

/// Finds a Go for this module; never downloads one.
pub fn find(module: &Path) -> Result<Option<Go>> {
    let wanted = wanted(module)?;
    let mut programs = programs();
    programs.push(ours()?);
    Ok(programs.into_iter().find_map(|program| {
        let version = version(&program, module)?;
        (numbers(&version) >= numbers(&wanted)).then_some(Go { program, version })
    }))
}

/// Finds a Go for this module; downloads one if there is none.
pub fn ensure(module: &Path) -> Result<Go> {
    if let Some(go) = find(module)? {
        return Ok(go);
    }
    let wanted = wanted(module)?;
    let there = programs().iter().find_map(|program| version(program, module));
    let there = there.map_or("there is none".to_owned(), |version| format!("here is {version}"));
    let advice = || {
        format!(
            "Go {wanted} or newer is needed, {there}, and Go {FETCHED} cannot be fetched; \
             install it, or bring ready programs by SVC_CLUSTER_BIN"
        )
    };
    eprintln!("setup: Go {wanted} or newer is needed, {there}: fetching Go {FETCHED} into the cache");
    fetch().with_context(advice)?;
    find(module)?.with_context(|| format!("{} does not run", ours().unwrap_or_default().display()))
}

fn programs() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/go/bin", "/usr/lib/go/bin"].map(PathBuf::from);
    let programs = env::split_paths(&path).chain(usual).map(|dir| dir.join("go"));
    programs.filter(|program| program.is_file()).collect()
}

fn ours() -> Result<PathBuf> {
    Ok(cache::dir()?.join(format!("go/go{FETCHED}/bin/go")))
}

/// Asked inside the module: if the user lets Go choose its toolchain, this is the chosen one.
fn version(program: &Path, module: &Path) -> Option<String> {
    let output = Command::new(program).arg("version").current_dir(module).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.split_whitespace().nth(2)?.strip_prefix("go").map(str::to_owned)
}

/// The `go` line of a module.
fn wanted(module: &Path) -> Result<String> {
    let path = module.join("go.mod");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix("go "));
    line.map(str::to_owned).with_context(|| format!("{}: no go line", path.display()))
}

/// Parts of `1.26.8`, `1.26rc1`, `1.26-X:nodwarf5` to compare; a missing number is 0.
fn numbers(version: &str) -> [u32; 3] {
    let mut parts = version.split('.').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).map_or(part, |end| &part[..end]);
        digits.parse().unwrap_or(0)
    });
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

fn fetch() -> Result<()> {
    let arch = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => bail!("no toolchain of Go is known for {other}"),
    };
    let place = cache::dir()?.join(format!("go/go{FETCHED}"));
    cache::once(&place, |partial| {
        // Needed only temporarily; the toolchain is moved out of it.
        let way = partial.join("way");
        let modules = way.join("modules");
        fs::create_dir_all(&modules)?;
        let helper = any_go(&way)?;
        let toolchain = format!("golang.org/toolchain@v0.0.1-go{FETCHED}.linux-{arch}");
        let mut download = Command::new(&helper);
        download.args(["mod", "download", &toolchain]).current_dir(&way);
        download.env("GO111MODULE", "on").env("GOFLAGS", "-modcacherw").env("GOMODCACHE", &modules);
        download.env("GOTOOLCHAIN", "local").env_remove("GOROOT");
        project::run(&mut download)?;
        let unpacked = modules.join(&toolchain);
        for entry in fs::read_dir(&unpacked).with_context(|| unpacked.display().to_string())? {
            let entry = entry?;
            fs::rename(entry.path(), partial.join(entry.file_name()))?;
        }
        fs::remove_dir_all(&way)?;
        unpack_what_modules_cannot_hold(partial)
    })
}

/// A module zip has no executables and no nested modules: their go.mod has another name in it.
fn unpack_what_modules_cannot_hold(root: &Path) -> Result<()> {
    let tools = fs::read_dir(root.join("pkg/tool"))?.map(|dir| Ok(dir?.path()));
    for folder in tools.chain([Ok(root.join("bin"))]).collect::<Result<Vec<_>>>()? {
        for program in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            fs::set_permissions(program?.path(), fs::Permissions::from_mode(0o755))?;
        }
    }
    for module in ["src", "src/cmd"].map(|dir| root.join(dir)) {
        fs::rename(module.join("_go.mod"), module.join("go.mod"))
            .with_context(|| module.display().to_string())?;
    }
    Ok(())
}

/// A go command that can download a module: the machine's, or the distribution's, unpacked into a folder.
fn any_go(folder: &Path) -> Result<PathBuf> {
    if let Some(program) = programs().into_iter().next() {
        return Ok(program);
    }
    let package = debian::first_dependency("golang-go")?;
    let unpacked = debian::unpack(folder, &package)?;
    // golang-1.19-go has usr/lib/go-1.19/bin/go.
    let release = package.trim_start_matches("golang-").trim_end_matches("-go");
    let program = unpacked.join(format!("usr/lib/go-{release}/bin/go"));
    ensure!(program.exists(), "no {} in the package {package}", program.display());
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(numbers("1.26.0") > numbers("1.19.8"));
        assert!(numbers("1.26") == numbers("1.26.0"));
        assert!(numbers("1.100rc1") > numbers("1.26.8"));
        assert_eq!(numbers("devel"), [0, 0, 0]);
    }

    #[test]
    fn every_module_says_which_go_it_takes() {
        let entries = fs::read_dir(project::root().join("tests/cluster")).unwrap();
        let folders = entries.map(|entry| entry.unwrap().path()).filter(|path| path.join("go.mod").exists());
        let versions: Vec<_> = folders.map(|module| numbers(&wanted(&module).unwrap())).collect();
        assert!(versions.len() >= 5 && versions.iter().all(|version| *version >= [1, 26, 0]), "{versions:?}");
    }
}
