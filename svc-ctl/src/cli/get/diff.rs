//! `svc-ctl get services --diff`: the frontends that the objects want against those that the kernel has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use comfy_table::Table;
use serde::Serialize;

use super::{ServiceRow, list, plain_table};
use crate::observe::wanted::WantedFrontend;

/// A frontend that differs.
#[derive(Debug, Eq, PartialEq, Serialize)]
pub struct Difference {
    pub service: String,
    pub frontend: String,
    pub difference: &'static str,
    /// Backends that are wanted and not in the kernel, in either list.
    pub missing: Vec<SocketAddr>,
    /// Backends that are in the kernel and not wanted, in either list.
    pub surplus: Vec<SocketAddr>,
}

/// The two lists of a frontend's backends.
type Lists = [BTreeSet<SocketAddr>; 2];

/// Frontends that differ, by service port and frontend.
pub fn differences(wanted: Vec<WantedFrontend>, kernel: &[ServiceRow]) -> Vec<Difference> {
    let set = |addresses: &[SocketAddr]| addresses.iter().copied().collect();
    let mut both: BTreeMap<(String, String), [Option<Lists>; 2]> = BTreeMap::new();
    for frontend in wanted {
        let lists = [set(&frontend.backends), set(&frontend.local_backends)];
        both.entry((frontend.service, frontend.frontend)).or_default()[0] = Some(lists);
    }
    for row in kernel {
        let lists = [set(&row.backends), set(&row.local_backends)];
        both.entry((row.service.clone(), row.frontend.clone())).or_default()[1] = Some(lists);
    }
    both.into_iter().filter_map(|(of, sides)| difference(of, &sides)).collect()
}

fn difference(
    (service, frontend): (String, String),
    [wanted, kernel]: &[Option<Lists>; 2],
) -> Option<Difference> {
    let difference = match (wanted, kernel) {
        (Some(_), None) => "not in the kernel",
        (None, Some(_)) => "not wanted",
        (Some(wanted), Some(kernel)) if wanted != kernel => "other backends",
        _ => return None,
    };
    let none = Lists::default();
    let (wanted, kernel) = (wanted.as_ref().unwrap_or(&none), kernel.as_ref().unwrap_or(&none));
    let only = |of: &Lists, other: &Lists| -> Vec<SocketAddr> {
        let each = of.iter().zip(other).flat_map(|(of, other)| of.difference(other).copied());
        each.collect::<BTreeSet<_>>().into_iter().collect()
    };
    let (missing, surplus) = (only(wanted, kernel), only(kernel, wanted));
    Some(Difference { service, frontend, difference, missing, surplus })
}

pub fn table(rows: &[Difference]) -> Table {
    let mut table = plain_table(&["SERVICE", "FRONTEND", "DIFFERENCE", "MISSING", "SURPLUS"]);
    for row in rows {
        table.add_row([
            row.service.clone(),
            row.frontend.clone(),
            row.difference.to_owned(),
            list(&row.missing),
            list(&row.surplus),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn wanted(frontend: &str, backends: &[&str], local: &[&str]) -> WantedFrontend {
        let (backends, local_backends) = (addresses(backends), addresses(local));
        WantedFrontend { service: "shop/web/TCP".into(), frontend: frontend.into(), backends, local_backends }
    }

    fn kernel(frontend: &str, backends: &[&str], local: &[&str]) -> ServiceRow {
        let (backends, local_backends) = (addresses(backends), addresses(local));
        ServiceRow {
            service: "shop/web/TCP".into(),
            frontend: frontend.into(),
            backends,
            local_backends,
            ..ServiceRow::default()
        }
    }

    #[test]
    fn only_frontends_that_differ_are_listed() {
        let (a, b) = ("10.0.0.1:80", "[fd00::1]:80");
        let wanted =
            vec![wanted("same", &[a, b], &[a]), wanted("changed", &[a], &[a]), wanted("new", &[a], &[])];
        let kernel = [kernel("same", &[b, a], &[a]), kernel("changed", &[b], &[a]), kernel("old", &[b], &[])];
        let found = differences(wanted, &kernel);
        let row = |d: &Difference| (d.frontend.clone(), d.difference, d.missing.clone(), d.surplus.clone());
        assert_eq!(
            found.iter().map(row).collect::<Vec<_>>(),
            [
                ("changed".into(), "other backends", addresses(&[a]), addresses(&[b])),
                ("new".into(), "not in the kernel", addresses(&[a]), vec![]),
                ("old".into(), "not wanted", vec![], addresses(&[b])),
            ]
        );
    }
}
