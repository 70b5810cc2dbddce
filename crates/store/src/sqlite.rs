//! The store in one SQLite file, for one coordinator. Writers take turns on one connection; readers have their own and
//! never wait for them.

mod credentials;
mod invitations;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chaarfm_coordinator::{Flags, Job, State, Timestamp, WorkerId};
use chaarfm_domain::{
    Counts, Device, Embedding, Found, InvitationId, JobId, JobRef, JobState, LeaseToken, LeftOutFiles, PairingCode,
    SessionId, Track, limits::MAX_WAITING_COUNTED,
};
use sqlx::{
    ConnectOptions, Connection, Executor, Row, SqliteConnection, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};

use crate::{
    SECONDS_PER_DAY,
    changes::{Jobs, Work},
    common::{migrator, millis, random_owner, signed, unsigned},
    duplicates::MAX_LENGTH_DIFFERENCE,
    error::{self, Stored},
    invitations::{FIRST_NAME, INVITATION_DAYS},
    jobs::{Claim, JobRow, MAX_EXPIRED_PER_SWEEP, QueueStatus, Retried, Takers},
    rows::{self, readers, scan_deadline, state_columns},
    scans::{Enqueued, Filed, NoScan, Scan, ScanOrder},
    sessions::{MAX_PRUNED_JOBS, NewSession, SessionRow},
    snapshot::Extent,
    transfer::{self, JobRecord, Kind, Progress, Record, RecordCounts, SessionRecord, VectorRecord, record_readers},
    vectors::{CollectionRow, Maker, VectorRow},
};

/// The schema, step by step.
pub(super) const MIGRATIONS: [(&str, &str); 7] = [
    ("initial", include_str!("../migrations/sqlite/0001_initial.sql")),
    ("open_sessions", include_str!("../migrations/sqlite/0002_open_sessions.sql")),
    ("known_by_content", include_str!("../migrations/sqlite/0003_known_by_content.sql")),
    ("vector_counts", include_str!("../migrations/sqlite/0004_vector_counts.sql")),
    ("retention", include_str!("../migrations/sqlite/0005_retention.sql")),
    ("credentials", include_str!("../migrations/sqlite/0006_credentials.sql")),
    ("invitations", include_str!("../migrations/sqlite/0007_invitations.sql")),
];

/// Connections that only read.
const MAX_READERS: u32 = 4;

/// Longest wait for a connection, and for another process that writes.
const MAX_WAIT_SECONDS: u64 = 10;

/// Jobs that are dropped, or queued again, at a time: whoever wants to write something else waits no longer than for these.
const MAX_BATCH_JOBS: i64 = 1000;

// The columns each kind of row is read from.

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

macro_rules! select_vectors {
    ($rest:literal) => {
        concat!(
            "SELECT id, model, content_hash, artist, title, album, file, seconds, backend, device, worker, flags,
                stored_ms, embedding, tags
            FROM vectors ",
            $rest
        )
    };
}

readers!(SqliteRow, numbers_of);
record_readers!(SqliteRow, numbers_of);

/// 32-bit floats, little endian.
fn numbers_of(row: &SqliteRow, column: &str) -> sqlx::Result<Vec<f32>> {
    let (numbers, _) = row.try_get::<&[u8], _>(column)?.as_chunks();
    Ok(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

fn to_blob(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The database in a file.
#[derive(Debug, Clone)]
pub(crate) struct Sqlite {
    pub(super) writer: SqlitePool,
    pub(super) reader: SqlitePool,
    owner: String,
    workers: Arc<AtomicU64>,
}

impl Sqlite {
    pub(super) async fn open(path: &Path) -> Stored<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A power cut may undo the last commits but not damage the file; their jobs are then simply done again.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(MAX_WAIT_SECONDS));
        let pool = || SqlitePoolOptions::new().acquire_timeout(Duration::from_secs(MAX_WAIT_SECONDS));
        let writer = pool()
            .max_connections(1)
            // When a commit fails, SQLite undoes the transaction by itself, and the library goes on believing in it: it can
            // neither be undone nor be followed by another one on that connection.
            .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
            .connect_with(options.clone())
            .await?;
        if let Err(error) = migrator(&MIGRATIONS).run(&writer).await {
            let newest = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(&writer).await;
            return Err(error::not_migrated(error, newest, MIGRATIONS.len()));
        }
        let reader = pool().max_connections(MAX_READERS).connect_with(options.read_only(true)).await?;
        Ok(Self { writer, reader, owner: random_owner(), workers: Arc::default() })
    }

    /// The database is one file again after this.
    pub(super) async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    pub(super) async fn ping(&self) -> Stored<()> {
        sqlx::query("SELECT 1 FROM sessions LIMIT 1").execute(&self.reader).await?;
        Ok(())
    }

    pub(super) fn next_worker(&self) -> WorkerId {
        self.workers.fetch_add(1, Ordering::Relaxed) + 1
    }
}

// Sessions.

/// The session that a page begins with.
pub(super) const SELECT_NEWEST_SESSION: &str = select_sessions!("WHERE ended = 0 ORDER BY id DESC LIMIT 1");

/// What the coordinator keeps an eye on, however many sessions have ended.
pub(super) const SELECT_OPEN_SESSIONS: &str = select_sessions!("WHERE ended = 0 ORDER BY id");

impl Sqlite {
    pub(super) async fn current_session(&self, fresh: NewSession<'_>) -> Stored<SessionRow> {
        let newest = || sqlx::query_as(SELECT_NEWEST_SESSION);
        // Most often there is one; to see that, nothing has to be written, which may be impossible at the moment.
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

    pub(super) async fn create_session(&self, fresh: NewSession<'_>, max_open: u32) -> Stored<Option<SessionRow>> {
        let mut tx = self.begin().await?;
        let open: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sessions WHERE ended = 0").fetch_one(&mut *tx).await?;
        if open >= i64::from(max_open) {
            return Ok(None);
        }
        let session = insert_session(&mut tx, fresh).await?;
        tx.commit().await?;
        Ok(Some(session))
    }

    pub(super) async fn session(&self, code: &PairingCode) -> Stored<Option<SessionRow>> {
        let query = sqlx::query_as(select_sessions!("WHERE code = ?")).bind(code.to_string());
        Ok(query.fetch_optional(&self.reader).await?)
    }

    pub(super) async fn open_sessions(&self) -> Stored<Vec<SessionRow>> {
        Ok(sqlx::query_as(SELECT_OPEN_SESSIONS).fetch_all(&self.reader).await?)
    }

    pub(super) async fn set_paused(&self, id: SessionId, paused: bool) -> Stored<()> {
        let query = sqlx::query("UPDATE sessions SET paused = ? WHERE id = ?").bind(paused).bind(id.0);
        query.execute(&self.writer).await?;
        Ok(())
    }

    pub(super) async fn clear_queue(&self, id: SessionId) -> Stored<u64> {
        let dropped = self.drop_queued(id).await?;
        self.set_paused(id, false).await?;
        Ok(dropped)
    }

    /// Drops what waits, some at a time, so that nobody has to wait for all of it. Whatever happens meanwhile, nothing of it
    /// is handed out and no scan adds to it.
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

    pub(super) async fn end_session(&self, id: SessionId, now: Timestamp) -> Stored<()> {
        // Before the end: what it left in an ended session, if it broke off, nobody would ever drop.
        self.drop_queued(id).await?;
        let mut tx = self.begin().await?;
        let ended = sqlx::query("UPDATE sessions SET ended = 1, ended_ms = ?, scanning = NULL WHERE id = ?");
        ended.bind(millis(now)).bind(id.0).execute(&mut *tx).await?;
        let query = sqlx::query("DELETE FROM jobs WHERE session = ? AND state IN ('queued', 'leased')").bind(id.0);
        query.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    pub(super) async fn prune(&self, ended_before: Timestamp, now: Timestamp) -> Stored<bool> {
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

// Scans. There is no second process, so whoever owned a scan before this one is dead.

impl Sqlite {
    pub(super) async fn begin_scan(
        &self,
        id: SessionId,
        order: ScanOrder<'_>,
        now: Timestamp,
    ) -> Stored<Result<Scan, NoScan>> {
        let mut tx = self.begin().await?;
        let begun = sqlx::query_as(
            "UPDATE sessions SET scanning = ?, collection = ?, model = ?, scan = scan + 1, skipped = 0, alike = 0,
                left_out = '[]', paused = 0, scan_owner = ?, scan_deadline_ms = ?, every_file = ?
            WHERE id = ? AND scanning IS NULL AND ended = 0
            RETURNING id, code, scanning, collection, model, scan, every_file",
        );
        let begun = begun
            .bind(order.library)
            .bind(order.collection)
            .bind(order.model)
            .bind(&self.owner)
            .bind(scan_deadline(now));
        let begun = begun.bind(order.every_file).bind(id.0);
        let Some(scan) = begun.fetch_optional(&mut *tx).await? else {
            let ended = sqlx::query_scalar("SELECT ended FROM sessions WHERE id = ?").bind(id.0);
            let ended: Option<bool> = ended.fetch_optional(&mut *tx).await?;
            return Ok(Err(if ended == Some(false) { NoScan::AlreadyScanning } else { NoScan::SessionEnded }));
        };
        tx.commit().await?;
        Ok(Ok(scan))
    }

    pub(super) async fn abandoned_scans(&self, now: Timestamp) -> Stored<Vec<Scan>> {
        let query = sqlx::query_as(
            "SELECT id, code, scanning, collection, model, scan, every_file FROM sessions
            WHERE scanning IS NOT NULL AND ended = 0 AND (scan_owner IS NOT ? OR scan_deadline_ms <= ?)",
        );
        Ok(query.bind(&self.owner).bind(millis(now)).fetch_all(&self.reader).await?)
    }

    pub(super) async fn take_over_scan(&self, scan: &Scan, now: Timestamp) -> Stored<bool> {
        let query = sqlx::query(
            "UPDATE sessions SET skipped = 0, alike = 0, scan_owner = ?1, scan_deadline_ms = ?2
            WHERE id = ?3 AND scan = ?4 AND scanning IS NOT NULL AND ended = 0
                AND (scan_owner IS NOT ?1 OR scan_deadline_ms <= ?5)",
        );
        let query = query.bind(&self.owner).bind(scan_deadline(now)).bind(scan.session.0).bind(scan.number);
        let query = query.bind(millis(now));
        Ok(query.execute(&self.writer).await?.rows_affected() > 0)
    }

    pub(super) async fn renew_scan(&self, scan: &Scan, now: Timestamp) -> Stored<bool> {
        Ok(self.renew(&mut *self.writer.acquire().await?, scan, now).await?)
    }

    async fn renew(&self, connection: &mut SqliteConnection, scan: &Scan, now: Timestamp) -> sqlx::Result<bool> {
        let query = sqlx::query(
            "UPDATE sessions SET scan_deadline_ms = ?
            WHERE id = ? AND scan = ? AND scanning IS NOT NULL AND scan_owner = ?",
        );
        let query = query.bind(scan_deadline(now)).bind(scan.session.0).bind(scan.number).bind(&self.owner);
        Ok(query.execute(connection).await?.rows_affected() > 0)
    }

    pub(super) async fn abandon_scan(&self, scan: &Scan) -> Stored<()> {
        let query = sqlx::query("UPDATE sessions SET scan_owner = NULL WHERE id = ? AND scan = ? AND scan_owner = ?");
        query.bind(scan.session.0).bind(scan.number).bind(&self.owner).execute(&self.writer).await?;
        Ok(())
    }

    pub(super) async fn finish_scan(&self, scan: &Scan, left_out: &[LeftOutFiles]) -> Stored<()> {
        let query = sqlx::query(
            "UPDATE sessions SET scanning = NULL, left_out = ? WHERE id = ? AND scan = ? AND scan_owner = ?",
        );
        let query = query.bind(rows::left_out_json(left_out)).bind(scan.session.0).bind(scan.number);
        query.bind(&self.owner).execute(&self.writer).await?;
        Ok(())
    }

    pub(super) async fn enqueue(&self, scan: &Scan, files: &[Found], now: Timestamp) -> Stored<Option<Enqueued>> {
        let mut tx = self.begin().await?;
        if !self.renew(&mut tx, scan, now).await? {
            return Ok(None);
        }
        let mut sum = Enqueued::default();
        for file in files {
            sum.count(tx.enqueue(scan, file, now).await?);
        }
        let skipped = sqlx::query("UPDATE sessions SET skipped = skipped + ?, alike = alike + ? WHERE id = ?");
        let skipped = skipped.bind(signed(sum.skipped)).bind(signed(sum.alike)).bind(scan.session.0);
        skipped.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(Some(sum))
    }
}

// Jobs.

/// The first job of a session that may go to a worker: see [`Job::may_go_to`]. It is found by its index alone.
pub(super) const SELECT_FIRST_WAITING: &str = select_jobs!(
    "WHERE id = (SELECT id FROM jobs
        WHERE session = ?1 AND state = 'queued' AND not_before_ms <= ?2 AND bytes <= ?3
            AND (not_again_before_ms <= ?2 OR holder <> ?4) AND attempts <= ?5
            AND EXISTS (SELECT 1 FROM sessions WHERE id = ?1 AND paused = 0 AND ended = 0)
        ORDER BY id LIMIT 1)"
);

/// Whether there is a job to hand out. Its index has it all.
pub(super) const HAS_WAITING: &str = "SELECT EXISTS (SELECT 1 FROM jobs
    WHERE session = ?1 AND state = 'queued' AND not_before_ms <= ?2 AND bytes <= ?3 AND attempts <= ?4
        AND EXISTS (SELECT 1 FROM sessions WHERE id = ?1 AND paused = 0 AND ended = 0))";

/// What becomes of the first queued jobs. Its index has it all.
pub(super) const SUM_UP_BACKLOG: &str = "SELECT COUNT(*) AS jobs, SUM(bytes > ?2) AS too_large,
        SUM(bytes <= ?2 AND due_ms > ?3) AS resting, MIN(IIF(bytes <= ?2 AND due_ms > ?3, due_ms, NULL)) AS next_ms
    FROM (SELECT bytes, IIF(holder = ?4 AND bytes > ?5, MAX(not_before_ms, not_again_before_ms), not_before_ms) AS due_ms
        FROM jobs WHERE session = ?1 AND state = 'queued' ORDER BY id LIMIT ?6)";

impl Sqlite {
    pub(super) async fn has_waiting(
        &self,
        session: SessionId,
        max_bytes: u64,
        max_attempts: i64,
        now: Timestamp,
    ) -> Stored<bool> {
        let query = sqlx::query_scalar(HAS_WAITING).bind(session.0).bind(millis(now));
        Ok(query.bind(signed(max_bytes)).bind(max_attempts).fetch_one(&self.reader).await?)
    }

    pub(super) async fn queue_status(
        &self,
        session: SessionId,
        takers: &Takers,
        now: Timestamp,
    ) -> Stored<QueueStatus> {
        let query = sqlx::query_as(SUM_UP_BACKLOG).bind(session.0).bind(signed(takers.max_bytes)).bind(millis(now));
        let query = query.bind(&takers.greatest).bind(signed(takers.max_bytes_of_others));
        Ok(query.bind(signed(MAX_WAITING_COUNTED)).fetch_one(&self.reader).await?)
    }

    pub(super) async fn ended_by(
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

    pub(super) async fn retry_failed(&self, session: SessionId, job: Option<JobId>) -> Stored<Retried> {
        let mut sum = Retried::default();
        let mut after = 0;
        // Some at a time, so that nobody has to wait for all of them.
        while let Some(upto) = self.next_failed(session, job, after).await? {
            let retried = self.retry_some(session, job, after, upto).await?;
            sum = Retried { queued: sum.queued + retried.queued, known: sum.known + retried.known };
            after = upto;
        }
        Ok(sum)
    }

    /// The last of the next failed jobs after number `after`.
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
        // Those in whose way another job was have neither.
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

    pub(super) async fn expired(&self, now: Timestamp) -> Stored<Vec<(PairingCode, JobRef)>> {
        let query = sqlx::query(
            "SELECT code, j.id AS id, token FROM jobs j JOIN sessions s ON s.id = j.session
            WHERE j.state = 'leased' AND j.deadline_ms <= ? ORDER BY j.deadline_ms LIMIT ?",
        );
        let rows = query.bind(millis(now)).bind(MAX_EXPIRED_PER_SWEEP).fetch_all(&self.reader).await?;
        Ok(rows.iter().map(expired_of).collect::<sqlx::Result<_>>()?)
    }

    pub(super) async fn job(&self, id: JobId) -> Stored<Option<JobRow>> {
        Ok(sqlx::query_as(select_jobs!("WHERE id = ?")).bind(id).fetch_optional(&self.reader).await?)
    }

    pub(super) async fn jobs(
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

// What changes jobs.

impl Jobs for Sqlite {
    type Work = Transaction<'static, sqlx::Sqlite>;

    /// Nobody else writes until the transaction ends.
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
        // Has failed alone: SQLite undoes what one statement did, and the transaction goes on.
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
        let query = query.bind(rows::flags_json(embedding.flags())).bind(millis(now));
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

// Vectors.

impl Sqlite {
    pub(super) async fn collections(&self) -> Stored<Vec<CollectionRow>> {
        let query = sqlx::query(
            "SELECT collection, vectors AS tracks FROM vector_counts WHERE vectors > 0 ORDER BY collection",
        );
        let rows = query.fetch_all(&self.reader).await?;
        Ok(rows.iter().map(collection_of).collect::<sqlx::Result<_>>()?)
    }

    pub(super) async fn count_vectors(&self, collection: &str) -> Stored<Option<u64>> {
        let query = sqlx::query(
            "SELECT COALESCE((SELECT vectors FROM vector_counts WHERE collection = ?1), 0) AS tracks,
                EXISTS (SELECT 1 FROM sessions WHERE collection = ?1) AS named",
        );
        let row = query.bind(collection).fetch_one(&self.reader).await?;
        let tracks = unsigned(row.try_get("tracks")?);
        Ok((tracks > 0 || row.try_get("named")?).then_some(tracks))
    }

    pub(super) async fn vectors(&self, collection: &str, offset: u64, limit: u32) -> Stored<Vec<VectorRow>> {
        let query = sqlx::query(select_vectors!("WHERE collection = ? ORDER BY id LIMIT ? OFFSET ?"));
        let rows = query.bind(collection).bind(limit).bind(signed(offset)).fetch_all(&self.reader).await?;
        Ok(rows.iter().map(vector_of).collect::<sqlx::Result<_>>()?)
    }
}

// What is taken home, from a snapshot.

/// Begins to look at the database as it is when it is first asked, on a connection of its own: nobody is to wait for one
/// because somebody reads slowly. It locks nothing, and ends with its connection.
pub(super) async fn begin_snapshot(engine: &Sqlite) -> Stored<SqliteConnection> {
    let mut connection = engine.reader.connect_options().connect().await?;
    connection.execute("BEGIN").await?;
    Ok(connection)
}

pub(super) async fn extent(tx: &mut SqliteConnection, collection: &str, model: Option<&str>) -> Stored<Extent> {
    // A number takes 4 bytes.
    let query = sqlx::query(
        "SELECT COUNT(*) AS tracks, COUNT(DISTINCT model) AS models,
            MIN(length(embedding) / 4) AS shortest, MAX(length(embedding) / 4) AS longest
        FROM vectors WHERE collection = ?1 AND (?2 IS NULL OR model = ?2)",
    );
    Ok(extent_of(&query.bind(collection).bind(model).fetch_one(tx).await?)?)
}

pub(super) async fn vectors_after(
    tx: &mut SqliteConnection,
    collection: &str,
    model: Option<&str>,
    after: i64,
    limit: u32,
) -> Stored<Vec<VectorRow>> {
    let query = sqlx::query(select_vectors!(
        "WHERE collection = ?1 AND id > ?2 AND (?3 IS NULL OR model = ?3) ORDER BY id LIMIT ?4"
    ));
    let rows = query.bind(collection).bind(after).bind(model).bind(limit).fetch_all(tx).await?;
    Ok(rows.iter().map(vector_of).collect::<sqlx::Result<_>>()?)
}

pub(super) async fn jobs_after(
    tx: &mut SqliteConnection,
    session: SessionId,
    state: Option<JobState>,
    after: JobId,
    limit: u32,
) -> Stored<Vec<JobRow>> {
    let query = match state {
        Some(state) => sqlx::query_as(select_jobs!("WHERE session = ? AND state = ? AND id > ? ORDER BY id LIMIT ?"))
            .bind(session.0)
            .bind(state.name()),
        None => sqlx::query_as(select_jobs!("WHERE session = ? AND id > ? ORDER BY id LIMIT ?")).bind(session.0),
    };
    Ok(query.bind(after).bind(limit).fetch_all(tx).await?)
}

// Moving to another database.

pub(super) async fn record_counts(tx: &mut SqliteConnection) -> Stored<RecordCounts> {
    let query = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM sessions) AS sessions, (SELECT COUNT(*) FROM jobs) AS jobs,
            (SELECT COUNT(*) FROM vectors) AS vectors",
    );
    Ok(counts_of(&query.fetch_one(tx).await?)?)
}

pub(super) async fn page(tx: &mut SqliteConnection, kind: Kind, after: i64, limit: u32) -> Stored<Vec<Record>> {
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
    pub(super) async fn imported(&self, export: &str) -> Stored<Option<u64>> {
        let query = sqlx::query_scalar("SELECT lines FROM imports WHERE export = ?1").bind(export);
        let lines: Option<i64> = query.fetch_optional(&self.reader).await?;
        Ok(lines.map(unsigned))
    }

    pub(super) async fn is_half_imported(&self) -> Stored<bool> {
        let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM imports WHERE lines < total)");
        Ok(query.fetch_one(&self.reader).await?)
    }

    pub(super) async fn import(&self, export: &str, batch: &[Record], progress: Progress) -> Stored<()> {
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
    // A code that lets workers in does so at its new place as well; one that has been revoked or replaced stays that.
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
