//! Jobs: the work given to a worker, and its outcome.

use serde::{Deserialize, Serialize};

use crate::Vector;

/// A job's number, unique on its coordinator.
pub type JobId = i64;

/// The secret that proves a lease: it entitles its bearer to fetch the job's audio and to answer the job.
pub type LeaseToken = String;

/// A job together with the lease under which a worker holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobRef {
    /// The job.
    pub job: JobId,
    /// The lease.
    pub lease: LeaseToken,
}

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waiting.
    Queued,
    /// Held by a worker.
    Leased,
    /// Stored.
    Done,
    /// Given up.
    Failed,
}

impl JobState {
    /// Its name, as on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Leased => "leased",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// A session's jobs by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Counts {
    /// Waiting for a worker, or for their next attempt.
    pub queued: u64,
    /// Held by a worker.
    pub leased: u64,
    /// Stored.
    pub done: u64,
    /// Given up.
    pub failed: u64,
    /// Found in the collection already and not queued.
    pub skipped: u64,
    /// How many of the skipped tracks differ in content from a track in the collection, but share its artist, title and
    /// length.
    #[serde(default)]
    pub alike: u64,
}

impl Counts {
    /// Jobs that are not finished.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.queued + self.leased
    }

    /// All jobs; skipped files are not jobs.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.open() + self.done + self.failed
    }
}

/// A worker's outcome for a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    /// The track's vector.
    Done(Vector),
    /// No vector.
    Failed(Failure),
}

/// Why a worker produced no vector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whether to retry.
    pub kind: FailureKind,
    /// The reason, for people.
    pub message: String,
}

/// Whether another attempt can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The track itself is at fault: undecodable, too short, too long. Another worker would fail too.
    Permanent,
    /// The network or this worker: try again, elsewhere if possible.
    Passing,
}
