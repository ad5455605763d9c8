//! The stages that cases share, and how a case is played on one.

use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Error, Result};
use libtest_mimic::{Failed, Trial};

use crate::case::Case;
use crate::plane::Plane;
use crate::stage::Stage;

/// What all cases share, each part made when it is first asked for.
#[derive(Default)]
pub struct Theatre {
    /// Nobody hurts this API server.
    calm: Later<Arc<Plane>>,
    /// Objects come and go here, and nothing else happens.
    quiet: Later<Arc<Stage>>,
    hurt: Later<Arc<Stage>>,
    /// Who may hurt.
    pub turn: Mutex<()>,
}

impl Theatre {
    pub fn calm(&self) -> Result<Arc<Plane>> {
        self.calm.get(|| Ok(Arc::new(Plane::start("calm")?)))
    }

    /// The API server that is stopped, killed and frozen; by one case at a time.
    pub fn hurt(&self) -> Result<Arc<Stage>> {
        self.hurt.get(|| Ok(Arc::new(Stage::relayed("hurt", Arc::new(Plane::start("frail")?))?)))
    }

    pub fn quiet(&self) -> Result<Arc<Stage>> {
        self.quiet.get(|| Ok(Arc::new(Stage::direct("quiet", self.calm()?)?)))
    }
}

/// Made by whoever comes first; the others wait for it, and fail as it failed.
struct Later<T>(OnceLock<Result<T, String>>);

impl<T> Default for Later<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T: Clone> Later<T> {
    fn get(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        let made = self.0.get_or_init(|| make().map_err(|error| format!("{error:#}")));
        made.clone().map_err(Error::msg)
    }
}

/// A case on a stage that it has or shares: a sentence, the stage, what happens in a namespace of its own.
pub fn case_on(
    sentence: &str,
    set: impl FnOnce() -> Result<Arc<Stage>> + Send + 'static,
    act: impl FnOnce(&Stage, &Case<'_>) -> Result<()> + Send + 'static,
) -> Trial {
    let name = sentence.to_owned();
    Trial::test(sentence, move || play(&name, set, act))
}

/// Runs a case in a namespace of its own, and looks whether the traffic has noticed.
pub fn play(
    sentence: &str,
    set: impl FnOnce() -> Result<Arc<Stage>>,
    act: impl FnOnce(&Stage, &Case<'_>) -> Result<()>,
) -> Result<(), Failed> {
    let stage = set().map_err(|error| Failed::from(format!("no stage: {error:#}")))?;
    let case =
        Case::new(&stage, sentence).map_err(|error| Failed::from(format!("no namespace: {error:#}")))?;
    let outcome = act(&stage, &case).and_then(|()| stage.unnoticed());
    outcome.map_err(|error| format!("{error:#}\n{}\n{}", case.objects(), stage.diagnosis()).into())
}
