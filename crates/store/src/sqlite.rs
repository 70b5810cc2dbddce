//! The store in one SQLite file, for one coordinator. Writers take turns on one connection; readers have their own
//! connections and never wait for writers. Notices and views for other coordinators do not exist here.
//!
//! This file has the connections; the statements are in the files of their topics.

mod audit;
mod changes;
mod credentials;
mod invitations;
mod jobs;
mod rows;
mod scans;
mod sessions;
mod snapshot;
mod transfer;
mod vectors;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chaarfm_coordinator::WorkerId;
use sqlx::{
    Connection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    common::{migrator, random_owner},
    error::{self, Stored},
};
#[cfg(test)]
pub(crate) use jobs::{HAS_WAITING, SELECT_FIRST_WAITING, SUM_UP_BACKLOG};
#[cfg(test)]
pub(crate) use sessions::{SELECT_NEWEST_SESSION, SELECT_OPEN_SESSIONS};
pub(crate) use snapshot::{begin_snapshot, extent, jobs_after, vectors_after};
pub(crate) use transfer::{page, record_counts};

/// The migrations of the schema.
pub(crate) const MIGRATIONS: [(&str, &str); 8] = [
    ("initial", include_str!("../migrations/sqlite/0001_initial.sql")),
    ("open_sessions", include_str!("../migrations/sqlite/0002_open_sessions.sql")),
    ("known_by_content", include_str!("../migrations/sqlite/0003_known_by_content.sql")),
    ("vector_counts", include_str!("../migrations/sqlite/0004_vector_counts.sql")),
    ("retention", include_str!("../migrations/sqlite/0005_retention.sql")),
    ("credentials", include_str!("../migrations/sqlite/0006_credentials.sql")),
    ("invitations", include_str!("../migrations/sqlite/0007_invitations.sql")),
    ("audit", include_str!("../migrations/sqlite/0008_audit.sql")),
];

/// Number of connections for reading.
const MAX_READERS: u32 = 4;

/// Longest wait for a connection, and for another process that is writing.
const MAX_WAIT_SECONDS: u64 = 10;

/// Maximum number of jobs dropped, or queued again, per transaction: all other writers wait meanwhile.
const MAX_BATCH_JOBS: i64 = 1000;

/// The database in a file.
#[derive(Debug, Clone)]
pub(crate) struct Sqlite {
    pub(crate) writer: SqlitePool,
    pub(crate) reader: SqlitePool,
    owner: String,
    workers: Arc<AtomicU64>,
}

impl Sqlite {
    pub(crate) async fn open(path: &Path) -> Stored<Self> {
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
            // When a commit fails, SQLite rolls back by itself, but sqlx still believes that the transaction is open: on
            // that connection it can neither roll back nor begin another transaction.
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

    /// Closes all connections. After this the database is a single file again.
    pub(crate) async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    pub(crate) async fn ping(&self) -> Stored<()> {
        sqlx::query("SELECT 1 FROM sessions LIMIT 1").execute(&self.reader).await?;
        Ok(())
    }

    pub(crate) fn next_worker(&self) -> WorkerId {
        self.workers.fetch_add(1, Ordering::Relaxed) + 1
    }
}
