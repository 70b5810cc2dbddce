//! The transactions that change jobs.

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::{Embedding, Found, InvitationId, JobId, JobState, SessionId};
use sqlx::{Connection, Transaction};

use super::{
    Postgres,
    jobs::{SELECT_FIRST_WAITING, select_jobs},
    rows::filed_of,
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

impl Jobs for Postgres {
    type Work = Transaction<'static, sqlx::Postgres>;

    async fn begin(&self) -> Stored<Self::Work> {
        Ok(self.begin_by_index().await?)
    }
}

impl Work for Transaction<'_, sqlx::Postgres> {
    async fn commit(self) -> sqlx::Result<()> {
        Transaction::commit(self).await
    }

    async fn keep_open(&mut self, session: SessionId) -> sqlx::Result<bool> {
        let open = sqlx::query("SELECT 1 FROM chaarfm.sessions WHERE id = $1 AND NOT ended FOR SHARE").bind(session.0);
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
        let query = sqlx::query_as(select_jobs!("WHERE id = $1 AND session = $2 FOR UPDATE")).bind(id).bind(session.0);
        query.fetch_optional(&mut **self).await
    }

    async fn save(&mut self, row: &JobRow) -> sqlx::Result<()> {
        let job = &row.job;
        let (state, [not_before, not_again_before, deadline]) = state_columns(job.state);
        let query = sqlx::query(
            "UPDATE chaarfm.jobs SET state = $1, not_before_ms = $2, not_again_before_ms = $3, deadline_ms = $4, attempts = $5,
                leases = $6, token = $7, holder = $8, holder_kind = $9, answered = $10, reopened = $11, error = $12
            WHERE id = $13",
        );
        let query = query.bind(state).bind(not_before).bind(not_again_before).bind(deadline);
        let query = query.bind(i64::from(job.attempts)).bind(i64::from(job.leases));
        let query = query.bind(&job.token).bind(&job.holder).bind(row.holder_kind.map(|kind| kind.name()));
        let query = query.bind(job.answered).bind(i64::from(job.reopened)).bind(&job.error);
        query.bind(job.id).execute(&mut **self).await?;
        Ok(())
    }

    async fn save_if_free(&mut self, row: &JobRow) -> sqlx::Result<bool> {
        // A failed statement aborts its transaction, so this one gets a nested transaction.
        let mut attempt = Connection::begin(&mut **self).await?;
        match attempt.save(row).await {
            Ok(()) => attempt.commit().await.map(|()| true),
            Err(error) if error::is_taken(&error) => attempt.rollback().await.map(|()| false),
            Err(error) => Err(error),
        }
    }

    async fn allowance(&mut self, invitation: InvitationId) -> sqlx::Result<Option<u64>> {
        Postgres::allowance(self, invitation).await
    }

    async fn count_bytes(&mut self, invitation: InvitationId, bytes: u64) -> sqlx::Result<()> {
        Postgres::count_bytes(self, invitation, bytes).await
    }

    async fn insert_vector(
        &mut self,
        row: &JobRow,
        embedding: &Embedding,
        maker: &Maker,
        now: Timestamp,
    ) -> sqlx::Result<bool> {
        let query = sqlx::query(
            "INSERT INTO chaarfm.vectors (collection, model, content_hash, track_key, artist, title, album, file, seconds, backend,
                device, worker, flags, stored_ms, embedding, tags, worker_key, invitation)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15::REAL[]::vector, $16, $17, $18)
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
        let query = query.bind(embedding.numbers()).bind(embedding.tags());
        let query = query.bind(&maker.key).bind(maker.invitation);
        Ok(query.execute(&mut **self).await?.rows_affected() > 0)
    }

    async fn delete_vectors(&mut self, row: &JobRow, worker: &str) -> sqlx::Result<bool> {
        let query = "DELETE FROM chaarfm.vectors WHERE model = $1 AND content_hash = $2 AND worker_key = $3";
        let query = sqlx::query(query).bind(&row.model).bind(&row.content_hash).bind(worker);
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
            "SELECT EXISTS (SELECT 1 FROM chaarfm.jobs WHERE session = $1 AND content_hash = $2 AND scan = $3 AND library = $4
                    AND file = $5) AS seen,
                EXISTS (SELECT 1 FROM chaarfm.jobs WHERE session = $1 AND content_hash = $2 AND collection = $6 AND model = $7
                    AND (state <> 'failed' OR scan = $3))
                OR EXISTS (SELECT 1 FROM chaarfm.vectors WHERE collection = $6 AND model = $7 AND content_hash = $2) AS known,
                EXISTS (SELECT 1 FROM chaarfm.vectors WHERE collection = $6 AND model = $7 AND track_key = $8
                    AND ABS(seconds - $9) <= $10)
                OR EXISTS (SELECT 1 FROM chaarfm.jobs WHERE collection = $6 AND model = $7 AND track_key = $8
                    AND ABS(seconds - $9) <= $10 AND state IN ('queued', 'leased')
                    AND content_hash <> $2) AS alike",
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
            "INSERT INTO chaarfm.vectors (collection, model, content_hash, track_key, artist, title, album, file, seconds, backend,
                device, worker, flags, stored_ms, embedding, tags, worker_key, invitation)
            SELECT $1, model, content_hash, $2, $3, $4, $5, $6, seconds, backend, device, worker, flags, $7, embedding, tags,
                worker_key, invitation
            FROM chaarfm.vectors WHERE content_hash = $8 AND model = $9 LIMIT 1
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
        // The parts of a statement do not see each other's changes, so the new job is not among the earlier ones.
        let query = sqlx::query_scalar(
            "WITH fresh AS (
                INSERT INTO chaarfm.jobs (session, scan, model, collection, library, file, artist, title, album, bytes,
                    seconds, version, content_hash, track_key, state, error)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
                ON CONFLICT DO NOTHING
                RETURNING 1
            ), earlier AS (
                DELETE FROM chaarfm.jobs
                WHERE session = $1 AND library = $5 AND file = $6 AND state = 'failed' AND model = $3 AND collection = $4
                    AND EXISTS (SELECT 1 FROM fresh)
            )
            SELECT EXISTS (SELECT 1 FROM fresh)",
        );
        let query = query.bind(scan.session.0).bind(scan.number).bind(&scan.model).bind(&scan.collection);
        let track = &file.track;
        let query =
            query.bind(&scan.library).bind(&track.file).bind(&track.artist).bind(&track.title).bind(&track.album);
        let state = if error.is_some() { JobState::Failed } else { JobState::Queued }.name();
        let query = query.bind(signed(file.bytes)).bind(file.seconds).bind(&file.version).bind(hash);
        query.bind(key).bind(state).bind(error).fetch_one(&mut **self).await
    }
}
