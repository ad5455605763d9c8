//! Waits for a condition with a deadline. Tests wait only through this.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Interval between checks of a condition.
const LOOK: Duration = Duration::from_millis(20);

/// Checks until the condition holds (`Ok(Some)`). At the deadline the error names the condition and the last result.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let limit = limit * patience();
    let deadline = Instant::now() + limit;
    loop {
        let seen = look();
        if let Ok(Some(value)) = seen {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            match seen {
                Err(error) => return Err(error.context(format!("waited {limit:?} until {what}"))),
                Ok(_) => bail!("waited {limit:?} until {what}"),
            }
        }
        thread::park_timeout(LOOK);
    }
}

/// Factor for every time limit, from `SVC_PATIENCE`: more than 1 in an emulated machine.
fn patience() -> u32 {
    std::env::var("SVC_PATIENCE").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// Like [`until`], for a condition without a value.
pub fn until_true(what: &str, limit: Duration, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    until(what, limit, || Ok(look()?.then_some(())))
}
