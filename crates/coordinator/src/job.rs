//! The life of a job: queued, leased, done or failed, and every way from one to the other.
//!
//! The queue's order is the order of the jobs' numbers. A job that is handed back keeps its number and so stands before
//! everything that has been waiting behind it.

use chaarfm_protocol::{Failure, FailureKind, JobId, LeaseToken, limits::LEASE_TTL_SECONDS};

use crate::Timestamp;

/// A job is given up after this many leases that ended in a passing failure or a lost worker.
pub const MAX_ATTEMPTS: u32 = 3;

/// A job is given up after this many leases of any ending, so that none circulates for ever.
pub const MAX_LEASES: u32 = 20;

/// Waits before the second and the third attempt after a passing failure.
pub const RETRY_WAIT_SECONDS: [u64; 2] = [30, 120];

/// A job, as far as decisions about it go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number and its place in the queue.
    pub id: JobId,
    /// Where it stands.
    pub state: State,
    /// Leases that ended in a passing failure or a lost worker.
    pub attempts: u32,
    /// Leases of any ending.
    pub leases: u32,
    /// The newest lease. It is kept after the lease has ended, so that an answer that comes late or twice is recognised.
    pub token: Option<LeaseToken>,
    /// Name of the worker that has, or had, the newest lease.
    pub holder: Option<String>,
    /// Whether the newest lease has been answered, so that a second answer under it is a repetition.
    pub answered: bool,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Waiting for a worker.
    Queued {
        /// Not to be leased before this moment; [`Timestamp::ZERO`] when nothing has to be waited for.
        not_before: Timestamp,
    },
    /// Held by the worker that has the token.
    Leased {
        /// When the lease ends unless it is renewed.
        deadline: Timestamp,
    },
    /// Its vector is stored.
    Done,
    /// Given up.
    Failed,
}

/// What became of an answer or of a lease that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The job is done; its vector is to be stored.
    Stored,
    /// The job waits for another worker.
    Requeued,
    /// The job has failed for good.
    GivenUp,
    /// This lease had been answered before; nothing has changed.
    Repeated,
}

/// The lease shown is not, or no longer, the one the job is held under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the job is not held under this lease (any more)")]
pub struct NotYourLease;

/// The job cannot be handed out now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the job does not wait for a worker now")]
pub struct NotLeasable;

impl Job {
    /// A job that has just been queued.
    #[must_use]
    pub fn new(id: JobId) -> Self {
        let state = State::Queued { not_before: Timestamp::ZERO };
        Self { id, state, attempts: 0, leases: 0, token: None, holder: None, answered: false, error: None }
    }

    /// Hands the job out, under a fresh token, to the worker of that name.
    ///
    /// # Errors
    /// When it is not queued or has to wait.
    pub fn lease(&mut self, token: LeaseToken, holder: &str, now: Timestamp) -> Result<(), NotLeasable> {
        match self.state {
            State::Queued { not_before } if not_before <= now => {}
            _ => return Err(NotLeasable),
        }
        self.token = Some(token);
        self.holder = Some(holder.to_owned());
        self.answered = false;
        self.hold(now);
        Ok(())
    }

    /// Prolongs the lease, because its holder reports progress.
    ///
    /// # Errors
    /// When the job is not leased under this token.
    pub fn renew(&mut self, token: &str, now: Timestamp) -> Result<(), NotYourLease> {
        self.expect_leased(token)?;
        self.state = State::Leased { deadline: deadline(now) };
        Ok(())
    }

    /// Goes on with a lease of an earlier connection, even one that has ended since, if nobody else has had the job.
    ///
    /// # Errors
    /// When the job is done, failed, answered under this token, or was leased to another worker since.
    pub fn resume(&mut self, token: &str, now: Timestamp) -> Result<(), NotYourLease> {
        match self.state {
            State::Leased { .. } => self.renew(token, now),
            State::Queued { .. } if self.is_newest(token) && !self.answered && self.leases < MAX_LEASES => {
                self.hold(now);
                Ok(())
            }
            _ => Err(NotYourLease),
        }
    }

    /// Takes a valid vector as the answer. It may come late: it counts as long as nobody else has had the job since.
    ///
    /// # Errors
    /// When the token is not the job's newest lease, or the job has been given up without this answer.
    pub fn complete(&mut self, token: &str) -> Result<Answer, NotYourLease> {
        if self.expect_answerable(token)? == Answerable::Repetition {
            return Ok(Answer::Repeated);
        }
        self.answered = true;
        self.error = None;
        self.state = State::Done;
        Ok(Answer::Stored)
    }

    /// Takes a failure as the answer: a permanent one is final, a passing one is tried again after a while.
    ///
    /// # Errors
    /// When the token is not the job's newest lease, or the job has been given up without this answer.
    pub fn fail(&mut self, token: &str, failure: &Failure, now: Timestamp) -> Result<Answer, NotYourLease> {
        let answerable = self.expect_answerable(token)?;
        if answerable == Answerable::Repetition {
            return Ok(Answer::Repeated);
        }
        self.answered = true;
        self.error = Some(failure.message.clone());
        if failure.kind == FailureKind::Permanent {
            self.state = State::Failed;
            return Ok(Answer::GivenUp);
        }
        if answerable == Answerable::Held {
            // A late answer's lease has been counted already, when it ended.
            self.attempts += 1;
        }
        let waits = self.attempts.saturating_sub(1) as usize;
        let wait = RETRY_WAIT_SECONDS[waits.min(RETRY_WAIT_SECONDS.len() - 1)];
        Ok(self.requeue(now.plus_seconds(wait)))
    }

    /// Takes the job back from a worker that hands it back in order: no fault of the job's.
    ///
    /// # Errors
    /// When the job is not leased under this token.
    pub fn release(&mut self, token: &str) -> Result<Answer, NotYourLease> {
        self.expect_leased(token)?;
        Ok(self.requeue(Timestamp::ZERO))
    }

    /// Takes the job back from a worker that is gone.
    ///
    /// # Errors
    /// When the job is not leased under this token.
    pub fn lose(&mut self, token: &str, reason: &str) -> Result<Answer, NotYourLease> {
        self.expect_leased(token)?;
        self.attempts += 1;
        self.error = Some(reason.to_owned());
        Ok(self.requeue(Timestamp::ZERO))
    }

    /// Takes the job back when its lease has run out.
    ///
    /// # Errors
    /// When the job is not leased under this token, or the lease has been renewed in the meantime.
    pub fn expire(&mut self, token: &str, now: Timestamp) -> Result<Answer, NotYourLease> {
        if self.has_expired(now) { self.lose(token, "the worker stopped to report on it") } else { Err(NotYourLease) }
    }

    /// Whether the lease has run out.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        matches!(self.state, State::Leased { deadline } if deadline <= now)
    }

    /// Whether whoever shows this token holds the job now.
    #[must_use]
    pub fn is_held_under(&self, token: &str, now: Timestamp) -> bool {
        self.expect_leased(token).is_ok() && !self.has_expired(now)
    }

    fn hold(&mut self, now: Timestamp) {
        self.leases += 1;
        self.state = State::Leased { deadline: deadline(now) };
    }

    /// Puts the job back, or gives it up when it has been out too often.
    fn requeue(&mut self, not_before: Timestamp) -> Answer {
        if self.attempts < MAX_ATTEMPTS && self.leases < MAX_LEASES {
            self.state = State::Queued { not_before };
            return Answer::Requeued;
        }
        if self.attempts < MAX_ATTEMPTS {
            self.error = Some(format!("handed out {MAX_LEASES} times and never finished"));
        }
        self.state = State::Failed;
        Answer::GivenUp
    }

    fn expect_leased(&self, token: &str) -> Result<(), NotYourLease> {
        if matches!(self.state, State::Leased { .. }) && self.is_newest(token) { Ok(()) } else { Err(NotYourLease) }
    }

    fn expect_answerable(&self, token: &str) -> Result<Answerable, NotYourLease> {
        match self.state {
            _ if !self.is_newest(token) => Err(NotYourLease),
            _ if self.answered => Ok(Answerable::Repetition),
            State::Leased { .. } => Ok(Answerable::Held),
            State::Queued { .. } => Ok(Answerable::Late),
            State::Done | State::Failed => Err(NotYourLease),
        }
    }

    fn is_newest(&self, token: &str) -> bool {
        self.token.as_deref() == Some(token)
    }
}

/// How an answer meets its job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answerable {
    Held,
    Late,
    Repetition,
}

fn deadline(now: Timestamp) -> Timestamp {
    now.plus_seconds(LEASE_TTL_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp(1_000_000);

    fn leased(token: &str) -> Job {
        let mut job = Job::new(7);
        job.lease(token.into(), "w", T0).unwrap();
        job
    }

    fn failure(kind: FailureKind) -> Failure {
        Failure { kind, message: "why".into() }
    }

    #[test]
    fn a_lease_lasts_as_long_as_it_is_renewed() {
        let mut job = leased("a");
        let later = T0.plus_seconds(LEASE_TTL_SECONDS - 1);
        assert!(job.is_held_under("a", later) && !job.is_held_under("b", later));
        job.renew("a", later).unwrap();
        assert!(!job.has_expired(T0.plus_seconds(LEASE_TTL_SECONDS)));
        assert_eq!(job.clone().expire("a", T0.plus_seconds(LEASE_TTL_SECONDS)), Err(NotYourLease));
        let late = later.plus_seconds(LEASE_TTL_SECONDS);
        assert!(job.has_expired(late));
        assert_eq!(job.clone().expire("b", late), Err(NotYourLease));
        assert_eq!(job.clone().expire("a", late), Ok(Answer::Requeued));
        assert_eq!(job.renew("b", later), Err(NotYourLease));
        assert_eq!(job.lease("b".into(), "w", later), Err(NotLeasable));
    }

    #[test]
    fn a_result_is_accepted_once() {
        let mut job = leased("a");
        assert_eq!(job.complete("a"), Ok(Answer::Stored));
        assert_eq!(job.complete("a"), Ok(Answer::Repeated));
        assert_eq!(job.fail("a", &failure(FailureKind::Permanent), T0), Ok(Answer::Repeated));
        assert_eq!(job.complete("b"), Err(NotYourLease));
        assert_eq!(job.state, State::Done);
    }

    #[test]
    fn a_late_result_counts_until_the_job_is_leased_again() {
        let mut job = leased("a");
        job.lose("a", "the worker vanished").unwrap();
        let mut again = job.clone();
        assert_eq!(job.complete("a"), Ok(Answer::Stored));
        assert_eq!(job.error, None);

        again.lease("b".into(), "w", T0).unwrap();
        assert_eq!(again.complete("a"), Err(NotYourLease));
        assert_eq!(again.complete("b"), Ok(Answer::Stored));
        assert_eq!(again.complete("a"), Err(NotYourLease));
    }

    #[test]
    fn a_late_failure_is_not_counted_twice() {
        let mut job = leased("a");
        job.lose("a", "the worker vanished").unwrap();
        assert_eq!(job.fail("a", &failure(FailureKind::Passing), T0), Ok(Answer::Requeued));
        assert_eq!((job.attempts, job.error.as_deref()), (1, Some("why")));
        assert_eq!(job.lease("b".into(), "w", T0), Err(NotLeasable), "it waits");
    }

    #[test]
    fn a_passing_failure_is_tried_again_after_growing_waits() {
        let mut job = Job::new(7);
        let mut now = T0;
        for (attempt, wait) in RETRY_WAIT_SECONDS.iter().enumerate() {
            let token = format!("t{attempt}");
            job.lease(token.clone(), "w", now).unwrap();
            assert_eq!(job.fail(&token, &failure(FailureKind::Passing), now), Ok(Answer::Requeued));
            assert_eq!(job.fail(&token, &failure(FailureKind::Passing), now), Ok(Answer::Repeated));
            now = now.plus_seconds(*wait);
            assert_eq!(job.clone().lease("early".into(), "w", Timestamp(now.0 - 1)), Err(NotLeasable));
        }
        job.lease("last".into(), "w", now).unwrap();
        assert_eq!(job.fail("last", &failure(FailureKind::Passing), now), Ok(Answer::GivenUp));
        assert_eq!((job.state, job.attempts), (State::Failed, MAX_ATTEMPTS));
    }

    #[test]
    fn a_permanent_failure_is_final() {
        let mut job = leased("a");
        assert_eq!(job.fail("a", &failure(FailureKind::Permanent), T0), Ok(Answer::GivenUp));
        assert_eq!((job.state, job.attempts, job.error.as_deref()), (State::Failed, 0, Some("why")));
        assert_eq!(job.complete("a"), Ok(Answer::Repeated));
        assert_eq!(job.lease("b".into(), "w", T0), Err(NotLeasable));
    }

    #[test]
    fn a_lost_worker_costs_an_attempt_but_no_wait() {
        let mut job = Job::new(7);
        for attempt in 1..=MAX_ATTEMPTS {
            let token = format!("t{attempt}");
            job.lease(token.clone(), "w", T0).unwrap();
            let expected = if attempt < MAX_ATTEMPTS { Answer::Requeued } else { Answer::GivenUp };
            assert_eq!(job.lose(&token, "gone"), Ok(expected));
            assert_eq!(job.lose(&token, "gone"), Err(NotYourLease));
        }
        assert_eq!(job.error.as_deref(), Some("gone"));
        assert_eq!(job.complete("t3"), Err(NotYourLease), "given up is given up");
    }

    #[test]
    fn handing_back_costs_no_attempt_but_does_not_go_on_for_ever() {
        let mut job = Job::new(7);
        for lease in 1..=MAX_LEASES {
            let token = format!("t{lease}");
            job.lease(token.clone(), "w", T0).unwrap();
            let expected = if lease < MAX_LEASES { Answer::Requeued } else { Answer::GivenUp };
            assert_eq!(job.release(&token), Ok(expected));
        }
        assert_eq!(job.attempts, 0);
        assert!(job.error.unwrap().contains("20 times"));
    }

    #[test]
    fn a_worker_that_comes_back_keeps_what_nobody_else_got() {
        let mut job = leased("a");
        job.resume("a", T0.plus_seconds(50)).unwrap();
        assert!(job.is_held_under("a", T0.plus_seconds(100)));
        assert_eq!(job.resume("b", T0), Err(NotYourLease));

        job.lose("a", "gone").unwrap();
        assert_eq!(job.resume("b", T0), Err(NotYourLease));
        job.resume("a", T0).unwrap();
        assert_eq!((job.attempts, job.leases), (1, 2));

        job.lose("a", "gone").unwrap();
        job.lease("b".into(), "w", T0).unwrap();
        assert_eq!(job.resume("a", T0), Err(NotYourLease));
        job.complete("b").unwrap();
        assert_eq!(job.resume("b", T0), Err(NotYourLease));
    }

    #[test]
    fn an_answered_lease_cannot_be_resumed() {
        let mut job = leased("a");
        job.fail("a", &failure(FailureKind::Passing), T0).unwrap();
        assert_eq!(job.resume("a", T0.plus_seconds(1000)), Err(NotYourLease));
    }
}
