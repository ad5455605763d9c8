//! Privileges of this process: root, a user with sudo, or neither. Only commands that need privileges get them, one
//! at a time.

use std::ffi::OsString;
use std::fs;
use std::io::{IsTerminal as _, stdin};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

/// Capabilities for loading programs and making network namespaces: NET_ADMIN, SYS_ADMIN, BPF.
const NEEDED: [u32; 3] = [12, 21, 39];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    Root,
    /// Ordinary user: commands are run by sudo, and their files are given back to the user.
    Sudo,
    None,
}

impl Privilege {
    /// Asks for sudo's password only at a terminal.
    pub fn find() -> Self {
        if has_capabilities(&fs::read_to_string("/proc/self/status").unwrap_or_default()) {
            return Self::Root;
        }
        let mut sudo = Command::new("sudo");
        sudo.arg(if stdin().is_terminal() { "--validate" } else { "--non-interactive" });
        if !stdin().is_terminal() {
            sudo.arg("true").stderr(Stdio::null());
        }
        if !is_root() && sudo.status().is_ok_and(|status| status.success()) { Self::Sudo } else { Self::None }
    }

    /// The program, with privileges if necessary; it gets these environment variables.
    pub fn command(self, program: &Path, variables: &[(&str, OsString)]) -> Command {
        let mut command = match self {
            Self::Sudo => {
                let mut sudo = Command::new("sudo");
                let names = variables.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",");
                sudo.arg(format!("--preserve-env={names}")).arg(program);
                sudo
            }
            Self::Root | Self::None => Command::new(program),
        };
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Gives files that a privileged command made below these folders to the calling user.
    pub fn hand_back(self, dirs: &[&Path]) -> Result<()> {
        if self == Self::Sudo {
            let status = fs::read_to_string("/proc/self/status")?;
            let owner = format!("{}:{}", field(&status, "Uid:"), field(&status, "Gid:"));
            let mut find = Command::new("sudo");
            find.arg("find").args(dirs).args([
                "-user",
                "root",
                "-exec",
                "chown",
                "--no-dereference",
                &owner,
                "{}",
                "+",
            ]);
            crate::project::run(&mut find)?;
        }
        Ok(())
    }
}

/// Root by user id, whatever capabilities are left.
pub fn is_root() -> bool {
    field(&fs::read_to_string("/proc/self/status").unwrap_or_default(), "Uid:") == "0"
}

fn has_capabilities(status: &str) -> bool {
    let effective = u64::from_str_radix(field(status, "CapEff:"), 16).unwrap_or(0);
    NEEDED.iter().all(|bit| effective & (1 << bit) != 0)
}

/// The first word after a name in /proc/self/status; for ids the real one.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_decide_not_the_user_id() {
        let container_root = "Uid:\t0\t0\t0\t0\nCapEff:\t00000000a80425fb\n";
        assert_eq!(field(container_root, "Uid:"), "0");
        assert!(!has_capabilities(container_root));
        assert!(has_capabilities("CapEff:\t000001ffffffffff\n"));
    }
}
