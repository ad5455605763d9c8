//! The flags of a command and their values, as `/flagz` shows them.

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Command};

/// Every flag of a subcommand that has a value, by its name on the command line. Several values are separated by commas.
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn flags_have_the_values_that_were_given_or_their_defaults() {
        let given = ["svc-ctl", "run", "--masquerade-all", "--uplink", "eth0", "--uplink", "eth1"];
        let matches = Cli::command().try_get_matches_from(given).unwrap();
        let flags = values(&Cli::command(), &matches);
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
