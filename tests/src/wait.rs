//! Waiting for a fact with a deadline: the only way anything here waits.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a fact is looked at again.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until the fact holds (`Ok(Some)`); at the deadline the error says what was awaited and last seen.
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

/// What every limit is multiplied by: more than 1 in an emulated machine, by `SVC_PATIENCE`.
fn patience() -> u32 {
    std::env::var("SVC_PATIENCE").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// [`until`] for a fact that is only true or not.
pub fn until_true(what: &str, limit: Duration, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    until(what, limit, || Ok(look()?.then_some(())))
}
