//! The database as it is at one moment, whatever others do meanwhile: what is taken home is read from one.

use sqlx::{Connection, PgConnection, SqliteConnection};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Engine, Extent, JobRow, Kind, MAX_LONG_ANSWER_SECONDS, Record, RecordCounts, Store, StoreError, Stored, VectorRow,
    postgres, sqlite, within,
};
use chaarfm_domain::{JobId, JobState, SessionId};

/// Snapshots at a time. Each has a connection of its own, and keeps the database from clearing up what has been replaced since.
pub(super) const MAX_SNAPSHOTS: usize = 4;

/// Longest time between two questions to one.
pub const MAX_STALL_SECONDS: u64 = 120;

/// A look at the database at one moment. It ends when it is dropped.
pub struct Snapshot {
    connection: Link,
    _permit: OwnedSemaphorePermit,
}

enum Link {
    Sqlite(Box<SqliteConnection>),
    Postgres(Box<PgConnection>),
}

/// Asks the engine whose connection it is.
macro_rules! look {
    ($snapshot:ident, $operation:ident($($argument:expr),*)) => {
        match &mut $snapshot.connection {
            Link::Sqlite(connection) => sqlite::$operation(connection, $($argument),*).await,
            Link::Postgres(connection) => {
                within(MAX_LONG_ANSWER_SECONDS, postgres::$operation(connection, $($argument),*)).await
            }
        }
    };
}

impl Snapshot {
    /// How many rows there are.
    pub(crate) async fn record_counts(&mut self) -> Stored<RecordCounts> {
        look!(self, record_counts())
    }

    /// The next rows of a kind after number `after`, by number.
    pub(crate) async fn page(&mut self, kind: Kind, after: i64, limit: u32) -> Stored<Vec<Record>> {
        look!(self, page(kind, after, limit))
    }

    /// What the collection holds, or what one model has made of it.
    pub async fn extent(&mut self, collection: &str, model: Option<&str>) -> Stored<Extent> {
        look!(self, extent(collection, model))
    }

    /// The next vectors of the collection after number `after`, by number.
    pub async fn vectors_after(
        &mut self,
        collection: &str,
        model: Option<&str>,
        after: i64,
        limit: u32,
    ) -> Stored<Vec<VectorRow>> {
        look!(self, vectors_after(collection, model, after, limit))
    }

    /// The next of a session's jobs after number `after`, of one state or of all.
    pub async fn jobs_after(
        &mut self,
        session: SessionId,
        state: Option<JobState>,
        after: JobId,
        limit: u32,
    ) -> Stored<Vec<JobRow>> {
        look!(self, jobs_after(session, state, after, limit))
    }

    /// Waits until it has ended.
    pub async fn close(self) {
        // What was only read cannot be lost.
        let _ = match self.connection {
            Link::Sqlite(connection) => connection.close().await,
            Link::Postgres(connection) => connection.close().await,
        };
    }
}

impl Store {
    /// Begins to look at the database as it is now.
    pub async fn snapshot(&self) -> Stored<Snapshot> {
        let permit = self.snapshots.clone().try_acquire_owned().map_err(|_| StoreError::TooManySnapshots)?;
        let connection = match &self.engine {
            Engine::Sqlite(engine) => Link::Sqlite(Box::new(sqlite::begin_snapshot(engine).await?)),
            Engine::Postgres(engine) => {
                let begun = within(super::MAX_ANSWER_SECONDS, postgres::begin_snapshot(engine)).await?;
                Link::Postgres(Box::new(begun))
            }
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(_) => unreachable!("nothing is taken from memory to anywhere else"),
        };
        Ok(Snapshot { connection, _permit: permit })
    }
}
