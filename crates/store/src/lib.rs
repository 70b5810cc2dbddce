//! What outlives a restart: sessions, their jobs, the vectors, and what lets people and programs in. Two engines do it alike:
//! SQLite for one coordinator with a file of its own, PostgreSQL for any number of them; a third one, in memory, is for tests.
//! Each has all its SQL in its own file and in `migrations/`; here is what they have in common: what is stored, and which
//! errors pass. How jobs are queued, leased, answered and queued again is written once for all, in `changes.rs`.
//!
//! Decides nothing about jobs: that does [`Job`]. The moments that several coordinators compare come from their clocks, which
//! are to agree to the second.

mod archive;
mod changes;
mod credentials;
mod database;
mod duplicates;
mod error;
mod invitations;
mod lock;
#[cfg(any(test, feature = "memory"))]
pub mod memory;
mod metrics;
mod models;
mod postgres;
mod rows;
mod snapshot;
mod sqlite;
mod transfer;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chaarfm_coordinator::{
    Answer, Asked, Flags, Job, LAST_TRY, NotLeasable, NotYourLease, Renewal, Said, State, Taken, Timestamp, WorkerId,
};
use chaarfm_domain::{
    Counts, Device, Found, InvalidVector, InvitationId, InvitationLimits, JobId, JobRef, JobState, LeaseToken,
    LeftOutFiles, PairingCode, SessionId, Track, WorkerKind,
};
use serde::{Deserialize, Serialize};
use sqlx::{
    SqlSafeStr, SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};
use tokio::sync::Semaphore;

pub use archive::{export_database, import_database};
use changes::Jobs;
pub use credentials::{Credential, CredentialKind, NewCredential};
pub use database::{Database, DatabaseError};
pub use error::StoreError;
use invitations::FIRST_NAME;
#[cfg(any(test, feature = "memory"))]
use invitations::MAX_INVITATIONS;
pub use invitations::{FreshInvitation, INVITATION_DAYS, Invitation, Invited, Origin};
pub use lock::{OpenError, create_private};
#[cfg(any(test, feature = "memory"))]
use memory::Memory;
pub use metrics::StoreMetrics;
pub use models::model_spec;
use postgres::Postgres;
use snapshot::MAX_SNAPSHOTS;
pub use snapshot::{MAX_STALL_SECONDS, Snapshot};
use sqlite::Sqlite;
pub use transfer::RecordCounts;
use transfer::{Kind, Record};

/// A scan whose process has said nothing for this long is taken over by another one.
pub const SCAN_TTL_SECONDS: u64 = 60;

/// Longest wait for a server's answer; it is longer than the waits for a connection and for a lock together. A host that
/// vanishes says nothing more, and without a limit that would be waited for until the system gives up: a quarter of an hour.
const MAX_ANSWER_SECONDS: u64 = 20;

/// The same for what goes through a whole queue, makes an index or takes in a page of an export.
const MAX_LONG_ANSWER_SECONDS: u64 = 600;

/// Tracks of one artist and title are the same if their lengths, in seconds, differ by no more than this.
const MAX_LENGTH_DIFFERENCE: f64 = 2.0;

/// Jobs of ended sessions that one transaction deletes.
const MAX_PRUNED_JOBS: i64 = 1000;

/// Leases that one sweep ends; the next sweep goes on.
const MAX_EXPIRED_PER_SWEEP: i64 = 1000;

/// Seconds of a day.
pub const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// Why a worker's word about a job does not count.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The session has no such job, or has it no more.
    #[error("there is no such job (any more)")]
    UnknownJob,
    /// The job is held under another lease, or under none.
    #[error(transparent)]
    NotYourLease(#[from] NotYourLease),
    /// The failure has been recorded, with what became of the job.
    #[error("{0}")]
    InvalidVector(InvalidVector, Box<(JobRow, Answer)>),
}

/// What another coordinator tells about a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Something has happened after which there may be work to hand out, or something else to show.
    Work(SessionId),
    /// What it shows of its workers has changed, and nothing else.
    Presence(SessionId),
}

impl News {
    /// The session that it is about.
    pub fn session(self) -> SessionId {
        match self {
            Self::Work(session) | Self::Presence(session) => session,
        }
    }
}

/// What other coordinators tell. Ends never.
pub struct Wakeups(Listener);

enum Listener {
    /// There are no others.
    Never,
    Postgres(postgres::Listener),
    #[cfg(any(test, feature = "memory"))]
    Memory(memory::Listener),
}

impl Wakeups {
    /// The next piece of news. None means that something may have happened in any session, and that nobody knows in which.
    pub async fn next(&mut self) -> Option<News> {
        match &mut self.0 {
            Listener::Never => std::future::pending().await,
            Listener::Postgres(listener) => listener.next().await,
            #[cfg(any(test, feature = "memory"))]
            Listener::Memory(listener) => listener.next().await,
        }
    }
}

/// A session as it is stored, with its jobs counted.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRow {
    /// Its number.
    pub id: SessionId,
    /// What lets workers in.
    pub code: PairingCode,
    /// Model that its jobs ask for.
    pub model: String,
    /// Collection that its vectors go to.
    pub collection: String,
    /// What its owner has decided.
    pub flags: Flags,
    /// Its jobs by state.
    pub counts: Counts,
    /// What the newest scan left out.
    pub left_out: Vec<LeftOutFiles>,
}

/// What a session begins with.
#[derive(Debug, Clone, Copy)]
pub struct NewSession<'a> {
    /// What lets workers in.
    pub code: PairingCode,
    /// Model that its jobs are to ask for.
    pub model: &'a str,
    /// Collection that its vectors are to go to.
    pub collection: &'a str,
    /// The moment.
    pub now: Timestamp,
}

impl NewSession<'_> {
    /// Its first invitation.
    fn invitation(&self, session: SessionId) -> FreshInvitation<'static> {
        FreshInvitation {
            session,
            code: self.code,
            name: FIRST_NAME,
            limits: InvitationLimits::default(),
            now: self.now,
            expires: self.now.plus_seconds(u64::from(INVITATION_DAYS) * SECONDS_PER_DAY),
        }
    }

    fn row(&self, id: SessionId) -> SessionRow {
        SessionRow {
            id,
            code: self.code,
            model: self.model.to_owned(),
            collection: self.collection.to_owned(),
            flags: Flags::default(),
            counts: Counts::default(),
            left_out: Vec::new(),
        }
    }
}

/// A job as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRow {
    /// What rules decide about.
    pub job: Job,
    /// Model that it asks for.
    pub model: String,
    /// Name of the library that the file is in.
    pub library: String,
    /// The track.
    pub track: Track,
    /// Size of the file.
    pub bytes: u64,
    /// See [`Found::version`].
    pub version: Option<String>,
    /// Kind of the worker that has, or had, the newest lease.
    pub holder_kind: Option<WorkerKind>,
    /// BLAKE3 of the file's bytes, in lower-case hexadecimal.
    pub content_hash: String,
    collection: String,
    track_key: Option<String>,
}

/// A worker that has room for a job, and the lease under which it is to have it.
#[derive(Debug, Clone)]
pub struct Claim<'a> {
    /// The lease.
    pub lease: LeaseToken,
    /// The worker's name, which is the hash of its key.
    pub worker: &'a str,
    /// By which the worker has joined.
    pub invitation: InvitationId,
    /// Which kind of worker it is.
    pub kind: WorkerKind,
    /// The largest file it takes.
    pub max_bytes: u64,
    /// Whether it is given the last try of a job.
    pub takes_last_tries: bool,
}

impl Claim<'_> {
    /// The attempts that a job has used up at most for the worker to have it.
    pub fn max_attempts(&self) -> i64 {
        i64::from(if self.takes_last_tries { u32::MAX } else { LAST_TRY - 1 })
    }
}

/// What became of the claims of one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// For each claim, in their order, the job that it got.
    pub rows: Vec<Option<JobRow>>,
    /// The job at which claiming ended, because it cannot be served here. It waits as before.
    pub unserved: Option<JobRow>,
}

/// The workers that are given jobs, as far as it decides whether any of them may have a certain one: who is the only one to
/// take files of its size has to wait longer for what it has failed itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Takers {
    /// Name of the one that takes the largest files.
    pub greatest: String,
    /// The largest file it takes; 0 when there is nobody.
    pub max_bytes: u64,
    /// The largest file that workers of other names take.
    pub max_bytes_of_others: u64,
}

impl Takers {
    /// Adds a worker of that name, which takes files of `max_bytes`.
    pub fn add(&mut self, worker: &str, max_bytes: u64) {
        if worker == self.greatest {
            self.max_bytes = self.max_bytes.max(max_bytes);
        } else if max_bytes > self.max_bytes {
            self.max_bytes_of_others = self.max_bytes;
            self.max_bytes = max_bytes;
            worker.clone_into(&mut self.greatest);
        } else {
            self.max_bytes_of_others = self.max_bytes_of_others.max(max_bytes);
        }
    }

    /// Adds those of another coordinator. A worker that is just moving from one to the other may count as two.
    pub fn join(&mut self, others: &Self) {
        self.add(&others.greatest, others.max_bytes);
        self.max_bytes_of_others = self.max_bytes_of_others.max(others.max_bytes_of_others);
    }
}

/// What becomes of the first queued jobs at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueStatus {
    /// One of the workers may have them, as soon as it has room.
    pub ready: u64,
    /// None of the workers takes files of their size.
    pub too_large: u64,
    /// Have been tried, and wait for their next try.
    pub resting: u64,
    /// When the first of the resting ones may be tried.
    pub next_try: Option<Timestamp>,
}

/// One pass over a library on behalf of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    /// The session that it is for.
    pub session: SessionId,
    /// That session's code.
    pub code: PairingCode,
    /// Name of the library.
    pub library: String,
    /// Collection that the vectors go to.
    pub collection: String,
    /// Model that the jobs ask for.
    pub model: String,
    /// Which of all scans it is.
    pub number: i64,
    /// Whether equal artist, title and length are no reason to skip a file.
    pub every_file: bool,
}

/// What a scan is to do.
#[derive(Debug, Clone, Copy)]
pub struct ScanOrder<'a> {
    /// Name of the library.
    pub library: &'a str,
    /// Collection that the vectors are to go to.
    pub collection: &'a str,
    /// Model that the jobs are to ask for.
    pub model: &'a str,
    /// See [`Scan::every_file`].
    pub every_file: bool,
}

/// What became of the files a scan has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Enqueued {
    /// Wait for a worker.
    pub queued: u64,
    /// Known already, by their content or by artist, title and length.
    pub skipped: u64,
    /// How many of these are known by artist, title and length alone.
    pub alike: u64,
    /// Cannot be jobs.
    pub failed: u64,
}

/// What became of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filed {
    Queued,
    /// Its content has a vector already, or has a job that is to make one.
    Known,
    /// Another content of its artist, title and length has one.
    Alike,
    /// This very scan has seen this very file, before it was cut off.
    Seen,
    Failed,
}

impl Enqueued {
    fn count(&mut self, filed: Filed) {
        match filed {
            Filed::Queued => self.queued += 1,
            Filed::Known => self.skipped += 1,
            Filed::Alike => {
                self.skipped += 1;
                self.alike += 1;
            }
            Filed::Failed => self.failed += 1,
            Filed::Seen => {}
        }
    }
}

/// Why no scan was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoScan {
    /// The session has a scan.
    AlreadyScanning,
    /// The session has ended.
    SessionEnded,
}

/// What became of failed jobs that were to be tried again. Of those that stayed as they were it does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retried {
    /// Wait at the end of the queue, under new numbers and with fresh attempts.
    pub queued: u64,
    /// Have been done otherwise in the meantime: there is a vector. They are not listed any more.
    pub known: u64,
}

/// Who made a vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Maker {
    /// Which kind of worker.
    pub kind: WorkerKind,
    /// What it computed on.
    pub device: Device,
    /// Hash of its key.
    pub key: String,
    /// By which it has joined.
    pub invitation: InvitationId,
}

/// A worker's answer that counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The job as it is now.
    pub row: JobRow,
    /// What became of it.
    pub answer: Answer,
    /// The collection had the track already; the vector that it had stays, and this one is dropped.
    pub duplicate: bool,
}

/// A collection, with its vectors counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionRow {
    /// Its name.
    pub name: String,
    /// Vectors in it.
    pub vectors: u64,
}

/// A vector as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorRow {
    /// Its number.
    pub id: i64,
    /// The track.
    pub track: Track,
    /// Length of the audio.
    pub seconds: f64,
    /// BLAKE3 of the file's bytes, in lower-case hexadecimal.
    pub content_hash: String,
    /// Name of the model that made it.
    pub model: String,
    /// By which kind of worker.
    pub kind: WorkerKind,
    /// What it was computed on.
    pub device: Device,
    /// What a listener to the vector should know: see [`chaarfm_domain::Vector::flags`].
    pub flags: Vec<String>,
    /// When it was stored.
    pub stored: Timestamp,
    /// The embedding.
    pub embedding: Vec<f32>,
    /// Tag activations, 0 to 1, in the model's tag order.
    pub tags: Vec<f32>,
}

/// What an export has to know before its first row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Vectors.
    pub rows: u64,
    /// Models that made them.
    pub models: u64,
    /// Numbers in the shortest and in the longest embedding.
    pub lengths: (usize, usize),
}

/// The database. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Store {
    engine: Engine,
    metrics: StoreMetrics,
    /// The room for snapshots.
    snapshots: Arc<Semaphore>,
}

#[derive(Debug, Clone)]
enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
    #[cfg(any(test, feature = "memory"))]
    Memory(Memory),
}

/// Asks the engine that the store has, and notes how long the answer takes. A server has a limited time for it; a file
/// cannot vanish, and who waits for it has limits of their own.
macro_rules! ask {
    ($store:ident, $engine:ident => $asked:ident.$operation:ident($($argument:expr),*)) => {
        ask!($store, MAX_ANSWER_SECONDS, $engine => $asked.$operation($($argument),*))
    };
    ($store:ident, $limit:ident, $engine:ident => $asked:ident.$operation:ident($($argument:expr),*)) => {{
        let began = Instant::now();
        let answer = match &$store.engine {
            Engine::Sqlite($engine) => $asked.$operation($($argument),*).await,
            Engine::Postgres($engine) => within($limit, $asked.$operation($($argument),*)).await,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory($engine) => $engine.ask(stringify!($operation), $asked.$operation($($argument),*)).await,
        };
        $store.metrics.answered(stringify!($operation), began.elapsed(), &answer);
        answer
    }};
}

/// Asks the engine that coordinators share for something that is between them. `$alone` is the answer where there is one
/// coordinator only.
macro_rules! ask_shared {
    ($store:ident, $alone:expr, $engine:ident => $asked:ident.$operation:ident($($argument:expr),*)) => {
        match &$store.engine {
            Engine::Sqlite(_) => $alone,
            Engine::Postgres($engine) => within(MAX_ANSWER_SECONDS, $asked.$operation($($argument),*)).await,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory($engine) => $engine.ask(stringify!($operation), $asked.$operation($($argument),*)).await,
        }
    };
}

/// What a server does in this time or not at all.
async fn within<T>(limit_seconds: u64, asked: impl Future<Output = Stored<T>>) -> Stored<T> {
    let limit = Duration::from_secs(limit_seconds);
    tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| Err(StoreError::unanswered(limit)))
}

type Stored<T> = Result<T, StoreError>;

impl Store {
    /// Opens the database, and creates it or brings it up to date.
    pub async fn open(database: &Database) -> Stored<Self> {
        let engine = match database {
            Database::Sqlite(path) => Engine::Sqlite(Sqlite::open(path).await?),
            Database::Postgres(url) => Engine::Postgres(Postgres::open(url).await?),
        };
        Ok(Self::of(engine))
    }

    fn of(engine: Engine) -> Self {
        Self { engine, metrics: StoreMetrics::default(), snapshots: Arc::new(Semaphore::new(MAX_SNAPSHOTS)) }
    }

    /// What a process has in memory, or shares with others.
    #[cfg(any(test, feature = "memory"))]
    pub fn in_memory(memory: Memory) -> Self {
        Self::of(Engine::Memory(memory))
    }

    /// Begins to work on the database as a coordinator, which one does not while something is being imported, and the
    /// other way round.
    pub async fn serve(&self) -> Stored<()> {
        let is_half_imported = match &self.engine {
            Engine::Sqlite(engine) => engine.is_half_imported().await?,
            Engine::Postgres(engine) => within(MAX_ANSWER_SECONDS, engine.serve()).await?,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(_) => false,
        };
        if is_half_imported { Err(StoreError::HalfImported) } else { Ok(()) }
    }

    /// How long its answers take, and which are errors.
    pub fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }

    /// Builds the indexes of collections that are lacking, and returns how many. On one database one coordinator does so at a
    /// time, and the others come away with nothing. Only PostgreSQL has such indexes.
    pub async fn build_indexes(&self) -> Stored<u64> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(0),
            Engine::Postgres(engine) => engine.build_indexes().await,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(_) => Ok(0),
        }
    }

    /// Ends all connections.
    pub async fn close(&self) {
        match &self.engine {
            Engine::Sqlite(engine) => engine.close().await,
            Engine::Postgres(engine) => engine.close().await,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(_) => {}
        }
    }

    /// Asks the database for something that costs nothing.
    pub async fn ping(&self) -> Stored<()> {
        ask!(self, engine => engine.ping())
    }

    /// Whether other coordinators may work on the same database.
    pub fn is_shared(&self) -> bool {
        match &self.engine {
            Engine::Sqlite(_) => false,
            Engine::Postgres(_) => true,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(engine) => engine.is_shared(),
        }
    }

    /// Tells the other coordinators that something has happened in these sessions after which there may be work to hand
    /// out, or something else to show.
    pub async fn notify(&self, sessions: &[SessionId]) -> Stored<()> {
        ask_shared!(self, Ok(()), engine => engine.notify(sessions))
    }

    /// What the other coordinators tell with [`Store::notify`].
    pub fn wakeups(&self) -> Wakeups {
        Wakeups(match &self.engine {
            Engine::Sqlite(_) => Listener::Never,
            Engine::Postgres(engine) => Listener::Postgres(engine.listener()),
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(engine) => Listener::Memory(engine.listener()),
        })
    }

    /// A number for a worker, which none has had before: on one coordinator since it was started, on several ever.
    pub async fn next_worker(&self) -> Stored<WorkerId> {
        match &self.engine {
            Engine::Sqlite(engine) => Ok(engine.next_worker()),
            Engine::Postgres(engine) => within(MAX_ANSWER_SECONDS, engine.next_worker()).await,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(engine) => engine.ask("next_worker", engine.next_worker()).await,
        }
    }
}

// What coordinators show each other of their sessions; nothing where there is only one.

impl Store {
    /// Has others read what this coordinator shows of these sessions, each once, until it is published again or `until`
    /// has come. Wakes them.
    pub async fn publish_presence(&self, views: &[(SessionId, String)], until: Timestamp) -> Stored<()> {
        ask_shared!(self, Ok(()), engine => engine.publish_presence(views, until))
    }

    /// Takes back what this coordinator shows of these sessions. Wakes the others.
    pub async fn withdraw_presence(&self, sessions: &[SessionId]) -> Stored<()> {
        ask_shared!(self, Ok(()), engine => engine.withdraw_presence(sessions))
    }

    /// What the other coordinators show of a session, always in the same order.
    pub async fn presence_of_others(&self, session: SessionId, now: Timestamp) -> Stored<Vec<String>> {
        ask_shared!(self, Ok(Vec::new()), engine => engine.presence_of_others(session, now))
    }

    /// Forgets what coordinators have shown that have died since.
    pub async fn sweep_presence(&self, now: Timestamp) -> Stored<()> {
        ask_shared!(self, Ok(()), engine => engine.sweep_presence(now))
    }
}

// Sessions.

impl Store {
    /// The newest session that has not ended; `fresh` becomes one when there is none.
    pub async fn current_session(&self, fresh: NewSession<'_>) -> Stored<SessionRow> {
        ask!(self, engine => engine.current_session(fresh))
    }

    /// A new session; none when `max_open` have not ended yet.
    pub async fn create_session(&self, fresh: NewSession<'_>, max_open: u32) -> Stored<Option<SessionRow>> {
        ask!(self, engine => engine.create_session(fresh, max_open))
    }

    /// The session with this code.
    pub async fn session(&self, code: &PairingCode) -> Stored<Option<SessionRow>> {
        ask!(self, engine => engine.session(code))
    }

    /// Every session that has not ended.
    pub async fn open_sessions(&self) -> Stored<Vec<SessionRow>> {
        ask!(self, engine => engine.open_sessions())
    }

    /// Lets the session hand out jobs, or not.
    pub async fn set_paused(&self, id: SessionId, paused: bool) -> Stored<()> {
        ask!(self, engine => engine.set_paused(id, paused))
    }

    /// Forgets what waits, and the scan that may be running. What workers hold stays theirs. Where this is not done at a
    /// stroke, the session is paused meanwhile, and stays so when it fails.
    pub async fn clear_queue(&self, id: SessionId) -> Stored<u64> {
        ask!(self, MAX_LONG_ANSWER_SECONDS, engine => engine.clear_queue(id))
    }

    /// Ends the session and forgets what is not finished: other sessions may want the same tracks. Where this
    /// is not done at a stroke, the session is paused meanwhile, and stays so when it fails.
    pub async fn end_session(&self, id: SessionId, now: Timestamp) -> Stored<()> {
        ask!(self, MAX_LONG_ANSWER_SECONDS, engine => engine.end_session(id, now))
    }

    /// Deletes some jobs of a session that ended by that moment, and the session when it has none left. False when there is
    /// nothing to delete. Several coordinators may do so at once. The newest session stays, so that its number is never
    /// another's.
    pub async fn prune(&self, ended_before: Timestamp, now: Timestamp) -> Stored<bool> {
        ask!(self, engine => engine.prune(ended_before, now))
    }
}

// Scans.

impl Store {
    /// Notes that the session scans a library from now on, in this process, and what its vectors are to be.
    pub async fn begin_scan(
        &self,
        id: SessionId,
        order: ScanOrder<'_>,
        now: Timestamp,
    ) -> Stored<Result<Scan, NoScan>> {
        ask!(self, MAX_LONG_ANSWER_SECONDS, engine => engine.begin_scan(id, order, now))
    }

    /// The scans that nobody has renewed in time. Where only one process uses the database, also those of the processes
    /// before it.
    pub async fn abandoned_scans(&self, now: Timestamp) -> Stored<Vec<Scan>> {
        ask!(self, engine => engine.abandoned_scans(now))
    }

    /// Makes an abandoned scan this process's own; it begins again, and counts again. False when another process was
    /// faster, or the scan has been called off.
    pub async fn take_over_scan(&self, scan: &Scan, now: Timestamp) -> Stored<bool> {
        ask!(self, engine => engine.take_over_scan(scan, now))
    }

    /// Shows that the scan goes on. False when it has been called off or taken over.
    pub async fn renew_scan(&self, scan: &Scan, now: Timestamp) -> Stored<bool> {
        ask!(self, engine => engine.renew_scan(scan, now))
    }

    /// Gives the scan up, for another process to take it over at once.
    pub async fn abandon_scan(&self, scan: &Scan) -> Stored<()> {
        ask!(self, engine => engine.abandon_scan(scan))
    }

    /// Notes that the scan is over, and what it left out.
    pub async fn finish_scan(&self, scan: &Scan, left_out: &[LeftOutFiles]) -> Stored<()> {
        ask!(self, engine => engine.finish_scan(scan, left_out))
    }

    /// Queues what a scan has found, except what is known. None when the scan has been called off or taken over.
    pub async fn enqueue(&self, scan: &Scan, files: &[Found], now: Timestamp) -> Stored<Option<Enqueued>> {
        ask!(self, engine => engine.enqueue(scan, files, now))
    }
}

// Jobs.

impl Store {
    /// Whether the session has a job to hand out, to anybody who takes files of `max_bytes` and what has used up
    /// `max_attempts`: see [`Claim::max_attempts`].
    pub async fn has_waiting(
        &self,
        session: SessionId,
        max_bytes: u64,
        max_attempts: i64,
        now: Timestamp,
    ) -> Stored<bool> {
        ask!(self, engine => engine.has_waiting(session, max_bytes, max_attempts, now))
    }

    /// Which of the first queued jobs these workers may have. However long the queue is, no more than
    /// [`MAX_WAITING_COUNTED`](chaarfm_domain::limits::MAX_WAITING_COUNTED) are looked at; as what can be handed out is,
    /// those that nobody may have come to stand in front.
    pub async fn queue_status(&self, session: SessionId, takers: &Takers, now: Timestamp) -> Stored<QueueStatus> {
        ask!(self, engine => engine.queue_status(session, takers, now))
    }

    /// Leases to each of these workers, one after the other, the first waiting job that it may have, if there is one. All
    /// of it in one transaction: that costs little more than a single job.
    ///
    /// The first that `can_serve` refuses, because its library or its model is not here, stays exactly as it is, and ends
    /// the claiming: what has been leased before it stands, and the other workers get nothing. A coordinator that lacks a
    /// library must not use up the tries of its tracks: other coordinators may have it, or its owner starts this one with it
    /// again.
    pub async fn claim(
        &self,
        session: SessionId,
        claims: &[Claim<'_>],
        can_serve: impl Fn(&JobRow) -> bool + Send,
        now: Timestamp,
    ) -> Stored<Claimed> {
        ask!(self, engine => engine.claim(session, claims, can_serve, now))
    }

    /// Lets `decide` change a job of this session.
    pub async fn decide<T: Send>(
        &self,
        session: SessionId,
        id: JobId,
        decide: impl FnOnce(&mut Job) -> Result<T, NotYourLease> + Send,
    ) -> Stored<Result<(JobRow, T), Refusal>> {
        ask!(self, engine => engine.decide(session, id, decide))
    }

    /// Renews leases, all in one transaction, and returns those that are not what their jobs are held under.
    pub async fn renew_leases(&self, session: SessionId, renewals: &[Renewal]) -> Stored<Vec<(JobRef, Refusal)>> {
        ask!(self, engine => engine.renew_leases(session, renewals))
    }

    /// The next jobs after number `after` that have failed, or are done, with the worker of this name as the last to try.
    pub async fn ended_by(
        &self,
        session: SessionId,
        holder: &str,
        state: JobState,
        after: JobId,
        limit: u32,
    ) -> Stored<Vec<JobId>> {
        ask!(self, engine => engine.ended_by(session, holder, state, after, limit))
    }

    /// Deletes the vectors of these jobs that this worker has made, and queues the jobs again. Returns how many vectors that
    /// were; none of an ended session.
    pub async fn retract(&self, session: SessionId, ids: &[JobId], worker: &str, now: Timestamp) -> Stored<u64> {
        ask!(self, engine => engine.retract(session, ids, worker, now))
    }

    /// Queues again those of these failed jobs that `queue_again` does, and returns how many that is. What has an open job
    /// elsewhere by now stays failed, and so does all of an ended session.
    pub async fn request_second_opinions(
        &self,
        session: SessionId,
        ids: &[JobId],
        queue_again: impl Fn(&mut Job) -> Result<(), NotLeasable> + Send,
    ) -> Stored<u64> {
        ask!(self, engine => engine.request_second_opinions(session, ids, queue_again))
    }

    /// Takes a worker's answer, and stores its vector in the same transaction.
    pub async fn answer(
        &self,
        session: SessionId,
        held: &JobRef,
        said: impl Into<Said>,
        maker: &Maker,
        now: Timestamp,
    ) -> Stored<Result<Answered, Refusal>> {
        let said = said.into();
        ask!(self, engine => engine.answer(session, held, said, maker, now))
    }

    /// Puts failed jobs, or the one that is named, at the end of the queue, unless the session has ended. What has another
    /// open job by now stays failed: nobody knows how that one ends, and it may be dropped. So do files that could not be
    /// read: only a scan can look at them again.
    pub async fn retry_failed(&self, session: SessionId, job: Option<JobId>) -> Stored<Retried> {
        ask!(self, MAX_LONG_ANSWER_SECONDS, engine => engine.retry_failed(session, job))
    }

    /// Leases that have run out, with their sessions' codes.
    pub async fn expired(&self, now: Timestamp) -> Stored<Vec<(PairingCode, JobRef)>> {
        ask!(self, engine => engine.expired(now))
    }

    /// One job of any session.
    pub async fn job(&self, id: JobId) -> Stored<Option<JobRow>> {
        ask!(self, engine => engine.job(id))
    }

    /// A session's jobs by number, of one state or of all.
    pub async fn jobs(
        &self,
        session: SessionId,
        state: Option<JobState>,
        offset: u64,
        limit: u32,
    ) -> Stored<Vec<JobRow>> {
        ask!(self, engine => engine.jobs(session, state, offset, limit))
    }
}

// Vectors.

impl Store {
    /// Every collection that holds something.
    pub async fn collections(&self) -> Stored<Vec<CollectionRow>> {
        ask!(self, engine => engine.collections())
    }

    /// Vectors in the collection; none when neither a vector nor a session has ever named it.
    pub async fn count_vectors(&self, collection: &str) -> Stored<Option<u64>> {
        ask!(self, engine => engine.count_vectors(collection))
    }

    /// A collection's vectors by number.
    pub async fn vectors(&self, collection: &str, offset: u64, limit: u32) -> Stored<Vec<VectorRow>> {
        ask!(self, engine => engine.vectors(collection, offset, limit))
    }
}

// What the engines share.

impl JobRow {
    fn lease(&mut self, claim: &Claim<'_>, now: Timestamp) -> Result<(), NotLeasable> {
        if !self.job.may_go_to(claim.worker, claim.takes_last_tries, now) {
            return Err(NotLeasable);
        }
        self.job.lease(claim.lease.clone(), claim.worker, now)?;
        self.holder_kind = Some(claim.kind);
        Ok(())
    }

    /// Lets the job take a worker's answer.
    fn take(&mut self, held: &JobRef, said: Said, now: Timestamp) -> Result<Taken, NotYourLease> {
        let asked = Asked { model: &self.model, spec: model_spec(&self.model), content_hash: &self.content_hash };
        self.job.take(&asked, &held.lease, said, now)
    }

    /// Whether a worker that had content of this hash had another one than the scan found.
    pub fn is_about_another(&self, content_hash: Option<&str>) -> bool {
        content_hash.is_some_and(|hash| hash != self.content_hash)
    }

    /// What is told to the worker after all of it has been written.
    fn told(self, answer: Answer, invalid: Option<InvalidVector>, duplicate: bool) -> Result<Answered, Refusal> {
        match invalid {
            Some(reason) if answer != Answer::Repeated => Err(Refusal::InvalidVector(reason, Box::new((self, answer)))),
            _ => Ok(Answered { row: self, answer, duplicate }),
        }
    }
}

/// A job's state as the database has it: its name, until when it waits, until when it does for the worker that had it
/// last, until when it is leased.
fn state_columns(state: State) -> (&'static str, [i64; 3]) {
    let moments = match state {
        State::Queued { not_before, not_again_before } => [not_before, not_again_before, Timestamp::ZERO],
        State::Leased { deadline } => [Timestamp::ZERO, Timestamp::ZERO, deadline],
        State::Done | State::Failed => [Timestamp::ZERO; 3],
    };
    (JobState::from(state).name(), moments.map(millis))
}

/// A name for this process among those that work on one database.
fn random_owner() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The steps that lead from nothing to the present schema.
fn migrator(steps: &[(&'static str, &'static str)]) -> Migrator {
    let numbered = (1..).zip(steps);
    let migration = |(version, (name, sql)): (i64, &(&'static str, &'static str))| {
        let sql: SqlStr = sql.into_sql_str();
        Migration::new(version, (*name).into(), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations(numbered.map(migration).collect())
}

/// The databases' integers are signed; nothing here comes near their end.
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
