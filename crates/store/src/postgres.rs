//! The store in PostgreSQL with the extension pgvector, for any number of coordinators.
//!
//! A claim skips jobs that another coordinator is just claiming, so coordinators do not wait for each other; every other
//! change of a job locks its row. Other programs read a collection's vectors from the view `vectors_<collection>`, which
//! has the columns and the index that recommenders of ChaarFM use.
//!
//! This file has the connections; the statements are in the files of their topics.

mod audit;
mod changes;
mod credentials;
mod indexes;
mod invitations;
mod jobs;
mod peers;
mod rows;
mod scans;
mod sessions;
mod snapshot;
mod transfer;
mod vectors;
mod views;

use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chaarfm_domain::{JobId, JobState, SessionId};
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use crate::{
    common::{MAX_LONG_ANSWER_SECONDS, migrator, random_owner, within},
    error::{self, StoreError, Stored},
};
#[cfg(test)]
pub(crate) use jobs::{SELECT_ANY_WAITING, SELECT_FIRST_WAITING, SUM_UP_BACKLOG};
pub(crate) use peers::Listener;
pub(crate) use snapshot::{begin_snapshot, extent, jobs_after, vectors_after};
pub(crate) use transfer::{page, record_counts};

/// The migrations of the schema.
pub(crate) const MIGRATIONS: [(&str, &str); 8] = [
    ("initial", include_str!("../migrations/postgres/0001_initial.sql")),
    ("presence", include_str!("../migrations/postgres/0002_presence.sql")),
    ("known_by_content", include_str!("../migrations/postgres/0003_known_by_content.sql")),
    ("vector_counts", include_str!("../migrations/postgres/0004_vector_counts.sql")),
    ("retention", include_str!("../migrations/postgres/0005_retention.sql")),
    ("credentials", include_str!("../migrations/postgres/0006_credentials.sql")),
    ("invitations", include_str!("../migrations/postgres/0007_invitations.sql")),
    ("audit", include_str!("../migrations/postgres/0008_audit.sql")),
];

/// The schema that contains all tables.
const SCHEMA: &str = "chaarfm";

/// Numbers in an embedding, as in the schema.
const EMBEDDING_LENGTH: usize = 200;

/// Maximum number of connections per coordinator.
const MAX_CONNECTIONS: u32 = 10;

/// Longest wait for a connection.
const MAX_WAIT_SECONDS: u64 = 5;

/// Time limit for checking that a connection is alive. It is shorter than the wait for a connection, so that a caller
/// waiting for one still gets another in time.
const MAX_PING: Duration = Duration::from_secs(2);
const _: () = assert!(MAX_PING.as_secs() < MAX_WAIT_SECONDS);

/// Longest wait for a lock, which another program may hold for any length of time.
const MAX_LOCK_WAIT: &str = "10s";

/// A transaction idle for this long is rolled back, so that a silent coordinator holds no locks.
const MAX_SILENCE_IN_TRANSACTION: &str = "30s";

/// Begins a transaction on the queue. Each of its statements has an index, which the planner must use: its statistics
/// describe a queue that has just been filled as almost empty. For all other statements the planner chooses best.
const BEGIN_BY_INDEX: &str = "BEGIN; SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL jit = off";

/// Maximum number of attempts at a conflicting transaction, and the longest pause between two attempts.
const MAX_ATTEMPTS: u32 = 5;
const MAX_PAUSE_MILLIS: u64 = 200;

/// Key of the lock that every connection of a coordinator holds in shared mode, and an import in exclusive mode.
const IMPORT_LOCK: i64 = i64::from_be_bytes(*b"chaarfmi");

/// The database on a server.
#[derive(Debug, Clone)]
pub(crate) struct Postgres {
    pub(crate) pool: PgPool,
    owner: String,
    /// Whether this process is a coordinator.
    serves: Arc<AtomicBool>,
}

impl Postgres {
    pub(crate) async fn open(url: &str) -> Stored<Self> {
        let options = PgConnectOptions::from_str(url)?
            .application_name("chaarfm-server")
            .options([("idle_in_transaction_session_timeout", MAX_SILENCE_IN_TRANSACTION)]);
        // This connection is outside the pool: coordinators that start at the same moment wait for the first of them by a
        // lock, and closing the connection releases the lock, however the migration ends.
        let connecting = async { Ok(options.connect().await?) };
        let mut connection = within(MAX_WAIT_SECONDS, connecting).await?;
        let migrated = within(MAX_LONG_ANSWER_SECONDS, migrate(&mut connection)).await;
        connection.close().await?;
        migrated?;
        let serves = Arc::new(AtomicBool::new(false));
        let pool = pool(MAX_CONNECTIONS, &serves).connect_lazy_with(options.options([("lock_timeout", MAX_LOCK_WAIT)]));
        Ok(Self { pool, owner: random_owner(), serves })
    }

    pub(crate) async fn close(&self) {
        // Without the limit, this would wait for connections to a vanished host.
        let _ = timeout(Duration::from_secs(MAX_WAIT_SECONDS), self.pool.close()).await;
    }

    /// Begins a transaction on the queue.
    pub(crate) async fn begin_by_index(&self) -> sqlx::Result<Transaction<'static, sqlx::Postgres>> {
        self.pool.begin_with(BEGIN_BY_INDEX).await
    }

    /// Blocks imports from now on. True if an import is unfinished. There are usually no connections yet; older ones would
    /// not hold the lock.
    pub(crate) async fn serve(&self) -> Stored<bool> {
        self.serves.store(true, Ordering::Relaxed);
        let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM chaarfm.imports WHERE lines < total)");
        Ok(query.fetch_one(&self.pool).await?)
    }

    pub(crate) async fn ping(&self) -> Stored<()> {
        sqlx::query("SELECT 1 FROM chaarfm.sessions LIMIT 1").execute(&self.pool).await?;
        Ok(())
    }
}

/// A pool that hands out only responsive connections.
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
        // If a caller gives up on an answer, sqlx goes on waiting for it, and the connection counts as used until then.
        // After ten such requests to a vanished host, no connection would be available for a quarter of an hour.
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

/// Repeats a transaction that conflicts with another coordinator's, which has usually finished by then.
async fn undisturbed<T, F>(attempt: impl Fn() -> F) -> Stored<T>
where
    F: Future<Output = Stored<T>>,
{
    for _ in 1..MAX_ATTEMPTS {
        match attempt().await {
            Err(StoreError::Conflict(error)) => tracing::debug!("once more: {error}"),
            answer => return answer,
        }
        // At random, so that both do not retry at the same moment.
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..MAX_PAUSE_MILLIS))).await;
    }
    attempt().await
}

/// Locks a session's jobs of a state, or only the given one. Every transaction that locks several jobs does so in the order
/// of their numbers, to avoid deadlocks.
async fn lock_jobs(tx: &mut PgConnection, session: SessionId, state: JobState, job: Option<JobId>) -> sqlx::Result<()> {
    let query = sqlx::query(
        "SELECT COUNT(*) FROM (SELECT 1 FROM chaarfm.jobs WHERE session = $1 AND state = $2 AND ($3 IS NULL OR id = $3)
            ORDER BY id FOR UPDATE) AS locked",
    );
    query.bind(session.0).bind(state.name()).bind(job).execute(tx).await?;
    Ok(())
}
