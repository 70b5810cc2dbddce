//! The store: it passes requests to its engine, limits the wait for a server's answer, and measures the response times.

mod audit;
mod credentials;
mod invitations;
mod jobs;
mod peers;
mod scans;
mod sessions;
mod snapshot;
mod transfer;
mod vectors;

use std::sync::Arc;

use tokio::sync::Semaphore;

#[cfg(any(test, feature = "memory"))]
use crate::memory::Memory;
use crate::{
    common::{MAX_ANSWER_SECONDS, within},
    database::Database,
    error::{StoreError, Stored},
    metrics::StoreMetrics,
    postgres::Postgres,
    snapshot::MAX_SNAPSHOTS,
    sqlite::Sqlite,
};
pub use peers::Wakeups;
pub use snapshot::Snapshot;

/// The database. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) engine: Engine,
    metrics: StoreMetrics,
    /// Permits for open snapshots.
    snapshots: Arc<Semaphore>,
}

#[derive(Debug, Clone)]
pub(crate) enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
    #[cfg(any(test, feature = "memory"))]
    Memory(Memory),
}

/// Calls the store's engine, and records how long the answer takes. Only a server has a time limit: a file cannot vanish,
/// and SQLite's waits have limits of their own.
macro_rules! ask {
    ($store:ident, $engine:ident => $asked:ident.$operation:ident($($argument:expr),*)) => {
        ask!($store, MAX_ANSWER_SECONDS, $engine => $asked.$operation($($argument),*))
    };
    ($store:ident, $limit:ident, $engine:ident => $asked:ident.$operation:ident($($argument:expr),*)) => {{
        let began = std::time::Instant::now();
        let answer = match &$store.engine {
            $crate::store::Engine::Sqlite($engine) => $asked.$operation($($argument),*).await,
            $crate::store::Engine::Postgres($engine) => {
                $crate::common::within($crate::common::$limit, $asked.$operation($($argument),*)).await
            }
            #[cfg(any(test, feature = "memory"))]
            $crate::store::Engine::Memory($engine) => {
                $engine.ask(stringify!($operation), $asked.$operation($($argument),*)).await
            }
        };
        $store.metrics.answered(stringify!($operation), began.elapsed(), &answer);
        answer
    }};
}

use ask;

impl Store {
    /// Opens the database, creating or migrating it as needed.
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

    /// A store in memory, which several simulated processes of a test may share.
    #[cfg(any(test, feature = "memory"))]
    pub fn in_memory(memory: Memory) -> Self {
        Self::of(Engine::Memory(memory))
    }

    /// Starts using the database as a coordinator. A coordinator and an import exclude each other.
    pub async fn serve(&self) -> Stored<()> {
        let is_half_imported = match &self.engine {
            Engine::Sqlite(engine) => engine.is_half_imported().await?,
            Engine::Postgres(engine) => within(MAX_ANSWER_SECONDS, engine.serve()).await?,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(_) => false,
        };
        if is_half_imported { Err(StoreError::HalfImported) } else { Ok(()) }
    }

    /// Response times and error counts of the database.
    pub fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }

    /// Builds the missing indexes of collections, and returns how many. Only one coordinator of a database does so at a time;
    /// the others get 0. Only PostgreSQL has such indexes.
    pub async fn build_indexes(&self) -> Stored<u64> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(0),
            Engine::Postgres(engine) => engine.build_indexes().await,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(_) => Ok(0),
        }
    }

    /// Closes all connections.
    pub async fn close(&self) {
        match &self.engine {
            Engine::Sqlite(engine) => engine.close().await,
            Engine::Postgres(engine) => engine.close().await,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(_) => {}
        }
    }

    /// Sends a cheap query, to check that the database answers.
    pub async fn ping(&self) -> Stored<()> {
        ask!(self, engine => engine.ping())
    }

    /// Whether other coordinators may use the same database.
    pub fn is_shared(&self) -> bool {
        match &self.engine {
            Engine::Sqlite(_) => false,
            Engine::Postgres(_) => true,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(engine) => engine.is_shared(),
        }
    }
}
