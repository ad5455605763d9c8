//! The flags of a command with their values, shown by `/flagz`, and the flags of kube-proxy that have no effect.

use std::collections::BTreeMap;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::kube_proxy::flags::{IGNORED, IgnoredFlag};

/// Every flag of a subcommand that has a value, by its name on the command line. Values are separated by commas.
pub fn values(cli: &Command, matches: &ArgMatches) -> BTreeMap<String, String> {
    let Some((name, matches)) = matches.subcommand() else { return BTreeMap::new() };
    let arguments = cli.find_subcommand(name).into_iter().flat_map(Command::get_arguments);
    let value = |argument: &Arg| {
        let raw = matches.try_get_raw(argument.get_id().as_str()).ok().flatten()?;
        let values: Vec<String> = raw.map(|value| value.to_string_lossy().into_owned()).collect();
        Some((argument.get_long()?.to_owned(), values.join(",")))
    };
    arguments.filter_map(value).collect()
}

/// Flags of kube-proxy that have no effect. `--help` does not show them.
pub fn ignored() -> impl Iterator<Item = Arg> {
    IGNORED.iter().map(|flag| {
        let argument = Arg::new(flag.name).long(flag.name).hide(true).action(ArgAction::Set);
        match flag.is_switch {
            true => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
            false => argument.allow_hyphen_values(true),
        }
    })
}

/// The typed ones among them.
pub fn typed_in_vain(matches: &ArgMatches) -> Vec<&'static IgnoredFlag> {
    let Some((_, matches)) = matches.subcommand() else { return Vec::new() };
    let is_typed = |flag: &&IgnoredFlag| matches.value_source(flag.name) == Some(ValueSource::CommandLine);
    IGNORED.iter().filter(is_typed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command;

    #[test]
    fn flags_of_kube_proxy_are_accepted_and_those_without_effect_are_listed() {
        let given = [
            "svc-ctl",
            "run",
            "--proxy-mode=nftables",
            "--conntrack-max-per-core",
            "0",
            "--profiling",
            "--masquerade-all=true",
            "--detect-local-mode=NodeCIDR",
            "-v=4",
            "--healthz-bind-address=127.0.0.1",
            // Further flags that k3s passes to kube-proxy.
            "--conntrack-tcp-timeout-close-wait=0s",
            "--conntrack-tcp-timeout-established=0s",
            "--cluster-cidr=10.42.0.0/16",
            "--kubeconfig=/var/lib/rancher/k3s/agent/kubeproxy.kubeconfig",
            "--hostname-override=n1",
        ];
        let matches = command().try_get_matches_from(given).unwrap();
        let names: Vec<&str> = typed_in_vain(&matches).iter().map(|flag| flag.name).collect();
        let in_vain = [
            "conntrack-max-per-core",
            "conntrack-tcp-timeout-close-wait",
            "conntrack-tcp-timeout-established",
            "profiling",
            "proxy-mode",
        ];
        assert_eq!(names, in_vain);
    }

    #[test]
    fn flags_have_the_values_that_were_given_or_their_defaults() {
        let given = ["svc-ctl", "run", "--masquerade-all", "--uplink", "eth0", "--uplink", "eth1"];
        let matches = command().try_get_matches_from(given).unwrap();
        let flags = values(&command(), &matches);
        let of = |name: &str| flags.get(name).map(String::as_str);
        assert_eq!(of("masquerade-all"), Some("true"));
        assert_eq!(of("masquerade-local-backends"), Some("false"));
        assert_eq!(of("uplink"), Some("eth0,eth1"));
        assert_eq!(of("metrics-bind-address"), Some("127.0.0.1:10249"));
        assert_eq!(of("pin-dir"), Some("/sys/fs/bpf/svc"));
        assert_eq!(of("snat-ports"), None);
        assert!(flags.keys().all(|name| !name.contains(char::is_uppercase)), "{flags:?}");
    }
}
