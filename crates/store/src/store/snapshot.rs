//! The database as of one moment, regardless of later writes. Exports are read from snapshots.

use chaarfm_domain::{JobId, JobState, SessionId};
use sqlx::{Connection, PgConnection, SqliteConnection};
use tokio::sync::OwnedSemaphorePermit;

use super::{Engine, Store};
use crate::{
    common::{MAX_ANSWER_SECONDS, MAX_LONG_ANSWER_SECONDS, within},
    error::{StoreError, Stored},
    jobs::JobRow,
    postgres,
    snapshot::Extent,
    sqlite,
    transfer::{Kind, Record, RecordCounts},
    vectors::VectorRow,
};

/// The database as of one moment. Dropping it ends its transaction.
pub struct Snapshot {
    connection: Link,
    _permit: OwnedSemaphorePermit,
}

enum Link {
    Sqlite(Box<SqliteConnection>),
    Postgres(Box<PgConnection>),
}

/// Calls the engine of the snapshot's connection.
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
    /// Number of rows of each kind.
    pub(crate) async fn record_counts(&mut self) -> Stored<RecordCounts> {
        look!(self, record_counts())
    }

    /// The next rows of a kind after number `after`, by number.
    pub(crate) async fn page(&mut self, kind: Kind, after: i64, limit: u32) -> Stored<Vec<Record>> {
        look!(self, page(kind, after, limit))
    }

    /// The extent of a collection, or of the vectors in it that one model has made.
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

    /// Ends the snapshot, and waits until its connection is closed.
    pub async fn close(self) {
        // Nothing was written, so nothing can be lost.
        let _ = match self.connection {
            Link::Sqlite(connection) => connection.close().await,
            Link::Postgres(connection) => connection.close().await,
        };
    }
}

impl Store {
    /// A snapshot of the current database.
    pub async fn snapshot(&self) -> Stored<Snapshot> {
        let permit = self.snapshots.clone().try_acquire_owned().map_err(|_| StoreError::TooManySnapshots)?;
        let connection = match &self.engine {
            Engine::Sqlite(engine) => Link::Sqlite(Box::new(sqlite::begin_snapshot(engine).await?)),
            Engine::Postgres(engine) => {
                let begun = within(MAX_ANSWER_SECONDS, postgres::begin_snapshot(engine)).await?;
                Link::Postgres(Box::new(begun))
            }
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(_) => unreachable!("nothing is taken from memory to anywhere else"),
        };
        Ok(Snapshot { connection, _permit: permit })
    }
}
