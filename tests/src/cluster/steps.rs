//! The steps of a start: printed as they happen, stored with their durations.

use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    /// Seconds from the beginning to the step's end.
    pub at: f64,
}

#[derive(Debug)]
pub struct Steps {
    began: Instant,
    done: Vec<Step>,
    aloud: bool,
}

impl Steps {
    /// Prints each step on stderr if `aloud`.
    pub fn new(aloud: bool) -> Self {
        Self { began: Instant::now(), done: Vec::new(), aloud }
    }

    /// Runs one step. Its name is the state after success, and the context of an error.
    pub fn run<T>(&mut self, name: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let value = act().with_context(|| format!("not reached: {name}"))?;
        let at = self.began.elapsed().as_secs_f64();
        if self.aloud {
            eprintln!("{at:6.1} s  {name}");
        }
        self.done.push(Step { name: name.to_owned(), at });
        Ok(value)
    }

    pub fn done(&self) -> &[Step] {
        &self.done
    }
}
