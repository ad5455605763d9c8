//! An explanation: a verdict, and the steps that lead to it.

use std::net::SocketAddr;

use serde::Serialize;

use crate::observe::wanted::WantedEndpoint;

/// The result for a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Forwarded,
    Refused,
    Dropped,
    /// The packet is left alone.
    NoService,
}

impl Verdict {
    /// The exit code of `svc-ctl why`; 1 and 2 are errors of the command itself.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Forwarded => 0,
            Self::Refused => 3,
            Self::Dropped => 4,
            Self::NoService => 5,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Refused => "refused",
            Self::Dropped => "dropped",
            Self::NoService => "left alone",
        }
    }
}

/// A decision on the way, and the rules of docs/semantics.md that it follows.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Step {
    pub step: &'static str,
    pub text: String,
    pub rules: Vec<String>,
}

/// The verdict on a packet, and the reasons.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    pub packet: String,
    pub verdict: Verdict,
    /// The counter that such a packet increments, if it is refused or dropped.
    pub reason: Option<&'static str>,
    pub service: Option<String>,
    /// The backend to which the packet goes, or from which it comes.
    pub backend: Option<SocketAddr>,
    /// The source with which the packet leaves svc. `None`: the kernel chooses it, for a socket of the node.
    pub source: Option<SocketAddr>,
    /// The destination with which the packet leaves svc: the backend, or the client of a reply.
    pub destination: Option<SocketAddr>,
    pub steps: Vec<Step>,
    /// The endpoints of the service port in its EndpointSlices. Empty without a daemon.
    pub endpoints: Vec<WantedEndpoint>,
}

impl Explanation {
    pub fn new(packet: String) -> Self {
        Self {
            packet,
            verdict: Verdict::NoService,
            reason: None,
            service: None,
            backend: None,
            source: None,
            destination: None,
            steps: Vec::new(),
            endpoints: Vec::new(),
        }
    }

    /// Adds a step.
    pub fn step(&mut self, step: &'static str, rules: &[&'static str], text: impl Into<String>) {
        self.steps.push(Step {
            step,
            text: text.into(),
            rules: rules.iter().map(|rule| (*rule).to_owned()).collect(),
        });
    }

    /// The explanation for people: the verdict, then one line a step.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}", self.packet, self.verdict.text());
        if let Some(destination) = self.destination.filter(|_| self.verdict == Verdict::Forwarded) {
            text.push_str(&format!(" to {destination}"));
        }
        if self.verdict == Verdict::NoService {
            let because =
                if self.service.is_none() { "not for a Service" } else { "svc does not translate it" };
            text.push_str(&format!(": {because}"));
        }
        if let Some(reason) = self.reason {
            text.push_str(&format!(" ({reason})"));
        }
        text.push_str("\n\n");
        for Step { step, text: says, rules } in &self.steps {
            let rules = if rules.is_empty() { String::new() } else { format!(" [{}]", rules.join(", ")) };
            text.push_str(&format!("{step:<14}{}{rules}\n", says.replace('\n', "\n              ")));
        }
        text
    }
}
