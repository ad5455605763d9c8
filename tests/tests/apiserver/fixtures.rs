//! The testbeds that cases share, and how a case is run in one.

use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Error, Result};
use libtest_mimic::{Failed, Trial};

use crate::case::Case;
use crate::node_life::FLAGS;
use crate::plane::SharedControlPlane;
use crate::testbed::Testbed;

/// Testbeds that cases share. Each is made at its first use.
#[derive(Default)]
pub struct Fixtures {
    /// An API server without faults.
    control_plane: Lazy<Arc<SharedControlPlane>>,
    /// A testbed in which only objects change.
    shared: Lazy<Arc<Testbed>>,
    faulty: Lazy<Arc<Testbed>>,
    /// Held by the case that injects faults.
    pub fault_turn: Mutex<()>,
    followed: Lazy<Arc<Testbed>>,
    /// Held by the case that changes the Node.
    pub node_turn: Mutex<()>,
}

impl Fixtures {
    pub fn control_plane(&self) -> Result<Arc<SharedControlPlane>> {
        self.control_plane.get(|| Ok(Arc::new(SharedControlPlane::start("plain")?)))
    }

    /// The testbed whose API server is stopped, killed and frozen, by one case at a time.
    pub fn faulty(&self) -> Result<Arc<Testbed>> {
        self.faulty
            .get(|| Ok(Arc::new(Testbed::relayed("fault", Arc::new(SharedControlPlane::start("fault")?))?)))
    }

    /// The testbed whose Node and ServiceCIDRs change, by one case at a time.
    pub fn followed(&self) -> Result<Arc<Testbed>> {
        self.followed.get(|| Ok(Arc::new(Testbed::with_flags("followed", self.control_plane()?, &FLAGS)?)))
    }

    pub fn shared(&self) -> Result<Arc<Testbed>> {
        self.shared.get(|| Ok(Arc::new(Testbed::direct("share", self.control_plane()?)?)))
    }
}

/// A value made at its first use. Later uses wait for it, and get the same error if that failed.
struct Lazy<T>(OnceLock<Result<T, String>>);

impl<T> Default for Lazy<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T: Clone> Lazy<T> {
    fn get(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        let made = self.0.get_or_init(|| make().map_err(|error| format!("{error:#}")));
        made.clone().map_err(Error::msg)
    }
}

/// A test of a case: a sentence, its testbed, and its actions in a namespace of its own.
pub fn case_on(
    sentence: &str,
    set: impl FnOnce() -> Result<Arc<Testbed>> + Send + 'static,
    act: impl FnOnce(&Testbed, &Case<'_>) -> Result<()> + Send + 'static,
) -> Trial {
    let name = sentence.to_owned();
    Trial::test(sentence, move || play(&name, set, act))
}

/// Runs a case in a namespace of its own, and checks that the traffic was not disturbed.
pub fn play(
    sentence: &str,
    set: impl FnOnce() -> Result<Arc<Testbed>>,
    act: impl FnOnce(&Testbed, &Case<'_>) -> Result<()>,
) -> Result<(), Failed> {
    let testbed = set().map_err(|error| Failed::from(format!("no testbed: {error:#}")))?;
    let case =
        Case::new(&testbed, sentence).map_err(|error| Failed::from(format!("no namespace: {error:#}")))?;
    let outcome = act(&testbed, &case).and_then(|()| testbed.unnoticed());
    outcome.map_err(|error| format!("{error:#}\n{}\n{}", case.objects(), testbed.diagnosis()).into())
}
