//! When leases that have run out may be ended.
//!
//! A lease runs out when its job makes no progress, or when progress could not be recorded because the coordinator or its
//! database was down. The second is not the worker's fault, however long it lasted.

use chaarfm_protocol::limits::STALL_LIMIT_SECONDS;

use crate::Timestamp;

/// No lease is ended for this many seconds after an outage. Workers reconnect and resend finished results at least once a
/// minute.
const GRACE_SECONDS: u64 = 75;

/// A coordinator that has not checked the leases for longer than this, in seconds, counts as having been down. A shorter pause
/// ends no lease of a job that makes progress.
const MAX_PAUSE_SECONDS: u64 = STALL_LIMIT_SECONDS / 2;

/// The period after an outage or a start during which no lease is ended. A coordinator that has just started does not know
/// what happened before.
#[derive(Debug, Clone, Default)]
pub struct ExpiryGrace {
    looked: Timestamp,
    until: Timestamp,
}

impl ExpiryGrace {
    /// Notes that a database read or write has failed.
    pub fn note_outage(&mut self, now: Timestamp) {
        self.until = self.until.max(now.plus_seconds(GRACE_SECONDS));
    }

    /// Notes that the leases were just checked, and returns whether expired ones may be ended.
    #[must_use]
    pub fn may_end_leases(&mut self, now: Timestamp) -> bool {
        if self.looked.plus_seconds(MAX_PAUSE_SECONDS) < now {
            self.note_outage(now);
        }
        self.looked = now;
        self.until <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp(1_000_000_000);

    fn at(seconds: u64) -> Timestamp {
        T0.plus_seconds(seconds)
    }

    /// A coordinator that has checked the leases every second for a long time, last at moment 0.
    fn settled() -> ExpiryGrace {
        ExpiryGrace { looked: T0, until: Timestamp::ZERO }
    }

    /// Checks every second, and returns the first second at which leases may be ended.
    fn ends_leases_at(expiry_grace: &mut ExpiryGrace, from: u64) -> u64 {
        (from..).find(|second| expiry_grace.may_end_leases(at(*second))).expect("patience ends")
    }

    #[test]
    fn who_looks_every_second_ends_leases_at_once() {
        let mut expiry_grace = settled();
        assert_eq!(ends_leases_at(&mut expiry_grace, 1), 1);
        assert!(expiry_grace.may_end_leases(at(1 + MAX_PAUSE_SECONDS)), "a short pause is none");
    }

    #[test]
    fn who_starts_or_stood_still_waits_for_the_workers_first() {
        assert_eq!(ends_leases_at(&mut ExpiryGrace::default(), 0), GRACE_SECONDS);
        let mut expiry_grace = settled();
        assert_eq!(ends_leases_at(&mut expiry_grace, MAX_PAUSE_SECONDS + 1), MAX_PAUSE_SECONDS + 1 + GRACE_SECONDS);
    }

    #[test]
    fn an_outage_of_any_length_is_followed_by_the_whole_grace() {
        for length in [1, GRACE_SECONDS, 10 * GRACE_SECONDS + 7] {
            let mut expiry_grace = settled();
            (1..=length).for_each(|second| expiry_grace.note_outage(at(second)));
            let grace = ends_leases_at(&mut expiry_grace, length + 1) - length;
            assert!((GRACE_SECONDS..=GRACE_SECONDS + 1).contains(&grace), "{grace} s after {length} s");
        }
    }

    #[test]
    fn what_cannot_be_written_counts_even_where_the_leases_can_be_read() {
        let mut expiry_grace = settled();
        for second in 1..=600 {
            if second % 30 == 1 {
                expiry_grace.note_outage(at(second));
            }
            assert!(!expiry_grace.may_end_leases(at(second)), "{second} s");
        }
    }
}
