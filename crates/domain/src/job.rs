//! Jobs: what is asked of a worker, and what comes of it.

use serde::{Deserialize, Serialize};

use crate::Vector;

/// A job's number, unique on its coordinator.
pub type JobId = i64;

/// The secret that proves a lease: whoever shows it may fetch the job's audio and answer it.
pub type LeaseToken = String;

/// A job together with the lease under which a worker holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobRef {
    /// The job.
    pub job: JobId,
    /// The lease.
    pub lease: LeaseToken,
}

/// Where a job stands.
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
    /// How many of the skipped have another content than the track that is there, but its artist, title and length.
    #[serde(default)]
    pub alike: u64,
}

impl Counts {
    /// Jobs that are not finished.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.queued + self.leased
    }

    /// Jobs of any state; skipped files are none.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.open() + self.done + self.failed
    }
}

/// How a job ended at the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    /// The track's vector.
    Done(Vector),
    /// No vector.
    Failed(Failure),
}

/// Why a worker has no vector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What to do about it.
    pub kind: FailureKind,
    /// The reason, for people.
    pub message: String,
}

/// Whether another attempt can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The track itself: cannot be decoded, too short, too long. No other worker would do better.
    Permanent,
    /// The network or this worker: try again, elsewhere if possible.
    Passing,
}
