//! When leases that have run out may be ended.
//!
//! A lease runs out when its job does not move on, or when nobody could note that it did, because the coordinator or its
//! database was not there. The latter is no fault of the worker's, however long it lasted.

use chaarfm_protocol::limits::STALL_LIMIT_SECONDS;

use crate::Timestamp;

/// After nobody could renew leases, none is ended for this long. Workers knock again, and deliver again what they have
/// finished, at least once a minute.
const GRACE_SECONDS: u64 = 75;

/// Who has not looked at the leases for longer than this was not there. A shorter pause takes no lease from a job that moves
/// on.
const MAX_PAUSE_SECONDS: u64 = STALL_LIMIT_SECONDS / 2;

/// A coordinator's patience with leases that have run out. It begins with some: who has just started does not know what has
/// been before.
#[derive(Debug, Clone, Default)]
pub struct Patience {
    looked: Timestamp,
    until: Timestamp,
}

impl Patience {
    /// Notes that something could not be stored, or not be read.
    pub fn note_outage(&mut self, now: Timestamp) {
        self.until = self.until.max(now.plus_seconds(GRACE_SECONDS));
    }

    /// Notes that the leases have just been looked at, and says whether those that have run out may be ended.
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

    /// Who has looked every second since long ago, the last time at the moment 0.
    fn settled() -> Patience {
        Patience { looked: T0, until: Timestamp::ZERO }
    }

    /// Looks every second, and returns the first at which leases may be ended.
    fn impatient_at(patience: &mut Patience, from: u64) -> u64 {
        (from..).find(|second| patience.may_end_leases(at(*second))).expect("patience ends")
    }

    #[test]
    fn who_looks_every_second_ends_leases_at_once() {
        let mut patience = settled();
        assert_eq!(impatient_at(&mut patience, 1), 1);
        assert!(patience.may_end_leases(at(1 + MAX_PAUSE_SECONDS)), "a short pause is none");
    }

    #[test]
    fn who_starts_or_stood_still_waits_for_the_workers_first() {
        assert_eq!(impatient_at(&mut Patience::default(), 0), GRACE_SECONDS);
        let mut patience = settled();
        assert_eq!(impatient_at(&mut patience, MAX_PAUSE_SECONDS + 1), MAX_PAUSE_SECONDS + 1 + GRACE_SECONDS);
    }

    #[test]
    fn an_outage_of_any_length_is_followed_by_the_whole_grace() {
        for length in [1, GRACE_SECONDS, 10 * GRACE_SECONDS + 7] {
            let mut patience = settled();
            (1..=length).for_each(|second| patience.note_outage(at(second)));
            let grace = impatient_at(&mut patience, length + 1) - length;
            assert!((GRACE_SECONDS..=GRACE_SECONDS + 1).contains(&grace), "{grace} s after {length} s");
        }
    }

    #[test]
    fn what_cannot_be_written_counts_even_where_the_leases_can_be_read() {
        let mut patience = settled();
        for second in 1..=600 {
            if second % 30 == 1 {
                patience.note_outage(at(second));
            }
            assert!(!patience.may_end_leases(at(second)), "{second} s");
        }
    }
}
