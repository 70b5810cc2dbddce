//! The store in PostgreSQL with the extension pgvector, for any number of coordinators.
//!
//! A claim passes over jobs that another coordinator is just claiming, so nobody waits for anybody; all other changes of a
//! job lock its row. Vectors of a collection are readable for other programs as a view named `vectors_` and the
//! collection, which has the columns and the index that recommenders of ChaarFM work with.

mod credentials;
mod indexes;
mod invitations;

use std::{
    collections::BTreeSet,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chaarfm_coordinator::{Flags, Job, State, Timestamp, WorkerId};
use chaarfm_domain::{
    Counts, Device, Embedding, Found, InvitationId, JobId, JobRef, JobState, LeaseToken, LeftOutFiles, PairingCode,
    SessionId, Track, limits::MAX_WAITING_COUNTED,
};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, PgPool, Row, Transaction,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgRow},
};
use tokio::time::timeout;

use crate::{
    SECONDS_PER_DAY,
    changes::{Jobs, Work},
    common::{MAX_LONG_ANSWER_SECONDS, migrator, millis, random_owner, signed, unsigned, within},
    duplicates::MAX_LENGTH_DIFFERENCE,
    error::{self, StoreError, Stored},
    invitations::{FIRST_NAME, INVITATION_DAYS},
    jobs::{Claim, JobRow, MAX_EXPIRED_PER_SWEEP, QueueStatus, Retried, Takers},
    models::model_spec,
    peers::News,
    rows::{self, readers, state_columns},
    scans::{Enqueued, Filed, NoScan, SCAN_TTL_SECONDS, Scan, ScanOrder},
    sessions::{MAX_PRUNED_JOBS, NewSession, SessionRow},
    snapshot::{Extent, MAX_STALL_SECONDS},
    transfer::{self, JobRecord, Kind, Progress, Record, RecordCounts, SessionRecord, VectorRecord, record_readers},
    vectors::{CollectionRow, Maker, VectorRow},
};

/// The schema, step by step.
pub(super) const MIGRATIONS: [(&str, &str); 7] = [
    ("initial", include_str!("../migrations/postgres/0001_initial.sql")),
    ("presence", include_str!("../migrations/postgres/0002_presence.sql")),
    ("known_by_content", include_str!("../migrations/postgres/0003_known_by_content.sql")),
    ("vector_counts", include_str!("../migrations/postgres/0004_vector_counts.sql")),
    ("retention", include_str!("../migrations/postgres/0005_retention.sql")),
    ("credentials", include_str!("../migrations/postgres/0006_credentials.sql")),
    ("invitations", include_str!("../migrations/postgres/0007_invitations.sql")),
];

/// Where all tables are.
const SCHEMA: &str = "chaarfm";

/// Numbers in an embedding; the schema says so too.
const EMBEDDING_LENGTH: usize = 200;

/// Connections of one coordinator.
const MAX_CONNECTIONS: u32 = 10;

/// Longest wait for a connection.
const MAX_WAIT_SECONDS: u64 = 5;

/// Longest wait for a sign of life of a connection; whoever waits for a connection meanwhile is to get another in time.
const MAX_PING: Duration = Duration::from_secs(2);
const _: () = assert!(MAX_PING.as_secs() < MAX_WAIT_SECONDS);

/// Longest wait for a lock, which another program may keep for as long as it likes.
const MAX_LOCK_WAIT: &str = "10s";

/// A transaction that a coordinator has begun and says nothing more about is undone, so that it keeps no locks.
const MAX_SILENCE_IN_TRANSACTION: &str = "30s";

/// Begins a transaction of the queue. Each of its statements has an index. Left to itself the planner trusts its statistics,
/// and those of a queue that has just been filled say that there is next to nothing to look through. For all other
/// statements the planner knows best.
const BEGIN_BY_INDEX: &str = "BEGIN; SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL jit = off";

/// Begins to look at the database as it is at one moment. Between two pages of a file whoever takes it may let
/// [`MAX_STALL_SECONDS`] pass.
const BEGIN_SNAPSHOT: &str = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL idle_in_transaction_session_timeout = '150s'";
const _: () = assert!(MAX_STALL_SECONDS < 150);

/// The channel on which coordinators wake each other.
const CHANNEL: &str = "chaarfm";

/// A listener that has lost its connection tries this often to get another.
const RECONNECT_SECONDS: u64 = 1;

/// A listener that hears nothing for so long asks whether anybody is there: it would not notice by itself.
const MAX_SILENCE_SECONDS: u64 = 20;

/// Times that is tried what got in another's way, and the longest pause before each.
const MAX_ATTEMPTS: u32 = 5;
const MAX_PAUSE_MILLIS: u64 = 200;

/// Longest name that PostgreSQL takes without cutting it.
const MAX_IDENTIFIER_BYTES: usize = 63;

/// Key of the lock under which sessions are made.
const SESSIONS_LOCK: i64 = i64::from_be_bytes(*b"chaarfm ");

/// Key of the lock that each connection of a coordinator shares, and an import wants for itself.
const IMPORT_LOCK: i64 = i64::from_be_bytes(*b"chaarfmi");

/// Has the rest of a transaction wait for locks no longer than this: where others have to wait behind it, and where they
/// are held for a moment or for good.
const WAIT_BRIEFLY: &str = "SET LOCAL lock_timeout = '2s'";

// The columns each kind of row is read from.

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

macro_rules! select_jobs {
    ($rest:literal) => {
        concat!(
            "SELECT id, model, collection, library, file, artist, title, album, bytes, content_hash, track_key, state,
                not_before_ms, not_again_before_ms, deadline_ms, attempts, leases, token, holder, holder_kind, answered,
                reopened, error, version
            FROM chaarfm.jobs ",
            $rest
        )
    };
}

macro_rules! select_vectors {
    ($rest:literal) => {
        concat!(
            "SELECT id, model, content_hash, artist, title, album, file, seconds, backend, device, worker, flags,
                stored_ms, embedding::REAL[] AS embedding, tags
            FROM chaarfm.vectors ",
            $rest
        )
    };
}

readers!(PgRow, numbers_of);
record_readers!(PgRow, numbers_of);

fn numbers_of(row: &PgRow, column: &str) -> sqlx::Result<Vec<f32>> {
    row.try_get(column)
}

/// The database on a server.
#[derive(Debug, Clone)]
pub(crate) struct Postgres {
    pub(super) pool: PgPool,
    owner: String,
    /// Whether this is a coordinator.
    serves: Arc<AtomicBool>,
}

impl Postgres {
    pub(super) async fn open(url: &str) -> Stored<Self> {
        let options = PgConnectOptions::from_str(url)?
            .application_name("chaarfm-server")
            .options([("idle_in_transaction_session_timeout", MAX_SILENCE_IN_TRANSACTION)]);
        // Not one of the pool's connections: with this one goes the lock under which coordinators that start at the same
        // moment wait for the first of them, however it ends.
        let connecting = async { Ok(options.connect().await?) };
        let mut connection = within(MAX_WAIT_SECONDS, connecting).await?;
        let migrated = within(MAX_LONG_ANSWER_SECONDS, migrate(&mut connection)).await;
        connection.close().await?;
        migrated?;
        let serves = Arc::new(AtomicBool::new(false));
        let pool = pool(MAX_CONNECTIONS, &serves).connect_lazy_with(options.options([("lock_timeout", MAX_LOCK_WAIT)]));
        Ok(Self { pool, owner: random_owner(), serves })
    }

    pub(super) async fn close(&self) {
        // Connections to a host that has vanished would be waited for.
        let _ = timeout(Duration::from_secs(MAX_WAIT_SECONDS), self.pool.close()).await;
    }

    /// Begins a transaction for statements about the queue.
    pub(super) async fn begin_by_index(&self) -> sqlx::Result<Transaction<'static, sqlx::Postgres>> {
        self.pool.begin_with(BEGIN_BY_INDEX).await
    }

    /// Keeps imports away from now on. True when one is unfinished. No connection has been made before, as a rule; an
    /// older one would not keep anybody away.
    pub(super) async fn serve(&self) -> Stored<bool> {
        self.serves.store(true, Ordering::Relaxed);
        let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM chaarfm.imports WHERE lines < total)");
        Ok(query.fetch_one(&self.pool).await?)
    }

    pub(super) async fn ping(&self) -> Stored<()> {
        sqlx::query("SELECT 1 FROM chaarfm.sessions LIMIT 1").execute(&self.pool).await?;
        Ok(())
    }

    pub(super) async fn notify(&self, sessions: &[SessionId]) -> Stored<()> {
        let query = sqlx::query("SELECT pg_notify($1, $2 || ' ' || session) FROM unnest($3::BIGINT[]) AS session");
        query.bind(CHANNEL).bind(&self.owner).bind(session_numbers(sessions)).execute(&self.pool).await?;
        Ok(())
    }

    pub(super) fn listener(&self) -> Listener {
        Listener { engine: self.clone(), connection: None }
    }

    /// On a connection of its own: when its host vanishes, the library holds on to it, and the others are not to miss it.
    async fn listen(&self) -> Stored<PgListener> {
        let pool = pool(1, &self.serves).connect_lazy_with(self.pool.connect_options().as_ref().clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }

    /// What another coordinator tells: the teller, the session, and one more word for what only pages are to know. Whoever
    /// does not know the word passes the whole of it over.
    fn told_by_another(&self, payload: &str) -> Option<News> {
        let (_, news) = payload.split_once(' ').filter(|(owner, _)| *owner != self.owner)?;
        match news.split_once(' ') {
            None => news.parse().ok().map(|session| News::Work(SessionId(session))),
            Some((session, "presence")) => session.parse().ok().map(|session| News::Presence(SessionId(session))),
            Some(_) => None,
        }
    }
}

/// Connections that answer.
fn pool(max: u32, serves: &Arc<AtomicBool>) -> PgPoolOptions {
    let serves = Arc::clone(serves);
    PgPoolOptions::new()
        .max_connections(max)
        .acquire_timeout(Duration::from_secs(MAX_WAIT_SECONDS))
        .after_connect(move |connection, _| {
            let serves = serves.load(Ordering::Relaxed);
            Box::pin(async move {
                if serves {
                    let lock = sqlx::query("SELECT pg_advisory_lock_shared($1)").bind(IMPORT_LOCK);
                    lock.execute(connection).await?;
                }
                Ok(())
            })
        })
        // The library waits for the answer to a question that nobody has waited for to its end, and the connection counts
        // until then: ten of them on a host that has vanished, and there would be none for a quarter of an hour.
        .after_release(|connection, _| {
            Box::pin(async move { Ok(matches!(timeout(MAX_PING, connection.ping()).await, Ok(Ok(())))) })
        })
}

async fn migrate(connection: &mut PgConnection) -> Stored<()> {
    let mut migrator = migrator(&MIGRATIONS);
    migrator.create_schema(SCHEMA);
    migrator.dangerous_set_table_name("chaarfm._sqlx_migrations");
    if let Err(error) = migrator.run_direct(None, connection, false).await {
        let newest = sqlx::query_scalar("SELECT MAX(version) FROM chaarfm._sqlx_migrations");
        return Err(error::not_migrated(error, newest.fetch_one(connection).await, MIGRATIONS.len()));
    }
    Ok(())
}

/// What other coordinators tell. Ends never, and connects by itself, again if need be.
pub(crate) struct Listener {
    engine: Postgres,
    connection: Option<PgListener>,
}

impl Listener {
    /// The next piece of news. None means that something may have happened in any session: what was told while there was
    /// no connection is lost.
    pub(super) async fn next(&mut self) -> Option<News> {
        let engine = &self.engine;
        loop {
            let Some(listener) = &mut self.connection else {
                match within(MAX_WAIT_SECONDS, engine.listen()).await {
                    Ok(listener) => {
                        self.connection = Some(listener);
                        return None;
                    }
                    Err(error) => tracing::debug!("other coordinators cannot be listened to: {error}"),
                }
                tokio::time::sleep(Duration::from_secs(RECONNECT_SECONDS)).await;
                continue;
            };
            match timeout(Duration::from_secs(MAX_SILENCE_SECONDS), listener.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    if let Some(news) = engine.told_by_another(notification.payload()) {
                        return Some(news);
                    }
                }
                Ok(Ok(None)) => self.connection = None,
                Ok(Err(error)) => {
                    tracing::debug!("other coordinators cannot be listened to any more: {error}");
                    self.connection = None;
                }
                Err(_silence) => {
                    if !matches!(timeout(MAX_PING, listener.execute("SELECT 1")).await, Ok(Ok(_))) {
                        self.connection = None;
                    }
                }
            }
        }
    }
}

fn session_numbers(sessions: &[SessionId]) -> Vec<i64> {
    sessions.iter().map(|session| session.0).collect()
}

// What coordinators show each other.

impl Postgres {
    pub(super) async fn next_worker(&self) -> Stored<WorkerId> {
        let query = sqlx::query_scalar("SELECT nextval('chaarfm.worker_numbers')");
        Ok(unsigned(query.fetch_one(&self.pool).await?))
    }

    pub(super) async fn publish_presence(&self, views: &[(SessionId, String)], until: Timestamp) -> Stored<()> {
        let (sessions, views): (Vec<_>, Vec<_>) =
            views.iter().map(|(session, view)| (session.0, view.as_str())).unzip();
        let query = sqlx::query(
            "WITH published AS (
                INSERT INTO chaarfm.presence (session, coordinator, until_ms, view)
                SELECT session, $2::TEXT, $3::BIGINT, view FROM unnest($4::BIGINT[], $5::TEXT[]) AS part (session, view)
                ON CONFLICT (session, coordinator) DO UPDATE SET until_ms = excluded.until_ms, view = excluded.view
                RETURNING session
            )
            SELECT pg_notify($1, $2 || ' ' || session || ' presence') FROM published",
        );
        let query = query.bind(CHANNEL).bind(&self.owner).bind(millis(until)).bind(sessions).bind(views);
        query.execute(&self.pool).await?;
        Ok(())
    }

    pub(super) async fn withdraw_presence(&self, sessions: &[SessionId]) -> Stored<()> {
        let query = sqlx::query(
            "WITH withdrawn AS (
                DELETE FROM chaarfm.presence WHERE coordinator = $2 AND session = ANY($3) RETURNING session
            )
            SELECT pg_notify($1, $2 || ' ' || session || ' presence') FROM withdrawn",
        );
        query.bind(CHANNEL).bind(&self.owner).bind(session_numbers(sessions)).execute(&self.pool).await?;
        Ok(())
    }

    pub(super) async fn presence_of_others(&self, session: SessionId, now: Timestamp) -> Stored<Vec<String>> {
        let query = sqlx::query_scalar(
            "SELECT view FROM chaarfm.presence WHERE session = $1 AND coordinator <> $2 AND until_ms > $3
            ORDER BY coordinator",
        );
        Ok(query.bind(session.0).bind(&self.owner).bind(millis(now)).fetch_all(&self.pool).await?)
    }

    pub(super) async fn sweep_presence(&self, now: Timestamp) -> Stored<()> {
        // Whoever is just being swept by another, or lives after all and renews itself, is passed over.
        let query = sqlx::query(
            "DELETE FROM chaarfm.presence WHERE (session, coordinator) IN (
                SELECT session, coordinator FROM chaarfm.presence WHERE until_ms <= $1 FOR UPDATE SKIP LOCKED
            )",
        );
        query.bind(millis(now)).execute(&self.pool).await?;
        Ok(())
    }
}

// What other programs read.

/// Makes a collection readable for other programs, unless it is. Its index comes later: see [`indexes`].
async fn publish(tx: &mut PgConnection, collection: &str) -> Stored<()> {
    // Whoever comes second waits here until the first is through, and then has nothing to do.
    let fresh =
        sqlx::query("INSERT INTO chaarfm.collections (name) VALUES ($1) ON CONFLICT DO NOTHING").bind(collection);
    if fresh.execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(());
    }
    let name = identifier("vectors_", collection);
    let taken = sqlx::query_scalar("SELECT to_regclass(quote_ident($1)) IS NOT NULL").bind(&name);
    if taken.fetch_one(&mut *tx).await? {
        return Err(StoreError::NameTaken(name));
    }
    let view = format!(
        "CREATE VIEW {} AS
            SELECT id, artist, title, s3_url, youtube_id, embedding,
                to_timestamp(stored_ms / 1000.0) AT TIME ZONE 'UTC' AS created_at
            FROM chaarfm.vectors WHERE collection = {}",
        quoted(&name, '"'),
        quoted(collection, '\''),
    );
    sqlx::query(AssertSqlSafe(view)).execute(&mut *tx).await?;
    Ok(())
}

/// The prefix and the collection's name; of a name that is too long for that, the beginning and a hash.
fn identifier(prefix: &str, collection: &str) -> String {
    const HASH_DIGITS: usize = 16;
    let plain = format!("{prefix}{collection}");
    if plain.len() <= MAX_IDENTIFIER_BYTES {
        return plain;
    }
    let kept = plain.floor_char_boundary(MAX_IDENTIFIER_BYTES - HASH_DIGITS - 1);
    format!("{}_{}", &plain[..kept], &blake3::hash(collection.as_bytes()).to_hex()[..HASH_DIGITS])
}

/// A text as part of a statement, where nothing can be bound.
fn quoted(text: &str, mark: char) -> String {
    format!("{mark}{}{mark}", text.replace(mark, &format!("{mark}{mark}")))
}

// Sessions.

impl Postgres {
    pub(super) async fn current_session(&self, fresh: NewSession<'_>) -> Stored<SessionRow> {
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

    pub(super) async fn create_session(&self, fresh: NewSession<'_>, max_open: u32) -> Stored<Option<SessionRow>> {
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

    pub(super) async fn session(&self, code: &PairingCode) -> Stored<Option<SessionRow>> {
        let query = sqlx::query_as(select_sessions!("WHERE code = $1")).bind(code.to_string());
        Ok(query.fetch_optional(&self.pool).await?)
    }

    pub(super) async fn open_sessions(&self) -> Stored<Vec<SessionRow>> {
        Ok(sqlx::query_as(select_sessions!("WHERE NOT ended ORDER BY id")).fetch_all(&self.pool).await?)
    }

    pub(super) async fn set_paused(&self, id: SessionId, paused: bool) -> Stored<()> {
        let query = sqlx::query("UPDATE chaarfm.sessions SET paused = $1 WHERE id = $2").bind(paused).bind(id.0);
        query.execute(&self.pool).await?;
        Ok(())
    }

    pub(super) async fn clear_queue(&self, id: SessionId) -> Stored<u64> {
        let mut tx = self.begin_by_index().await?;
        let calm = sqlx::query("UPDATE chaarfm.sessions SET scanning = NULL, paused = FALSE WHERE id = $1").bind(id.0);
        calm.execute(&mut *tx).await?;
        let query = sqlx::query("DELETE FROM chaarfm.jobs WHERE session = $1 AND state = 'queued'").bind(id.0);
        let dropped = query.execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        Ok(dropped)
    }

    pub(super) async fn end_session(&self, id: SessionId, now: Timestamp) -> Stored<()> {
        undisturbed(|| self.try_end_session(id, now)).await
    }

    async fn try_end_session(&self, id: SessionId, now: Timestamp) -> Stored<()> {
        let mut tx = self.begin_by_index().await?;
        let ended =
            sqlx::query("UPDATE chaarfm.sessions SET ended = TRUE, ended_ms = $1, scanning = NULL WHERE id = $2");
        ended.bind(millis(now)).bind(id.0).execute(&mut *tx).await?;
        // Leases may be about to be renewed.
        lock_jobs(&mut tx, id, JobState::Leased, None).await?;
        let query =
            sqlx::query("DELETE FROM chaarfm.jobs WHERE session = $1 AND state IN ('queued', 'leased')").bind(id.0);
        query.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }
}

impl Postgres {
    pub(super) async fn prune(&self, ended_before: Timestamp, now: Timestamp) -> Stored<bool> {
        let noticed = sqlx::query("UPDATE chaarfm.sessions SET ended_ms = $1 WHERE ended AND ended_ms IS NULL");
        noticed.bind(millis(now)).execute(&self.pool).await?;
        let mut tx = self.begin_by_index().await?;
        // What another coordinator is at is passed over.
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

/// Does again what has got in the way of another coordinator: that one is through then, as a rule.
async fn undisturbed<T, F>(attempt: impl Fn() -> F) -> Stored<T>
where
    F: Future<Output = Stored<T>>,
{
    for _ in 1..MAX_ATTEMPTS {
        match attempt().await {
            Err(StoreError::Conflict(error)) => tracing::debug!("once more: {error}"),
            answer => return answer,
        }
        // Not both at the same moment.
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..MAX_PAUSE_MILLIS))).await;
    }
    attempt().await
}

/// Locks a session's jobs of a state, or the one that is named, by number. Who locks several does it in that order, or two
/// could wait for each other.
async fn lock_jobs(tx: &mut PgConnection, session: SessionId, state: JobState, job: Option<JobId>) -> sqlx::Result<()> {
    let query = sqlx::query(
        "SELECT COUNT(*) FROM (SELECT 1 FROM chaarfm.jobs WHERE session = $1 AND state = $2 AND ($3 IS NULL OR id = $3)
            ORDER BY id FOR UPDATE) AS locked",
    );
    query.bind(session.0).bind(state.name()).bind(job).execute(tx).await?;
    Ok(())
}

/// Nobody else makes a session until the transaction ends.
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

// Scans.

impl Postgres {
    pub(super) async fn begin_scan(
        &self,
        id: SessionId,
        order: ScanOrder<'_>,
        now: Timestamp,
    ) -> Stored<Result<Scan, NoScan>> {
        expect_length(order.model)?;
        let mut tx = self.pool.begin().await?;
        publish(&mut tx, order.collection).await?;
        let begun = sqlx::query_as(
            "UPDATE chaarfm.sessions SET scanning = $1, collection = $2, model = $3, scan = scan + 1, skipped = 0,
                alike = 0, left_out = '[]', paused = FALSE, scan_owner = $4, scan_deadline_ms = $5, every_file = $6
            WHERE id = $7 AND scanning IS NULL AND NOT ended
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
            let ended = sqlx::query_scalar("SELECT ended FROM chaarfm.sessions WHERE id = $1").bind(id.0);
            let ended: Option<bool> = ended.fetch_optional(&mut *tx).await?;
            return Ok(Err(if ended == Some(false) { NoScan::AlreadyScanning } else { NoScan::SessionEnded }));
        };
        tx.commit().await?;
        Ok(Ok(scan))
    }

    pub(super) async fn abandoned_scans(&self, now: Timestamp) -> Stored<Vec<Scan>> {
        let query = sqlx::query_as(
            "SELECT id, code, scanning, collection, model, scan, every_file FROM chaarfm.sessions
            WHERE scanning IS NOT NULL AND NOT ended AND scan_deadline_ms <= $1",
        );
        Ok(query.bind(millis(now)).fetch_all(&self.pool).await?)
    }

    pub(super) async fn take_over_scan(&self, scan: &Scan, now: Timestamp) -> Stored<bool> {
        let query = sqlx::query(
            "UPDATE chaarfm.sessions SET skipped = 0, alike = 0, scan_owner = $1, scan_deadline_ms = $2
            WHERE id = $3 AND scan = $4 AND scanning IS NOT NULL AND NOT ended AND scan_deadline_ms <= $5",
        );
        let query = query.bind(&self.owner).bind(scan_deadline(now)).bind(scan.session.0).bind(scan.number);
        let query = query.bind(millis(now));
        Ok(query.execute(&self.pool).await?.rows_affected() > 0)
    }

    pub(super) async fn renew_scan(&self, scan: &Scan, now: Timestamp) -> Stored<bool> {
        Ok(self.renew(&mut *self.pool.acquire().await?, scan, now).await?)
    }

    async fn renew(&self, connection: &mut PgConnection, scan: &Scan, now: Timestamp) -> sqlx::Result<bool> {
        let query = sqlx::query(
            "UPDATE chaarfm.sessions SET scan_deadline_ms = $1
            WHERE id = $2 AND scan = $3 AND scanning IS NOT NULL AND scan_owner = $4",
        );
        let query = query.bind(scan_deadline(now)).bind(scan.session.0).bind(scan.number).bind(&self.owner);
        Ok(query.execute(connection).await?.rows_affected() > 0)
    }

    pub(super) async fn abandon_scan(&self, scan: &Scan) -> Stored<()> {
        let query = sqlx::query(
            "UPDATE chaarfm.sessions SET scan_owner = NULL, scan_deadline_ms = 0
            WHERE id = $1 AND scan = $2 AND scan_owner = $3",
        );
        query.bind(scan.session.0).bind(scan.number).bind(&self.owner).execute(&self.pool).await?;
        Ok(())
    }

    pub(super) async fn finish_scan(&self, scan: &Scan, left_out: &[LeftOutFiles]) -> Stored<()> {
        let query = sqlx::query(
            "UPDATE chaarfm.sessions SET scanning = NULL, left_out = $1 WHERE id = $2 AND scan = $3 AND scan_owner = $4",
        );
        let query = query.bind(rows::left_out_json(left_out)).bind(scan.session.0).bind(scan.number);
        query.bind(&self.owner).execute(&self.pool).await?;
        Ok(())
    }

    pub(super) async fn enqueue(&self, scan: &Scan, files: &[Found], now: Timestamp) -> Stored<Option<Enqueued>> {
        undisturbed(|| self.try_enqueue(scan, files, now)).await
    }

    async fn try_enqueue(&self, scan: &Scan, files: &[Found], now: Timestamp) -> Stored<Option<Enqueued>> {
        let mut tx = self.begin_by_index().await?;
        // Two that find the same tracks in another order would wait for each other, again and again.
        let turn = sqlx::query("SELECT 1 FROM chaarfm.collections WHERE name = $1 FOR UPDATE").bind(&scan.collection);
        turn.execute(&mut *tx).await?;
        if !self.renew(&mut tx, scan, now).await? {
            return Ok(None);
        }
        let mut sum = Enqueued::default();
        for file in files {
            sum.count(tx.enqueue(scan, file, now).await?);
        }
        let skipped =
            sqlx::query("UPDATE chaarfm.sessions SET skipped = skipped + $1, alike = alike + $2 WHERE id = $3");
        let skipped = skipped.bind(signed(sum.skipped)).bind(signed(sum.alike)).bind(scan.session.0);
        skipped.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(Some(sum))
    }
}

/// Other models would need a table of their own.
fn expect_length(model: &str) -> Stored<()> {
    match model_spec(model) {
        Some(spec) if spec.embedding_length != EMBEDDING_LENGTH => Err(StoreError::VectorLength {
            model: spec.name,
            expected: EMBEDDING_LENGTH,
            actual: spec.embedding_length,
        }),
        _ => Ok(()),
    }
}

fn scan_deadline(now: Timestamp) -> i64 {
    millis(now.plus_seconds(SCAN_TTL_SECONDS))
}

// Jobs.

/// The first job of a session that may go to a worker: see [`Job::may_go_to`]. The session is asked in the same breath, and
/// not locked: whoever pauses it does not wait for claims.
pub(super) const SELECT_FIRST_WAITING: &str = select_jobs!(
    "WHERE session = $1 AND state = 'queued' AND not_before_ms <= $2 AND bytes <= $3
        AND (not_again_before_ms <= $2 OR holder <> $4) AND attempts <= $5
        AND EXISTS (SELECT 1 FROM chaarfm.sessions s WHERE s.id = $1 AND NOT s.paused AND NOT s.ended)
    ORDER BY place LIMIT 1 FOR UPDATE OF jobs SKIP LOCKED"
);

/// A row when there is a job to hand out. By the queue's order, whose index has all that is asked for.
pub(super) const SELECT_ANY_WAITING: &str = "SELECT 1 FROM chaarfm.jobs
    WHERE session = $1 AND state = 'queued' AND not_before_ms <= $2 AND bytes <= $3 AND attempts <= $4
        AND EXISTS (SELECT 1 FROM chaarfm.sessions s WHERE s.id = $1 AND NOT s.paused AND NOT s.ended)
    ORDER BY place LIMIT 1";

/// What becomes of the first queued jobs.
pub(super) const SUM_UP_BACKLOG: &str = "SELECT COUNT(*) AS jobs, COUNT(*) FILTER (WHERE bytes > $2) AS too_large,
        COUNT(*) FILTER (WHERE bytes <= $2 AND due_ms > $3) AS resting,
        MIN(due_ms) FILTER (WHERE bytes <= $2 AND due_ms > $3) AS next_ms
    FROM (SELECT bytes, CASE WHEN holder = $4 AND bytes > $5 THEN GREATEST(not_before_ms, not_again_before_ms)
            ELSE not_before_ms END AS due_ms
        FROM chaarfm.jobs WHERE session = $1 AND state = 'queued' ORDER BY place LIMIT $6) AS first_jobs";

impl Postgres {
    pub(super) async fn has_waiting(
        &self,
        session: SessionId,
        max_bytes: u64,
        max_attempts: i64,
        now: Timestamp,
    ) -> Stored<bool> {
        let query = sqlx::query(SELECT_ANY_WAITING).bind(session.0).bind(millis(now));
        let query = query.bind(signed(max_bytes)).bind(max_attempts);
        Ok(query.fetch_optional(&mut *self.begin_by_index().await?).await?.is_some())
    }

    pub(super) async fn queue_status(
        &self,
        session: SessionId,
        takers: &Takers,
        now: Timestamp,
    ) -> Stored<QueueStatus> {
        let query = sqlx::query_as(SUM_UP_BACKLOG).bind(session.0).bind(signed(takers.max_bytes)).bind(millis(now));
        let query = query.bind(&takers.greatest).bind(signed(takers.max_bytes_of_others));
        Ok(query.bind(signed(MAX_WAITING_COUNTED)).fetch_one(&mut *self.begin_by_index().await?).await?)
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
            "SELECT id FROM chaarfm.jobs WHERE session = $1 AND holder = $2 AND state = $3 AND id > $4
            ORDER BY id LIMIT $5",
        );
        let query = query.bind(session.0).bind(holder).bind(state.name()).bind(after).bind(i64::from(limit));
        Ok(query.fetch_all(&mut *self.begin_by_index().await?).await?)
    }

    pub(super) async fn retry_failed(&self, session: SessionId, job: Option<JobId>) -> Stored<Retried> {
        undisturbed(|| self.try_retry_failed(session, job)).await
    }

    async fn try_retry_failed(&self, session: SessionId, job: Option<JobId>) -> Stored<Retried> {
        let mut tx = self.begin_by_index().await?;
        if !tx.keep_open(session).await? {
            return Ok(Retried::default());
        }
        lock_jobs(&mut tx, session, JobState::Failed, job).await?;
        let again = sqlx::query(
            "INSERT INTO chaarfm.jobs (session, scan, model, collection, library, file, artist, title, album, bytes,
                seconds, version, content_hash, track_key, state)
            SELECT session, scan, model, collection, library, file, artist, title, album, bytes, seconds, version,
                content_hash, track_key, 'queued'
            FROM chaarfm.jobs j
            WHERE session = $1 AND state = 'failed' AND content_hash <> '' AND ($2 IS NULL OR id = $2)
                AND NOT EXISTS (SELECT 1 FROM chaarfm.vectors v WHERE v.collection = j.collection
                    AND v.model = j.model AND v.content_hash = j.content_hash)
            ORDER BY id
            ON CONFLICT DO NOTHING",
        );
        let queued = again.bind(session.0).bind(job).execute(&mut *tx).await?.rows_affected();
        // Those in whose way another job was have neither.
        let settled = sqlx::query(
            "DELETE FROM chaarfm.jobs AS j
            WHERE session = $1 AND state = 'failed' AND content_hash <> '' AND ($2 IS NULL OR id = $2)
                AND (EXISTS (SELECT 1 FROM chaarfm.jobs again WHERE again.collection = j.collection
                        AND again.model = j.model AND again.content_hash = j.content_hash
                        AND again.state IN ('queued', 'leased') AND again.session = j.session
                        AND again.library = j.library AND again.file = j.file)
                    OR EXISTS (SELECT 1 FROM chaarfm.vectors v WHERE v.collection = j.collection
                        AND v.model = j.model AND v.content_hash = j.content_hash))",
        );
        let settled = settled.bind(session.0).bind(job).execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        Ok(Retried { queued, known: settled.saturating_sub(queued) })
    }

    pub(super) async fn expired(&self, now: Timestamp) -> Stored<Vec<(PairingCode, JobRef)>> {
        let query = sqlx::query(
            "SELECT code, j.id AS id, token FROM chaarfm.jobs j JOIN chaarfm.sessions s ON s.id = j.session
            WHERE j.state = 'leased' AND j.deadline_ms <= $1 ORDER BY j.deadline_ms LIMIT $2",
        );
        let query = query.bind(millis(now)).bind(MAX_EXPIRED_PER_SWEEP);
        let rows = query.fetch_all(&mut *self.begin_by_index().await?).await?;
        Ok(rows.iter().map(expired_of).collect::<sqlx::Result<_>>()?)
    }

    pub(super) async fn job(&self, id: JobId) -> Stored<Option<JobRow>> {
        Ok(sqlx::query_as(select_jobs!("WHERE id = $1")).bind(id).fetch_optional(&self.pool).await?)
    }

    pub(super) async fn jobs(
        &self,
        session: SessionId,
        state: Option<JobState>,
        offset: u64,
        limit: u32,
    ) -> Stored<Vec<JobRow>> {
        let query = match state {
            Some(state) => {
                sqlx::query_as(select_jobs!("WHERE session = $1 AND state = $2 ORDER BY id LIMIT $3 OFFSET $4"))
                    .bind(session.0)
                    .bind(state.name())
            }
            None => sqlx::query_as(select_jobs!("WHERE session = $1 ORDER BY id LIMIT $2 OFFSET $3")).bind(session.0),
        };
        let query = query.bind(i64::from(limit)).bind(signed(offset));
        Ok(query.fetch_all(&mut *self.begin_by_index().await?).await?)
    }
}

// What changes jobs.

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
        // A statement that fails ends its transaction, so this one has its own inside.
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
        let query = query.bind(rows::flags_json(embedding.flags())).bind(millis(now));
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
        let row = query.bind(MAX_LENGTH_DIFFERENCE).fetch_one(&mut **self).await?;
        Ok(match (row.try_get("seen")?, row.try_get("known")?, row.try_get("alike")?) {
            (true, _, _) => Some(Filed::Seen),
            (false, true, _) => Some(Filed::Known),
            (false, false, true) => Some(Filed::Alike),
            (false, false, false) => None,
        })
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
        // What one part of a statement does, the others do not see: the fresh job is none of the earlier ones.
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

// Vectors.

impl Postgres {
    pub(super) async fn collections(&self) -> Stored<Vec<CollectionRow>> {
        let query = sqlx::query(
            "SELECT collection, SUM(vectors)::BIGINT AS tracks FROM chaarfm.vector_counts GROUP BY collection
            HAVING SUM(vectors) > 0 ORDER BY collection",
        );
        let rows = query.fetch_all(&self.pool).await?;
        Ok(rows.iter().map(collection_of).collect::<sqlx::Result<_>>()?)
    }

    pub(super) async fn count_vectors(&self, collection: &str) -> Stored<Option<u64>> {
        let query = sqlx::query(
            "SELECT (SELECT COALESCE(SUM(vectors), 0)::BIGINT FROM chaarfm.vector_counts WHERE collection = $1) AS tracks,
                EXISTS (SELECT 1 FROM chaarfm.sessions WHERE collection = $1) AS named",
        );
        let row = query.bind(collection).fetch_one(&self.pool).await?;
        let tracks = unsigned(row.try_get("tracks")?);
        Ok((tracks > 0 || row.try_get("named")?).then_some(tracks))
    }

    pub(super) async fn vectors(&self, collection: &str, offset: u64, limit: u32) -> Stored<Vec<VectorRow>> {
        let query = sqlx::query(select_vectors!("WHERE collection = $1 ORDER BY id LIMIT $2 OFFSET $3"));
        let rows = query.bind(collection).bind(i64::from(limit)).bind(signed(offset)).fetch_all(&self.pool).await?;
        Ok(rows.iter().map(vector_of).collect::<sqlx::Result<_>>()?)
    }
}

// What is taken home, from a snapshot.

/// Begins to look at the database as it is now, on a connection of its own: nobody is to wait for one because somebody reads
/// slowly. It locks nothing, and ends with its connection.
pub(super) async fn begin_snapshot(engine: &Postgres) -> Stored<PgConnection> {
    let mut connection = engine.pool.connect_options().connect().await?;
    connection.execute(BEGIN_SNAPSHOT).await?;
    Ok(connection)
}

pub(super) async fn extent(tx: &mut PgConnection, collection: &str, model: Option<&str>) -> Stored<Extent> {
    let query = sqlx::query(
        "SELECT COUNT(*) AS tracks, COUNT(DISTINCT model) AS models,
            MIN(vector_dims(embedding))::BIGINT AS shortest, MAX(vector_dims(embedding))::BIGINT AS longest
        FROM chaarfm.vectors WHERE collection = $1 AND ($2 IS NULL OR model = $2)",
    );
    Ok(extent_of(&query.bind(collection).bind(model).fetch_one(tx).await?)?)
}

pub(super) async fn vectors_after(
    tx: &mut PgConnection,
    collection: &str,
    model: Option<&str>,
    after: i64,
    limit: u32,
) -> Stored<Vec<VectorRow>> {
    let query = sqlx::query(select_vectors!(
        "WHERE collection = $1 AND id > $2 AND ($3 IS NULL OR model = $3) ORDER BY id LIMIT $4"
    ));
    let rows = query.bind(collection).bind(after).bind(model).bind(i64::from(limit)).fetch_all(tx).await?;
    Ok(rows.iter().map(vector_of).collect::<sqlx::Result<_>>()?)
}

pub(super) async fn jobs_after(
    tx: &mut PgConnection,
    session: SessionId,
    state: Option<JobState>,
    after: JobId,
    limit: u32,
) -> Stored<Vec<JobRow>> {
    let query = match state {
        Some(state) => {
            sqlx::query_as(select_jobs!("WHERE session = $1 AND state = $2 AND id > $3 ORDER BY id LIMIT $4"))
                .bind(session.0)
                .bind(state.name())
        }
        None => sqlx::query_as(select_jobs!("WHERE session = $1 AND id > $2 ORDER BY id LIMIT $3")).bind(session.0),
    };
    Ok(query.bind(after).bind(i64::from(limit)).fetch_all(tx).await?)
}

// Moving to another database.

pub(super) async fn record_counts(tx: &mut PgConnection) -> Stored<RecordCounts> {
    let query = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM chaarfm.sessions) AS sessions, (SELECT COUNT(*) FROM chaarfm.jobs) AS jobs,
            (SELECT COUNT(*) FROM chaarfm.vectors) AS vectors",
    );
    Ok(counts_of(&query.fetch_one(tx).await?)?)
}

pub(super) async fn page(tx: &mut PgConnection, kind: Kind, after: i64, limit: u32) -> Stored<Vec<Record>> {
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
    pub(super) async fn imported(&self, export: &str) -> Stored<Option<u64>> {
        let query = sqlx::query_scalar("SELECT lines FROM chaarfm.imports WHERE export = $1").bind(export);
        let lines: Option<i64> = query.fetch_optional(&self.pool).await?;
        Ok(lines.map(unsigned))
    }

    pub(super) async fn import(&self, export: &str, batch: &[Record], progress: Progress) -> Stored<()> {
        let mut tx = self.pool.begin().await?;
        // The connections of a coordinator that has just stopped may be about to end.
        sqlx::query(WAIT_BRIEFLY).execute(&mut *tx).await?;
        let alone = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(IMPORT_LOCK);
        if let Err(error) = alone.execute(&mut *tx).await {
            return Err(if error::is_locked(&error) { StoreError::InUse } else { error.into() });
        }
        // As scans have done at the old place, or none will do it here.
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
            // Rows that are made later get numbers after those that came.
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
    // A code that lets workers in does so at its new place as well; one that has been revoked or replaced stays that.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_whatever_is_in_it() {
        assert_eq!(quoted("plain", '"'), r#""plain""#);
        assert_eq!(quoted(r#"a"; DROP TABLE b; --"#, '"'), r#""a""; DROP TABLE b; --""#);
        assert_eq!(quoted("it's 'so'", '\''), "'it''s ''so'''");
        assert_eq!(quoted("", '\''), "''");
    }

    #[test]
    fn a_long_name_is_cut_where_a_character_ends_and_stays_one_of_its_own() {
        let [one, other] = ["ä".repeat(40) + "1", "ä".repeat(40) + "2"].map(|name| identifier("vectors_", &name));
        assert!(one.len() <= MAX_IDENTIFIER_BYTES && one != other, "{one} {other}");
        assert_eq!(identifier("vectors_", "short"), "vectors_short");
    }
}
