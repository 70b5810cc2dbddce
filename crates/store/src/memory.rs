//! The store in memory, for tests: it behaves like the databases, takes no time of its own, and serves several processes on
//! the same rows. [`Conditions`] decide how requests and answers get through.
//!
//! It has no exports, imports, snapshots or credentials.

mod audit;
mod changes;
mod invitations;
mod jobs;
mod peers;
mod rows;
mod scans;
mod sessions;
mod vectors;

use std::{
    collections::BTreeMap,
    fmt,
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::SessionId;
use tokio::{
    sync::{Mutex, MutexGuard, broadcast},
    time::sleep,
};

use crate::{
    error::{StoreError, Stored},
    peers::News,
};
pub use peers::Listener;
pub use rows::{Entry, Rows};

/// Maximum number of notices queued for a process. A process with more than this has missed some.
const MAX_NEWS: usize = 64;

/// Decides how requests and answers get through, and observes every change of the rows.
pub trait Conditions: fmt::Debug + Send + Sync {
    /// Called before a request.
    fn begins(&self, _operation: &'static str) {}

    /// How a request gets to the database, or its answer back.
    fn way(&self, is_back: bool) -> Way;

    /// Called when the answer has arrived, or nobody waits for it any more.
    fn ends(&self, _operation: &'static str) {}

    /// Called after a commit of this process.
    fn committed(&self, before: &Rows, after: &Rows);
}

/// How a request or its answer gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It gets through after this time.
    After(Duration),
    /// It does not get through, which becomes known after this time.
    Broken(Duration),
    /// The transaction conflicts with another one: the same may succeed at once.
    Conflict,
    /// It never gets through: the requesting process is gone.
    Never,
}

/// Everything gets through at once.
#[derive(Debug)]
struct Calm;

impl Conditions for Calm {
    fn way(&self, _is_back: bool) -> Way {
        Way::After(Duration::ZERO)
    }

    fn committed(&self, _before: &Rows, _after: &Rows) {}
}

/// A process's access to the rows.
#[derive(Debug, Clone)]
pub struct Memory {
    rows: Arc<Mutex<Rows>>,
    beside: Arc<Beside>,
    owner: String,
    is_shared: bool,
    conditions: Arc<dyn Conditions>,
}

/// A request in progress.
struct Asking<'a> {
    conditions: &'a dyn Conditions,
    operation: &'static str,
}

impl<'a> Asking<'a> {
    fn new(conditions: &'a dyn Conditions, operation: &'static str) -> Self {
        conditions.begins(operation);
        Self { conditions, operation }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.conditions.ends(self.operation);
    }
}

/// State outside of transactions.
#[derive(Debug)]
struct Beside {
    workers: AtomicU64,
    processes: AtomicU64,
    /// For each session and process: the view, and until when it is shown.
    presence: std::sync::Mutex<BTreeMap<(SessionId, String), (Timestamp, String)>>,
    news: broadcast::Sender<(String, News)>,
}

impl Memory {
    /// A store without any rows.
    pub fn empty() -> Self {
        let beside = Beside {
            workers: AtomicU64::new(0),
            processes: AtomicU64::new(0),
            presence: std::sync::Mutex::default(),
            news: broadcast::Sender::new(MAX_NEWS),
        };
        Self {
            rows: Arc::default(),
            beside: Arc::new(beside),
            owner: "0".to_owned(),
            is_shared: true,
            conditions: Arc::new(Calm),
        }
    }

    /// Access of another process to the same rows.
    pub fn another(&self) -> Self {
        let number = self.beside.processes.fetch_add(1, Ordering::Relaxed) + 1;
        Self { owner: number.to_string(), ..self.clone() }
    }

    /// The same access under other conditions. `is_shared` says whether several processes may use the rows at a time.
    pub fn under(self, conditions: Arc<dyn Conditions>, is_shared: bool) -> Self {
        Self { conditions, is_shared, ..self }
    }

    /// A copy of all rows at this moment.
    pub async fn look(&self) -> Rows {
        self.rows.lock().await.clone()
    }

    /// Makes a request: it and its answer get through as the conditions permit.
    pub(crate) async fn ask<T>(&self, operation: &'static str, asked: impl Future<Output = Stored<T>>) -> Stored<T> {
        let _asking = Asking::new(&*self.conditions, operation);
        self.go(false).await?;
        let answer = asked.await;
        self.go(true).await?;
        answer
    }

    async fn go(&self, is_back: bool) -> Stored<()> {
        match self.conditions.way(is_back) {
            Way::After(Duration::ZERO) => Ok(()),
            Way::After(after) => {
                sleep(after).await;
                Ok(())
            }
            Way::Broken(after) => {
                sleep(after).await;
                Err(StoreError::Unavailable(io::Error::from(io::ErrorKind::ConnectionReset).into()))
            }
            Way::Conflict => Err(StoreError::Conflict(sqlx::Error::WorkerCrashed)),
            Way::Never => pending().await,
        }
    }

    async fn read(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().await
    }

    /// Executes one statement.
    pub(crate) async fn write<T>(&self, change: impl FnOnce(&mut Rows) -> T) -> T {
        let mut rows = self.rows.lock().await;
        let before = rows.clone();
        let outcome = change(&mut rows);
        self.conditions.committed(&before, &rows);
        outcome
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared
    }

    pub(crate) async fn ping(&self) -> Stored<()> {
        Ok(())
    }
}
