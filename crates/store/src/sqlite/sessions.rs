//! Sessions.

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::{PairingCode, SessionId};
use sqlx::SqliteConnection;

use super::{MAX_BATCH_JOBS, Sqlite};
use crate::{
    changes::Jobs,
    common::{millis, unsigned},
    error::Stored,
    sessions::{MAX_PRUNED_JOBS, NewSession, SessionRow},
};

/// The columns from which a session is read.
macro_rules! select_sessions {
    ($rest:literal) => {
        concat!(
            "SELECT id, code, model, collection, paused, ended, scanning, skipped, alike, left_out,
                (SELECT jobs FROM job_counts c WHERE c.session = s.id AND c.state = 'queued') AS queued,
                (SELECT jobs FROM job_counts c WHERE c.session = s.id AND c.state = 'leased') AS leased,
                (SELECT jobs FROM job_counts c WHERE c.session = s.id AND c.state = 'done') AS done,
                (SELECT jobs FROM job_counts c WHERE c.session = s.id AND c.state = 'failed') AS failed
            FROM sessions s ",
            $rest
        )
    };
}

/// The newest open session, which a page opens first.
pub(crate) const SELECT_NEWEST_SESSION: &str = select_sessions!("WHERE ended = 0 ORDER BY id DESC LIMIT 1");

/// The open sessions. An index finds them, however many sessions have ended.
pub(crate) const SELECT_OPEN_SESSIONS: &str = select_sessions!("WHERE ended = 0 ORDER BY id");

impl Sqlite {
    pub(crate) async fn current_session(&self, fresh: NewSession<'_>) -> Stored<SessionRow> {
        let newest = || sqlx::query_as(SELECT_NEWEST_SESSION);
        // Usually there is one, and finding it requires no write, which may be impossible at the moment.
        if let Some(session) = newest().fetch_optional(&self.reader).await? {
            return Ok(session);
        }
        let mut tx = self.begin().await?;
        if let Some(session) = newest().fetch_optional(&mut *tx).await? {
            return Ok(session);
        }
        let session = insert_session(&mut tx, fresh).await?;
        tx.commit().await?;
        Ok(session)
    }

    pub(crate) async fn create_session(&self, fresh: NewSession<'_>, max_open: u32) -> Stored<Option<SessionRow>> {
        let mut tx = self.begin().await?;
        let open: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sessions WHERE ended = 0").fetch_one(&mut *tx).await?;
        if open >= i64::from(max_open) {
            return Ok(None);
        }
        let session = insert_session(&mut tx, fresh).await?;
        tx.commit().await?;
        Ok(Some(session))
    }

    pub(crate) async fn session(&self, code: &PairingCode) -> Stored<Option<SessionRow>> {
        let query = sqlx::query_as(select_sessions!("WHERE code = ?")).bind(code.to_string());
        Ok(query.fetch_optional(&self.reader).await?)
    }

    pub(crate) async fn open_sessions(&self) -> Stored<Vec<SessionRow>> {
        Ok(sqlx::query_as(SELECT_OPEN_SESSIONS).fetch_all(&self.reader).await?)
    }

    pub(crate) async fn set_paused(&self, id: SessionId, paused: bool) -> Stored<()> {
        let query = sqlx::query("UPDATE sessions SET paused = ? WHERE id = ?").bind(paused).bind(id.0);
        query.execute(&self.writer).await?;
        Ok(())
    }

    pub(crate) async fn clear_queue(&self, id: SessionId) -> Stored<u64> {
        let dropped = self.drop_queued(id).await?;
        self.set_paused(id, false).await?;
        Ok(dropped)
    }

    /// Drops the queued jobs in several transactions, so that other writers do not have to wait for the whole operation.
    /// Meanwhile the session is paused, so that none of the jobs is handed out, and its scan is cancelled, so that none is
    /// added.
    async fn drop_queued(&self, id: SessionId) -> Stored<u64> {
        let calm = sqlx::query("UPDATE sessions SET scanning = NULL, paused = 1 WHERE id = ?").bind(id.0);
        calm.execute(&self.writer).await?;
        let mut dropped = 0;
        loop {
            let some = sqlx::query(
                "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE session = ? AND state = 'queued' LIMIT ?)",
            );
            let some = some.bind(id.0).bind(MAX_BATCH_JOBS).execute(&self.writer).await?.rows_affected();
            dropped += some;
            if some < unsigned(MAX_BATCH_JOBS) {
                return Ok(dropped);
            }
        }
    }

    pub(crate) async fn end_session(&self, id: SessionId, now: Timestamp) -> Stored<()> {
        // Before the session ends: if this is interrupted, nothing would ever drop the remaining jobs of an ended session.
        self.drop_queued(id).await?;
        let mut tx = self.begin().await?;
        let ended = sqlx::query("UPDATE sessions SET ended = 1, ended_ms = ?, scanning = NULL WHERE id = ?");
        ended.bind(millis(now)).bind(id.0).execute(&mut *tx).await?;
        let query = sqlx::query("DELETE FROM jobs WHERE session = ? AND state IN ('queued', 'leased')").bind(id.0);
        query.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    pub(crate) async fn prune(&self, ended_before: Timestamp, now: Timestamp) -> Stored<bool> {
        let unnoticed =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sessions WHERE ended = 1 AND ended_ms IS NULL)");
        if unnoticed.fetch_one(&self.reader).await? {
            let noticed = sqlx::query("UPDATE sessions SET ended_ms = ? WHERE ended = 1 AND ended_ms IS NULL");
            noticed.bind(millis(now)).execute(&self.writer).await?;
        }
        let due = sqlx::query_scalar(
            "SELECT id FROM sessions AS s WHERE ended = 1 AND ended_ms <= ?
                AND (id < (SELECT MAX(id) FROM sessions) OR EXISTS (SELECT 1 FROM jobs WHERE session = s.id))
            ORDER BY ended_ms LIMIT 1",
        );
        let due: Option<i64> = due.bind(millis(ended_before)).fetch_optional(&self.reader).await?;
        let Some(session) = due else { return Ok(false) };
        let mut tx = self.begin().await?;
        let jobs = sqlx::query("DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE session = ? LIMIT ?)");
        let deleted = jobs.bind(session).bind(MAX_PRUNED_JOBS).execute(&mut *tx).await?.rows_affected();
        if deleted < unsigned(MAX_PRUNED_JOBS) {
            sqlx::query("DELETE FROM job_counts WHERE session = ?").bind(session).execute(&mut *tx).await?;
            Sqlite::forget_invitations(&mut tx, SessionId(session)).await?;
            let emptied = sqlx::query("DELETE FROM sessions WHERE id = ? AND id < (SELECT MAX(id) FROM sessions)");
            emptied.bind(session).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(true)
    }
}

async fn insert_session(tx: &mut SqliteConnection, fresh: NewSession<'_>) -> Stored<SessionRow> {
    let query = sqlx::query_scalar(
        "INSERT INTO sessions (code, created_ms, model, collection) VALUES (?, ?, ?, ?) RETURNING id",
    );
    let query = query.bind(fresh.code.to_string()).bind(millis(fresh.now)).bind(fresh.model).bind(fresh.collection);
    let id = SessionId(query.fetch_one(&mut *tx).await?);
    Sqlite::invite(tx, fresh.invitation(id)).await?;
    Ok(fresh.row(id))
}
