//! The messages between a coordinator and a worker, in their usual order.

use chaarfm_domain::{Device, JobRef, Outcome, SessionState, Stage, Track, Trial, WorkerKind};
use serde::{Deserialize, Serialize};

use crate::{Halves, WorkerKey};

/// Messages from a worker to the coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToServer {
    /// The first message of a connection.
    Hello {
        /// [`crate::VERSION`] of the worker.
        protocol: u32,
        /// Program and version, such as `chaarfm-worker/0.1.0`.
        agent: String,
        /// Native executable or browser tab.
        kind: WorkerKind,
        /// The device it computes on.
        device: Device,
        /// How it chose that device.
        #[serde(default)]
        trial: Trial,
        /// How many jobs it accepts, and how large.
        capacity: Capacity,
        /// The worker's identity on all its connections. Workers of earlier versions have none.
        #[serde(default)]
        key: Option<WorkerKey>,
        /// Leases from an earlier connection that it still works on and wants to keep.
        #[serde(default)]
        holding: Vec<JobRef>,
    },
    /// Progress of a job. Any increase renews the job's lease, and the leases of jobs waiting behind it.
    Progress {
        /// The job and its lease.
        #[serde(flatten)]
        job: JobRef,
        /// The current stage.
        stage: Stage,
        /// Completed share of the stage, 0 to 1.
        fraction: f32,
    },
    /// Embeddings of a track's patches, in order; the vector in the following `result` is their mean. When the `result` is
    /// sent again, so are the patches, from the first one on.
    Patches {
        /// The job and its lease.
        #[serde(flatten)]
        job: JobRef,
        /// Index of the first of these patches, from 0.
        first: u32,
        /// Length of an embedding, up to [`chaarfm_domain::limits::MAX_EMBEDDING_LENGTH`].
        length: u16,
        /// The concatenated embeddings; [`crate::limits::MAX_NUMBERS_PER_MESSAGE`] numbers at most.
        embeddings: Halves,
    },
    /// The job's answer. The worker keeps it until the coordinator accepts or rejects it.
    Result {
        /// The job and its lease.
        #[serde(flatten)]
        job: JobRef,
        /// The vector, or the failure.
        outcome: Outcome,
        /// BLAKE3 of the file that the worker received, in lower-case hexadecimal. None when it received no file; workers
        /// of earlier versions never send it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content_hash: Option<String>,
    },
    /// The worker hands the job back unfinished; the job is not at fault.
    Release {
        /// The job and its lease.
        #[serde(flatten)]
        job: JobRef,
    },
    /// The worker disconnects and no longer holds any job.
    Bye,
    /// Asks for a `Pong`.
    Ping,
    /// Answers a `Ping`.
    Pong,
    /// A message of a later version.
    #[serde(other)]
    Unknown,
}

/// Messages from the coordinator to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToWorker {
    /// Answers `Hello`: the worker is admitted.
    Welcome {
        /// [`crate::VERSION`] of the coordinator.
        protocol: u32,
        /// The session's number. It grants no access.
        session: String,
        /// State of the session.
        state: SessionState,
        /// The model that most jobs will need, so that the worker can load it early.
        model: ModelRef,
    },
    /// Answers `Hello`: the worker is not admitted. It should not retry, except after `full` and `bad_hello`.
    Refused {
        /// Why, for programs.
        reason: RefusalReason,
        /// Why, for people.
        message: String,
        /// The worker program that this coordinator offers, for a worker that is too old. Coordinators of earlier versions
        /// do not send it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        get: Option<ProgramRef>,
    },
    /// A track to analyse.
    Job(Job),
    /// Answers `Result`: it was accepted.
    Accepted {
        /// The job and its lease.
        #[serde(flatten)]
        job: JobRef,
        /// How it was recorded.
        outcome: AcceptedAs,
    },
    /// Answers `Result`, `Progress` or a lease in `Hello`: it was rejected, and the worker drops the job.
    Rejected {
        /// The job and its lease.
        #[serde(flatten)]
        job: JobRef,
        /// Why, for programs.
        reason: RejectionReason,
        /// Why, for people.
        message: String,
    },
    /// The session was paused, resumed or stopped.
    State {
        /// State of the session.
        state: SessionState,
    },
    /// The coordinator restarts or shuts down: the worker should reconnect soon. It keeps its leases, and the coordinator
    /// still reads its messages until it disconnects.
    Goodbye,
    /// Asks for a `Pong`.
    Ping,
    /// Answers a `Ping`.
    Pong,
    /// A message of a later version.
    #[serde(other)]
    Unknown,
}

/// A program, and where to download it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramRef {
    /// Its version.
    pub version: String,
    /// Address of its download page, relative to the coordinator's.
    pub page: String,
}

/// How many jobs a worker accepts, and how large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Maximum number of jobs held at once, up to [`crate::limits::MAX_JOBS_PER_WORKER`].
    pub jobs: u8,
    /// Largest audio file it accepts, in bytes.
    pub max_audio_bytes: u64,
}

/// A job as sent to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The job and its lease.
    #[serde(flatten)]
    pub job: JobRef,
    /// The model to use.
    pub model: ModelRef,
    /// The track's metadata.
    pub track: Track,
    /// Where its audio is.
    pub audio: AudioRef,
}

/// A model and where its weights are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRef {
    /// Its name, such as `msd-musicnn`.
    pub name: String,
    /// SHA-256 of its weights, in lower-case hexadecimal.
    pub sha256: String,
    /// Address of its weights, relative to the coordinator's.
    pub url: String,
}

/// Where a job's audio is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioRef {
    /// Address, relative to the coordinator's; valid only with the lease in [`crate::LEASE_HEADER`].
    pub url: String,
    /// Address at which the storage itself serves the file, if it does: absolute, `https`, or `http` for workers that reach
    /// the coordinator without TLS too. It contains a signature valid for one hour, and is as secret as the lease. A worker
    /// tries it once, before `url`. Workers of earlier versions know only `url`, and coordinators of earlier versions send
    /// only that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<String>,
    /// Size of the file.
    pub bytes: u64,
}

/// How an accepted result was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcceptedAs {
    /// The vector is stored.
    Stored,
    /// The failure is recorded; the job is retried or given up.
    Recorded,
    /// The same answer was accepted before.
    Repeated,
}

/// Why a result or a lease was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectionReason {
    /// The job does not exist, or no longer exists.
    UnknownJob,
    /// The lease is not, or no longer, this worker's.
    NotYourLease,
    /// The vector has the wrong model or length, or contains a number that is not finite.
    InvalidVector,
}

/// Why a worker is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// The code and the key do not admit it, or no longer do.
    UnknownCode,
    /// The owner has ended the session.
    SessionEnded,
    /// The two protocol versions are incompatible.
    ProtocolVersion,
    /// The first message was not a valid `hello`.
    BadHello,
    /// The session or the invitation has reached its maximum number of workers.
    Full,
}

#[cfg(test)]
mod tests {
    use chaarfm_domain::Vector;

    use super::*;

    fn held() -> JobRef {
        JobRef { job: 7, lease: "t".into() }
    }

    #[test]
    fn messages_are_flat_json_with_a_type() {
        let message = ToServer::Progress { job: held(), stage: Stage::Analysing, fraction: 0.5 };
        let text = serde_json::to_string(&message).expect("serialises");
        assert_eq!(text, r#"{"type":"progress","job":7,"lease":"t","stage":"analysing","fraction":0.5}"#);
        assert_eq!(serde_json::from_str::<ToServer>(&text).expect("parses"), message);
    }

    #[test]
    fn unknown_messages_and_fields_of_a_later_version_are_ignored() {
        let later = r#"{"type":"shiny","x":1}"#;
        assert_eq!(serde_json::from_str::<ToServer>(later).expect("parses"), ToServer::Unknown);
        assert_eq!(serde_json::from_str::<ToWorker>(later).expect("parses"), ToWorker::Unknown);
        let longer = r#"{"type":"release","job":7,"lease":"t","mood":"fine"}"#;
        assert_eq!(serde_json::from_str::<ToServer>(longer).expect("parses"), ToServer::Release { job: held() });
    }

    #[test]
    fn a_file_without_a_direct_address_is_told_as_ever() {
        let audio = AudioRef { url: "/a".into(), direct: None, bytes: 7 };
        assert_eq!(serde_json::to_string(&audio).expect("serialises"), r#"{"url":"/a","bytes":7}"#);
        assert_eq!(serde_json::from_str::<AudioRef>(r#"{"url":"/a","bytes":7}"#).expect("parses"), audio);
    }

    #[test]
    fn a_refusal_without_a_program_is_told_as_ever() {
        let refused = ToWorker::Refused { reason: RefusalReason::Full, message: "m".into(), get: None };
        let text = serde_json::to_string(&refused).expect("serialises");
        assert_eq!(text, r#"{"type":"refused","reason":"full","message":"m"}"#);
        assert_eq!(serde_json::from_str::<ToWorker>(&text).expect("parses"), refused);
    }

    #[test]
    fn a_result_keeps_every_bit_of_its_numbers() {
        let embedding: Vec<f32> = (0..200).map(|i| (i as f32 * 0.731).sin() * 3.0).collect();
        let vector = Vector {
            model: "m".into(),
            embedding: embedding.clone(),
            tags: vec![0.1; 50],
            seconds: 1.0 / 3.0,
            patches: 7,
            flags: vec![],
        };
        let text = serde_json::to_string(&ToServer::Result {
            job: held(),
            outcome: Outcome::Done(vector),
            content_hash: None,
        });
        let text = text.expect("serialises");
        assert!(text.len() < crate::limits::MAX_MESSAGE_BYTES);
        let Ok(ToServer::Result { outcome: Outcome::Done(back), .. }) = serde_json::from_str(&text) else {
            panic!("{text}");
        };
        assert_eq!(back.embedding, embedding);
    }
}
