//! `tests/WITNESS.md`: number of rows of each group, and svc's differences with its own settings.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::group::Group;
use super::line::Line;

/// The expected page.
pub fn page(groups: &[Group]) -> String {
    let mut text = String::from(
        "# kube-proxy as a witness\n\n\
         Written by `UPDATE_EXPECT=1 cargo test -p svc-tests --lib witness` from `tests/witness/groups`; not by hand.\n\
         `cargo xtask test witness` plays every row with kube-proxy (nftables), with svc set to behave the same, and with svc\n\
         as it is; the first two must be alike, and the third too, but for what stands at the end. Random worlds come on top.\n\n\
         | group | what it is about | rules | rows |\n|---|---|---|---|\n",
    );
    let mut total = 0;
    for group in groups {
        let rules: BTreeSet<_> = lines(group).flat_map(|(_, line)| &line.ids).collect();
        let rows = group.rows().len();
        total += rows;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} | {} | {} | {rows} |", group.name, group.about, rules.len());
    }
    let _ = write!(
        text,
        "\n{total} rows.\n\n## Differences of svc by default\n\n\
         The address that the server sees stands after `from`. Reasons: [deviations](../docs/deviations.md).\n\n\
         | group, Service | client, frontend | kube-proxy | svc |\n|---|---|---|---|\n"
    );
    for group in groups.iter().filter(|group| group.settings.has_defaults()) {
        for (service, line) in lines(group) {
            let (Some(expected), Some(by_default)) = (&line.expected, &line.by_default) else { continue };
            if expected != by_default {
                let frontends: Vec<_> = line.frontends.iter().map(ToString::to_string).collect();
                let (name, client, at) = (&group.name, &line.client, frontends.join(", "));
                let _ =
                    writeln!(text, "| {name}, {service} | {client} at {at} | {expected} | {by_default} |");
            }
        }
    }
    text
}

fn lines(group: &Group) -> impl Iterator<Item = (&String, &Line)> {
    let rows = group.steps.iter().flat_map(|step| &step.rows);
    rows.flat_map(|(service, lines)| lines.iter().map(move |line| (service, line)))
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::*;
    use crate::run_name::workspace_dir;
    use crate::witness;

    #[test]
    fn the_page_lists_the_current_groups() {
        let path = workspace_dir().join("tests/WITNESS.md");
        let page = page(&Group::load_all(&witness::folder().join("groups")).unwrap());
        if env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
            fs::write(&path, &page).unwrap();
        }
        let is_true = fs::read_to_string(&path).unwrap_or_default() == page;
        assert!(is_true, "tests/WITNESS.md is out of date; with UPDATE_EXPECT=1 it is rewritten");
    }
}
