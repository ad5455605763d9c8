//! `svc-ctl validate` and its output.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::args::{ManifestRules, Output, ValidateArgs};
use super::output::emit;
use crate::dns::zone::ZoneSettings;
use crate::source::manifests::validate::{Finding, Rules, validate};

/// Exits with 1 if something is wrong. Fields without effect are reported and count as no error.
pub fn main(args: &ValidateArgs) -> anyhow::Result<ExitCode> {
    let findings = validate(&args.path, &rules(&args.rules))?;
    match args.output {
        Output::Table => emit(&text(&args.path, &findings))?,
        Output::Json => {
            let row = |f: &Finding| {
                json!({"file": f.file, "line": f.line, "object": f.object, "field": f.field, "reason": f.reason,
                    "error": !f.is_harmless})
            };
            let rows: Vec<_> = findings.iter().map(row).collect();
            emit(&format!("{}\n", serde_json::to_string_pretty(&rows)?))?;
        }
    }
    Ok(if findings.iter().all(|finding| finding.is_harmless) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub fn rules(args: &ManifestRules) -> Rules {
    let domain = args.dns_domain.0.clone();
    let zone = ZoneSettings { domain, addresses: Vec::new(), is_forwarding: false };
    Rules { service_cidrs: args.service_cidr.0.clone(), zone }
}

/// One finding a line, as compilers write them.
pub fn text(path: &Path, findings: &[Finding]) -> String {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let line = |finding: &Finding| {
        let place = match (finding.file.as_str(), finding.line) {
            ("", _) => String::new(),
            (file, 0) => format!("{}: ", folder.join(file).display()),
            (file, line) => format!("{}:{line}: ", folder.join(file).display()),
        };
        let parts = [&finding.object, &finding.field, &finding.reason].map(String::as_str);
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let severity = if finding.is_harmless { "note: " } else { "" };
        format!("{place}{severity}{}\n", parts.join(": "))
    };
    findings.iter().map(line).collect()
}
