//! Stored jobs, claims of workers, and their answers.

use chaarfm_coordinator::{Answer, Asked, Job, LAST_TRY, NotLeasable, NotYourLease, Said, Taken, Timestamp};
use chaarfm_domain::{InvalidVector, InvitationId, JobRef, LeaseToken, Track, WorkerKind};
use serde::{Deserialize, Serialize};

use crate::models::model_spec;

/// Maximum number of leases ended per sweep; the next sweep continues.
pub(crate) const MAX_EXPIRED_PER_SWEEP: i64 = 1000;

/// A stored job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRow {
    /// State of the job, as the rules define it.
    pub job: Job,
    /// Requested model.
    pub model: String,
    /// Name of the library that has the file.
    pub library: String,
    /// The track.
    pub track: Track,
    /// Size of the file.
    pub bytes: u64,
    /// See [`chaarfm_domain::Found::version`].
    pub version: Option<String>,
    /// Kind of the worker that has, or had, the newest lease.
    pub holder_kind: Option<WorkerKind>,
    /// BLAKE3 of the file's bytes, in lower-case hexadecimal.
    pub content_hash: String,
    pub(crate) collection: String,
    pub(crate) track_key: Option<String>,
}

impl JobRow {
    /// Leases the job to the worker of a claim.
    pub(crate) fn lease(&mut self, claim: &Claim<'_>, now: Timestamp) -> Result<(), NotLeasable> {
        if !self.job.may_go_to(claim.worker, claim.takes_last_tries, now) {
            return Err(NotLeasable);
        }
        self.job.lease(claim.lease.clone(), claim.worker, now)?;
        self.holder_kind = Some(claim.kind);
        Ok(())
    }

    /// Applies a worker's answer to the job.
    pub(crate) fn take(&mut self, held: &JobRef, said: Said, now: Timestamp) -> Result<Taken, NotYourLease> {
        let asked = Asked { model: &self.model, spec: model_spec(&self.model), content_hash: &self.content_hash };
        self.job.take(&asked, &held.lease, said, now)
    }

    /// Whether a worker analysed content with another hash than the scan found.
    pub fn is_about_another(&self, content_hash: Option<&str>) -> bool {
        content_hash.is_some_and(|hash| hash != self.content_hash)
    }

    /// The answer to the worker, once everything has been written.
    pub(crate) fn told(
        self,
        answer: Answer,
        invalid: Option<InvalidVector>,
        duplicate: bool,
    ) -> Result<Answered, Refusal> {
        match invalid {
            Some(reason) if answer != Answer::Repeated => Err(Refusal::InvalidVector(reason, Box::new((self, answer)))),
            _ => Ok(Answered { row: self, answer, duplicate }),
        }
    }
}

/// A worker with room for a job, and the lease for that job.
#[derive(Debug, Clone)]
pub struct Claim<'a> {
    /// The lease.
    pub lease: LeaseToken,
    /// The worker's name, which is the hash of its key.
    pub worker: &'a str,
    /// Invitation by which the worker joined.
    pub invitation: InvitationId,
    /// Kind of the worker.
    pub kind: WorkerKind,
    /// The largest file it takes.
    pub max_bytes: u64,
    /// Whether it may get the last attempt of a job.
    pub takes_last_tries: bool,
}

impl Claim<'_> {
    /// Maximum number of used attempts of a job that this worker may get.
    pub fn max_attempts(&self) -> i64 {
        i64::from(if self.takes_last_tries { u32::MAX } else { LAST_TRY - 1 })
    }
}

/// Outcome of the claims of one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The job that each claim got, in the order of the claims.
    pub rows: Vec<Option<JobRow>>,
    /// The job at which claiming stopped, because this coordinator cannot serve it. It stays queued unchanged.
    pub unserved: Option<JobRow>,
}

/// The properties of the connected workers that decide whether any of them may have a certain job. If only one worker takes
/// files of a job's size and has failed that job itself, it has to wait longer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Takers {
    /// Name of the worker with the largest size limit.
    pub greatest: String,
    /// Its size limit; 0 if there is no worker.
    pub max_bytes: u64,
    /// Largest size limit of workers with other names.
    pub max_bytes_of_others: u64,
}

impl Takers {
    /// Adds a worker that takes files of up to `max_bytes`.
    pub fn add(&mut self, worker: &str, max_bytes: u64) {
        if worker == self.greatest {
            self.max_bytes = self.max_bytes.max(max_bytes);
        } else if max_bytes > self.max_bytes {
            self.max_bytes_of_others = self.max_bytes;
            self.max_bytes = max_bytes;
            worker.clone_into(&mut self.greatest);
        } else {
            self.max_bytes_of_others = self.max_bytes_of_others.max(max_bytes);
        }
    }

    /// Adds the workers of another coordinator. A worker that is moving between the two may count twice.
    pub fn join(&mut self, others: &Self) {
        self.add(&others.greatest, others.max_bytes);
        self.max_bytes_of_others = self.max_bytes_of_others.max(others.max_bytes_of_others);
    }
}

/// How many of the first queued jobs can be handed out now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueStatus {
    /// Jobs that one of the workers may have as soon as it has room.
    pub ready: u64,
    /// Jobs whose file is too large for every worker.
    pub too_large: u64,
    /// Jobs that have failed an attempt and wait for the next one.
    pub resting: u64,
    /// When the first of these may be tried.
    pub next_try: Option<Timestamp>,
}

/// An accepted answer of a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The job after the answer.
    pub row: JobRow,
    /// Outcome of the job.
    pub answer: Answer,
    /// The collection already had a vector of the track: that one stays, and this one is dropped.
    pub duplicate: bool,
}

/// Why a worker's message about a job is rejected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The session has no such job (any more).
    #[error("there is no such job (any more)")]
    UnknownJob,
    /// The job is held under another lease, or under none.
    #[error(transparent)]
    NotYourLease(#[from] NotYourLease),
    /// The vector is invalid. The failure has been recorded; the job comes with its outcome.
    #[error("{0}")]
    InvalidVector(InvalidVector, Box<(JobRow, Answer)>),
}

/// Result of retrying failed jobs, without those that stayed failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retried {
    /// Jobs queued again at the end, under new numbers and with fresh attempts.
    pub queued: u64,
    /// Jobs whose content has got a vector in the meantime. They are no longer listed.
    pub known: u64,
}
