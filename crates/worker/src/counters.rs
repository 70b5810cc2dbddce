//! What a worker has achieved. Pure: `now` is an argument.

use std::{collections::VecDeque, time::Duration};

/// Length of the window over which the rate is measured.
const RATE_WINDOW_SECONDS: f64 = 600.0;

/// Number of stored tracks remembered for the rate. Above 16 tracks a second the rate covers less than its window.
const RATE_TRACKS: usize = 10_000;

/// A younger worker counts as this old, so that its first track gives no absurd rate.
const SHORTEST_RATE_SECONDS: f64 = 10.0;

/// Tracks stored and failed since the worker started.
#[derive(Debug)]
pub(crate) struct Counters {
    started_at: Duration,
    stored_at: VecDeque<Duration>,
    pub(crate) done: u64,
    pub(crate) failed: u64,
}

impl Counters {
    pub(crate) fn new(now: Duration) -> Self {
        Self { started_at: now, stored_at: VecDeque::new(), done: 0, failed: 0 }
    }

    pub(crate) fn stored(&mut self, now: Duration) {
        self.done += 1;
        if self.stored_at.len() == RATE_TRACKS {
            self.started_at = self.stored_at.pop_front().unwrap_or(self.started_at);
        }
        self.stored_at.push_back(now);
    }

    pub(crate) fn failed(&mut self) {
        self.failed += 1;
    }

    /// Tracks a minute, stored in the last ten minutes (or since the worker started).
    pub(crate) fn tracks_per_minute(&mut self, now: Duration) -> f32 {
        let age = |then: Duration| now.saturating_sub(then).as_secs_f64();
        while self.stored_at.front().is_some_and(|&then| age(then) > RATE_WINDOW_SECONDS) {
            self.stored_at.pop_front();
        }
        let seconds = age(self.started_at).clamp(SHORTEST_RATE_SECONDS, RATE_WINDOW_SECONDS);
        (self.stored_at.len() as f64 * 60.0 / seconds) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_covers_ten_minutes_or_less() {
        let mut counters = Counters::new(Duration::ZERO);
        assert_eq!(counters.tracks_per_minute(Duration::ZERO), 0.0);
        for minute in 1..=20 {
            counters.stored(Duration::from_secs(minute * 60));
        }
        assert_eq!(counters.tracks_per_minute(Duration::from_secs(20 * 60 + 30)), 1.0);
        assert_eq!(counters.tracks_per_minute(Duration::from_secs(60 * 60)), 0.0);
        assert_eq!(counters.done, 20);
    }

    #[test]
    fn rate_of_a_young_worker_is_not_absurd() {
        let mut counters = Counters::new(Duration::from_secs(5));
        counters.stored(Duration::from_secs(6));
        assert_eq!(counters.tracks_per_minute(Duration::from_secs(6)), 6.0);
        assert_eq!(counters.tracks_per_minute(Duration::from_secs(35)), 2.0);
    }
}
