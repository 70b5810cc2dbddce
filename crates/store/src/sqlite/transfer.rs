//! Records that move between databases.

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    Sqlite,
    rows::{numbers_of, to_blob},
};
use crate::{
    SECONDS_PER_DAY,
    changes::Jobs,
    common::{signed, unsigned},
    error::Stored,
    invitations::{FIRST_NAME, INVITATION_DAYS},
    transfer::{self, JobRecord, Kind, Progress, Record, RecordCounts, SessionRecord, VectorRecord, record_readers},
};

record_readers!(SqliteRow, numbers_of);

pub(crate) async fn record_counts(tx: &mut SqliteConnection) -> Stored<RecordCounts> {
    let query = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM sessions) AS sessions, (SELECT COUNT(*) FROM jobs) AS jobs,
            (SELECT COUNT(*) FROM vectors) AS vectors",
    );
    Ok(counts_of(&query.fetch_one(tx).await?)?)
}

pub(crate) async fn page(tx: &mut SqliteConnection, kind: Kind, after: i64, limit: u32) -> Stored<Vec<Record>> {
    let query = sqlx::query(match kind {
        Kind::Sessions => {
            "SELECT s.*, EXISTS (SELECT 1 FROM invitations i WHERE i.session = s.id AND i.code = s.code
                AND i.revoked_ms IS NULL AND i.expires_ms > CAST(strftime('%s', 'now') AS INTEGER) * 1000) AS is_code_open
            FROM sessions s WHERE id > ?1 ORDER BY id LIMIT ?2"
        }
        Kind::Jobs => "SELECT * FROM jobs WHERE id > ?1 ORDER BY id LIMIT ?2",
        Kind::Vectors => "SELECT * FROM vectors WHERE id > ?1 ORDER BY id LIMIT ?2",
    });
    let rows = query.bind(after).bind(limit).fetch_all(tx).await?;
    Ok(rows.iter().map(|row| record_of(kind, row)).collect::<sqlx::Result<_>>()?)
}

impl Sqlite {
    pub(crate) async fn imported(&self, export: &str) -> Stored<Option<u64>> {
        let query = sqlx::query_scalar("SELECT lines FROM imports WHERE export = ?1").bind(export);
        let lines: Option<i64> = query.fetch_optional(&self.reader).await?;
        Ok(lines.map(unsigned))
    }

    pub(crate) async fn is_half_imported(&self) -> Stored<bool> {
        let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM imports WHERE lines < total)");
        Ok(query.fetch_one(&self.reader).await?)
    }

    pub(crate) async fn import(&self, export: &str, batch: &[Record], progress: Progress) -> Stored<()> {
        let mut tx = self.begin().await?;
        for record in batch {
            match record {
                Record::Session(session) => insert_session_record(&mut tx, session).await?,
                Record::Job(job) => insert_job_record(&mut tx, job).await?,
                Record::Vector(vector) => insert_vector_record(&mut tx, vector).await?,
            }
        }
        let note = sqlx::query(
            "INSERT INTO imports (export, lines, total) VALUES (?1, ?2, ?3)
            ON CONFLICT (export) DO UPDATE SET lines = excluded.lines",
        );
        note.bind(export).bind(signed(progress.records)).bind(signed(progress.total)).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }
}

async fn insert_session_record(tx: &mut SqliteConnection, session: &SessionRecord) -> sqlx::Result<()> {
    let query = sqlx::query(
        "INSERT INTO sessions (id, code, created_ms, model, collection, paused, ended, scan, scanning, skipped, alike,
            left_out, every_file, ended_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
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
        "INSERT INTO invitations (session, code, name, created_ms, expires_ms)
        SELECT id, code, $2, created_ms, (CAST(strftime('%s', 'now') AS INTEGER) + $3) * 1000
        FROM sessions WHERE id = $1 AND ended = 0",
    );
    let seconds = signed(u64::from(INVITATION_DAYS) * SECONDS_PER_DAY);
    invite.bind(session.id).bind(FIRST_NAME).bind(seconds).execute(tx).await?;
    Ok(())
}

async fn insert_job_record(tx: &mut SqliteConnection, job: &JobRecord) -> sqlx::Result<()> {
    let query = sqlx::query(
        "INSERT INTO jobs (id, session, scan, model, collection, library, file, artist, title, album, bytes,
            content_hash, track_key, state, not_before_ms, not_again_before_ms, deadline_ms, attempts, leases, token,
            holder, holder_kind, answered, reopened, error, seconds, version)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23,
            ?24, ?25, ?26, ?27)",
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

async fn insert_vector_record(tx: &mut SqliteConnection, vector: &VectorRecord) -> sqlx::Result<()> {
    let query = sqlx::query(
        "INSERT INTO vectors (id, collection, model, content_hash, track_key, artist, title, album, file, seconds,
            backend, device, worker, flags, stored_ms, embedding, tags, worker_key)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
    );
    let query = query.bind(vector.id).bind(&vector.collection).bind(&vector.model).bind(&vector.content_hash);
    let query = query.bind(&vector.track_key).bind(&vector.artist).bind(&vector.title).bind(&vector.album);
    let query = query.bind(&vector.file).bind(vector.seconds.0).bind(&vector.backend).bind(&vector.device);
    let query = query.bind(&vector.worker).bind(&vector.flags).bind(vector.stored_ms);
    let (embedding, tags) = (transfer::numbers(&vector.embedding), transfer::numbers(&vector.tags));
    query.bind(to_blob(&embedding)).bind(to_blob(&tags)).bind(&vector.worker_key).execute(tx).await?;
    Ok(())
}
