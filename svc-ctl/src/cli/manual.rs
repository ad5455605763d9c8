//! `svc-ctl completions` and `svc-ctl man`: made of the command line's own description, so that they name every flag.

use std::path::Path;

use anyhow::Context as _;
use clap_complete::Shell;

use super::command;
use super::output::emit;

const NAME: &str = "svc-ctl";

pub fn completions(shell: Shell) -> anyhow::Result<()> {
    emit(&script(shell))
}

/// Writes `svc-ctl.1`, `svc-ctl-run.1` and so on; the folder is made if it is missing.
pub fn pages(folder: &Path) -> anyhow::Result<()> {
    let context = || format!("writing manual pages to {}", folder.display());
    std::fs::create_dir_all(folder).with_context(context)?;
    clap_mangen::generate_to(command(), folder).with_context(context)
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), NAME, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::ValueEnum as _;

    use super::*;

    fn visible_flags() -> Vec<String> {
        let command = command();
        let run = command.find_subcommand("run").unwrap();
        let shown = run.get_arguments().filter(|argument| !argument.is_hide_set());
        shown.filter_map(|argument| argument.get_long().map(str::to_owned)).collect()
    }

    #[test]
    fn completions_of_every_shell_name_every_flag_of_run() {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let script = script(shell);
            let missing: Vec<_> = visible_flags().into_iter().filter(|flag| !script.contains(flag)).collect();
            assert!(missing.is_empty(), "{shell}: {missing:?}");
        }
        assert!(Shell::value_variants().iter().all(|shell| !script(*shell).is_empty()));
    }

    #[test]
    fn every_command_has_a_manual_page_and_the_page_of_run_names_every_flag() {
        let folder = std::env::temp_dir().join(format!("svc-man-{}", std::process::id()));
        pages(&folder).unwrap();
        for subcommand in command().get_subcommands() {
            let page = folder.join(format!("svc-ctl-{}.1", subcommand.get_name()));
            assert!(page.exists(), "{}", page.display());
        }
        // troff writes a hyphen as `\-`.
        let page = fs::read_to_string(folder.join("svc-ctl-run.1")).unwrap().replace("\\-", "-");
        let missing: Vec<_> =
            visible_flags().into_iter().filter(|flag| !page.contains(&format!("--{flag}"))).collect();
        assert!(missing.is_empty(), "{missing:?}");
        fs::remove_dir_all(folder).unwrap();
    }
}
