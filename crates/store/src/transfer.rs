//! Rows as they travel from one database to another: all their columns, exactly, by whichever engine they are read or
//! written. No SQL here.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Engine, MAX_LONG_ANSWER_SECONDS, Store, StoreError, Stored, within};

/// The kinds of row, in the order in which they travel: jobs belong to sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sessions,
    Jobs,
    Vectors,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Sessions, Self::Jobs, Self::Vectors];
}

/// A row of any kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    Session(SessionRecord),
    Job(JobRecord),
    Vector(VectorRecord),
}

impl Record {
    pub(crate) fn id(&self) -> i64 {
        match self {
            Self::Session(session) => session.id,
            Self::Job(job) => job.id,
            Self::Vector(vector) => vector.id,
        }
    }

    /// The collection that has vectors by it, or is to have some: a session's as soon as it has scanned something.
    pub(super) fn collection(&self) -> Option<&str> {
        match self {
            Self::Session(session) => (session.scan > 0).then_some(&session.collection),
            Self::Job(job) => Some(&job.collection),
            Self::Vector(vector) => Some(&vector.collection),
        }
    }
}

/// How far an import is: records that are in, of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) records: u64,
    pub(crate) total: u64,
}

/// A session. Which process scans its library is not told: at its new place it is nobody, so that the scan begins again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SessionRecord {
    pub(super) id: i64,
    pub(super) code: String,
    pub(super) created_ms: i64,
    pub(super) model: String,
    pub(super) collection: String,
    pub(super) paused: bool,
    pub(super) ended: bool,
    pub(super) scan: i64,
    pub(super) scanning: Option<String>,
    pub(super) skipped: i64,
    /// This and what follows exports of earlier versions lack.
    #[serde(default)]
    pub(super) alike: i64,
    #[serde(default = "nothing")]
    pub(super) left_out: String,
    #[serde(default)]
    pub(super) every_file: bool,
    #[serde(default)]
    pub(super) ended_ms: Option<i64>,
    /// Whether the session's own code lets workers in. It does in exports of versions without invitations.
    #[serde(default = "yes")]
    pub(super) is_code_open: bool,
}

fn yes() -> bool {
    true
}

/// An empty list in JSON.
fn nothing() -> String {
    "[]".to_owned()
}

/// A job, its lease included: the worker that has it may go on at its new place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    pub(super) id: i64,
    pub(super) session: i64,
    pub(super) scan: i64,
    pub(super) model: String,
    pub(super) collection: String,
    pub(super) library: String,
    pub(super) file: String,
    pub(super) artist: Option<String>,
    pub(super) title: Option<String>,
    pub(super) album: Option<String>,
    pub(super) bytes: i64,
    pub(super) content_hash: String,
    pub(super) track_key: Option<String>,
    pub(super) state: String,
    pub(super) not_before_ms: i64,
    pub(super) not_again_before_ms: i64,
    pub(super) deadline_ms: i64,
    pub(super) attempts: i64,
    pub(super) leases: i64,
    pub(super) token: Option<String>,
    pub(super) holder: Option<String>,
    pub(super) holder_kind: Option<String>,
    pub(super) answered: bool,
    pub(super) reopened: i64,
    pub(super) error: Option<String>,
    /// This and what follows exports of earlier versions lack.
    #[serde(default)]
    pub(super) seconds: Option<Exact<f64>>,
    #[serde(default)]
    pub(super) version: Option<String>,
}

/// A vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct VectorRecord {
    pub(super) id: i64,
    pub(super) collection: String,
    pub(super) model: String,
    pub(super) content_hash: String,
    pub(super) track_key: Option<String>,
    pub(super) artist: Option<String>,
    pub(super) title: Option<String>,
    pub(super) album: Option<String>,
    pub(super) file: String,
    pub(super) seconds: Exact<f64>,
    pub(super) backend: String,
    pub(super) device: String,
    pub(super) worker: String,
    pub(super) flags: String,
    pub(super) stored_ms: i64,
    pub(super) embedding: Vec<Exact<f32>>,
    pub(super) tags: Vec<Exact<f32>>,
    /// Exports of earlier versions lack this. Invitations stay behind, with their numbers.
    #[serde(default)]
    pub(super) worker_key: Option<String>,
}

/// A number written as a text, since JSON's numbers are read by way of roundings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(
    into = "String",
    try_from = "String",
    bound = "Self: Into<String> + TryFrom<String, Error: fmt::Display> + Clone"
)]
pub(super) struct Exact<T>(pub(super) T);

impl<T: fmt::Display> From<Exact<T>> for String {
    fn from(number: Exact<T>) -> Self {
        number.0.to_string()
    }
}

impl<T: std::str::FromStr> TryFrom<String> for Exact<T> {
    type Error = T::Err;

    fn try_from(text: String) -> Result<Self, T::Err> {
        text.parse().map(Self)
    }
}

pub(super) fn exactly(numbers: Vec<f32>) -> Vec<Exact<f32>> {
    numbers.into_iter().map(Exact).collect()
}

pub(super) fn numbers(exact: &[Exact<f32>]) -> Vec<f32> {
    exact.iter().map(|number| number.0).collect()
}

/// How many rows of each kind there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RecordCounts {
    /// Sessions, ended or not.
    pub sessions: u64,
    /// Jobs in any state.
    pub jobs: u64,
    /// Vectors in all collections.
    pub vectors: u64,
}

impl RecordCounts {
    /// Rows of all kinds.
    pub(crate) fn records(self) -> u64 {
        self.sessions + self.jobs + self.vectors
    }

    pub(crate) fn count(&mut self, record: &Record) {
        match record {
            Record::Session(_) => self.sessions += 1,
            Record::Job(_) => self.jobs += 1,
            Record::Vector(_) => self.vectors += 1,
        }
    }
}

impl fmt::Display for RecordCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sessions, {} jobs and {} vectors", self.sessions, self.jobs, self.vectors)
    }
}

impl Store {
    /// How many rows there are.
    pub(crate) async fn record_counts(&self) -> Stored<RecordCounts> {
        let mut snapshot = self.snapshot().await?;
        let record_counts = snapshot.record_counts().await;
        snapshot.close().await;
        record_counts
    }

    /// How many records of this export are in already. A database that has something else in it takes none.
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

    /// Takes records in, and remembers how far it is then. No coordinator may be at work, and none begins before all are in.
    pub(crate) async fn import(&self, export: &str, batch: &[Record], progress: Progress) -> Stored<()> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.import(export, batch, progress).await,
            Engine::Postgres(engine) => within(MAX_LONG_ANSWER_SECONDS, engine.import(export, batch, progress)).await,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(_) => unreachable!("nothing is taken from memory to anywhere else"),
        }
    }
}

/// Writes the readers of records from rows of one engine.
macro_rules! record_readers {
    ($row:ty, $numbers:path) => {
        fn record_of(kind: Kind, row: &$row) -> sqlx::Result<Record> {
            Ok(match kind {
                Kind::Sessions => Record::Session(SessionRecord {
                    id: row.try_get("id")?,
                    code: row.try_get("code")?,
                    created_ms: row.try_get("created_ms")?,
                    model: row.try_get("model")?,
                    collection: row.try_get("collection")?,
                    paused: row.try_get("paused")?,
                    ended: row.try_get("ended")?,
                    scan: row.try_get("scan")?,
                    scanning: row.try_get("scanning")?,
                    skipped: row.try_get("skipped")?,
                    alike: row.try_get("alike")?,
                    left_out: row.try_get("left_out")?,
                    every_file: row.try_get("every_file")?,
                    ended_ms: row.try_get("ended_ms")?,
                    is_code_open: row.try_get("is_code_open")?,
                }),
                Kind::Jobs => Record::Job(JobRecord {
                    id: row.try_get("id")?,
                    session: row.try_get("session")?,
                    scan: row.try_get("scan")?,
                    model: row.try_get("model")?,
                    collection: row.try_get("collection")?,
                    library: row.try_get("library")?,
                    file: row.try_get("file")?,
                    artist: row.try_get("artist")?,
                    title: row.try_get("title")?,
                    album: row.try_get("album")?,
                    bytes: row.try_get("bytes")?,
                    content_hash: row.try_get("content_hash")?,
                    track_key: row.try_get("track_key")?,
                    state: row.try_get("state")?,
                    not_before_ms: row.try_get("not_before_ms")?,
                    not_again_before_ms: row.try_get("not_again_before_ms")?,
                    deadline_ms: row.try_get("deadline_ms")?,
                    attempts: row.try_get("attempts")?,
                    leases: row.try_get("leases")?,
                    token: row.try_get("token")?,
                    holder: row.try_get("holder")?,
                    holder_kind: row.try_get("holder_kind")?,
                    answered: row.try_get("answered")?,
                    reopened: row.try_get("reopened")?,
                    error: row.try_get("error")?,
                    seconds: row.try_get::<Option<f64>, _>("seconds")?.map(transfer::Exact),
                    version: row.try_get("version")?,
                }),
                Kind::Vectors => Record::Vector(VectorRecord {
                    id: row.try_get("id")?,
                    collection: row.try_get("collection")?,
                    model: row.try_get("model")?,
                    content_hash: row.try_get("content_hash")?,
                    track_key: row.try_get("track_key")?,
                    artist: row.try_get("artist")?,
                    title: row.try_get("title")?,
                    album: row.try_get("album")?,
                    file: row.try_get("file")?,
                    seconds: transfer::Exact(row.try_get("seconds")?),
                    backend: row.try_get("backend")?,
                    device: row.try_get("device")?,
                    worker: row.try_get("worker")?,
                    flags: row.try_get("flags")?,
                    stored_ms: row.try_get("stored_ms")?,
                    embedding: transfer::exactly($numbers(row, "embedding")?),
                    tags: transfer::exactly($numbers(row, "tags")?),
                    worker_key: row.try_get("worker_key")?,
                }),
            })
        }

        fn counts_of(row: &$row) -> sqlx::Result<RecordCounts> {
            Ok(RecordCounts {
                sessions: unsigned(row.try_get("sessions")?),
                jobs: unsigned(row.try_get("jobs")?),
                vectors: unsigned(row.try_get("vectors")?),
            })
        }
    };
}

pub(super) use record_readers;
