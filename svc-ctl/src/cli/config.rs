//! `svc-ctl config explain`.

use clap::Command;
use comfy_table::{Table, presets};
use serde_json::json;

use super::args::{ConfigArgs, ConfigCommand, Output};
use super::config_file;
use super::output::emit;
use crate::kube_proxy::{Line, Verdict};

pub fn main(args: &ConfigArgs, cli: &Command) -> anyhow::Result<()> {
    let ConfigCommand::Explain { file, output } = &args.command;
    let (_, explained) = config_file::read(file, cli)?;
    match output {
        Output::Table => emit(&table(&explained.lines)),
        Output::Json => {
            let rows: Vec<_> = explained.lines.iter().map(row).collect();
            let rows = rows.iter().map(
                |[field, value, here, why]| json!({"field": field, "value": value, "here": here, "why": why}),
            );
            emit(&format!("{}\n", serde_json::to_string_pretty(&rows.collect::<Vec<_>>())?))
        }
    }
}

fn table(lines: &[Line]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["FIELD", "VALUE", "HERE", "WHY"]);
    table.add_rows(lines.iter().map(row));
    let text = table.to_string();
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn row(line: &Line) -> [String; 4] {
    let (here, why) = match &line.verdict {
        Verdict::Honoured(Some((name, value))) => ("honoured", format!("--{name}={value}")),
        Verdict::Honoured(None) => ("honoured", "as svc does by itself".to_owned()),
        Verdict::NoMeaning(why) => ("no meaning", (*why).to_owned()),
        Verdict::Refused(why) => ("refused", why.clone()),
        Verdict::Ignored(why) => ("ignored", (*why).to_owned()),
    };
    [line.field.clone(), line.value.clone(), here.to_owned(), why]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command;

    /// Each file of `svc-ctl/tests/config` with its expected output of `config explain`.
    #[test]
    fn files_are_explained_as_their_goldens_say() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
        let mut seen = 0;
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let text = match config_file::read(&path, &command()) {
                Ok((_, explained)) => table(&explained.lines),
                Err(error) => format!("{}\n", error.root_cause()),
            };
            let golden = path.with_extension("txt");
            if std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
                std::fs::write(&golden, &text).unwrap();
            }
            let known = std::fs::read_to_string(&golden).unwrap_or_default();
            assert!(
                known == text,
                "{} is out of date (UPDATE_EXPECT=1 rewrites it):\n{text}",
                golden.display()
            );
            seen += 1;
        }
        assert!(seen >= 4, "{seen} files");
    }
}
