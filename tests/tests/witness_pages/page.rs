//! `tests/PAGES.md`: the responses of kube-proxy and svc, side by side.

use std::fmt::Write as _;
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};
use svc_tests::run_name::workspace_dir;
use svc_tests::witness::pages::Pages;

use crate::endpoints::{CASES, Shape};
use crate::metrics::Row;

const FILE: &str = "tests/PAGES.md";

/// Metrics of Go's run time, a hundred and more, which have one reason.
const GO: &str = "go_";

const HEAD: &str = "# The pages of kube-proxy and of svc

Written by `UPDATE_EXPECT=1 cargo xtask test witness 'responses of both'` from the answers of both on one cluster; not by hand. kube-proxy is
the real one, in nftables mode. The tier `witness` compares each row anew.

## Metrics

Each name of kube-proxy's page. `the same`: svc has it with this type, these labels and the same classes. Names of other components
(`apiserver_`, `kubelet_` and the like) are left out: the tests' kube-proxy is in one program with all of Kubernetes. svc's own
metrics are in [docs/metrics.md](../docs/metrics.md).

| name | type | labels | svc |
|---|---|---|---|
";

const REQUESTS: &str = "
## Requests

`the same`: status, `Content-Type`, `Warning`, `X-Content-Type-Options` and the names of all fields; short answers octet by octet.

| port | path | Accept | kube-proxy | svc |
|---|---|---|---|---|
";

/// Compares with the file, or writes it.
pub fn check(pages: &Pages, rows: &[Row]) -> Result<()> {
    let text = page(pages, rows)?;
    let path = workspace_dir().join(FILE);
    if env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
        fs::write(&path, &text).context(FILE)?;
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    ensure!(known == text, "{FILE} is out of date (UPDATE_EXPECT=1 rewrites it):\n{text}");
    Ok(())
}

fn page(pages: &Pages, rows: &[Row]) -> Result<String> {
    let mut text = HEAD.to_owned();
    let (of_go, rows): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.name.starts_with(GO));
    for Row { name, theirs, left_out } in rows {
        let labels: Vec<_> = theirs.labels.iter().map(|label| format!("`{label}`")).collect();
        let svc = left_out.as_deref().map_or_else(|| "the same".to_owned(), |why| format!("none: {why}"));
        writeln!(text, "| `{name}` | {} | {} | {svc} |", theirs.kind, labels.join(", "))?;
    }
    let why = of_go.first().and_then(|row| row.left_out.as_deref()).context("no metric of Go's run time")?;
    writeln!(text, "| `{GO}*`, all names | | | none: {why} |")?;
    text += REQUESTS;
    for case in CASES {
        let answers = pages.ask(case.request)?;
        let (theirs, ours) = (Shape::of(&answers.kube_proxy), Shape::of(&answers.svc));
        let accept = case.request.accept.map(|accept| format!("`{accept}`")).unwrap_or_default();
        let shown = |shape: &Shape| format!("{} {}", shape.status, shape.kind()).trim_end().to_owned();
        let svc = match case.deviation {
            None => "the same".to_owned(),
            Some(why) if (theirs.status, theirs.kind()) == (ours.status, ours.kind()) => why.to_owned(),
            Some(why) => format!("{}: {why}", shown(&ours)),
        };
        let (port, path) = (case.request.port, case.request.path);
        writeln!(text, "| {port} | `{path}` | {accept} | {} | {svc} |", shown(&theirs))?;
    }
    Ok(text)
}
