//! Rate limit on messages: the same rule at both ends.

use std::time::Duration;

use crate::limits::{MAX_MESSAGES_AT_ONCE, MAX_MESSAGES_PER_SECOND};

/// A token bucket of messages: it starts with [`MAX_MESSAGES_AT_ONCE`], its maximum, and gains [`MAX_MESSAGES_PER_SECOND`]
/// each second. A message is any incoming frame, pings included. Times are measured from any fixed origin.
#[derive(Debug, Clone)]
pub struct Pace {
    left: f64,
    at: Duration,
}

impl Pace {
    /// For a connection that opens now.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self { left: f64::from(MAX_MESSAGES_AT_ONCE), at: now }
    }

    /// Counts an incoming message; false when it exceeds the limit.
    pub fn allows(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.left = (self.left + passed * f64::from(MAX_MESSAGES_PER_SECOND)).min(f64::from(MAX_MESSAGES_AT_ONCE));
        self.at = self.at.max(now);
        self.left -= 1.0;
        self.left >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_does_not() {
        let mut pace = Pace::new(Duration::from_secs(7));
        let now = Duration::from_secs(8);
        assert!((0..MAX_MESSAGES_AT_ONCE).all(|_| pace.allows(now)));
        assert!(!pace.allows(now));
        let later = now + Duration::from_secs(1);
        assert_eq!((0..1000).filter(|_| pace.allows(later)).count(), MAX_MESSAGES_PER_SECOND as usize - 1);
        assert!(!pace.allows(now), "a clock that goes back brings nothing");
    }
}
