//! Result of a client at a frontend: the servers and the source that they saw, or the error.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::agent::Tried;

/// `a1 b1 from pod, b1 from node1`, `refused`, `nothing`. A set: order and number of the attempts do not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowOutcome {
    /// The servers that answered, by the client address that they saw.
    answers: BTreeMap<String, BTreeSet<String>>,
    failures: BTreeSet<String>,
}

/// Stands for any server, as long as it is always the same.
const SAME: &str = "same";
const REFUSED: &str = "refused";
const UNREACHABLE: &str = "unreachable";
const NOTHING: &str = "nothing";

impl RowOutcome {
    /// `names` are the names of addresses.
    pub fn of(tried: &[Tried], names: &BTreeMap<IpAddr, String>) -> Self {
        let mut outcome = Self::default();
        for tried in tried {
            let failure = match tried {
                Tried::Answered(answer) => {
                    let source = answer.seen_from.ip();
                    let source = names.get(&source).cloned().unwrap_or_else(|| source.to_string());
                    outcome.answers.entry(source).or_default().insert(answer.server.clone());
                    continue;
                }
                Tried::Refused => REFUSED,
                Tried::Unreachable => UNREACHABLE,
                Tried::Nothing => NOTHING,
                Tried::Odd(what) => what,
            };
            outcome.failures.insert(failure.to_owned());
        }
        outcome
    }

    /// Result of a client that must keep its first server. Which server that is, is random and left out.
    #[must_use]
    pub fn staying(mut self) -> Self {
        let servers: BTreeSet<_> = self.answers.values().flatten().collect();
        if servers.len() == 1 {
            self.answers.values_mut().for_each(|servers| *servers = BTreeSet::from([SAME.to_owned()]));
        }
        self
    }

    /// The answers and errors that the client got, without the attempts that got nothing.
    #[must_use]
    pub fn heard(&self) -> Self {
        let mut heard = self.clone();
        heard.failures.remove(NOTHING);
        heard
    }

    pub fn is_answered(&self) -> bool {
        !self.answers.is_empty()
    }

    pub fn is_refused(&self) -> bool {
        self.failures.contains(REFUSED)
    }

    pub fn is_silent(&self) -> bool {
        self.failures.contains(NOTHING)
    }
}

impl fmt::Display for RowOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers = self.answers.iter().map(|(source, servers)| {
            let servers: Vec<_> = servers.iter().map(String::as_str).collect();
            format!("{} from {source}", servers.join(" "))
        });
        let all: Vec<_> = answers.chain(self.failures.iter().cloned()).collect();
        f.write_str(&all.join(", "))
    }
}

impl FromStr for RowOutcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut outcome = Self::default();
        for part in text.split(", ") {
            match part.split_once(" from ") {
                Some((servers, source)) => {
                    let servers = servers.split(' ').map(str::to_owned);
                    outcome.answers.entry(source.to_owned()).or_default().extend(servers);
                }
                None if [REFUSED, UNREACHABLE, NOTHING].contains(&part) => {
                    outcome.failures.insert(part.to_owned());
                }
                None => return Err(format!("{part:?} is no outcome")),
            }
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Answer;

    fn answered(server: &str, source: &str) -> Tried {
        Tried::Answered(Answer { server: server.into(), seen_from: format!("{source}:1").parse().unwrap() })
    }

    #[test]
    fn an_outcome_is_a_set_that_is_written_and_read_alike() {
        let names = BTreeMap::from([([10, 0, 0, 1].into(), "pod".to_owned())]);
        let tried = [
            answered("b1", "10.0.0.1"),
            Tried::Refused,
            answered("a1", "10.0.0.1"),
            answered("a1", "1.1.1.1"),
        ];
        let outcome = RowOutcome::of(&tried, &names);
        assert_eq!(outcome.to_string(), "a1 from 1.1.1.1, a1 b1 from pod, refused");
        assert_eq!("a1 b1 from pod, refused, a1 from 1.1.1.1".parse(), Ok(outcome));
        assert!("denied".parse::<RowOutcome>().is_err());
    }

    #[test]
    fn only_missing_answers_are_left_out_beside_answers() {
        let heard = |text: &str| text.parse::<RowOutcome>().unwrap().heard().to_string();
        assert_eq!(heard("a1 from pod, nothing"), heard("a1 from pod"));
        assert_ne!(heard("a1 from pod, refused"), heard("a1 from pod"));
        assert_ne!(heard("a1 from pod, nothing"), heard("b1 from pod"));
        assert_ne!(heard("nothing"), heard("a1 from pod"));
    }

    #[test]
    fn a_client_that_keeps_its_server_differs_from_one_that_does_not() {
        let outcome = |text: &str| text.parse::<RowOutcome>().unwrap().staying().to_string();
        assert_eq!(outcome("a1 from pod, a1 from node1"), "same from node1, same from pod");
        assert_eq!(outcome("a1 from pod, b1 from node1"), "b1 from node1, a1 from pod");
    }
}
