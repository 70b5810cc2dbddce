//! The jobs in the store.

use chaarfm_coordinator::{Job, NotLeasable, NotYourLease, Renewal, Said, Timestamp};
use chaarfm_domain::{JobId, JobRef, JobState, PairingCode, SessionId};

use super::{Store, ask};
use crate::{
    changes::Jobs,
    error::Stored,
    jobs::{Answered, Claim, Claimed, JobRow, QueueStatus, Refusal, Retried, Takers},
    vectors::Maker,
};

impl Store {
    /// Whether the session has a job for a worker that takes files of up to `max_bytes` and jobs that have used up to
    /// `max_attempts`: see [`Claim::max_attempts`].
    pub async fn has_waiting(
        &self,
        session: SessionId,
        max_bytes: u64,
        max_attempts: i64,
        now: Timestamp,
    ) -> Stored<bool> {
        ask!(self, engine => engine.has_waiting(session, max_bytes, max_attempts, now))
    }

    /// How many of the first queued jobs these workers may have. However long the queue is, only the first
    /// [`MAX_WAITING_COUNTED`](chaarfm_domain::limits::MAX_WAITING_COUNTED) jobs are checked. That is enough: jobs that can
    /// be handed out leave the queue, so jobs that no worker may have collect at its front.
    pub async fn queue_status(&self, session: SessionId, takers: &Takers, now: Timestamp) -> Stored<QueueStatus> {
        ask!(self, engine => engine.queue_status(session, takers, now))
    }

    /// Leases to each of these workers in turn the first queued job that it may have, if there is one. All leases are made
    /// in one transaction, which costs little more than a single lease.
    ///
    /// `can_serve` rejects a job whose library or model this coordinator lacks. The first rejected job stays unchanged and
    /// ends the claiming: earlier leases stand, and the remaining workers get nothing. A coordinator that lacks a library
    /// must not use up the attempts of its tracks: another coordinator may have the library, or the owner may restart this
    /// one with it.
    pub async fn claim(
        &self,
        session: SessionId,
        claims: &[Claim<'_>],
        can_serve: impl Fn(&JobRow) -> bool + Send,
        now: Timestamp,
    ) -> Stored<Claimed> {
        ask!(self, engine => engine.claim(session, claims, can_serve, now))
    }

    /// Applies `decide` to a job of this session.
    pub async fn decide<T: Send>(
        &self,
        session: SessionId,
        id: JobId,
        decide: impl FnOnce(&mut Job) -> Result<T, NotYourLease> + Send,
    ) -> Stored<Result<(JobRow, T), Refusal>> {
        ask!(self, engine => engine.decide(session, id, decide))
    }

    /// Renews leases, all in one transaction, and returns those that do not hold their jobs (any more).
    pub async fn renew_leases(&self, session: SessionId, renewals: &[Renewal]) -> Stored<Vec<(JobRef, Refusal)>> {
        ask!(self, engine => engine.renew_leases(session, renewals))
    }

    /// The next jobs in this state (failed or done) after number `after` whose latest lease went to this worker.
    pub async fn ended_by(
        &self,
        session: SessionId,
        holder: &str,
        state: JobState,
        after: JobId,
        limit: u32,
    ) -> Stored<Vec<JobId>> {
        ask!(self, engine => engine.ended_by(session, holder, state, after, limit))
    }

    /// Deletes the vectors that this worker has made for these jobs, and queues the jobs again. Returns the number of jobs
    /// whose vectors were deleted; 0 when the session has ended.
    pub async fn retract(&self, session: SessionId, ids: &[JobId], worker: &str, now: Timestamp) -> Stored<u64> {
        ask!(self, engine => engine.retract(session, ids, worker, now))
    }

    /// Queues failed jobs again if `queue_again` accepts them, and returns their number. A job stays failed if its content
    /// has an open job elsewhere by now, or if the session has ended.
    pub async fn request_second_opinions(
        &self,
        session: SessionId,
        ids: &[JobId],
        queue_again: impl Fn(&mut Job) -> Result<(), NotLeasable> + Send,
    ) -> Stored<u64> {
        ask!(self, engine => engine.request_second_opinions(session, ids, queue_again))
    }

    /// Processes a worker's answer, and stores its vector in the same transaction.
    pub async fn answer(
        &self,
        session: SessionId,
        held: &JobRef,
        said: impl Into<Said>,
        maker: &Maker,
        now: Timestamp,
    ) -> Stored<Result<Answered, Refusal>> {
        let said = said.into();
        ask!(self, engine => engine.answer(session, held, said, maker, now))
    }

    /// Puts all failed jobs, or the given one, at the end of the queue, unless the session has ended. A job whose content
    /// has another open job stays failed, as that job may still fail or be dropped. Jobs of files that could not be read
    /// also stay failed: only a scan can check such files again.
    pub async fn retry_failed(&self, session: SessionId, job: Option<JobId>) -> Stored<Retried> {
        ask!(self, MAX_LONG_ANSWER_SECONDS, engine => engine.retry_failed(session, job))
    }

    /// Expired leases, with their sessions' codes.
    pub async fn expired(&self, now: Timestamp) -> Stored<Vec<(PairingCode, JobRef)>> {
        ask!(self, engine => engine.expired(now))
    }

    /// One job of any session.
    pub async fn job(&self, id: JobId) -> Stored<Option<JobRow>> {
        ask!(self, engine => engine.job(id))
    }

    /// A session's jobs by number, in one state or all.
    pub async fn jobs(
        &self,
        session: SessionId,
        state: Option<JobState>,
        offset: u64,
        limit: u32,
    ) -> Stored<Vec<JobRow>> {
        ask!(self, engine => engine.jobs(session, state, offset, limit))
    }
}
