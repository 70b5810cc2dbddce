//! Records that move between databases.

use super::{Engine, Store};
use crate::{
    common::{MAX_LONG_ANSWER_SECONDS, within},
    error::{StoreError, Stored},
    transfer::{Progress, Record, RecordCounts},
};

impl Store {
    /// Number of rows of each kind.
    pub(crate) async fn record_counts(&self) -> Stored<RecordCounts> {
        let mut snapshot = self.snapshot().await?;
        let record_counts = snapshot.record_counts().await;
        snapshot.close().await;
        record_counts
    }

    /// Number of records of this export that have been imported already. An error if the database has other rows.
    pub(crate) async fn begin_import(&self, export: &str) -> Stored<u64> {
        let imported = match &self.engine {
            Engine::Sqlite(engine) => engine.imported(export).await?,
            Engine::Postgres(engine) => within(MAX_LONG_ANSWER_SECONDS, engine.imported(export)).await?,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(_) => unreachable!("nothing is taken from memory to anywhere else"),
        };
        match imported {
            Some(records) => Ok(records),
            None if self.record_counts().await? == RecordCounts::default() => Ok(0),
            None => Err(StoreError::NotEmpty),
        }
    }

    /// Imports records, and stores the progress. No coordinator may be running, and none can start before the import is
    /// complete.
    pub(crate) async fn import(&self, export: &str, batch: &[Record], progress: Progress) -> Stored<()> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.import(export, batch, progress).await,
            Engine::Postgres(engine) => within(MAX_LONG_ANSWER_SECONDS, engine.import(export, batch, progress)).await,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(_) => unreachable!("nothing is taken from memory to anywhere else"),
        }
    }
}
