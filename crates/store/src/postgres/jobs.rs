//! Jobs: questions about them, and new attempts at failed ones.

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::{JobId, JobRef, JobState, PairingCode, SessionId, limits::MAX_WAITING_COUNTED};

use super::{Postgres, lock_jobs, rows::expired_of, undisturbed};
use crate::{
    changes::Work,
    common::{millis, signed},
    error::Stored,
    jobs::{JobRow, MAX_EXPIRED_PER_SWEEP, QueueStatus, Retried, Takers},
};

/// The columns from which a job is read.
macro_rules! select_jobs {
    ($rest:literal) => {
        concat!(
            "SELECT id, model, collection, library, file, artist, title, album, bytes, content_hash, track_key, state,
                not_before_ms, not_again_before_ms, deadline_ms, attempts, leases, token, holder, holder_kind, answered,
                reopened, error, version
            FROM chaarfm.jobs ",
            $rest
        )
    };
}

pub(super) use select_jobs;

/// The first job of a session that may go to a worker: see [`Job::may_go_to`](chaarfm_coordinator::Job::may_go_to). The state
/// of the session is looked up without a lock, so that pausing a session does not wait for claims.
pub(crate) const SELECT_FIRST_WAITING: &str = select_jobs!(
    "WHERE session = $1 AND state = 'queued' AND not_before_ms <= $2 AND bytes <= $3
        AND (not_again_before_ms <= $2 OR holder <> $4) AND attempts <= $5
        AND EXISTS (SELECT 1 FROM chaarfm.sessions s WHERE s.id = $1 AND NOT s.paused AND NOT s.ended)
    ORDER BY place LIMIT 1 FOR UPDATE OF jobs SKIP LOCKED"
);

/// A row if there is a job to hand out. It follows the queue's order, whose index has all the columns.
pub(crate) const SELECT_ANY_WAITING: &str = "SELECT 1 FROM chaarfm.jobs
    WHERE session = $1 AND state = 'queued' AND not_before_ms <= $2 AND bytes <= $3 AND attempts <= $4
        AND EXISTS (SELECT 1 FROM chaarfm.sessions s WHERE s.id = $1 AND NOT s.paused AND NOT s.ended)
    ORDER BY place LIMIT 1";

/// Summarises the first queued jobs: see [`QueueStatus`].
pub(crate) const SUM_UP_BACKLOG: &str = "SELECT COUNT(*) AS jobs, COUNT(*) FILTER (WHERE bytes > $2) AS too_large,
        COUNT(*) FILTER (WHERE bytes <= $2 AND due_ms > $3) AS resting,
        MIN(due_ms) FILTER (WHERE bytes <= $2 AND due_ms > $3) AS next_ms
    FROM (SELECT bytes, CASE WHEN holder = $4 AND bytes > $5 THEN GREATEST(not_before_ms, not_again_before_ms)
            ELSE not_before_ms END AS due_ms
        FROM chaarfm.jobs WHERE session = $1 AND state = 'queued' ORDER BY place LIMIT $6) AS first_jobs";

impl Postgres {
    pub(crate) async fn has_waiting(
        &self,
        session: SessionId,
        max_bytes: u64,
        max_attempts: i64,
        now: Timestamp,
    ) -> Stored<bool> {
        let query = sqlx::query(SELECT_ANY_WAITING).bind(session.0).bind(millis(now));
        let query = query.bind(signed(max_bytes)).bind(max_attempts);
        Ok(query.fetch_optional(&mut *self.begin_by_index().await?).await?.is_some())
    }

    pub(crate) async fn queue_status(
        &self,
        session: SessionId,
        takers: &Takers,
        now: Timestamp,
    ) -> Stored<QueueStatus> {
        let query = sqlx::query_as(SUM_UP_BACKLOG).bind(session.0).bind(signed(takers.max_bytes)).bind(millis(now));
        let query = query.bind(&takers.greatest).bind(signed(takers.max_bytes_of_others));
        Ok(query.bind(signed(MAX_WAITING_COUNTED)).fetch_one(&mut *self.begin_by_index().await?).await?)
    }

    pub(crate) async fn ended_by(
        &self,
        session: SessionId,
        holder: &str,
        state: JobState,
        after: JobId,
        limit: u32,
    ) -> Stored<Vec<JobId>> {
        let query = sqlx::query_scalar(
            "SELECT id FROM chaarfm.jobs WHERE session = $1 AND holder = $2 AND state = $3 AND id > $4
            ORDER BY id LIMIT $5",
        );
        let query = query.bind(session.0).bind(holder).bind(state.name()).bind(after).bind(i64::from(limit));
        Ok(query.fetch_all(&mut *self.begin_by_index().await?).await?)
    }

    pub(crate) async fn retry_failed(&self, session: SessionId, job: Option<JobId>) -> Stored<Retried> {
        undisturbed(|| self.try_retry_failed(session, job)).await
    }

    async fn try_retry_failed(&self, session: SessionId, job: Option<JobId>) -> Stored<Retried> {
        let mut tx = self.begin_by_index().await?;
        if !tx.keep_open(session).await? {
            return Ok(Retried::default());
        }
        lock_jobs(&mut tx, session, JobState::Failed, job).await?;
        let again = sqlx::query(
            "INSERT INTO chaarfm.jobs (session, scan, model, collection, library, file, artist, title, album, bytes,
                seconds, version, content_hash, track_key, state)
            SELECT session, scan, model, collection, library, file, artist, title, album, bytes, seconds, version,
                content_hash, track_key, 'queued'
            FROM chaarfm.jobs j
            WHERE session = $1 AND state = 'failed' AND content_hash <> '' AND ($2 IS NULL OR id = $2)
                AND NOT EXISTS (SELECT 1 FROM chaarfm.vectors v WHERE v.collection = j.collection
                    AND v.model = j.model AND v.content_hash = j.content_hash)
            ORDER BY id
            ON CONFLICT DO NOTHING",
        );
        let queued = again.bind(session.0).bind(job).execute(&mut *tx).await?.rows_affected();
        // A failed job without a new job (because of an open one elsewhere) and without a vector stays.
        let settled = sqlx::query(
            "DELETE FROM chaarfm.jobs AS j
            WHERE session = $1 AND state = 'failed' AND content_hash <> '' AND ($2 IS NULL OR id = $2)
                AND (EXISTS (SELECT 1 FROM chaarfm.jobs again WHERE again.collection = j.collection
                        AND again.model = j.model AND again.content_hash = j.content_hash
                        AND again.state IN ('queued', 'leased') AND again.session = j.session
                        AND again.library = j.library AND again.file = j.file)
                    OR EXISTS (SELECT 1 FROM chaarfm.vectors v WHERE v.collection = j.collection
                        AND v.model = j.model AND v.content_hash = j.content_hash))",
        );
        let settled = settled.bind(session.0).bind(job).execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        Ok(Retried { queued, known: settled.saturating_sub(queued) })
    }

    pub(crate) async fn expired(&self, now: Timestamp) -> Stored<Vec<(PairingCode, JobRef)>> {
        let query = sqlx::query(
            "SELECT code, j.id AS id, token FROM chaarfm.jobs j JOIN chaarfm.sessions s ON s.id = j.session
            WHERE j.state = 'leased' AND j.deadline_ms <= $1 ORDER BY j.deadline_ms LIMIT $2",
        );
        let query = query.bind(millis(now)).bind(MAX_EXPIRED_PER_SWEEP);
        let rows = query.fetch_all(&mut *self.begin_by_index().await?).await?;
        Ok(rows.iter().map(expired_of).collect::<sqlx::Result<_>>()?)
    }

    pub(crate) async fn job(&self, id: JobId) -> Stored<Option<JobRow>> {
        Ok(sqlx::query_as(select_jobs!("WHERE id = $1")).bind(id).fetch_optional(&self.pool).await?)
    }

    pub(crate) async fn jobs(
        &self,
        session: SessionId,
        state: Option<JobState>,
        offset: u64,
        limit: u32,
    ) -> Stored<Vec<JobRow>> {
        let query = match state {
            Some(state) => {
                sqlx::query_as(select_jobs!("WHERE session = $1 AND state = $2 ORDER BY id LIMIT $3 OFFSET $4"))
                    .bind(session.0)
                    .bind(state.name())
            }
            None => sqlx::query_as(select_jobs!("WHERE session = $1 ORDER BY id LIMIT $2 OFFSET $3")).bind(session.0),
        };
        let query = query.bind(i64::from(limit)).bind(signed(offset));
        Ok(query.fetch_all(&mut *self.begin_by_index().await?).await?)
    }
}
