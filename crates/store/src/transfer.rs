//! Rows as they move from one database to another: all their columns, exactly, independent of the engine. No SQL here.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kinds of row, in the order of transfer: jobs refer to sessions.
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

    /// The collection that the record adds or will add vectors to. A session names one as soon as it has begun a scan.
    pub(crate) fn collection(&self) -> Option<&str> {
        match self {
            Self::Session(session) => (session.scan > 0).then_some(&session.collection),
            Self::Job(job) => Some(&job.collection),
            Self::Vector(vector) => Some(&vector.collection),
        }
    }
}

/// Progress of an import: records imported, of all records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) records: u64,
    pub(crate) total: u64,
}

/// A session. The process that scans its library is left out: no process does so in the new database, so the scan starts
/// over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SessionRecord {
    pub(crate) id: i64,
    pub(crate) code: String,
    pub(crate) created_ms: i64,
    pub(crate) model: String,
    pub(crate) collection: String,
    pub(crate) paused: bool,
    pub(crate) ended: bool,
    pub(crate) scan: i64,
    pub(crate) scanning: Option<String>,
    pub(crate) skipped: i64,
    /// Exports of earlier versions lack this field and the following ones.
    #[serde(default)]
    pub(crate) alike: i64,
    #[serde(default = "nothing")]
    pub(crate) left_out: String,
    #[serde(default)]
    pub(crate) every_file: bool,
    #[serde(default)]
    pub(crate) ended_ms: Option<i64>,
    /// Whether the session's own code admits workers. In exports of versions without invitations it does.
    #[serde(default = "yes")]
    pub(crate) is_code_open: bool,
}

fn yes() -> bool {
    true
}

/// An empty list in JSON.
fn nothing() -> String {
    "[]".to_owned()
}

/// A job, including its lease: its worker may continue in the new database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    pub(crate) id: i64,
    pub(crate) session: i64,
    pub(crate) scan: i64,
    pub(crate) model: String,
    pub(crate) collection: String,
    pub(crate) library: String,
    pub(crate) file: String,
    pub(crate) artist: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) album: Option<String>,
    pub(crate) bytes: i64,
    pub(crate) content_hash: String,
    pub(crate) track_key: Option<String>,
    pub(crate) state: String,
    pub(crate) not_before_ms: i64,
    pub(crate) not_again_before_ms: i64,
    pub(crate) deadline_ms: i64,
    pub(crate) attempts: i64,
    pub(crate) leases: i64,
    pub(crate) token: Option<String>,
    pub(crate) holder: Option<String>,
    pub(crate) holder_kind: Option<String>,
    pub(crate) answered: bool,
    pub(crate) reopened: i64,
    pub(crate) error: Option<String>,
    /// Exports of earlier versions lack this field and the following ones.
    #[serde(default)]
    pub(crate) seconds: Option<Exact<f64>>,
    #[serde(default)]
    pub(crate) version: Option<String>,
}

/// A vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct VectorRecord {
    pub(crate) id: i64,
    pub(crate) collection: String,
    pub(crate) model: String,
    pub(crate) content_hash: String,
    pub(crate) track_key: Option<String>,
    pub(crate) artist: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) album: Option<String>,
    pub(crate) file: String,
    pub(crate) seconds: Exact<f64>,
    pub(crate) backend: String,
    pub(crate) device: String,
    pub(crate) worker: String,
    pub(crate) flags: String,
    pub(crate) stored_ms: i64,
    pub(crate) embedding: Vec<Exact<f32>>,
    pub(crate) tags: Vec<Exact<f32>>,
    /// Exports of earlier versions lack this. Invitations are not exported, and their numbers mean nothing elsewhere.
    #[serde(default)]
    pub(crate) worker_key: Option<String>,
}

/// A number written as text, since reading JSON numbers rounds them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(
    into = "String",
    try_from = "String",
    bound = "Self: Into<String> + TryFrom<String, Error: fmt::Display> + Clone"
)]
pub(crate) struct Exact<T>(pub(crate) T);

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

pub(crate) fn exactly(numbers: Vec<f32>) -> Vec<Exact<f32>> {
    numbers.into_iter().map(Exact).collect()
}

pub(crate) fn numbers(exact: &[Exact<f32>]) -> Vec<f32> {
    exact.iter().map(|number| number.0).collect()
}

/// Number of rows of each kind.
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
    /// Number of rows of all kinds.
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

/// Generates the readers of records from rows of one engine.
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

pub(crate) use record_readers;
