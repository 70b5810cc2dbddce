//! The hub's clock and random source. A simulation replaces both, and so controls everything that happens.

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

    /// The system's clock, and unpredictable random numbers.
    pub(crate) fn system() -> Self {
        Self::new(system_time, rand::random)
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// 128 random bits.
    pub(crate) fn random(&self) -> u128 {
        (self.random)()
    }

    /// Uniformly distributed in 0..1.
    pub(crate) fn random_share(&self) -> f64 {
        f64::from((self.random() >> 96) as u32) / (f64::from(u32::MAX) + 1.0)
    }

    /// Uniformly distributed in `0..n`, except for a bias of 1e-28.
    pub(crate) fn random_below(&self, n: u32) -> u32 {
        (self.random() % u128::from(n.max(1))) as u32
    }
}

/// The system clock's time.
pub(crate) fn system_time() -> Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
