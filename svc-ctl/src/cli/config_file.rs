//! The configuration file of `svc-ctl run`: its fields become flags, which are checked like typed ones.

mod load_balancer;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::ConfigFile;
use crate::kube_proxy::{Explained, Line, Verdict, explain};
use crate::lb::settings::LoadBalancerSettings;
use crate::model::complaint::{Complaint, Kind};

/// The section `loadBalancer`, and complaints about its unusable parts.
pub fn load_balancer(file: &ConfigFile) -> (LoadBalancerSettings, Vec<Complaint>) {
    let Some(section) = load_balancer::section(&file.text) else {
        return (LoadBalancerSettings::default(), Vec::new());
    };
    let (settings, problems) = LoadBalancerSettings::read(section);
    let object = format!("--config {}", file.path.display());
    let complain = |(field, reason): (String, String)| {
        Complaint::new(Kind::Configuration, object.as_str(), &field, reason)
    };
    (settings, problems.into_iter().map(complain).collect())
}

/// Reads a file and explains it. Refuses values that svc-ctl's own flags do not accept.
pub fn read(path: &Path, cli: &Command) -> anyhow::Result<(ConfigFile, Explained)> {
    let subject = || format!("--config {}", path.display());
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", subject()))?;
    let explained = explain(&text).map_err(|reason| anyhow!(reason)).with_context(subject)?;
    let run = cli.find_subcommand("run").context("svc-ctl has no command run")?;
    let lines = explained.lines.into_iter().map(|line| checked(line, cli, run)).collect();
    Ok((ConfigFile { path: path.to_owned(), text }, Explained { lines }))
}

fn checked(line: Line, cli: &Command, run: &Command) -> Line {
    let Verdict::Honoured(Some((name, value))) = &line.verdict else { return line };
    let Some(argument) = find(run, name) else {
        return Line { verdict: Verdict::Ignored("unknown field: `svc-ctl run` has no such flag"), ..line };
    };
    if name == "config" {
        return Line { verdict: Verdict::Refused("a file cannot name another one".to_owned()), ..line };
    }
    let typed = ["svc-ctl".to_owned(), "run".to_owned()].into_iter().chain(typed(argument, name, value));
    match cli.clone().try_get_matches_from(typed) {
        Ok(_) => line,
        Err(error) => {
            let text = error.to_string();
            let reason = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Line { verdict: Verdict::Refused(reason), ..line }
        }
    }
}

fn find<'a>(run: &'a Command, name: &str) -> Option<&'a Arg> {
    run.get_arguments().find(|argument| argument.get_long() == Some(name))
}

/// A flag as it would be typed: once for each value if the flag may be repeated.
fn typed(argument: &Arg, name: &str, value: &str) -> Vec<String> {
    match argument.get_action() {
        ArgAction::Append => value.split(',').map(|value| format!("--{name}={value}")).collect(),
        _ => vec![format!("--{name}={value}")],
    }
}

/// The flags of the file that were neither typed nor set in the environment. Typed flags and the environment take
/// precedence.
pub fn arguments(explained: &Explained, cli: &Command, matches: &ArgMatches) -> Vec<String> {
    let (Some(run), Some((_, matches))) = (cli.find_subcommand("run"), matches.subcommand()) else {
        return Vec::new();
    };
    let mut seen = BTreeSet::new();
    let mut arguments = Vec::new();
    for (_, name, value) in explained.flags().into_iter().rev() {
        let Some(argument) = find(run, name) else { continue };
        let source = matches.value_source(argument.get_id().as_str());
        let is_given = matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable));
        if !is_given && seen.insert(name) {
            arguments.extend(typed(argument, name, value));
        }
    }
    arguments
}

/// Complaints about fields of the file that are not in force.
pub fn complaints(file: &ConfigFile, explained: &Explained) -> Vec<Complaint> {
    let object = format!("--config {}", file.path.display());
    let complaint = |line: &Line| {
        let reason = match &line.verdict {
            Verdict::Refused(reason) => format!("{reason}; svc's default is in force"),
            Verdict::Ignored(why) => format!("{why}; it is ignored"),
            Verdict::Honoured(_) | Verdict::NoMeaning(_) => return None,
        };
        Some(Complaint::new(Kind::Configuration, object.as_str(), line.field.as_str(), reason))
    };
    explained.lines.iter().filter_map(complaint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command;

    fn explained(text: &str) -> Explained {
        let path = std::env::temp_dir().join(format!("svc-config-{}-{}", std::process::id(), text.len()));
        let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
        fs::write(&path, format!("{head}{text}")).unwrap();
        let explained = read(&path, &command()).unwrap().1;
        fs::remove_file(&path).unwrap();
        explained
    }

    fn arguments_of(text: &str, typed: &[&str]) -> Vec<String> {
        let matches = command().try_get_matches_from(["svc-ctl", "run"].iter().chain(typed)).unwrap();
        arguments(&explained(text), &command(), &matches)
    }

    #[test]
    fn typed_flags_take_precedence_over_the_file() {
        let file = "nodePortAddresses: [192.0.2.0/24]\niptables: {masqueradeAll: true}\n";
        let both = ["--masquerade-all=true", "--nodeport-addresses=192.0.2.0/24"];
        assert_eq!(arguments_of(file, &[]), both);
        assert_eq!(arguments_of(file, &["--masquerade-all=false"]), both[1..]);
        assert_eq!(arguments_of(file, &["--nodeport-addresses", "primary"]), both[..1]);
    }

    #[test]
    fn a_value_that_the_flag_does_not_take_is_refused_with_its_field() {
        let explained = explained("nodePortAddresses: [everywhere]\nclusterCIDR: 10.0.0.0/99\n");
        let file = ConfigFile { path: "/etc/config.conf".into(), text: String::new() };
        let complaints = complaints(&file, &explained);
        let fields: Vec<&str> = complaints.iter().map(|c| c.field.as_str()).collect();
        assert_eq!(fields, ["nodePortAddresses", "clusterCIDR"]);
        assert!(complaints[0].to_string().contains("everywhere"), "{}", complaints[0]);
    }

    #[test]
    fn the_section_of_svc_has_the_flags_of_svc() {
        let own = "---\napiVersion: svc/v1alpha1\nkind: SvcConfiguration\nxdp: native\nserviceCIDR: 10.96.0.0/16\n\
            uplink: [eth0, eth1]\ncolour: red\nconfig: /x\n";
        let flags = ["--uplink=eth0", "--uplink=eth1", "--service-cidr=10.96.0.0/16", "--xdp=native"];
        assert_eq!(arguments_of(own, &[]), flags);
        let verdicts: Vec<_> = explained(own).lines.into_iter().skip(3).map(|line| line.verdict).collect();
        assert!(matches!(&verdicts[..], [Verdict::Ignored(_), Verdict::Refused(_)]), "{verdicts:?}");
    }
}
