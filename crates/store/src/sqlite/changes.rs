//! The transactions that change jobs.

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::{Embedding, Found, InvitationId, JobId, JobState, SessionId};
use sqlx::Transaction;

use super::{
    Sqlite,
    jobs::{SELECT_FIRST_WAITING, select_jobs},
    rows::{filed_of, to_blob},
};
use crate::{
    changes::{Jobs, Work},
    common::{millis, signed},
    duplicates::MAX_LENGTH_DIFFERENCE,
    error::{self, Stored},
    jobs::{Claim, JobRow},
    rows::{flags_json, state_columns},
    scans::{Filed, Scan},
    vectors::Maker,
};

impl Jobs for Sqlite {
    type Work = Transaction<'static, sqlx::Sqlite>;

    /// Blocks other transactions from writing until this one ends.
    async fn begin(&self) -> Stored<Self::Work> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

impl Work for Transaction<'_, sqlx::Sqlite> {
    async fn commit(self) -> sqlx::Result<()> {
        Transaction::commit(self).await
    }

    async fn keep_open(&mut self, session: SessionId) -> sqlx::Result<bool> {
        let open = sqlx::query("SELECT 1 FROM sessions WHERE id = ? AND ended = 0").bind(session.0);
        Ok(open.fetch_optional(&mut **self).await?.is_some())
    }

    async fn first_waiting(
        &mut self,
        session: SessionId,
        claim: &Claim<'_>,
        now: Timestamp,
    ) -> sqlx::Result<Option<JobRow>> {
        let query = sqlx::query_as(SELECT_FIRST_WAITING).bind(session.0).bind(millis(now));
        let query = query.bind(signed(claim.max_bytes)).bind(claim.worker).bind(claim.max_attempts());
        query.fetch_optional(&mut **self).await
    }

    async fn load(&mut self, session: SessionId, id: JobId) -> sqlx::Result<Option<JobRow>> {
        let query = sqlx::query_as(select_jobs!("WHERE id = ? AND session = ?")).bind(id).bind(session.0);
        query.fetch_optional(&mut **self).await
    }

    async fn save(&mut self, row: &JobRow) -> sqlx::Result<()> {
        let job = &row.job;
        let (state, [not_before, not_again_before, deadline]) = state_columns(job.state);
        let query = sqlx::query(
            "UPDATE jobs SET state = ?, not_before_ms = ?, not_again_before_ms = ?, deadline_ms = ?, attempts = ?, leases = ?,
                token = ?, holder = ?, holder_kind = ?, answered = ?, reopened = ?, error = ?
            WHERE id = ?",
        );
        let query = query.bind(state).bind(not_before).bind(not_again_before).bind(deadline);
        let query = query.bind(job.attempts).bind(job.leases);
        let query = query.bind(&job.token).bind(&job.holder).bind(row.holder_kind.map(|kind| kind.name()));
        query.bind(job.answered).bind(job.reopened).bind(&job.error).bind(job.id).execute(&mut **self).await?;
        Ok(())
    }

    async fn save_if_free(&mut self, row: &JobRow) -> sqlx::Result<bool> {
        // SQLite undoes only the failed statement, and the transaction continues.
        match self.save(row).await {
            Ok(()) => Ok(true),
            Err(error) if error::is_taken(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn allowance(&mut self, invitation: InvitationId) -> sqlx::Result<Option<u64>> {
        Sqlite::allowance(self, invitation).await
    }

    async fn count_bytes(&mut self, invitation: InvitationId, bytes: u64) -> sqlx::Result<()> {
        Sqlite::count_bytes(self, invitation, bytes).await
    }

    async fn insert_vector(
        &mut self,
        row: &JobRow,
        embedding: &Embedding,
        maker: &Maker,
        now: Timestamp,
    ) -> sqlx::Result<bool> {
        let query = sqlx::query(
            "INSERT INTO vectors (collection, model, content_hash, track_key, artist, title, album, file, seconds, backend,
                device, worker, flags, stored_ms, embedding, tags, worker_key, invitation)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT DO NOTHING",
        );
        let query = query.bind(&row.collection).bind(embedding.model()).bind(&row.content_hash).bind(&row.track_key);
        let track = &row.track;
        let query = query.bind(&track.artist).bind(&track.title).bind(&track.album).bind(&track.file);
        let query = query
            .bind(embedding.seconds())
            .bind(&maker.device.backend)
            .bind(&maker.device.name)
            .bind(maker.kind.name());
        let query = query.bind(flags_json(embedding.flags())).bind(millis(now));
        let query = query.bind(to_blob(embedding.numbers())).bind(to_blob(embedding.tags()));
        let query = query.bind(&maker.key).bind(maker.invitation);
        Ok(query.execute(&mut **self).await?.rows_affected() > 0)
    }

    async fn delete_vectors(&mut self, row: &JobRow, worker: &str) -> sqlx::Result<bool> {
        let query = sqlx::query("DELETE FROM vectors WHERE model = ? AND content_hash = ? AND worker_key = ?");
        let query = query.bind(&row.model).bind(&row.content_hash).bind(worker);
        Ok(query.execute(&mut **self).await?.rows_affected() > 0)
    }

    async fn find_known(
        &mut self,
        scan: &Scan,
        file: &Found,
        hash: &str,
        key: Option<&str>,
    ) -> sqlx::Result<Option<Filed>> {
        let query = sqlx::query(
            "SELECT EXISTS (SELECT 1 FROM jobs WHERE session = ?1 AND content_hash = ?2 AND scan = ?3 AND library = ?4
                    AND file = ?5) AS seen,
                EXISTS (SELECT 1 FROM jobs WHERE session = ?1 AND content_hash = ?2 AND collection = ?6 AND model = ?7
                    AND (state <> 'failed' OR scan = ?3))
                OR EXISTS (SELECT 1 FROM vectors WHERE collection = ?6 AND model = ?7 AND content_hash = ?2) AS known,
                EXISTS (SELECT 1 FROM vectors WHERE collection = ?6 AND model = ?7 AND track_key = ?8
                    AND ABS(seconds - ?9) <= ?10)
                OR EXISTS (SELECT 1 FROM jobs WHERE collection = ?6 AND model = ?7 AND track_key = ?8
                    AND ABS(seconds - ?9) <= ?10 AND state IN ('queued', 'leased')
                    AND content_hash <> ?2) AS alike",
        );
        let query = query.bind(scan.session.0).bind(hash).bind(scan.number).bind(&scan.library).bind(&file.track.file);
        let query = query.bind(&scan.collection).bind(&scan.model).bind(key).bind(file.seconds);
        filed_of(&query.bind(MAX_LENGTH_DIFFERENCE).fetch_one(&mut **self).await?)
    }

    async fn copy_vector(
        &mut self,
        scan: &Scan,
        file: &Found,
        hash: &str,
        key: Option<&str>,
        now: Timestamp,
    ) -> sqlx::Result<bool> {
        let query = sqlx::query(
            "INSERT INTO vectors (collection, model, content_hash, track_key, artist, title, album, file, seconds, backend,
                device, worker, flags, stored_ms, embedding, tags, worker_key, invitation)
            SELECT ?1, model, content_hash, ?2, ?3, ?4, ?5, ?6, seconds, backend, device, worker, flags, ?7, embedding, tags,
                worker_key, invitation
            FROM vectors WHERE content_hash = ?8 AND model = ?9 LIMIT 1
            ON CONFLICT DO NOTHING",
        );
        let track = &file.track;
        let query = query.bind(&scan.collection).bind(key).bind(&track.artist).bind(&track.title).bind(&track.album);
        let query = query.bind(&track.file).bind(millis(now)).bind(hash).bind(&scan.model);
        Ok(query.execute(&mut **self).await?.rows_affected() > 0)
    }

    async fn insert_job(
        &mut self,
        scan: &Scan,
        file: &Found,
        hash: &str,
        key: Option<&str>,
        error: Option<&str>,
    ) -> sqlx::Result<bool> {
        let query = sqlx::query_scalar(
            "INSERT INTO jobs (session, scan, model, collection, library, file, artist, title, album, bytes, seconds,
                version, content_hash, track_key, state, error)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT DO NOTHING
            RETURNING id",
        );
        let query = query.bind(scan.session.0).bind(scan.number).bind(&scan.model).bind(&scan.collection);
        let track = &file.track;
        let query =
            query.bind(&scan.library).bind(&track.file).bind(&track.artist).bind(&track.title).bind(&track.album);
        let state = if error.is_some() { JobState::Failed } else { JobState::Queued }.name();
        let query = query
            .bind(signed(file.bytes))
            .bind(file.seconds)
            .bind(&file.version)
            .bind(hash)
            .bind(key)
            .bind(state)
            .bind(error);
        let fresh: Option<JobId> = query.fetch_optional(&mut **self).await?;
        let Some(fresh) = fresh else { return Ok(false) };
        let earlier = sqlx::query(
            "DELETE FROM jobs WHERE session = ? AND library = ? AND file = ? AND state = 'failed'
            AND model = ? AND collection = ? AND id <> ?",
        );
        let earlier = earlier.bind(scan.session.0).bind(&scan.library).bind(&file.track.file);
        earlier.bind(&scan.model).bind(&scan.collection).bind(fresh).execute(&mut **self).await?;
        Ok(true)
    }
}
