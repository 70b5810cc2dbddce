//! The time of a simulation: it advances only when all tasks are idle.

use chaarfm_coordinator::Timestamp;
use tokio::time::Instant;

/// The start time of every simulation.
pub(super) const BEGIN: Timestamp = Timestamp(1_000_000_000);

/// A clock, which may be ahead of others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start: Instant,
    pub(super) ahead_millis: u64,
}

impl Clock {
    /// The slowest clock of a simulation that begins now.
    pub(super) fn starting() -> Self {
        Self { start: Instant::now(), ahead_millis: 0 }
    }

    pub(super) fn ahead(self, millis: u64) -> Self {
        Self { ahead_millis: millis, ..self }
    }

    pub(super) fn now(self) -> Timestamp {
        let millis = u64::try_from(self.start.elapsed().as_millis()).expect("a simulation lasts for hours at most");
        Timestamp(BEGIN.0 + millis + self.ahead_millis)
    }
}
