//! kubectl commands as users type them, in a namespace of the show.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;

use anyhow::Result;

use super::exposed::Exposed;
use crate::cluster::Places;
use crate::command;
use crate::show::screen::Screen;

pub(super) const NAMESPACE: &str = "show";

pub(super) struct Kubectl(Places);

impl Kubectl {
    pub(super) fn new(places: &Places) -> Self {
        Self(places.clone())
    }

    /// Runs `kubectl -n show LINE` and prints it with its output.
    pub(super) fn type_in(&self, screen: &Screen, line: &str) -> Result<()> {
        let answer = self.ask(line)?;
        let words = line.split_whitespace().map(quoted).collect::<Vec<_>>().join(" ");
        screen.typed(&format!("kubectl -n {NAMESPACE} {words}"), &answer);
        Ok(())
    }

    pub(super) fn exposed(&self, service: &str) -> Result<Exposed> {
        Exposed::read(&self.ask(&format!("get service {service} -o json"))?)
    }

    /// The Service's ready pods.
    pub(super) fn ready(&self) -> Result<BTreeSet<String>> {
        let pods = self.0.pods(NAMESPACE, "app=web")?.into_iter();
        Ok(pods.filter(|pod| pod.is_ready && !pod.is_ending).map(|pod| pod.name).collect())
    }

    /// Diagnostic output of the cluster.
    pub(super) fn diagnosis(&self) -> String {
        let ask = |line: &str| self.ask(line).unwrap_or_else(|error| format!("{error:#}\n"));
        let pods = ask("get pods -o wide --show-labels");
        let slices = ask("get endpointslices");
        let log = ask("--namespace=kube-system logs --prefix --all-pods --tail=15 daemonset/svc");
        format!("{pods}\n{slices}\n{log}")
    }

    fn ask(&self, line: &str) -> Result<String> {
        let mut kubectl = self.0.kubectl()?;
        // The show handles Ctrl-C, not kubectl.
        kubectl.process_group(0);
        command::run(kubectl.args(["-n", NAMESPACE]).args(line.split_whitespace()))
    }
}

/// Quotes a word for a shell.
fn quoted(word: &str) -> String {
    if word.contains('{') { format!("'{word}'") } else { word.to_owned() }
}
