//! Tracks whether a worker makes progress on a job; only progress renews the lease.
//!
//! A connected worker that hangs may keep sending reports, so reports alone prove nothing. A worker that lies about its
//! progress can hold a job for longer, but not forever: only steps of [`MIN_STEP`] count, and each stage has a time limit
//! that depends on the file size.

use chaarfm_domain::{Evidence, JobRef, Stage};
use chaarfm_protocol::limits::{MAX_FETCH_TRIES, STALL_LIMIT_SECONDS, TURN_SECONDS};

use crate::{Job, Timestamp};

/// Leases are granted this much longer than necessary, so that not every report needs a renewal: with many workers,
/// renewals would be most of the database load.
const RENEWAL_STEP_SECONDS: u64 = 30;

/// Length of a new or renewed lease.
pub const LEASE_SECONDS: u64 = STALL_LIMIT_SECONDS + RENEWAL_STEP_SECONDS;

/// Smallest part of a stage that counts as progress.
const MIN_STEP: f32 = 0.001;

/// Longest time for fetching or analysing any file.
const BASE_STAGE_SECONDS: u64 = 3_600;

/// A larger file extends the limit at this rate, in bytes per second. It is the bit rate of a 128 kbit/s MP3 file; the
/// slowest phones analyse several times as fast as playback.
const MIN_BYTES_PER_SECOND: u64 = 16 * 1024;

/// A job held by a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// The job and its lease.
    pub job: JobRef,
    /// The track's label for people.
    pub label: String,
    /// Its current stage.
    pub stage: Stage,
    /// Completed share of the stage, 0 to 1.
    pub fraction: f32,
    /// The lease's deadline, as stored.
    pub deadline: Timestamp,
    /// Number of this lease of the job, counted from 1: see [`Job::lose`].
    pub number: u32,
    /// When the worker was given the job; none if that was on another connection.
    pub given: Option<Timestamp>,
    /// The evidence collected from its patches.
    pub evidence: Option<Evidence>,
    /// Size of the file, in bytes.
    bytes: u64,
    /// The next report must exceed this to count as progress.
    furthest: (Stage, f32),
    /// Time when the lease ends at the latest, unless the worker reaches the next stage. None while the job is waiting for
    /// its turn.
    stage_end: Option<Timestamp>,
    restarts: u32,
}

/// A lease to extend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// The job and its lease.
    pub job: JobRef,
    /// The new deadline.
    pub deadline: Timestamp,
}

impl Held {
    /// A job that has just been leased.
    #[must_use]
    pub fn given(job: &Job, label: String, bytes: u64, now: Timestamp) -> Self {
        Self { given: Some(now), ..Self::brought_along(job, label, bytes) }
    }

    /// A job that a worker resumes from an earlier connection.
    #[must_use]
    pub fn brought_along(job: &Job, label: String, bytes: u64) -> Self {
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
            bytes,
            furthest,
            stage_end: None,
            restarts: 0,
        }
    }

    /// Whether the lease has run out.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.deadline <= now
    }

    /// Records a progress report; true when it is further than before.
    pub(crate) fn advance(&mut self, stage: Stage, fraction: f32, now: Timestamp) -> bool {
        let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
        (self.stage, self.fraction) = (stage, fraction);
        let (reached, (earlier_stage, earlier)) = ((stage, fraction), self.furthest);
        let is_a_step = fraction >= earlier + MIN_STEP || (fraction >= 1.0 && earlier < 1.0);
        let has_moved = stage > earlier_stage || (stage == earlier_stage && is_a_step);
        let begins_again = reached < self.furthest && self.restarts + 1 < MAX_FETCH_TRIES;
        self.restarts += u32::from(begins_again);
        if has_moved || begins_again {
            self.furthest = reached;
        }
        if stage == Stage::Waiting {
            self.stage_end = None;
        } else if begins_again || (has_moved && (stage > earlier_stage || self.stage_end.is_none())) {
            self.stage_end = Some(now.plus_seconds(BASE_STAGE_SECONDS + self.bytes / MIN_BYTES_PER_SECOND));
        }
        has_moved
    }

    /// Extends the lease to at least [`STALL_LIMIT_SECONDS`] from now; none if it already lasts that long.
    pub(crate) fn renew(&mut self, is_in_line: bool, now: Timestamp) -> Option<Renewal> {
        let turn = if is_in_line || self.stage == Stage::Waiting { TURN_SECONDS } else { 0 };
        let needed = now.plus_seconds(STALL_LIMIT_SECONDS + turn);
        let deadline = needed.plus_seconds(RENEWAL_STEP_SECONDS);
        let deadline = self.stage_end.map_or(deadline, |end| deadline.min(end));
        if needed <= self.deadline || deadline <= self.deadline {
            return None;
        }
        self.deadline = deadline;
        Some(Renewal { job: self.job.clone(), deadline: self.deadline })
    }

    /// Whether this job cannot progress until a job in that stage has: a worker fetches one file at a time and analyses one
    /// at a time.
    pub(crate) fn waits_behind(&self, stage: Stage) -> bool {
        match stage {
            Stage::Fetching => self.stage == Stage::Fetching && self.fraction == 0.0,
            Stage::Waiting => false,
            Stage::Analysing => self.stage == Stage::Waiting,
        }
    }

    /// Continues from the progress of an earlier connection: reconnecting is not progress.
    pub(crate) fn goes_on_from(&mut self, earlier: &Self) {
        (self.stage, self.fraction) = (earlier.stage, earlier.fraction);
        (self.furthest, self.restarts, self.given) = (earlier.furthest, earlier.restarts, earlier.given);
        self.stage_end = earlier.stage_end;
        // The latest renewal may not be stored yet.
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
        Held::given(&job, "track".into(), 3 * 1024 * 1024, T0)
    }

    #[test]
    fn a_later_stage_or_a_larger_share_is_progress_and_nothing_else() {
        let mut held = held();
        assert!(!held.advance(Stage::Fetching, 0.0, T0), "nothing has happened yet");
        assert!(held.advance(Stage::Fetching, 0.5, T0));
        assert!(!held.advance(Stage::Fetching, 0.5, T0), "the same again");
        assert!(!held.advance(Stage::Fetching, 0.500_001, T0), "next to nothing");
        assert!(held.advance(Stage::Fetching, 0.502, T0));
        assert!(held.advance(Stage::Waiting, 0.0, T0));
        assert!(!held.advance(Stage::Waiting, 0.0, T0));
        assert!(held.advance(Stage::Analysing, 0.0, T0));
        assert!(!held.advance(Stage::Analysing, f32::NAN, T0));
        assert!(held.advance(Stage::Analysing, 7.0, T0), "the whole, whatever it is called");
        assert!(!held.advance(Stage::Analysing, 8.0, T0));
    }

    #[test]
    fn a_transfer_may_begin_again_but_not_for_ever() {
        let mut held = held();
        for _ in 0..MAX_FETCH_TRIES {
            assert!(held.advance(Stage::Fetching, 0.5, T0));
            assert!(!held.advance(Stage::Fetching, 0.0, T0), "to begin again is no progress, what follows is");
        }
        assert!(!held.advance(Stage::Fetching, 0.5, T0));
        assert!(held.advance(Stage::Fetching, 0.6, T0));
    }

    /// A worker that reports a little more progress whenever the lease is about to end.
    #[test]
    fn however_it_moves_a_job_is_not_held_without_end() {
        let mut held = held();
        let longest = BASE_STAGE_SECONDS + held.bytes / MIN_BYTES_PER_SECOND;
        let mut now = T0;
        for (stage, stages) in [(Stage::Fetching, 1), (Stage::Analysing, 2)] {
            let mut fraction = 0.0;
            while !held.is_overdue(now) {
                fraction += MIN_STEP;
                if held.advance(stage, fraction, now) {
                    let _ = held.renew(false, now);
                }
                now = Timestamp(held.deadline.0 - 1).max(now.plus_seconds(1));
            }
            assert!(now <= T0.plus_seconds(stages * (longest + LEASE_SECONDS)), "{stage:?}");
            // As if the job had reached the next stage just in time.
            held.deadline = now.plus_seconds(LEASE_SECONDS);
        }
        held.advance(Stage::Waiting, 0.0, now);
        assert_eq!(held.stage_end, None, "in its turn it waits for as long as the jobs before it take");
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
        waiting.advance(Stage::Waiting, 0.0, T0);
        assert!(waiting.waits_behind(Stage::Analysing) && !waiting.waits_behind(Stage::Fetching));
        assert!(fetching.waits_behind(Stage::Fetching) && !fetching.waits_behind(Stage::Analysing));
        let long = Some(T0.plus_seconds(LEASE_SECONDS + TURN_SECONDS));
        assert_eq!(waiting.renew(false, T0).map(|renewal| renewal.deadline), long);
        assert_eq!(fetching.clone().renew(true, T0).map(|renewal| renewal.deadline), long);
        fetching.advance(Stage::Fetching, 0.1, T0);
        assert!(!fetching.waits_behind(Stage::Fetching), "it has its turn");
    }
}
