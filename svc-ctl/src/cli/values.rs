//! Values of flags that only the command line parses.

use std::str::FromStr;

use crate::plan::prefixes::Cidrs;

/// `NAME=true,NAME=false`, of which one name is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FeatureGates {
    pub allows_external_ips: bool,
}

impl FromStr for FeatureGates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut gates = Self { allows_external_ips: true };
        for gate in text.split(',').filter(|gate| !gate.trim().is_empty()) {
            let (name, value) = gate.split_once('=').ok_or("expected NAME=true or NAME=false")?;
            let value = value.trim().parse().map_err(|_| format!("{gate}: neither true nor false"))?;
            if name.trim() == "AllowServiceExternalIPs" {
                gates.allows_external_ips = value;
            }
        }
        Ok(gates)
    }
}

/// `--service-cidr`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServiceCidrs {
    Given(Cidrs),
    /// The CIDRs of the API server.
    OfCluster,
}

impl FromStr for ServiceCidrs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "cluster" => Ok(Self::OfCluster),
            cidrs => cidrs.parse().map(Self::Given).map_err(|error| format!("{error} (CIDRs, or `cluster`)")),
        }
    }
}

/// FIRST-LAST, inclusive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PortRange {
    pub first: u16,
    pub count: u16,
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').ok_or("expected FIRST-LAST")?;
        let number = |s: &str| s.parse::<u16>().map_err(|err| format!("{s}: {err}"));
        let (first, last) = (number(first)?, number(last)?);
        if first == 0 || last < first {
            return Err(format!("{text}: not a range of ports"));
        }
        Ok(Self { first, count: (last - first).saturating_add(1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ports_are_parsed_and_other_texts_are_refused() {
        assert_eq!("1024-29999".parse(), Ok(PortRange { first: 1024, count: 28_976 }));
        assert!("9-8".parse::<PortRange>().is_err() && "0-8".parse::<PortRange>().is_err());
    }

    #[test]
    fn service_cidrs_are_given_or_the_clusters() {
        assert_eq!("cluster".parse(), Ok(ServiceCidrs::OfCluster));
        let given = "10.96.0.0/16,fd00::/112".parse::<ServiceCidrs>();
        assert!(matches!(given, Ok(ServiceCidrs::Given(Cidrs(list))) if list.len() == 2));
        let error = "clusters".parse::<ServiceCidrs>().unwrap_err();
        assert!(error.contains("clusters") && error.contains("`cluster`"), "{error}");
    }

    #[test]
    fn one_gate_is_known_and_all_need_a_value() {
        let gates = |text: &str| text.parse::<FeatureGates>().map(|gates| gates.allows_external_ips);
        assert_eq!(gates("Other=true,AllowServiceExternalIPs=false"), Ok(false));
        assert_eq!(gates(""), Ok(true));
        assert!(gates("AllowServiceExternalIPs").is_err() && gates("A=maybe").is_err());
    }
}
