//! The life cycle of a job: queued, leased, done or failed, and every transition.
//!
//! The queue is ordered by job number. A job that is handed back keeps its number, and so its place in the queue.
//!
//! **How often a job is tried.** [`MAX_ATTEMPTS`] tries may fail; the third one is the last. A try fails when the worker
//! reports a failure, is lost, or lets the lease run out. A failure that the worker calls permanent is final at once. The
//! waits between tries are [`RETRY_WAIT_SECONDS`]; the worker that had the job last waits one step longer than all others,
//! so that another worker is preferred, but a worker that is alone gets the job too.
//!
//! | event | others get it after | the same worker after |
//! |---|---|---|
//! | handed back | 0 s | 30 s |
//! | first try lost, or no progress | 0 s | 30 s |
//! | second try lost, or no progress | 30 s | 120 s |
//! | first try failed | 30 s | 120 s |
//! | second try failed | 120 s | 600 s |
//! | third try failed or lost | given up | given up |
//!
//! The last try goes to a worker that has finished something, if one is connected: a process that crashes and always comes
//! back under a new name loses every job it gets, and would be the third to lose a job that two others have lost.
//!
//! **Late answers.** A lease that was lost or has expired can still be answered, or be resumed on another connection, as
//! long as no other worker has had the job since. Resuming gives back the attempt that the loss cost. A job that was handed
//! back cannot be answered or resumed.

use chaarfm_domain::{Failure, FailureKind, JobId, JobState, LeaseToken};

use crate::{LEASE_SECONDS, Timestamp};

/// A job is given up after this many leases that ended in a passing failure or a lost worker.
pub const MAX_ATTEMPTS: u32 = 3;

/// A job is given up after this many leases, however they ended, so that none circulates for ever.
pub const MAX_LEASES: u32 = 20;

/// A job with this many failed attempts has one left.
pub const LAST_TRY: u32 = MAX_ATTEMPTS - 1;

/// Waits before a job is tried again: after its first and its second passing failure, and one step further for the
/// worker that had it last.
pub const RETRY_WAIT_SECONDS: [u64; 3] = [30, 120, 600];

/// Maximum number of workers asked about a failed job. A track that three workers call broken is broken.
pub const MAX_OPINIONS: u32 = 3;

/// A worker that resumes a lease on a new connection has at least this long to make progress: time for several reports.
pub const RESUME_SECONDS: u64 = 15;

/// The part of a job that decisions depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number, which is also its place in the queue.
    pub id: JobId,
    /// Its state.
    pub state: State,
    /// Leases that ended in a passing failure or a lost worker.
    pub attempts: u32,
    /// All leases, however they ended; a resumed lease counts again.
    pub leases: u32,
    /// The newest lease. It is kept after the lease has ended, to recognise late and repeated answers, but not after the
    /// job was handed back: then no answer is valid.
    pub token: Option<LeaseToken>,
    /// Name of the worker that has, or had, the newest lease.
    pub holder: Option<String>,
    /// Whether the newest lease has been answered, so that a second answer under it is a repetition.
    pub answered: bool,
    /// How often the job was queued again after failing, because its worker was in doubt.
    pub reopened: u32,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Waiting for a worker.
    Queued {
        /// Nobody gets the job before this time; [`Timestamp::ZERO`] means no wait.
        not_before: Timestamp,
        /// The worker that had it last does not get it before this time.
        not_again_before: Timestamp,
    },
    /// Leased to the worker that has the token.
    Leased {
        /// When the lease ends unless it is renewed.
        deadline: Timestamp,
    },
    /// Its vector is stored.
    Done,
    /// Given up.
    Failed,
}

impl From<State> for JobState {
    fn from(state: State) -> Self {
        match state {
            State::Queued { .. } => Self::Queued,
            State::Leased { .. } => Self::Leased,
            State::Done => Self::Done,
            State::Failed => Self::Failed,
        }
    }
}

/// The effect of an answer, or of a lease that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The job is done; store its vector.
    Stored,
    /// The job is queued for another attempt.
    Requeued,
    /// The job is given up.
    GivenUp,
    /// This lease had been answered before; nothing has changed.
    Repeated,
}

/// The token is not, or no longer, the job's lease.
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
        Self {
            id,
            state: AT_ONCE,
            attempts: 0,
            leases: 0,
            token: None,
            holder: None,
            answered: false,
            reopened: 0,
            error: None,
        }
    }

    /// Whether this worker may be given the job now. `takes_last_tries` is whether it may get a job's last try: see
    /// [`crate::WorkerRegistry::proven_up_to`].
    #[must_use]
    pub fn may_go_to(&self, worker: &str, takes_last_tries: bool, now: Timestamp) -> bool {
        self.is_due_for(worker, now) && (takes_last_tries || self.attempts < LAST_TRY)
    }

    fn is_due_for(&self, worker: &str, now: Timestamp) -> bool {
        let State::Queued { not_before, not_again_before } = self.state else { return false };
        not_before <= now && (not_again_before <= now || self.holder.as_deref() != Some(worker))
    }

    /// Leases the job to this worker under a new token.
    ///
    /// # Errors
    /// When it is not queued or must wait.
    pub fn lease(&mut self, token: LeaseToken, holder: &str, now: Timestamp) -> Result<(), NotLeasable> {
        if !self.is_due_for(holder, now) {
            return Err(NotLeasable);
        }
        self.token = Some(token);
        self.holder = Some(holder.to_owned());
        self.answered = false;
        self.hold(first_deadline(now));
        Ok(())
    }

    /// Extends the lease to `deadline` because the job made progress: see [`crate::WorkerRegistry::report`]. An expired
    /// lease can be renewed until it is ended: if the database was down, the missed renewal is not the worker's fault. A
    /// later deadline, set by another coordinator's clock, is kept.
    ///
    /// # Errors
    /// When the job is not leased under this token.
    pub fn renew(&mut self, token: &str, deadline: Timestamp) -> Result<(), NotYourLease> {
        let present = self.expect_leased(token)?;
        self.state = State::Leased { deadline: deadline.max(present) };
        Ok(())
    }

    /// Continues a lease on a new connection of the same worker, even after the lease has ended, if no other worker has had the
    /// job since. The attempt that the loss cost is given back. Reconnecting is not progress: the lease is extended to at most
    /// [`RESUME_SECONDS`] from now.
    ///
    /// # Errors
    /// When the job is done, failed, answered under this token, was leased to another worker, or has been resumed too often.
    pub fn resume(&mut self, worker: &str, token: &str, now: Timestamp) -> Result<(), NotYourLease> {
        if self.holder.as_deref() != Some(worker)
            || !self.is_newest(token)
            || self.answered
            || self.leases >= MAX_LEASES
        {
            return Err(NotYourLease);
        }
        let soon = now.plus_seconds(RESUME_SECONDS);
        let deadline = match self.state {
            State::Leased { deadline } => deadline.max(soon),
            State::Queued { .. } => {
                self.attempts = self.attempts.saturating_sub(1);
                soon
            }
            State::Done | State::Failed => return Err(NotYourLease),
        };
        self.hold(deadline);
        Ok(())
    }

    /// Accepts a valid vector as the answer. A late one counts if no other worker has had the job since.
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

    /// Accepts a failure as the answer: a permanent one is final, a passing one is retried later.
    ///
    /// # Errors
    /// When the token is not the job's newest lease, or the job has been given up without this answer.
    pub fn fail(&mut self, token: &str, failure: &Failure, now: Timestamp) -> Result<Answer, NotYourLease> {
        let answerable = self.expect_answerable(token)?;
        if answerable == Answerable::Repetition {
            return Ok(Answer::Repeated);
        }
        self.answered = true;
        let is_silent = failure.message.trim().is_empty();
        self.error = Some(if is_silent { "the worker gave no reason".into() } else { failure.message.clone() });
        if failure.kind == FailureKind::Permanent {
            self.state = State::Failed;
            return Ok(Answer::GivenUp);
        }
        if answerable == Answerable::Held {
            // A late answer's lease was already counted when it ended.
            self.attempts = self.attempts.saturating_add(1);
        }
        Ok(self.requeue(after_failures(self.attempts, now)))
    }

    /// Takes the job back from a worker that hands it back, without blaming the job. The lease cannot be answered any more,
    /// and the worker gets other jobs before this one again.
    ///
    /// # Errors
    /// When the job is not leased under this token.
    pub fn release(&mut self, token: &str, now: Timestamp) -> Result<Answer, NotYourLease> {
        self.expect_leased(token)?;
        self.token = None;
        Ok(self.requeue(after_failures(0, now)))
    }

    /// Takes the job back because the connection was lost on which the worker held it under this token, as lease `number`.
    /// The worker may have resumed the lease on another connection since, even on another coordinator.
    ///
    /// # Errors
    /// When the job is not leased under this token and number.
    pub fn lose(&mut self, token: &str, number: u32, reason: &str, now: Timestamp) -> Result<Answer, NotYourLease> {
        if self.leases != number {
            return Err(NotYourLease);
        }
        self.take_back(token, reason, now)
    }

    fn take_back(&mut self, token: &str, reason: &str, now: Timestamp) -> Result<Answer, NotYourLease> {
        self.expect_leased(token)?;
        // One loss says little about the job. After the second loss all workers wait, so that a few crashing workers cannot
        // use up all tries within seconds.
        let waits_as_after = self.attempts;
        self.attempts = self.attempts.saturating_add(1);
        self.error = Some(reason.to_owned());
        Ok(self.requeue(after_failures(waits_as_after, now)))
    }

    /// Takes the job back when its lease has run out.
    ///
    /// # Errors
    /// When the job is not leased under this token, or the lease has been renewed in the meantime.
    pub fn expire(&mut self, token: &str, now: Timestamp) -> Result<Answer, NotYourLease> {
        if self.has_expired(now) { self.take_back(token, "it did not move on", now) } else { Err(NotYourLease) }
    }

    /// Queues a failed job again for a second opinion, because the worker that failed it last is in doubt.
    ///
    /// # Errors
    /// When the job has not failed, another worker had it last, it has been leased too often, or it already has
    /// [`MAX_OPINIONS`].
    pub fn request_second_opinion(&mut self, suspect: &str, now: Timestamp) -> Result<(), NotLeasable> {
        if !self.has_room_for_opinions() {
            return Err(NotLeasable);
        }
        self.queue_for_others(suspect, now)?;
        self.reopened = self.reopened.saturating_add(1);
        Ok(())
    }

    /// Queues a failed job again because its last worker was set aside, so its failure does not count.
    ///
    /// # Errors
    /// When the job has not failed, another worker had it last, or it has been leased too often.
    pub fn discount_failure(&mut self, worker: &str, now: Timestamp) -> Result<(), NotLeasable> {
        self.queue_for_others(worker, now)
    }

    /// Queues a finished job again as if it had never been tried, because its worker was caught lying.
    ///
    /// # Errors
    /// When the job is not done, or another worker did it.
    pub fn retract(&mut self, worker: &str, now: Timestamp) -> Result<(), NotLeasable> {
        if self.state != State::Done || self.holder.as_deref() != Some(worker) {
            return Err(NotLeasable);
        }
        let not_again_before = now.plus_seconds(RETRY_WAIT_SECONDS[2]);
        self.state = State::Queued { not_before: Timestamp::ZERO, not_again_before };
        (self.attempts, self.leases, self.answered, self.token) = (0, 0, false, None);
        Ok(())
    }

    /// Queues the job as if it had never been tried, but makes this worker wait longest.
    fn queue_for_others(&mut self, not_first: &str, now: Timestamp) -> Result<(), NotLeasable> {
        if self.state != State::Failed || self.holder.as_deref() != Some(not_first) || self.leases >= MAX_LEASES {
            return Err(NotLeasable);
        }
        self.attempts = 0;
        let not_again_before = now.plus_seconds(RETRY_WAIT_SECONDS[2]);
        self.state = State::Queued { not_before: Timestamp::ZERO, not_again_before };
        Ok(())
    }

    /// Whether another worker may be asked about the job once it has failed.
    #[must_use]
    pub fn has_room_for_opinions(&self) -> bool {
        self.reopened.saturating_add(1) < MAX_OPINIONS
    }

    /// When the lease ends unless renewed; none when the job is not leased.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        match self.state {
            State::Leased { deadline } => Some(deadline),
            State::Queued { .. } | State::Done | State::Failed => None,
        }
    }

    /// Whether the lease has run out.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Whether the job is leased under this token. An expired lease counts until it is ended.
    #[must_use]
    pub fn is_leased_under(&self, token: &str) -> bool {
        self.expect_leased(token).is_ok()
    }

    fn hold(&mut self, deadline: Timestamp) {
        self.leases = self.leases.saturating_add(1);
        self.state = State::Leased { deadline };
    }

    /// Queues the job again, or gives it up when it was tried or leased too often.
    fn requeue(&mut self, queued: State) -> Answer {
        if self.attempts < MAX_ATTEMPTS && self.leases < MAX_LEASES {
            self.state = queued;
            return Answer::Requeued;
        }
        if self.attempts < MAX_ATTEMPTS {
            let leases = self.leases;
            self.error =
                Some(format!("held {leases} times, reconnections of its workers included, and never finished"));
        }
        self.state = State::Failed;
        Answer::GivenUp
    }

    /// The lease's deadline, if this is its token.
    fn expect_leased(&self, token: &str) -> Result<Timestamp, NotYourLease> {
        self.deadline().filter(|_| self.is_newest(token)).ok_or(NotYourLease)
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

/// How an answer relates to its job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answerable {
    Held,
    Late,
    Repetition,
}

/// Any worker may have it now.
const AT_ONCE: State = State::Queued { not_before: Timestamp::ZERO, not_again_before: Timestamp::ZERO };

/// Queued for the next try after this many passing failures.
fn after_failures(failures: u32, now: Timestamp) -> State {
    let last = RETRY_WAIT_SECONDS.len() - 1;
    let again = (failures as usize).min(last);
    let wait = again.checked_sub(1).map_or(0, |before| RETRY_WAIT_SECONDS[before]);
    let [not_before, not_again_before] = [wait, RETRY_WAIT_SECONDS[again]].map(|seconds| now.plus_seconds(seconds));
    State::Queued { not_before, not_again_before }
}

/// The deadline of a new lease, before any progress.
fn first_deadline(now: Timestamp) -> Timestamp {
    now.plus_seconds(LEASE_SECONDS)
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
        let later = T0.plus_seconds(LEASE_SECONDS - 1);
        assert!(job.is_leased_under("a") && !job.is_leased_under("b"));
        let end = later.plus_seconds(LEASE_SECONDS);
        job.renew("a", end).unwrap();
        assert!(!job.has_expired(T0.plus_seconds(LEASE_SECONDS)));
        assert_eq!(job.clone().expire("a", T0.plus_seconds(LEASE_SECONDS)), Err(NotYourLease));
        job.renew("a", later).unwrap();
        assert_eq!(job.deadline(), Some(end), "no report shortens a lease");
        assert!(job.has_expired(end) && job.is_leased_under("a"), "nobody has ended it yet");
        assert_eq!(job.clone().expire("b", end), Err(NotYourLease));
        assert_eq!(job.clone().expire("a", end), Ok(Answer::Requeued));
        assert_eq!(job.renew("b", end), Err(NotYourLease));
        let mut ended = job.clone();
        ended.expire("a", end).unwrap();
        assert_eq!(ended.renew("a", end.plus_seconds(60)), Err(NotYourLease), "too late");
        job.clone().renew("a", end.plus_seconds(60)).unwrap();
        assert_eq!(job.lease("b".into(), "v", later), Err(NotLeasable));
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
        job.lose("a", 1, "the worker vanished", T0).unwrap();
        let mut again = job.clone();
        assert_eq!(job.complete("a"), Ok(Answer::Stored));
        assert_eq!(job.error, None);

        again.lease("b".into(), "v", T0).unwrap();
        assert_eq!(again.complete("a"), Err(NotYourLease));
        assert_eq!(again.complete("b"), Ok(Answer::Stored));
        assert_eq!(again.complete("a"), Err(NotYourLease));
    }

    #[test]
    fn a_late_failure_is_not_counted_twice() {
        let mut job = leased("a");
        job.lose("a", 1, "the worker vanished", T0).unwrap();
        assert_eq!(job.fail("a", &failure(FailureKind::Passing), T0), Ok(Answer::Requeued));
        assert_eq!((job.attempts, job.error.as_deref()), (1, Some("why")));
        assert_eq!(job.lease("b".into(), "v", T0), Err(NotLeasable), "it waits");
    }

    /// The first second after `T0` at which the worker may have the job.
    fn wait_of(job: &Job, worker: &str) -> Option<u64> {
        (0..1000).find(|seconds| job.may_go_to(worker, true, T0.plus_seconds(*seconds)))
    }

    #[test]
    fn a_passing_failure_is_tried_again_after_growing_waits_by_another_worker_if_there_is_one() {
        let mut job = Job::new(7);
        for (token, [another, same]) in [("t1", [30, 120]), ("t2", [120, 600])] {
            job.state = AT_ONCE;
            job.lease(token.into(), "w", T0).unwrap();
            assert_eq!(job.fail(token, &failure(FailureKind::Passing), T0), Ok(Answer::Requeued));
            assert_eq!(job.fail(token, &failure(FailureKind::Passing), T0), Ok(Answer::Repeated));
            assert_eq!([wait_of(&job, "v"), wait_of(&job, "w")], [Some(another), Some(same)]);
        }
        assert_eq!(job.clone().lease("early".into(), "w", T0.plus_seconds(599)), Err(NotLeasable));
        job.lease("last".into(), "w", T0.plus_seconds(600)).unwrap();
        assert_eq!(job.fail("last", &failure(FailureKind::Passing), T0), Ok(Answer::GivenUp));
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
    fn a_lost_worker_costs_an_attempt_and_others_wait_only_after_the_second_time() {
        let mut job = Job::new(7);
        for (attempt, waits) in [(1, Some([0, 30])), (2, Some([30, 120])), (3, None)] {
            let (token, worker) = (format!("t{attempt}"), format!("w{attempt}"));
            job.lease(token.clone(), &worker, T0.plus_seconds(30)).unwrap();
            let expected = if waits.is_some() { Answer::Requeued } else { Answer::GivenUp };
            assert_eq!(job.lose(&token, attempt, "gone", T0), Ok(expected));
            assert_eq!(job.lose(&token, attempt, "gone", T0), Err(NotYourLease));
            assert_eq!([wait_of(&job, "v"), wait_of(&job, &worker)], [0, 1].map(|who| waits.map(|waits| waits[who])));
        }
        assert_eq!((job.attempts, job.error.as_deref()), (MAX_ATTEMPTS, Some("gone")));
        assert_eq!(job.complete("t3"), Err(NotYourLease), "given up is given up");
    }

    #[test]
    fn the_last_try_is_for_those_who_take_it() {
        let mut job = Job::new(7);
        for attempt in 1..MAX_ATTEMPTS {
            assert!(job.may_go_to("anybody", false, T0.plus_seconds(1000)));
            job.lease("t".into(), "w", T0.plus_seconds(1000)).unwrap();
            job.lose("t", attempt, "gone", T0).unwrap();
        }
        assert!(!job.may_go_to("fresh", false, T0.plus_seconds(1000)));
        assert!(job.may_go_to("proven", true, T0.plus_seconds(1000)));
    }

    #[test]
    fn a_failure_without_a_reason_says_so() {
        let mut job = leased("a");
        job.fail("a", &Failure { kind: FailureKind::Permanent, message: " ".into() }, T0).unwrap();
        assert_eq!(job.error.as_deref(), Some("the worker gave no reason"));
    }

    #[test]
    fn numbers_of_a_strange_database_do_no_harm() {
        let mut job = Job { attempts: u32::MAX, leases: u32::MAX, reopened: u32::MAX, ..Job::new(7) };
        job.lease("a".into(), "w", T0).unwrap();
        assert_eq!(job.fail("a", &failure(FailureKind::Passing), T0), Ok(Answer::GivenUp));
        assert_eq!(job.request_second_opinion("w", T0), Err(NotLeasable));
    }

    #[test]
    fn a_second_opinion_comes_from_another_worker() {
        let mut job = leased("a");
        assert_eq!(job.request_second_opinion("w", T0), Err(NotLeasable), "it has not failed");
        job.fail("a", &failure(FailureKind::Permanent), T0).unwrap();
        assert_eq!(job.request_second_opinion("v", T0), Err(NotLeasable), "another one has failed it");
        job.request_second_opinion("w", T0).unwrap();
        assert_eq!([wait_of(&job, "v"), wait_of(&job, "w")], [Some(0), Some(600)]);
        assert_eq!(job.complete("a"), Ok(Answer::Repeated), "its own answer has been given");
        job.lease("b".into(), "v", T0).unwrap();
        assert_eq!(job.complete("b"), Ok(Answer::Stored));
        assert_eq!(
            (job.request_second_opinion("v", T0), job.discount_failure("v", T0)),
            (Err(NotLeasable), Err(NotLeasable))
        );
    }

    #[test]
    fn what_a_liar_has_done_is_done_again_by_others() {
        let mut job = leased("a");
        assert_eq!(job.retract("w", T0), Err(NotLeasable), "it is not done");
        job.complete("a").unwrap();
        assert_eq!(job.retract("v", T0), Err(NotLeasable), "another did it");
        job.retract("w", T0).unwrap();
        assert_eq!([wait_of(&job, "v"), wait_of(&job, "w")], [Some(0), Some(600)]);
        assert_eq!(job.complete("a"), Err(NotYourLease), "its lease is over");
        job.lease("b".into(), "v", T0).unwrap();
        assert_eq!(job.complete("b"), Ok(Answer::Stored));
    }

    #[test]
    fn three_opinions_are_enough_unless_one_is_worth_nothing() {
        let mut job = Job::new(7);
        for opinion in 1..=MAX_OPINIONS {
            let (token, worker) = (format!("t{opinion}"), format!("w{opinion}"));
            job.lease(token.clone(), &worker, T0).unwrap();
            job.fail(&token, &failure(FailureKind::Permanent), T0).unwrap();
            assert_eq!(job.request_second_opinion(&worker, T0).is_ok(), opinion < MAX_OPINIONS);
        }
        job.discount_failure("w3", T0).unwrap();
        assert!(job.may_go_to("w1", true, T0));
    }

    #[test]
    fn handing_back_costs_no_attempt_but_does_not_go_on_for_ever() {
        let mut job = Job::new(7);
        for lease in 1..=MAX_LEASES {
            let token = format!("t{lease}");
            job.lease(token.clone(), &format!("w{lease}"), T0).unwrap();
            let expected = if lease < MAX_LEASES { Answer::Requeued } else { Answer::GivenUp };
            assert_eq!(job.release(&token, T0), Ok(expected));
        }
        assert_eq!(job.attempts, 0);
        let error = job.error.unwrap();
        assert_eq!(error, "held 20 times, reconnections of its workers included, and never finished");
    }

    #[test]
    fn what_was_handed_back_is_over_and_goes_to_others_first() {
        let mut job = leased("a");
        assert_eq!(job.release("b", T0), Err(NotYourLease));
        job.release("a", T0).unwrap();
        assert_eq!([wait_of(&job, "v"), wait_of(&job, "w")], [Some(0), Some(30)]);
        assert_eq!((job.complete("a"), job.resume("w", "a", T0)), (Err(NotYourLease), Err(NotYourLease)));
        assert_eq!(job.release("a", T0), Err(NotYourLease));
    }

    #[test]
    fn a_worker_that_comes_back_keeps_what_nobody_else_got() {
        let mut job = leased("a");
        job.resume("w", "a", T0.plus_seconds(50)).unwrap();
        assert_eq!(job.state, State::Leased { deadline: first_deadline(T0) }, "to connect anew is no progress");
        let late = T0.plus_seconds(LEASE_SECONDS);
        job.resume("w", "a", late).unwrap();
        assert_eq!(job.state, State::Leased { deadline: late.plus_seconds(RESUME_SECONDS) });
        assert_eq!(job.resume("w", "b", T0), Err(NotYourLease));
        assert_eq!(job.resume("v", "a", T0), Err(NotYourLease), "a token is no use to another worker");

        assert_eq!(job.lose("a", 1, "gone", T0), Err(NotYourLease), "only the first connection is");
        job.lose("a", 3, "gone", T0).unwrap();
        assert_eq!((job.resume("w", "b", T0), job.attempts), (Err(NotYourLease), 1));
        job.resume("w", "a", T0).unwrap();
        assert_eq!((job.attempts, job.leases), (0, 4), "it was not lost after all");
        assert_eq!(job.deadline(), Some(T0.plus_seconds(RESUME_SECONDS)));

        job.lose("a", 4, "gone", T0).unwrap();
        job.lease("b".into(), "v", T0).unwrap();
        assert_eq!(job.resume("w", "a", T0), Err(NotYourLease));
        job.complete("b").unwrap();
        assert_eq!(job.resume("w", "b", T0), Err(NotYourLease));
    }

    #[test]
    fn a_worker_that_only_comes_back_does_not_keep_a_job_for_ever() {
        let mut job = leased("a");
        let resumed = (1..=2 * MAX_LEASES).find(|_| job.resume("w", "a", T0).is_err());
        assert_eq!((resumed, job.leases), (Some(MAX_LEASES), MAX_LEASES));
        assert_eq!(job.lose("a", MAX_LEASES, "gone", T0), Ok(Answer::GivenUp));
        let error = job.error.unwrap();
        assert!(error.contains("reconnections") && !error.contains("handed out"), "it went to one worker: {error}");
    }

    #[test]
    fn a_connection_that_breaks_again_and_again_costs_no_attempts_while_the_worker_comes_back() {
        let mut job = leased("a");
        for _ in 0..2 * MAX_ATTEMPTS {
            assert_eq!(job.lose("a", job.leases, "gone", T0), Ok(Answer::Requeued));
            job.resume("w", "a", T0).unwrap();
        }
        assert_eq!(job.complete("a"), Ok(Answer::Stored));
    }

    #[test]
    fn an_answered_lease_cannot_be_resumed() {
        let mut job = leased("a");
        job.fail("a", &failure(FailureKind::Passing), T0).unwrap();
        assert_eq!(job.resume("w", "a", T0.plus_seconds(1000)), Err(NotYourLease));
    }
}
