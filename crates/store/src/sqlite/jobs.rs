//! Jobs: questions about them, and new attempts at failed ones.

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::{JobId, JobRef, JobState, PairingCode, SessionId, limits::MAX_WAITING_COUNTED};

use super::{MAX_BATCH_JOBS, Sqlite, rows::expired_of};
use crate::{
    changes::{Jobs, Work},
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
            FROM jobs ",
            $rest
        )
    };
}

pub(super) use select_jobs;

/// The first job of a session that may go to a worker: see [`Job::may_go_to`](chaarfm_coordinator::Job::may_go_to). Its
/// index covers all the columns of the search.
pub(crate) const SELECT_FIRST_WAITING: &str = select_jobs!(
    "WHERE id = (SELECT id FROM jobs
        WHERE session = ?1 AND state = 'queued' AND not_before_ms <= ?2 AND bytes <= ?3
            AND (not_again_before_ms <= ?2 OR holder <> ?4) AND attempts <= ?5
            AND EXISTS (SELECT 1 FROM sessions WHERE id = ?1 AND paused = 0 AND ended = 0)
        ORDER BY id LIMIT 1)"
);

/// Whether there is a job to hand out. Its index has all the columns.
pub(crate) const HAS_WAITING: &str = "SELECT EXISTS (SELECT 1 FROM jobs
    WHERE session = ?1 AND state = 'queued' AND not_before_ms <= ?2 AND bytes <= ?3 AND attempts <= ?4
        AND EXISTS (SELECT 1 FROM sessions WHERE id = ?1 AND paused = 0 AND ended = 0))";

/// Summarises the first queued jobs: see [`QueueStatus`]. Its index has all the columns.
pub(crate) const SUM_UP_BACKLOG: &str = "SELECT COUNT(*) AS jobs, SUM(bytes > ?2) AS too_large,
        SUM(bytes <= ?2 AND due_ms > ?3) AS resting, MIN(IIF(bytes <= ?2 AND due_ms > ?3, due_ms, NULL)) AS next_ms
    FROM (SELECT bytes, IIF(holder = ?4 AND bytes > ?5, MAX(not_before_ms, not_again_before_ms), not_before_ms) AS due_ms
        FROM jobs WHERE session = ?1 AND state = 'queued' ORDER BY id LIMIT ?6)";

impl Sqlite {
    pub(crate) async fn has_waiting(
        &self,
        session: SessionId,
        max_bytes: u64,
        max_attempts: i64,
        now: Timestamp,
    ) -> Stored<bool> {
        let query = sqlx::query_scalar(HAS_WAITING).bind(session.0).bind(millis(now));
        Ok(query.bind(signed(max_bytes)).bind(max_attempts).fetch_one(&self.reader).await?)
    }

    pub(crate) async fn queue_status(
        &self,
        session: SessionId,
        takers: &Takers,
        now: Timestamp,
    ) -> Stored<QueueStatus> {
        let query = sqlx::query_as(SUM_UP_BACKLOG).bind(session.0).bind(signed(takers.max_bytes)).bind(millis(now));
        let query = query.bind(&takers.greatest).bind(signed(takers.max_bytes_of_others));
        Ok(query.bind(signed(MAX_WAITING_COUNTED)).fetch_one(&self.reader).await?)
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
            "SELECT id FROM jobs WHERE session = ? AND holder = ? AND state = ? AND id > ? ORDER BY id LIMIT ?",
        );
        let query = query.bind(session.0).bind(holder).bind(state.name()).bind(after).bind(limit);
        Ok(query.fetch_all(&self.reader).await?)
    }

    pub(crate) async fn retry_failed(&self, session: SessionId, job: Option<JobId>) -> Stored<Retried> {
        let mut sum = Retried::default();
        let mut after = 0;
        // In several transactions, so that other writers do not have to wait for the whole operation.
        while let Some(upto) = self.next_failed(session, job, after).await? {
            let retried = self.retry_some(session, job, after, upto).await?;
            sum = Retried { queued: sum.queued + retried.queued, known: sum.known + retried.known };
            after = upto;
        }
        Ok(sum)
    }

    /// The last job of the next batch of failed jobs after number `after`.
    async fn next_failed(&self, session: SessionId, job: Option<JobId>, after: JobId) -> Stored<Option<JobId>> {
        let query = sqlx::query_scalar(
            "SELECT MAX(id) FROM (SELECT id FROM jobs WHERE session = ?1 AND state = 'failed' AND id > ?2
                AND (?3 IS NULL OR id = ?3) ORDER BY id LIMIT ?4)",
        );
        let query = query.bind(session.0).bind(after).bind(job).bind(MAX_BATCH_JOBS);
        Ok(query.fetch_one(&self.reader).await?)
    }

    async fn retry_some(&self, session: SessionId, job: Option<JobId>, after: JobId, upto: JobId) -> Stored<Retried> {
        let mut tx = self.begin().await?;
        if !tx.keep_open(session).await? {
            return Ok(Retried::default());
        }
        let again = sqlx::query(
            "INSERT INTO jobs (session, scan, model, collection, library, file, artist, title, album, bytes,
                seconds, version, content_hash, track_key, state)
            SELECT session, scan, model, collection, library, file, artist, title, album, bytes, seconds, version,
                content_hash, track_key, 'queued'
            FROM jobs j
            WHERE session = ?1 AND state = 'failed' AND content_hash <> '' AND (?2 IS NULL OR id = ?2)
                AND id > ?3 AND id <= ?4
                AND NOT EXISTS (SELECT 1 FROM vectors v WHERE v.collection = j.collection AND v.model = j.model
                    AND v.content_hash = j.content_hash)
            ORDER BY id
            ON CONFLICT DO NOTHING",
        );
        let queued = again.bind(session.0).bind(job).bind(after).bind(upto).execute(&mut *tx).await?.rows_affected();
        // A failed job without a new job (because of an open one elsewhere) and without a vector stays.
        let settled = sqlx::query(
            "DELETE FROM jobs AS j
            WHERE session = ?1 AND state = 'failed' AND content_hash <> '' AND (?2 IS NULL OR id = ?2)
                AND id > ?3 AND id <= ?4
                AND (EXISTS (SELECT 1 FROM jobs again WHERE again.session = j.session
                        AND again.content_hash = j.content_hash AND again.collection = j.collection
                        AND again.model = j.model AND again.library = j.library AND again.file = j.file
                        AND again.state IN ('queued', 'leased'))
                    OR EXISTS (SELECT 1 FROM vectors v WHERE v.collection = j.collection AND v.model = j.model
                        AND v.content_hash = j.content_hash))",
        );
        let settled = settled.bind(session.0).bind(job).bind(after).bind(upto).execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        Ok(Retried { queued, known: settled.saturating_sub(queued) })
    }

    pub(crate) async fn expired(&self, now: Timestamp) -> Stored<Vec<(PairingCode, JobRef)>> {
        let query = sqlx::query(
            "SELECT code, j.id AS id, token FROM jobs j JOIN sessions s ON s.id = j.session
            WHERE j.state = 'leased' AND j.deadline_ms <= ? ORDER BY j.deadline_ms LIMIT ?",
        );
        let rows = query.bind(millis(now)).bind(MAX_EXPIRED_PER_SWEEP).fetch_all(&self.reader).await?;
        Ok(rows.iter().map(expired_of).collect::<sqlx::Result<_>>()?)
    }

    pub(crate) async fn job(&self, id: JobId) -> Stored<Option<JobRow>> {
        Ok(sqlx::query_as(select_jobs!("WHERE id = ?")).bind(id).fetch_optional(&self.reader).await?)
    }

    pub(crate) async fn jobs(
        &self,
        session: SessionId,
        state: Option<JobState>,
        offset: u64,
        limit: u32,
    ) -> Stored<Vec<JobRow>> {
        let query = match state {
            Some(state) => sqlx::query_as(select_jobs!("WHERE session = ? AND state = ? ORDER BY id LIMIT ? OFFSET ?"))
                .bind(session.0)
                .bind(state.name()),
            None => sqlx::query_as(select_jobs!("WHERE session = ? ORDER BY id LIMIT ? OFFSET ?")).bind(session.0),
        };
        Ok(query.bind(limit).bind(signed(offset)).fetch_all(&self.reader).await?)
    }
}
