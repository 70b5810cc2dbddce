//! The messages between a coordinator and a worker, in the order in which they usually pass.

use chaarfm_domain::{Device, JobRef, Outcome, SessionState, Stage, Track, Trial, WorkerKind};
use serde::{Deserialize, Serialize};

use crate::{Halves, WorkerKey};

/// What a worker sends.
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
        /// What it computes on.
        device: Device,
        /// How it came to that device.
        #[serde(default)]
        trial: Trial,
        /// What it can take.
        capacity: Capacity,
        /// What the worker is known by on all its connections. Workers of earlier versions have none.
        #[serde(default)]
        key: Option<WorkerKey>,
        /// Leases it still works on from an earlier connection and would like to keep.
        #[serde(default)]
        holding: Vec<JobRef>,
    },
    /// How far the job is. Renews its lease when that is further than before, and the lease of a job that waits for this
    /// one's turn to end.
    Progress {
        /// The job and its lease.
        #[serde(flatten)]
        job: JobRef,
        /// What is being done.
        stage: Stage,
        /// Share of the stage that is done, 0 to 1.
        fraction: f32,
    },
    /// Embeddings of a track's patches, in their order, ahead of a `result` with a vector: what its vector is the mean of.
    /// Sent again, from the first patch on, whenever the `result` is.
    Patches {
        /// The job and its lease.
        #[serde(flatten)]
        job: JobRef,
        /// Number of the first of these patches, from 0.
        first: u32,
        /// Numbers in an embedding, up to [`chaarfm_domain::limits::MAX_EMBEDDING_LENGTH`].
        length: u16,
        /// The embeddings one after the other; [`crate::limits::MAX_NUMBERS_PER_MESSAGE`] numbers at most.
        embeddings: Halves,
    },
    /// The job's answer. The worker keeps it until it is accepted or rejected.
    Result {
        /// The job and its lease.
        #[serde(flatten)]
        job: JobRef,
        /// The vector, or why there is none.
        outcome: Outcome,
        /// BLAKE3 of the file that the worker has received and looked at, in lower-case hexadecimal. None when it has received
        /// none; workers of earlier versions never tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content_hash: Option<String>,
    },
    /// The worker hands the job back undone; no fault of the job's.
    Release {
        /// The job and its lease.
        #[serde(flatten)]
        job: JobRef,
    },
    /// The worker leaves and holds nothing any more.
    Bye,
    /// Asks for a `Pong`.
    Ping,
    /// Answers a `Ping`.
    Pong,
    /// A message of a later version.
    #[serde(other)]
    Unknown,
}

/// What a coordinator sends to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToWorker {
    /// Answers `Hello`: the worker is in.
    Welcome {
        /// [`crate::VERSION`] of the coordinator.
        protocol: u32,
        /// The session's number. It opens nothing.
        session: String,
        /// Where the session stands.
        state: SessionState,
        /// The model most jobs will need, to load ahead.
        model: ModelRef,
    },
    /// Answers `Hello`: the worker is not let in. It should not try again, except after `full` and `bad_hello`.
    Refused {
        /// Why, for programs.
        reason: RefusalReason,
        /// Why, for people.
        message: String,
        /// The program that this coordinator's workers have, for a worker that is too old. Coordinators of earlier versions
        /// do not send it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        get: Option<ProgramRef>,
    },
    /// A track to analyse.
    Job(Job),
    /// Answers `Result`: it counted.
    Accepted {
        /// The job and its lease.
        #[serde(flatten)]
        job: JobRef,
        /// What became of it.
        outcome: AcceptedAs,
    },
    /// Answers `Result`, `Progress` or a lease in `Hello`: it did not count, and the worker drops the job.
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
        /// Where the session stands.
        state: SessionState,
    },
    /// The coordinator restarts or shuts down: connect anew, soon. What the worker holds stays its own, and what it has
    /// sent is still heard until it hangs up.
    Goodbye,
    /// Asks for a `Pong`.
    Ping,
    /// Answers a `Ping`.
    Pong,
    /// A message of a later version.
    #[serde(other)]
    Unknown,
}

/// A program, and where a person gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramRef {
    /// Its version.
    pub version: String,
    /// Address of the page that offers it, relative to the coordinator's.
    pub page: String,
}

/// What a worker can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Jobs it may hold at once, up to [`crate::limits::MAX_JOBS_PER_WORKER`].
    pub jobs: u8,
    /// Largest audio file it takes, in bytes.
    pub max_audio_bytes: u64,
}

/// A job as a worker gets it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The job and its lease.
    #[serde(flatten)]
    pub job: JobRef,
    /// The model to compute.
    pub model: ModelRef,
    /// What is known of the track.
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
    /// Address, relative to the coordinator's; good only with the lease in [`crate::LEASE_HEADER`].
    pub url: String,
    /// Address at which the storage itself hands the file out, if it does: absolute, `https`, or `http` for workers that
    /// reach the coordinator without TLS as well. It holds a signature that is good for an hour, and is as secret as the
    /// lease. A worker asks there at first, once, and at `url` when that fails. Workers of earlier versions know only `url`,
    /// and coordinators of earlier versions send only that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<String>,
    /// Size of the file.
    pub bytes: u64,
}

/// What became of an accepted result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcceptedAs {
    /// The vector is stored.
    Stored,
    /// The failure is recorded; the job is retried or given up.
    Recorded,
    /// The same answer had already been accepted.
    Repeated,
}

/// Why a result or a lease does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectionReason {
    /// The job does not exist (any more).
    UnknownJob,
    /// The lease is not, or no longer, this worker's.
    NotYourLease,
    /// The vector has the wrong model, length or a number that is not finite.
    InvalidVector,
}

/// Why a worker is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// The code lets nobody in (any more), nor does the key.
    UnknownCode,
    /// The owner has ended the session.
    SessionEnded,
    /// The two versions do not understand each other.
    ProtocolVersion,
    /// The first message was not a valid `hello`.
    BadHello,
    /// The session or the invitation has as many workers as it accepts.
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
