//! What outlives a restart, in SQLite: sessions, their jobs, and the vectors. All SQL is in this file and in
//! `migrations/`.
//!
//! Decides nothing about jobs: a job's row is loaded, a method of [`Job`] changes it, and it is written back, all in one
//! transaction. Writers take turns on one connection; readers have their own and never wait for them.

use std::{path::Path, time::Duration};

use chaarfm_coordinator::{Answer, Embedding, Flags, InvalidVector, Job, NotLeasable, NotYourLease, State, Timestamp};
use chaarfm_protocol::{
    Device, Failure, FailureKind, JobId, JobRef, LeaseToken, Outcome, PairingCode, Track, Vector, WorkerKind,
    view::{CollectionView, Counts, JobState, TrackView},
};
use sqlx::{
    FromRow, Row, SqlSafeStr, Sqlite, SqliteConnection, SqlitePool, Transaction,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};

use crate::models;

/// Connections that only read.
const MAX_READERS: u32 = 4;

/// Longest wait for a connection.
const MAX_WAIT_SECONDS: u64 = 20;

/// Leases that one sweep ends; the next sweep goes on.
const MAX_EXPIRED_PER_SWEEP: u32 = 1000;

// The columns each kind of row is read from.

macro_rules! select_sessions {
    ($rest:literal) => {
        concat!(
            "SELECT id, code, model, collection, paused, ended, scanning, skipped,
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
            "SELECT id, model, collection, library, file, artist, title, album, bytes, content_hash, state,
                not_before_ms, not_again_before_ms, deadline_ms, attempts, leases, token, holder, answered,
                reopened, error
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

/// A session's number in the database.
pub(crate) type SessionId = i64;

/// Why the database did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the database could not be brought up to date: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

/// Why a worker's word about a job does not count.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is no such job (any more)")]
    UnknownJob,
    #[error(transparent)]
    NotYourLease(#[from] NotYourLease),
    /// The failure has been recorded, with what became of the job.
    #[error("{0}")]
    InvalidVector(InvalidVector, Box<(JobRow, Answer)>),
}

/// A session as it is stored, with its jobs counted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SessionRow {
    pub(crate) id: SessionId,
    pub(crate) code: PairingCode,
    pub(crate) model: String,
    pub(crate) collection: String,
    pub(crate) flags: Flags,
    pub(crate) counts: Counts,
}

/// A job as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JobRow {
    pub(crate) job: Job,
    pub(crate) model: String,
    pub(crate) library: String,
    pub(crate) track: Track,
    pub(crate) bytes: u64,
    collection: String,
    content_hash: String,
}

/// One pass over a library on behalf of a session.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scan {
    pub(crate) session: SessionId,
    pub(crate) code: PairingCode,
    pub(crate) library: String,
    pub(crate) collection: String,
    pub(crate) model: String,
    number: i64,
}

/// An audio file that a scan has found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub(crate) track: Track,
    pub(crate) bytes: u64,
    /// The content's hash, or why the file cannot be a job.
    pub(crate) content: Result<String, String>,
}

/// What became of the files a scan has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Enqueued {
    pub(crate) queued: u64,
    pub(crate) skipped: u64,
    pub(crate) failed: u64,
}

/// Why no scan was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoScan {
    AlreadyScanning,
    SessionEnded,
}

/// Who made a vector.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Maker {
    pub(crate) kind: WorkerKind,
    pub(crate) device: Device,
}

/// What an export has to know before its first row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) rows: u64,
    pub(crate) last_id: i64,
    pub(crate) models: u64,
    /// Numbers in the shortest and in the longest embedding.
    pub(crate) lengths: (usize, usize),
}

/// The database.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    writer: SqlitePool,
    reader: SqlitePool,
}

impl Store {
    /// Opens the database, and creates it or brings it up to date.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A power cut may undo the last commits but not damage the file; their jobs are then simply done again.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(MAX_WAIT_SECONDS));
        let pool = || SqlitePoolOptions::new().acquire_timeout(Duration::from_secs(MAX_WAIT_SECONDS));
        let writer = pool().max_connections(1).connect_with(options.clone()).await?;
        migrations().run(&writer).await?;
        let reader = pool().max_connections(MAX_READERS).connect_with(options.read_only(true)).await?;
        Ok(Self { writer, reader })
    }

    /// Ends all connections, so that the database is one file again.
    pub(crate) async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// Asks the database for something that costs nothing.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1 FROM sessions LIMIT 1").execute(&self.reader).await?;
        Ok(())
    }

    /// Nobody else writes until the transaction ends; dropped, it is undone.
    async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

fn migrations() -> Migrator {
    let initial = include_str!("../migrations/0001_initial.sql").into_sql_str();
    Migrator::with_migrations(vec![Migration::new(1, "initial".into(), MigrationType::Simple, initial, false)])
}

// Sessions.

impl Store {
    /// The newest session that has not ended; `fresh` becomes one when there is none.
    pub(crate) async fn current_session(&self, fresh: NewSession<'_>) -> Result<SessionRow, StoreError> {
        let mut tx = self.write().await?;
        let newest = sqlx::query_as(select_sessions!("WHERE ended = 0 ORDER BY id DESC LIMIT 1"));
        if let Some(session) = newest.fetch_optional(&mut *tx).await? {
            return Ok(session);
        }
        let session = insert_session(&mut tx, fresh).await?;
        tx.commit().await?;
        Ok(session)
    }

    /// A new session; none when `max_open` have not ended yet.
    pub(crate) async fn create_session(
        &self,
        fresh: NewSession<'_>,
        max_open: u32,
    ) -> Result<Option<SessionRow>, StoreError> {
        let mut tx = self.write().await?;
        let open: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sessions WHERE ended = 0").fetch_one(&mut *tx).await?;
        if open >= i64::from(max_open) {
            return Ok(None);
        }
        let session = insert_session(&mut tx, fresh).await?;
        tx.commit().await?;
        Ok(Some(session))
    }

    /// The session with this code.
    pub(crate) async fn session(&self, code: &PairingCode) -> Result<Option<SessionRow>, StoreError> {
        let query = sqlx::query_as(select_sessions!("WHERE code = ?")).bind(code.to_string());
        Ok(query.fetch_optional(&self.reader).await?)
    }

    /// Lets the session hand out jobs, or not.
    pub(crate) async fn set_paused(&self, id: SessionId, paused: bool) -> Result<(), StoreError> {
        let query = sqlx::query("UPDATE sessions SET paused = ? WHERE id = ?").bind(paused).bind(id);
        query.execute(&self.writer).await?;
        Ok(())
    }

    /// Forgets what waits, and the scan that may be running. What workers hold stays theirs.
    pub(crate) async fn clear_queue(&self, id: SessionId) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("UPDATE sessions SET scanning = NULL, paused = 0 WHERE id = ?").bind(id).execute(&mut *tx).await?;
        let query = sqlx::query("DELETE FROM jobs WHERE session = ? AND state = 'queued'").bind(id);
        let dropped = query.execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        Ok(dropped)
    }

    /// Ends the session and takes back what its workers hold.
    pub(crate) async fn end_session(&self, id: SessionId) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("UPDATE sessions SET ended = 1, scanning = NULL WHERE id = ?").bind(id).execute(&mut *tx).await?;
        let leased = sqlx::query_as(select_jobs!("WHERE session = ? AND state = 'leased'")).bind(id);
        let leased: Vec<JobRow> = leased.fetch_all(&mut *tx).await?;
        for mut row in leased {
            let token = row.job.token.clone().unwrap_or_default();
            if row.job.release(&token).is_ok() {
                save(&mut tx, &row.job).await?;
            }
        }
        tx.commit().await?;
        Ok(())
    }
}

/// What a session begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewSession<'a> {
    pub(crate) code: PairingCode,
    pub(crate) model: &'a str,
    pub(crate) collection: &'a str,
    pub(crate) now: Timestamp,
}

async fn insert_session(tx: &mut SqliteConnection, fresh: NewSession<'_>) -> Result<SessionRow, StoreError> {
    let query = sqlx::query_scalar(
        "INSERT INTO sessions (code, created_ms, model, collection) VALUES (?, ?, ?, ?) RETURNING id",
    );
    let query = query.bind(fresh.code.to_string()).bind(millis(fresh.now)).bind(fresh.model).bind(fresh.collection);
    Ok(SessionRow {
        id: query.fetch_one(tx).await?,
        code: fresh.code,
        model: fresh.model.to_owned(),
        collection: fresh.collection.to_owned(),
        flags: Flags::default(),
        counts: Counts::default(),
    })
}

impl FromRow<'_, SqliteRow> for SessionRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let count = |column| row.try_get::<Option<i64>, _>(column).map(|count| unsigned(count.unwrap_or(0)));
        Ok(Self {
            id: row.try_get("id")?,
            code: code_of(row)?,
            model: row.try_get("model")?,
            collection: row.try_get("collection")?,
            flags: Flags {
                paused: row.try_get("paused")?,
                ended: row.try_get("ended")?,
                scanning: row.try_get::<Option<String>, _>("scanning")?.is_some(),
            },
            counts: Counts {
                queued: count("queued")?,
                leased: count("leased")?,
                done: count("done")?,
                failed: count("failed")?,
                skipped: count("skipped")?,
            },
        })
    }
}

// Scans.

impl Store {
    /// Notes that the session scans a library from now on, and what its vectors are to be.
    pub(crate) async fn begin_scan(
        &self,
        id: SessionId,
        library: &str,
        collection: &str,
        model: &str,
    ) -> Result<Result<Scan, NoScan>, StoreError> {
        let mut tx = self.write().await?;
        let begun = sqlx::query_as(
            "UPDATE sessions SET scanning = ?, collection = ?, model = ?, scan = scan + 1, skipped = 0, paused = 0
            WHERE id = ? AND scanning IS NULL AND ended = 0
            RETURNING id, code, scanning, collection, model, scan",
        );
        let begun = begun.bind(library).bind(collection).bind(model).bind(id).fetch_optional(&mut *tx).await?;
        let Some(scan) = begun else {
            let ended = sqlx::query_scalar("SELECT ended FROM sessions WHERE id = ?").bind(id);
            let ended: Option<bool> = ended.fetch_optional(&mut *tx).await?;
            return Ok(Err(if ended == Some(false) { NoScan::AlreadyScanning } else { NoScan::SessionEnded }));
        };
        tx.commit().await?;
        Ok(Ok(scan))
    }

    /// The scans that were running when the coordinator last stopped. They begin again, and count again.
    pub(crate) async fn unfinished_scans(&self) -> Result<Vec<Scan>, StoreError> {
        let query = sqlx::query_as(
            "UPDATE sessions SET skipped = 0 WHERE scanning IS NOT NULL AND ended = 0
            RETURNING id, code, scanning, collection, model, scan",
        );
        Ok(query.fetch_all(&self.writer).await?)
    }

    /// Notes that the scan is over.
    pub(crate) async fn finish_scan(&self, scan: &Scan) -> Result<(), StoreError> {
        let query = sqlx::query("UPDATE sessions SET scanning = NULL WHERE id = ? AND scan = ?");
        query.bind(scan.session).bind(scan.number).execute(&self.writer).await?;
        Ok(())
    }

    /// Queues what a scan has found, except what is known. None when the scan has been called off in the meantime.
    pub(crate) async fn enqueue(
        &self,
        scan: &Scan,
        files: &[Found],
        now: Timestamp,
    ) -> Result<Option<Enqueued>, StoreError> {
        let mut tx = self.write().await?;
        let goes_on = sqlx::query("SELECT 1 FROM sessions WHERE id = ? AND scan = ? AND scanning IS NOT NULL");
        let goes_on = goes_on.bind(scan.session).bind(scan.number).fetch_optional(&mut *tx).await?;
        if goes_on.is_none() {
            return Ok(None);
        }
        let mut sum = Enqueued::default();
        for file in files {
            match &file.content {
                Ok(hash) => match find_known(&mut tx, scan, file, hash, now).await? {
                    Known::No => {
                        insert_job(&mut tx, scan, file, hash, None).await?;
                        sum.queued += 1;
                    }
                    Known::Elsewhere => sum.skipped += 1,
                    Known::SameFile => {}
                },
                Err(reason) => {
                    insert_job(&mut tx, scan, file, "", Some(reason)).await?;
                    sum.failed += 1;
                }
            }
        }
        let skipped = sqlx::query("UPDATE sessions SET skipped = skipped + ? WHERE id = ?");
        skipped.bind(signed(sum.skipped)).bind(scan.session).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(Some(sum))
    }
}

enum Known {
    No,
    /// This very file, by this very scan, before a restart.
    SameFile,
    /// Its content has a vector already, or has a job that will make one.
    Elsewhere,
}

async fn find_known(
    tx: &mut SqliteConnection,
    scan: &Scan,
    file: &Found,
    hash: &str,
    now: Timestamp,
) -> Result<Known, StoreError> {
    let job = sqlx::query(
        "SELECT scan = ?1 AND library = ?2 AND file = ?3 AS same FROM jobs
        WHERE session = ?4 AND content_hash = ?5 AND model = ?6 AND collection = ?7 AND (state <> 'failed' OR scan = ?1)
        ORDER BY same DESC LIMIT 1",
    );
    let job = job.bind(scan.number).bind(&scan.library).bind(&file.track.file).bind(scan.session).bind(hash);
    if let Some(row) = job.bind(&scan.model).bind(&scan.collection).fetch_optional(&mut *tx).await? {
        return Ok(if row.try_get("same")? { Known::SameFile } else { Known::Elsewhere });
    }
    let stored = sqlx::query("SELECT 1 FROM vectors WHERE collection = ? AND model = ? AND content_hash = ?");
    let stored = stored.bind(&scan.collection).bind(&scan.model).bind(hash).fetch_optional(&mut *tx).await?;
    if stored.is_some() {
        return Ok(Known::Elsewhere);
    }
    // Another collection has it: the numbers would come out the same.
    let copied = sqlx::query(
        "INSERT INTO vectors (collection, model, content_hash, artist, title, album, file, seconds, backend, device,
            worker, flags, stored_ms, embedding, tags)
        SELECT ?1, model, content_hash, ?2, ?3, ?4, ?5, seconds, backend, device, worker, flags, ?6, embedding, tags
        FROM vectors WHERE content_hash = ?7 AND model = ?8 LIMIT 1",
    );
    let track = &file.track;
    let copied = copied.bind(&scan.collection).bind(&track.artist).bind(&track.title).bind(&track.album);
    let copied = copied.bind(&track.file).bind(millis(now)).bind(hash).bind(&scan.model).execute(&mut *tx).await?;
    Ok(if copied.rows_affected() > 0 { Known::Elsewhere } else { Known::No })
}

/// Puts a job at the end of the queue, or among the failed. It takes the place of an earlier failure of the same file.
async fn insert_job(
    tx: &mut SqliteConnection,
    scan: &Scan,
    file: &Found,
    hash: &str,
    error: Option<&str>,
) -> Result<(), StoreError> {
    let earlier = sqlx::query(
        "DELETE FROM jobs WHERE session = ? AND library = ? AND file = ? AND state = 'failed'
        AND model = ? AND collection = ?",
    );
    let earlier = earlier.bind(scan.session).bind(&scan.library).bind(&file.track.file);
    earlier.bind(&scan.model).bind(&scan.collection).execute(&mut *tx).await?;
    let query = sqlx::query(
        "INSERT INTO jobs (session, scan, model, collection, library, file, artist, title, album, bytes, content_hash,
            state, error)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    );
    let query = query.bind(scan.session).bind(scan.number).bind(&scan.model).bind(&scan.collection);
    let track = &file.track;
    let query = query.bind(&scan.library).bind(&track.file).bind(&track.artist).bind(&track.title).bind(&track.album);
    let state = if error.is_some() { "failed" } else { "queued" };
    query.bind(signed(file.bytes)).bind(hash).bind(state).bind(error).execute(tx).await?;
    Ok(())
}

impl FromRow<'_, SqliteRow> for Scan {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            session: row.try_get("id")?,
            code: code_of(row)?,
            library: row.try_get("scanning")?,
            collection: row.try_get("collection")?,
            model: row.try_get("model")?,
            number: row.try_get("scan")?,
        })
    }
}

// Jobs.

/// The first job of a session that may go to a worker: see [`Job::may_go_to`].
const SELECT_FIRST_WAITING: &str = "SELECT id FROM jobs
    WHERE session = ?1 AND state = 'queued' AND not_before_ms <= ?2 AND bytes <= ?3
        AND (not_again_before_ms <= ?2 OR holder <> ?4)
    ORDER BY id LIMIT 1";

impl Store {
    /// Leases the first waiting job whose file is no larger than `max_bytes` to the worker of that name, if it may have it.
    pub(crate) async fn claim(
        &self,
        session: SessionId,
        max_bytes: u64,
        token: LeaseToken,
        holder: &str,
        now: Timestamp,
    ) -> Result<Option<JobRow>, StoreError> {
        let first = || {
            let query = sqlx::query_scalar(SELECT_FIRST_WAITING).bind(session).bind(millis(now));
            query.bind(signed(max_bytes)).bind(holder)
        };
        // Most often nothing waits; to see that, nobody has to be kept from writing.
        let waiting: Option<JobId> = first().fetch_optional(&self.reader).await?;
        if waiting.is_none() {
            return Ok(None);
        }
        let mut tx = self.write().await?;
        let owner = sqlx::query_as(select_sessions!("WHERE id = ?")).bind(session);
        let owner: SessionRow = owner.fetch_one(&mut *tx).await?;
        let Some(id) = first().fetch_optional(&mut *tx).await?.filter(|_: &JobId| owner.flags.may_hand_out()) else {
            return Ok(None);
        };
        let Some(mut row) = load(&mut tx, session, id).await? else { return Ok(None) };
        if row.job.lease(token, holder, now).is_err() {
            return Ok(None);
        }
        save(&mut tx, &row.job).await?;
        tx.commit().await?;
        Ok(Some(row))
    }

    /// Lets `decide` change a job of this session.
    pub(crate) async fn decide<T>(
        &self,
        session: SessionId,
        id: JobId,
        decide: impl FnOnce(&mut Job) -> Result<T, NotYourLease>,
    ) -> Result<Result<(JobRow, T), Refusal>, StoreError> {
        let mut tx = self.write().await?;
        let Some(mut row) = load(&mut tx, session, id).await? else { return Ok(Err(Refusal::UnknownJob)) };
        let decision = match decide(&mut row.job) {
            Ok(decision) => decision,
            Err(refusal) => return Ok(Err(refusal.into())),
        };
        save(&mut tx, &row.job).await?;
        tx.commit().await?;
        Ok(Ok((row, decision)))
    }

    /// Queues again what has failed with this worker as the last to try, as far as `reopen` does, and returns how many
    /// tracks that is.
    pub(crate) async fn reopen_failed_of(
        &self,
        session: SessionId,
        holder: &str,
        reopen: impl Fn(&mut Job) -> Result<(), NotLeasable>,
    ) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let failed = sqlx::query_as(select_jobs!("WHERE session = ? AND state = 'failed' AND holder = ?"));
        let failed: Vec<JobRow> = failed.bind(session).bind(holder).fetch_all(&mut *tx).await?;
        let mut reopened = 0;
        for mut row in failed {
            if reopen(&mut row.job).is_ok() {
                save(&mut tx, &row.job).await?;
                reopened += 1;
            }
        }
        tx.commit().await?;
        Ok(reopened)
    }

    /// Takes a worker's answer, and stores its vector in the same transaction.
    pub(crate) async fn answer(
        &self,
        session: SessionId,
        held: &JobRef,
        outcome: Outcome,
        maker: &Maker,
        now: Timestamp,
    ) -> Result<Result<(JobRow, Answer), Refusal>, StoreError> {
        let mut tx = self.write().await?;
        let Some(mut row) = load(&mut tx, session, held.job).await? else { return Ok(Err(Refusal::UnknownJob)) };
        let mut invalid = None;
        let judged = match outcome {
            Outcome::Failed(failure) => Err(failure),
            Outcome::Done(vector) => judge(&row.model, vector, &mut invalid),
        };
        let answer = match &judged {
            Ok(_) => row.job.complete(&held.lease),
            Err(failure) => row.job.fail(&held.lease, failure, now),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(refusal) => return Ok(Err(refusal.into())),
        };
        if let (Ok(vector), Answer::Stored) = (&judged, answer) {
            insert_vector(&mut tx, &row, vector, maker, now).await?;
        }
        save(&mut tx, &row.job).await?;
        tx.commit().await?;
        match invalid {
            Some(reason) if answer != Answer::Repeated => {
                Ok(Err(Refusal::InvalidVector(reason, Box::new((row, answer)))))
            }
            _ => Ok(Ok((row, answer))),
        }
    }

    /// Leases that have run out, with their sessions' codes.
    pub(crate) async fn expired(&self, now: Timestamp) -> Result<Vec<(PairingCode, JobRef)>, StoreError> {
        let query = sqlx::query(
            "SELECT code, j.id AS id, token FROM jobs j JOIN sessions s ON s.id = j.session
            WHERE j.state = 'leased' AND j.deadline_ms <= ? ORDER BY j.deadline_ms LIMIT ?",
        );
        let rows = query.bind(millis(now)).bind(MAX_EXPIRED_PER_SWEEP).fetch_all(&self.reader).await?;
        let read = |row: &SqliteRow| {
            let lease = row.try_get::<Option<LeaseToken>, _>("token")?.unwrap_or_default();
            Ok((code_of(row)?, JobRef { job: row.try_get("id")?, lease }))
        };
        Ok(rows.iter().map(read).collect::<sqlx::Result<_>>()?)
    }

    /// One job of any session.
    pub(crate) async fn job(&self, id: JobId) -> Result<Option<JobRow>, StoreError> {
        Ok(sqlx::query_as(select_jobs!("WHERE id = ?")).bind(id).fetch_optional(&self.reader).await?)
    }

    /// A session's jobs by number, of one state or of all.
    pub(crate) async fn jobs(
        &self,
        session: SessionId,
        state: Option<JobState>,
        offset: u64,
        limit: u32,
    ) -> Result<Vec<JobRow>, StoreError> {
        let query = match state {
            Some(state) => sqlx::query_as(select_jobs!("WHERE session = ? AND state = ? ORDER BY id LIMIT ? OFFSET ?"))
                .bind(session)
                .bind(state_name(state)),
            None => sqlx::query_as(select_jobs!("WHERE session = ? ORDER BY id LIMIT ? OFFSET ?")).bind(session),
        };
        Ok(query.bind(limit).bind(signed(offset)).fetch_all(&self.reader).await?)
    }
}

async fn load(tx: &mut SqliteConnection, session: SessionId, id: JobId) -> Result<Option<JobRow>, StoreError> {
    let query = sqlx::query_as(select_jobs!("WHERE id = ? AND session = ?")).bind(id).bind(session);
    Ok(query.fetch_optional(tx).await?)
}

async fn save(tx: &mut SqliteConnection, job: &Job) -> Result<(), StoreError> {
    let [not_before, not_again_before, deadline] = match job.state {
        State::Queued { not_before, not_again_before } => [not_before, not_again_before, Timestamp::ZERO],
        State::Leased { deadline } => [Timestamp::ZERO, Timestamp::ZERO, deadline],
        State::Done | State::Failed => [Timestamp::ZERO; 3],
    };
    let query = sqlx::query(
        "UPDATE jobs SET state = ?, not_before_ms = ?, not_again_before_ms = ?, deadline_ms = ?, attempts = ?,
            leases = ?, token = ?, holder = ?, answered = ?, reopened = ?, error = ?
        WHERE id = ?",
    );
    let query = query.bind(state_name(view_state(job.state))).bind(millis(not_before)).bind(millis(not_again_before));
    let query = query
        .bind(millis(deadline))
        .bind(job.attempts)
        .bind(job.leases)
        .bind(&job.token)
        .bind(&job.holder)
        .bind(job.answered)
        .bind(job.reopened)
        .bind(&job.error);
    query.bind(job.id).execute(tx).await?;
    Ok(())
}

impl FromRow<'_, SqliteRow> for JobRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let moment = |column| row.try_get::<i64, _>(column).map(|ms| Timestamp(unsigned(ms)));
        let state = match row.try_get("state")? {
            "queued" => {
                State::Queued { not_before: moment("not_before_ms")?, not_again_before: moment("not_again_before_ms")? }
            }
            "leased" => State::Leased { deadline: moment("deadline_ms")? },
            "done" => State::Done,
            _ => State::Failed,
        };
        Ok(Self {
            job: Job {
                id: row.try_get("id")?,
                state,
                attempts: row.try_get("attempts")?,
                leases: row.try_get("leases")?,
                token: row.try_get("token")?,
                holder: row.try_get("holder")?,
                answered: row.try_get("answered")?,
                reopened: row.try_get("reopened")?,
                error: row.try_get("error")?,
            },
            model: row.try_get("model")?,
            library: row.try_get("library")?,
            track: track_of(row)?,
            bytes: unsigned(row.try_get("bytes")?),
            collection: row.try_get("collection")?,
            content_hash: row.try_get("content_hash")?,
        })
    }
}

/// A job's state as pages know it.
pub(crate) fn view_state(state: State) -> JobState {
    match state {
        State::Queued { .. } => JobState::Queued,
        State::Leased { .. } => JobState::Leased,
        State::Done => JobState::Done,
        State::Failed => JobState::Failed,
    }
}

fn state_name(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "queued",
        JobState::Leased => "leased",
        JobState::Done => "done",
        JobState::Failed => "failed",
    }
}

// Vectors.

impl Store {
    /// Every collection that holds something.
    pub(crate) async fn collections(&self) -> Result<Vec<CollectionView>, StoreError> {
        let query = sqlx::query("SELECT collection, COUNT(*) AS tracks FROM vectors GROUP BY collection");
        let rows = query.fetch_all(&self.reader).await?;
        let read = |row: &SqliteRow| {
            Ok(CollectionView { name: row.try_get("collection")?, tracks: unsigned(row.try_get("tracks")?) })
        };
        Ok(rows.iter().map(read).collect::<sqlx::Result<_>>()?)
    }

    /// Vectors in the collection; none when neither a vector nor a session has ever named it.
    pub(crate) async fn count_vectors(&self, collection: &str) -> Result<Option<u64>, StoreError> {
        let query = sqlx::query(
            "SELECT (SELECT COUNT(*) FROM vectors WHERE collection = ?1) AS tracks,
                EXISTS (SELECT 1 FROM sessions WHERE collection = ?1) AS named",
        );
        let row = query.bind(collection).fetch_one(&self.reader).await?;
        let tracks = unsigned(row.try_get("tracks")?);
        Ok((tracks > 0 || row.try_get("named")?).then_some(tracks))
    }

    /// A collection's vectors by number.
    pub(crate) async fn vectors(
        &self,
        collection: &str,
        offset: u64,
        limit: u32,
    ) -> Result<Vec<TrackView>, StoreError> {
        let query = sqlx::query(select_vectors!("WHERE collection = ? ORDER BY id LIMIT ? OFFSET ?"));
        let rows = query.bind(collection).bind(limit).bind(signed(offset)).fetch_all(&self.reader).await?;
        Ok(rows.iter().map(vector_of).collect::<sqlx::Result<_>>()?)
    }

    /// What an export of the collection, or of one model's vectors in it, would cover now. Vectors are never changed or
    /// deleted, so the rows up to `last_id` stay what they are while the export goes on.
    pub(crate) async fn extent(&self, collection: &str, model: Option<&str>) -> Result<Extent, StoreError> {
        let query = sqlx::query(
            "SELECT COUNT(*) AS tracks, MAX(id) AS last_id, COUNT(DISTINCT model) AS models,
                MIN(length(embedding)) AS shortest, MAX(length(embedding)) AS longest
            FROM vectors WHERE collection = ?1 AND (?2 IS NULL OR model = ?2)",
        );
        let row = query.bind(collection).bind(model).fetch_one(&self.reader).await?;
        let number = |column| row.try_get::<Option<i64>, _>(column).map(Option::unwrap_or_default);
        let length = |column| number(column).map(|bytes| unsigned(bytes) as usize / size_of::<f32>());
        Ok(Extent {
            rows: unsigned(number("tracks")?),
            last_id: number("last_id")?,
            models: unsigned(number("models")?),
            lengths: (length("shortest")?, length("longest")?),
        })
    }

    /// The next vectors after number `after`, up to number `last`.
    pub(crate) async fn vectors_between(
        &self,
        collection: &str,
        model: Option<&str>,
        after: i64,
        last: i64,
        limit: u32,
    ) -> Result<Vec<TrackView>, StoreError> {
        let query = sqlx::query(select_vectors!(
            "WHERE collection = ?1 AND id > ?2 AND id <= ?3 AND (?4 IS NULL OR model = ?4) ORDER BY id LIMIT ?5"
        ));
        let query = query.bind(collection).bind(after).bind(last).bind(model).bind(limit);
        let rows = query.fetch_all(&self.reader).await?;
        Ok(rows.iter().map(vector_of).collect::<sqlx::Result<_>>()?)
    }
}

/// A vector that has been found fit to be stored.
struct Judged {
    embedding: Embedding,
    seconds: f64,
    flags: Vec<String>,
}

/// Whether the vector is one of this model's; if not, the failure that it amounts to.
fn judge(model: &str, vector: Vector, invalid: &mut Option<InvalidVector>) -> Result<Judged, Failure> {
    let spec = models::spec(model).ok_or_else(|| models::missing(model))?;
    let (seconds, flags) = (vector.seconds, vector.flags.clone());
    match Embedding::check(&spec, vector) {
        Ok(embedding) => Ok(Judged { embedding, seconds, flags }),
        Err(reason) => {
            let message = reason.to_string();
            *invalid = Some(reason);
            Err(Failure { kind: FailureKind::Passing, message })
        }
    }
}

/// Stores a job's vector. Another session may have stored the same content's in the meantime; then that one stays.
async fn insert_vector(
    tx: &mut SqliteConnection,
    row: &JobRow,
    vector: &Judged,
    maker: &Maker,
    now: Timestamp,
) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO vectors (collection, model, content_hash, artist, title, album, file, seconds, backend, device,
            worker, flags, stored_ms, embedding, tags)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (collection, model, content_hash) DO NOTHING",
    );
    let query = query.bind(&row.collection).bind(vector.embedding.model()).bind(&row.content_hash);
    let track = &row.track;
    let query = query.bind(&track.artist).bind(&track.title).bind(&track.album).bind(&track.file);
    let query = query.bind(vector.seconds).bind(&maker.device.backend).bind(&maker.device.name).bind(maker.kind.name());
    let flags = serde_json::to_string(&vector.flags).expect("texts are always JSON");
    let query = query.bind(flags).bind(millis(now));
    query.bind(to_blob(vector.embedding.numbers())).bind(to_blob(vector.embedding.tags())).execute(tx).await?;
    Ok(())
}

fn vector_of(row: &SqliteRow) -> sqlx::Result<TrackView> {
    Ok(TrackView {
        id: row.try_get("id")?,
        track: track_of(row)?,
        seconds: row.try_get("seconds")?,
        content_hash: row.try_get("content_hash")?,
        model: row.try_get("model")?,
        device: Device { backend: row.try_get("backend")?, name: row.try_get("device")? },
        worker: match row.try_get("worker")? {
            "browser" => WorkerKind::Browser,
            _ => WorkerKind::Native,
        },
        flags: serde_json::from_str(row.try_get("flags")?).map_err(|error| sqlx::Error::Decode(error.into()))?,
        stored_at_ms: unsigned(row.try_get("stored_ms")?),
        embedding: from_blob(row.try_get("embedding")?),
        tags: from_blob(row.try_get("tags")?),
    })
}

fn to_blob(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn from_blob(bytes: &[u8]) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks();
    numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

// Columns.

fn track_of(row: &SqliteRow) -> sqlx::Result<Track> {
    Ok(Track {
        artist: row.try_get("artist")?,
        title: row.try_get("title")?,
        album: row.try_get("album")?,
        file: row.try_get("file")?,
    })
}

fn code_of(row: &SqliteRow) -> sqlx::Result<PairingCode> {
    row.try_get::<&str, _>("code")?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// SQLite's integers are signed; nothing here comes near their end.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn millis(moment: Timestamp) -> i64 {
    signed(moment.0)
}

#[cfg(test)]
mod tests;
