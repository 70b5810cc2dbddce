//! Records that move between databases.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};

use super::{EMBEDDING_LENGTH, IMPORT_LOCK, Postgres, rows::numbers_of, views::publish};
use crate::{
    SECONDS_PER_DAY,
    common::{signed, unsigned},
    error::{self, StoreError, Stored},
    invitations::{FIRST_NAME, INVITATION_DAYS},
    transfer::{self, JobRecord, Kind, Progress, Record, RecordCounts, SessionRecord, VectorRecord, record_readers},
};

/// Limits the wait for locks in the rest of a transaction. Meant for locks that are held either for a moment or
/// permanently, and for which others have to wait as well.
const WAIT_BRIEFLY: &str = "SET LOCAL lock_timeout = '2s'";

record_readers!(PgRow, numbers_of);

pub(crate) async fn record_counts(tx: &mut PgConnection) -> Stored<RecordCounts> {
    let query = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM chaarfm.sessions) AS sessions, (SELECT COUNT(*) FROM chaarfm.jobs) AS jobs,
            (SELECT COUNT(*) FROM chaarfm.vectors) AS vectors",
    );
    Ok(counts_of(&query.fetch_one(tx).await?)?)
}

pub(crate) async fn page(tx: &mut PgConnection, kind: Kind, after: i64, limit: u32) -> Stored<Vec<Record>> {
    let query = sqlx::query(match kind {
        Kind::Sessions => {
            "SELECT s.*, EXISTS (SELECT 1 FROM chaarfm.invitations i WHERE i.session = s.id AND i.code = s.code
                AND i.revoked_ms IS NULL AND i.expires_ms > EXTRACT(EPOCH FROM now())::BIGINT * 1000) AS is_code_open
            FROM chaarfm.sessions s WHERE id > $1 ORDER BY id LIMIT $2"
        }
        Kind::Jobs => "SELECT * FROM chaarfm.jobs WHERE id > $1 ORDER BY id LIMIT $2",
        Kind::Vectors => {
            "SELECT id, collection, model, content_hash, track_key, artist, title, album, file, seconds, backend, device,
                worker, flags, stored_ms, embedding::REAL[] AS embedding, tags, worker_key
            FROM chaarfm.vectors WHERE id > $1 ORDER BY id LIMIT $2"
        },
    });
    let rows = query.bind(after).bind(i64::from(limit)).fetch_all(tx).await?;
    Ok(rows.iter().map(|row| record_of(kind, row)).collect::<sqlx::Result<_>>()?)
}

impl Postgres {
    pub(crate) async fn imported(&self, export: &str) -> Stored<Option<u64>> {
        let query = sqlx::query_scalar("SELECT lines FROM chaarfm.imports WHERE export = $1").bind(export);
        let lines: Option<i64> = query.fetch_optional(&self.pool).await?;
        Ok(lines.map(unsigned))
    }

    pub(crate) async fn import(&self, export: &str, batch: &[Record], progress: Progress) -> Stored<()> {
        let mut tx = self.pool.begin().await?;
        // The connections of a coordinator that has just stopped may take a moment to end.
        sqlx::query(WAIT_BRIEFLY).execute(&mut *tx).await?;
        let alone = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(IMPORT_LOCK);
        if let Err(error) = alone.execute(&mut *tx).await {
            return Err(if error::is_locked(&error) { StoreError::InUse } else { error.into() });
        }
        // In the old database scans have published the collections; here no scan may ever run.
        for collection in batch.iter().filter_map(Record::collection).collect::<BTreeSet<_>>() {
            publish(&mut tx, collection).await?;
        }
        for record in batch {
            match record {
                Record::Session(session) => insert_session_record(&mut tx, session).await?,
                Record::Job(job) => insert_job_record(&mut tx, job).await?,
                Record::Vector(vector) => insert_vector_record(&mut tx, vector).await?,
            }
        }
        let note = sqlx::query(
            "INSERT INTO chaarfm.imports (export, lines, total) VALUES ($1, $2, $3)
            ON CONFLICT (export) DO UPDATE SET lines = excluded.lines",
        );
        note.bind(export).bind(signed(progress.records)).bind(signed(progress.total)).execute(&mut *tx).await?;
        for table in ["sessions", "jobs", "vectors"] {
            // Later rows get numbers after those of the imported rows.
            let next = AssertSqlSafe(format!(
                "SELECT setval(pg_get_serial_sequence('chaarfm.{table}', 'id'), MAX(id)) FROM chaarfm.{table}"
            ));
            sqlx::query(next).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

async fn insert_session_record(tx: &mut PgConnection, session: &SessionRecord) -> sqlx::Result<()> {
    let query = sqlx::query(
        "INSERT INTO chaarfm.sessions (id, code, created_ms, model, collection, paused, ended, scan, scanning, skipped,
            alike, left_out, every_file, ended_ms)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    );
    let query = query.bind(session.id).bind(&session.code).bind(session.created_ms).bind(&session.model);
    let query = query.bind(&session.collection).bind(session.paused).bind(session.ended).bind(session.scan);
    let query = query.bind(&session.scanning).bind(session.skipped).bind(session.alike).bind(&session.left_out);
    query.bind(session.every_file).bind(session.ended_ms).execute(&mut *tx).await?;
    // The session's own code admits workers in the new database as well, unless it has been revoked or replaced.
    if !session.is_code_open {
        return Ok(());
    }
    let invite = sqlx::query(
        "INSERT INTO chaarfm.invitations (session, code, name, created_ms, expires_ms)
        SELECT id, code, $2, created_ms, (EXTRACT(EPOCH FROM now())::BIGINT + $3) * 1000
        FROM chaarfm.sessions WHERE id = $1 AND NOT ended",
    );
    let seconds = signed(u64::from(INVITATION_DAYS) * SECONDS_PER_DAY);
    invite.bind(session.id).bind(FIRST_NAME).bind(seconds).execute(tx).await?;
    Ok(())
}

async fn insert_job_record(tx: &mut PgConnection, job: &JobRecord) -> sqlx::Result<()> {
    let query = sqlx::query(
        "INSERT INTO chaarfm.jobs (id, session, scan, model, collection, library, file, artist, title, album, bytes,
            content_hash, track_key, state, not_before_ms, not_again_before_ms, deadline_ms, attempts, leases, token,
            holder, holder_kind, answered, reopened, error, seconds, version)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
            $24, $25, $26, $27)",
    );
    let query = query.bind(job.id).bind(job.session).bind(job.scan).bind(&job.model).bind(&job.collection);
    let query = query.bind(&job.library).bind(&job.file).bind(&job.artist).bind(&job.title).bind(&job.album);
    let query = query.bind(job.bytes).bind(&job.content_hash).bind(&job.track_key).bind(&job.state);
    let query = query.bind(job.not_before_ms).bind(job.not_again_before_ms).bind(job.deadline_ms);
    let query = query.bind(job.attempts).bind(job.leases).bind(&job.token).bind(&job.holder).bind(&job.holder_kind);
    let query = query.bind(job.answered).bind(job.reopened).bind(&job.error);
    query.bind(job.seconds.map(|seconds| seconds.0)).bind(&job.version).execute(tx).await?;
    Ok(())
}

async fn insert_vector_record(tx: &mut PgConnection, vector: &VectorRecord) -> Stored<()> {
    let actual = vector.embedding.len();
    if actual != EMBEDDING_LENGTH {
        return Err(StoreError::VectorLength { model: vector.model.clone(), expected: EMBEDDING_LENGTH, actual });
    }
    let query = sqlx::query(
        "INSERT INTO chaarfm.vectors (id, collection, model, content_hash, track_key, artist, title, album, file, seconds,
            backend, device, worker, flags, stored_ms, embedding, tags, worker_key)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16::REAL[]::vector, $17, $18)",
    );
    let query = query.bind(vector.id).bind(&vector.collection).bind(&vector.model).bind(&vector.content_hash);
    let query = query.bind(&vector.track_key).bind(&vector.artist).bind(&vector.title).bind(&vector.album);
    let query = query.bind(&vector.file).bind(vector.seconds.0).bind(&vector.backend).bind(&vector.device);
    let query = query.bind(&vector.worker).bind(&vector.flags).bind(vector.stored_ms);
    let (embedding, tags) = (transfer::numbers(&vector.embedding), transfer::numbers(&vector.tags));
    query.bind(embedding).bind(tags).bind(&vector.worker_key).execute(tx).await?;
    Ok(())
}
