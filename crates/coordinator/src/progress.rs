//! Whether a job moves on in its worker's hands, which alone keeps its lease.
//!
//! A worker that is connected but hangs goes on reporting, so that reports as such prove nothing. Leaves out what a
//! worker claims falsely: one that lies about its progress keeps a job as long as it likes.

use chaarfm_domain::{Evidence, JobRef, Stage};
use chaarfm_protocol::limits::{MAX_FETCH_TRIES, STALL_LIMIT_SECONDS, TURN_SECONDS};

use crate::{Job, Timestamp};

/// A lease is granted this much longer than it has to last, and so need not be renewed with every report: with many
/// workers, that would be most of what the database does.
const RENEWAL_STEP_SECONDS: u64 = 30;

/// How long a lease is granted for, and prolonged when its job moves on.
pub const LEASE_SECONDS: u64 = STALL_LIMIT_SECONDS + RENEWAL_STEP_SECONDS;

/// A job in a worker's hands.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// The job and its lease.
    pub job: JobRef,
    /// How people call the track.
    pub label: String,
    /// What is being done with it.
    pub stage: Stage,
    /// Share of the stage that is done, 0 to 1.
    pub fraction: f32,
    /// When its lease ends, as it is stored.
    pub deadline: Timestamp,
    /// Which of the job's leases it is, counted from 1: see [`Job::lose`].
    pub number: u32,
    /// When the worker was given it; none when that was over another connection.
    pub given: Option<Timestamp>,
    /// What has come of the embeddings of its patches.
    pub evidence: Option<Evidence>,
    /// What the next report has to exceed.
    furthest: (Stage, f32),
    restarts: u32,
}

/// A lease that is to last longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// The job and its lease.
    pub job: JobRef,
    /// When the lease ends from now on.
    pub deadline: Timestamp,
}

impl Held {
    /// A job that has just been leased.
    #[must_use]
    pub fn given(job: &Job, label: String, now: Timestamp) -> Self {
        Self { given: Some(now), ..Self::brought_along(job, label) }
    }

    /// A job that a worker brings along from an earlier connection.
    #[must_use]
    pub fn brought_along(job: &Job, label: String) -> Self {
        let furthest = (Stage::Fetching, 0.0);
        Self {
            job: JobRef { job: job.id, lease: job.token.clone().unwrap_or_default() },
            label,
            stage: furthest.0,
            fraction: furthest.1,
            deadline: job.deadline().unwrap_or(Timestamp::ZERO),
            number: job.leases,
            given: None,
            evidence: None,
            furthest,
            restarts: 0,
        }
    }

    /// Whether the lease has run out.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.deadline <= now
    }

    /// Notes how far the job is; true when it has moved on since it was last noted.
    pub(crate) fn advance(&mut self, stage: Stage, fraction: f32) -> bool {
        let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
        (self.stage, self.fraction) = (stage, fraction);
        let reached = (stage, fraction);
        let has_moved = reached > self.furthest;
        let begins_again = reached < self.furthest && self.restarts + 1 < MAX_FETCH_TRIES;
        self.restarts += u32::from(begins_again);
        if has_moved || begins_again {
            self.furthest = reached;
        }
        has_moved
    }

    /// Prolongs the lease, to [`STALL_LIMIT_SECONDS`] from now at the least; none while it lasts that long anyway.
    pub(crate) fn renew(&mut self, is_in_line: bool, now: Timestamp) -> Option<Renewal> {
        let turn = if is_in_line || self.stage == Stage::Waiting { TURN_SECONDS } else { 0 };
        let needed = now.plus_seconds(STALL_LIMIT_SECONDS + turn);
        if needed <= self.deadline {
            return None;
        }
        self.deadline = needed.plus_seconds(RENEWAL_STEP_SECONDS);
        Some(Renewal { job: self.job.clone(), deadline: self.deadline })
    }

    /// Whether it cannot move on before a job that is in that stage has: a worker fetches one file at a time and analyses
    /// one at a time.
    pub(crate) fn waits_behind(&self, stage: Stage) -> bool {
        match stage {
            Stage::Fetching => self.stage == Stage::Fetching && self.fraction == 0.0,
            Stage::Waiting => false,
            Stage::Analysing => self.stage == Stage::Waiting,
        }
    }

    /// Is as far as it was on an earlier connection: to connect anew is no progress.
    pub(crate) fn goes_on_from(&mut self, earlier: &Self) {
        (self.stage, self.fraction) = (earlier.stage, earlier.fraction);
        (self.furthest, self.restarts, self.given) = (earlier.furthest, earlier.restarts, earlier.given);
        // That it was renewed may not have been written down yet.
        self.deadline = self.deadline.max(earlier.deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp(1_000_000);

    fn held() -> Held {
        let mut job = Job::new(7);
        job.lease("t".into(), "w", T0).unwrap();
        Held::given(&job, "track".into(), T0)
    }

    #[test]
    fn a_later_stage_or_a_larger_share_is_progress_and_nothing_else() {
        let mut held = held();
        assert!(!held.advance(Stage::Fetching, 0.0), "nothing has happened yet");
        assert!(held.advance(Stage::Fetching, 0.5));
        assert!(!held.advance(Stage::Fetching, 0.5), "the same again");
        assert!(held.advance(Stage::Fetching, 0.500_001));
        assert!(held.advance(Stage::Waiting, 0.0));
        assert!(!held.advance(Stage::Waiting, 0.0));
        assert!(held.advance(Stage::Analysing, 0.0));
        assert!(!held.advance(Stage::Analysing, f32::NAN));
        assert!(held.advance(Stage::Analysing, 7.0), "the whole, whatever it is called");
        assert!(!held.advance(Stage::Analysing, 8.0));
    }

    #[test]
    fn a_transfer_may_begin_again_but_not_for_ever() {
        let mut held = held();
        for _ in 0..MAX_FETCH_TRIES {
            assert!(held.advance(Stage::Fetching, 0.5));
            assert!(!held.advance(Stage::Fetching, 0.0), "to begin again is no progress, what follows is");
        }
        assert!(!held.advance(Stage::Fetching, 0.5));
        assert!(held.advance(Stage::Fetching, 0.6));
    }

    #[test]
    fn a_lease_that_was_just_renewed_lasts_as_long_over_another_connection() {
        let (mut earlier, mut again) = (held(), held());
        assert!(earlier.renew(false, T0.plus_seconds(RENEWAL_STEP_SECONDS + 1)).is_some());
        again.goes_on_from(&earlier);
        assert_eq!(again.deadline, earlier.deadline);
    }

    #[test]
    fn a_lease_lasts_for_the_stall_limit_after_each_report_and_is_seldom_renewed() {
        const STEP: u64 = RENEWAL_STEP_SECONDS;
        let mut held = held();
        assert_eq!((held.renew(false, T0.plus_seconds(STEP)), held.deadline), (None, T0.plus_seconds(LEASE_SECONDS)));
        let later = T0.plus_seconds(STEP + 1);
        let deadline = later.plus_seconds(LEASE_SECONDS);
        assert_eq!(held.renew(false, later), Some(Renewal { job: held.job.clone(), deadline }));
        assert_eq!(held.renew(false, later.plus_seconds(STEP)), None);
        let end = held.deadline;
        assert!(!held.is_overdue(Timestamp(end.0 - 1)) && held.is_overdue(end));
    }

    #[test]
    fn who_waits_for_a_turn_is_given_longer_than_who_has_it() {
        let (mut waiting, mut fetching) = (held(), held());
        waiting.advance(Stage::Waiting, 0.0);
        assert!(waiting.waits_behind(Stage::Analysing) && !waiting.waits_behind(Stage::Fetching));
        assert!(fetching.waits_behind(Stage::Fetching) && !fetching.waits_behind(Stage::Analysing));
        let long = Some(T0.plus_seconds(LEASE_SECONDS + TURN_SECONDS));
        assert_eq!(waiting.renew(false, T0).map(|renewal| renewal.deadline), long);
        assert_eq!(fetching.clone().renew(true, T0).map(|renewal| renewal.deadline), long);
        fetching.advance(Stage::Fetching, 0.1);
        assert!(!fetching.waits_behind(Stage::Fetching), "it has its turn");
    }
}
