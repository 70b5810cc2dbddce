//! How long to wait before trying again.

use std::time::Duration;

/// Upper bound of the first wait.
const FIRST_WAIT_SECONDS: f64 = 1.0;

/// Upper bound of every wait.
const LONGEST_WAIT_SECONDS: f64 = 60.0;

/// Waits whose upper bound doubles from 1 s to 60 s. Each is drawn evenly from zero to that bound ("full jitter"), so
/// that the workers of a coordinator that restarts do not come back all at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    bound_seconds: f64,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { bound_seconds: FIRST_WAIT_SECONDS }
    }

    /// The next wait; `random` is evenly distributed in `0..1`.
    pub(crate) fn next(&mut self, random: f64) -> Duration {
        let wait = Duration::from_secs_f64(self.bound_seconds * random.clamp(0.0, 1.0));
        self.bound_seconds = (self.bound_seconds * 2.0).min(LONGEST_WAIT_SECONDS);
        wait
    }

    /// Begins again with the shortest wait.
    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_a_minute_and_begins_again() {
        let mut backoff = Backoff::new();
        let waits: Vec<u64> = (0..8).map(|_| backoff.next(1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.reset();
        assert_eq!(backoff.next(1.0).as_secs(), 1);
    }

    #[test]
    fn jitters_over_the_whole_wait() {
        let waits = [0.0, 0.25, 0.99].map(|random| {
            let mut backoff = Backoff::new();
            backoff.next(random);
            backoff.next(random).as_millis()
        });
        assert_eq!(waits, [0, 500, 1980]);
    }
}
