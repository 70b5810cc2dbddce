//! What the hub has from its machine: the time, and chance. A simulation gives it others, and so decides all that happens.

use std::sync::Arc;

use chaarfm_coordinator::Timestamp;

/// The clock and the source of random numbers.
#[derive(Clone)]
pub(crate) struct Environment {
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    random: Arc<dyn Fn() -> u128 + Send + Sync>,
}

impl Environment {
    pub(crate) fn new(
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
        random: impl Fn() -> u128 + Send + Sync + 'static,
    ) -> Self {
        Self { clock: Arc::new(clock), random: Arc::new(random) }
    }

    /// The system's clock, and numbers that nobody can guess.
    pub(crate) fn system() -> Self {
        Self::new(system_time, rand::random)
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// All of its bits are random.
    pub(crate) fn random(&self) -> u128 {
        (self.random)()
    }

    /// Evenly from 0 up to 1.
    pub(crate) fn random_share(&self) -> f64 {
        f64::from((self.random() >> 96) as u32) / (f64::from(u32::MAX) + 1.0)
    }

    /// Evenly from `0..n`, but for a share of 1e-28.
    pub(crate) fn random_below(&self, n: u32) -> u32 {
        (self.random() % u128::from(n.max(1))) as u32
    }
}

/// What the system's clock says.
pub(crate) fn system_time() -> Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
