//! The attached programs by interface.

use std::collections::BTreeMap;
use std::fmt;

use tokio::sync::watch;

use super::Part;
use super::page::Page;
use super::page::label;
use crate::programs::HooksStatus;

#[derive(Debug)]
pub struct Hooks {
    pub hooks: watch::Receiver<HooksStatus>,
}

/// A node has a few uplinks, but hundreds of pods: those are only counted.
const COUNTED_ROLES: [&str; 2] = ["pod", "none"];

impl Part for Hooks {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let hooks = self.hooks.borrow().clone();
        page.gauge(
            "svc_programs_attached",
            "1 if every hook has its program, or a complaint says which has not.",
            u64::from(hooks.is_attached),
        )?;
        let mut interfaces: BTreeMap<(&str, bool), u64> = BTreeMap::new();
        for interface in &hooks.interfaces {
            *interfaces.entry((&interface.role, interface.errors.is_empty())).or_default() += 1;
        }
        let labels = |role, is_ok: bool| {
            vec![("role", Into::into(role)), ("state", if is_ok { "ok" } else { "failed" }.into())]
        };
        page.gauges(
            "svc_interfaces",
            "Interfaces by role and by whether their programs could be attached.",
            interfaces.iter().map(|((role, is_ok), count)| (labels(*role, *is_ok), *count)),
        )?;
        let named = hooks.interfaces.iter().filter(|i| !COUNTED_ROLES.contains(&i.role.as_str()));
        let attached = named.flat_map(|interface| {
            let labels = |hook: &str| {
                let (mode, hook) = hook.split_once('/').unwrap_or((hook, ""));
                vec![
                    ("interface", interface.name.clone().into()),
                    ("role", interface.role.clone().into()),
                    ("mode", mode.to_owned().into()),
                    ("hook", hook.to_owned().into()),
                ]
            };
            interface.hooks.iter().map(move |hook| (labels(hook), 1_u64))
        });
        page.gauges(
            "svc_interface_hook_attached",
            "Always 1: how a program is attached to an interface, for all roles but pod and none. mode is tcx, clsact or \
             xdp; hook is the direction, or native or generic for xdp.",
            attached,
        )?;
        let by_way = |wanted: &str| {
            let of_pods = hooks.interfaces.iter().filter(|i| i.role == "pod");
            let modes = of_pods.flat_map(|i| &i.hooks).filter_map(|hook| hook.split('/').next());
            modes.filter(|mode| *mode == wanted).count()
        };
        page.gauges(
            "svc_pod_hooks_attached",
            "Programs attached to interfaces of pods, by mode.",
            ["tcx", "clsact"].map(|mode| (label("mode", mode), by_way(mode))),
        )?;
        page.counter(
            "svc_reattached",
            "Times that something was found detached or unpinned and was attached or pinned anew.",
            hooks.reattached,
        )
    }
}
