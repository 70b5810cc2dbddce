//! Sessions.

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::{JobState, PairingCode, SessionId};
use sqlx::PgConnection;

use super::{Postgres, lock_jobs, undisturbed};
use crate::{
    common::{millis, unsigned},
    error::Stored,
    sessions::{MAX_PRUNED_JOBS, NewSession, SessionRow},
};

/// Key of the lock under which sessions are created.
const SESSIONS_LOCK: i64 = i64::from_be_bytes(*b"chaarfm ");

/// The columns from which a session is read.
macro_rules! select_sessions {
    ($rest:literal) => {
        concat!(
            "SELECT id, code, model, collection, paused, ended, scanning, skipped, alike, left_out, c.queued,
                c.leased, c.done, c.failed
            FROM chaarfm.sessions s, LATERAL (
                SELECT SUM(queued)::BIGINT AS queued, SUM(leased)::BIGINT AS leased, SUM(done)::BIGINT AS done,
                    SUM(failed)::BIGINT AS failed
                FROM chaarfm.job_counts WHERE session = s.id
            ) c ",
            $rest
        )
    };
}

impl Postgres {
    pub(crate) async fn current_session(&self, fresh: NewSession<'_>) -> Stored<SessionRow> {
        let newest = || sqlx::query_as(select_sessions!("WHERE NOT ended ORDER BY id DESC LIMIT 1"));
        if let Some(session) = newest().fetch_optional(&self.pool).await? {
            return Ok(session);
        }
        let mut tx = self.pool.begin().await?;
        lock_sessions(&mut tx).await?;
        if let Some(session) = newest().fetch_optional(&mut *tx).await? {
            return Ok(session);
        }
        let session = insert_session(&mut tx, fresh).await?;
        tx.commit().await?;
        Ok(session)
    }

    pub(crate) async fn create_session(&self, fresh: NewSession<'_>, max_open: u32) -> Stored<Option<SessionRow>> {
        let mut tx = self.pool.begin().await?;
        lock_sessions(&mut tx).await?;
        let open = sqlx::query_scalar("SELECT COUNT(*) FROM chaarfm.sessions WHERE NOT ended");
        let open: i64 = open.fetch_one(&mut *tx).await?;
        if open >= i64::from(max_open) {
            return Ok(None);
        }
        let session = insert_session(&mut tx, fresh).await?;
        tx.commit().await?;
        Ok(Some(session))
    }

    pub(crate) async fn session(&self, code: &PairingCode) -> Stored<Option<SessionRow>> {
        let query = sqlx::query_as(select_sessions!("WHERE code = $1")).bind(code.to_string());
        Ok(query.fetch_optional(&self.pool).await?)
    }

    pub(crate) async fn open_sessions(&self) -> Stored<Vec<SessionRow>> {
        Ok(sqlx::query_as(select_sessions!("WHERE NOT ended ORDER BY id")).fetch_all(&self.pool).await?)
    }

    pub(crate) async fn set_paused(&self, id: SessionId, paused: bool) -> Stored<()> {
        let query = sqlx::query("UPDATE chaarfm.sessions SET paused = $1 WHERE id = $2").bind(paused).bind(id.0);
        query.execute(&self.pool).await?;
        Ok(())
    }

    pub(crate) async fn clear_queue(&self, id: SessionId) -> Stored<u64> {
        let mut tx = self.begin_by_index().await?;
        let calm = sqlx::query("UPDATE chaarfm.sessions SET scanning = NULL, paused = FALSE WHERE id = $1").bind(id.0);
        calm.execute(&mut *tx).await?;
        let query = sqlx::query("DELETE FROM chaarfm.jobs WHERE session = $1 AND state = 'queued'").bind(id.0);
        let dropped = query.execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        Ok(dropped)
    }

    pub(crate) async fn end_session(&self, id: SessionId, now: Timestamp) -> Stored<()> {
        undisturbed(|| self.try_end_session(id, now)).await
    }

    async fn try_end_session(&self, id: SessionId, now: Timestamp) -> Stored<()> {
        let mut tx = self.begin_by_index().await?;
        let ended =
            sqlx::query("UPDATE chaarfm.sessions SET ended = TRUE, ended_ms = $1, scanning = NULL WHERE id = $2");
        ended.bind(millis(now)).bind(id.0).execute(&mut *tx).await?;
        // Another coordinator may be renewing leases, also in the order of their numbers.
        lock_jobs(&mut tx, id, JobState::Leased, None).await?;
        let query =
            sqlx::query("DELETE FROM chaarfm.jobs WHERE session = $1 AND state IN ('queued', 'leased')").bind(id.0);
        query.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    pub(crate) async fn prune(&self, ended_before: Timestamp, now: Timestamp) -> Stored<bool> {
        let noticed = sqlx::query("UPDATE chaarfm.sessions SET ended_ms = $1 WHERE ended AND ended_ms IS NULL");
        noticed.bind(millis(now)).execute(&self.pool).await?;
        let mut tx = self.begin_by_index().await?;
        // A session that another coordinator is just pruning is skipped.
        let due = sqlx::query_scalar(
            "SELECT id FROM chaarfm.sessions AS s WHERE ended AND ended_ms <= $1
                AND (id < (SELECT MAX(id) FROM chaarfm.sessions)
                    OR EXISTS (SELECT 1 FROM chaarfm.jobs WHERE session = s.id))
            ORDER BY ended_ms LIMIT 1 FOR UPDATE OF s SKIP LOCKED",
        );
        let due: Option<i64> = due.bind(millis(ended_before)).fetch_optional(&mut *tx).await?;
        let Some(session) = due else { return Ok(false) };
        let jobs = sqlx::query(
            "DELETE FROM chaarfm.jobs WHERE id IN (SELECT id FROM chaarfm.jobs WHERE session = $1 ORDER BY id LIMIT $2)",
        );
        let deleted = jobs.bind(session).bind(MAX_PRUNED_JOBS).execute(&mut *tx).await?.rows_affected();
        if deleted < unsigned(MAX_PRUNED_JOBS) {
            sqlx::query("DELETE FROM chaarfm.job_counts WHERE session = $1").bind(session).execute(&mut *tx).await?;
            Postgres::forget_invitations(&mut tx, SessionId(session)).await?;
            let emptied = sqlx::query(
                "DELETE FROM chaarfm.sessions WHERE id = $1 AND id < (SELECT MAX(id) FROM chaarfm.sessions)",
            );
            emptied.bind(session).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(true)
    }
}

/// Blocks other transactions from creating sessions until this one ends.
async fn lock_sessions(tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(SESSIONS_LOCK).execute(tx).await?;
    Ok(())
}

async fn insert_session(tx: &mut PgConnection, fresh: NewSession<'_>) -> Stored<SessionRow> {
    let query = sqlx::query_scalar(
        "INSERT INTO chaarfm.sessions (code, created_ms, model, collection) VALUES ($1, $2, $3, $4) RETURNING id",
    );
    let query = query.bind(fresh.code.to_string()).bind(millis(fresh.now)).bind(fresh.model).bind(fresh.collection);
    let id = SessionId(query.fetch_one(&mut *tx).await?);
    Postgres::invite(tx, fresh.invitation(id)).await?;
    Ok(fresh.row(id))
}
