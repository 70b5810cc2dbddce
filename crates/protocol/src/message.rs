//! The messages between a coordinator and a worker, in the order in which they usually pass.

use serde::{Deserialize, Serialize};

use crate::Halves;

/// A job's number, unique on its coordinator.
pub type JobId = i64;

/// The secret that proves a lease: whoever shows it may fetch the job's audio and answer it.
pub type LeaseToken = String;

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
        /// A name that the worker made up when it started, random, the same on all its connections. Empty when it has
        /// none: then each connection counts as another worker.
        #[serde(default)]
        worker: String,
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
        /// Numbers in an embedding, up to [`crate::limits::MAX_EMBEDDING_LENGTH`].
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
        /// The session's code, as it is displayed.
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

/// Which of the two kinds of worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum WorkerKind {
    /// The native executable.
    Native,
    /// A browser tab.
    Browser,
}

impl WorkerKind {
    /// Its name, as on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Browser => "browser",
        }
    }
}

/// A program, and where a person gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramRef {
    /// Its version.
    pub version: String,
    /// Address of the page that offers it, relative to the coordinator's.
    pub page: String,
}

/// What a worker computes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Device {
    /// Backend: `wgpu`, `ndarray` or `flex`.
    pub backend: String,
    /// The adapter's or processor's name, for people.
    pub name: String,
}

/// How a worker came to its device, for people.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Trial {
    /// What the machine's devices have shown.
    pub speeds: Speeds,
    /// Why it is not the GPU, when that was free to be chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Patches a second that a machine's devices showed when they were tried; none where one was not.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Speeds {
    /// The CPU alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f32>,
    /// The GPU alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<f32>,
    /// Both at once; in a tab, what is expected of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub both: Option<f32>,
}

impl Speeds {
    /// For people, such as `CPU 412, GPU 95, both 460 patches a second`; none when nothing was tried.
    #[must_use]
    pub fn in_words(&self) -> Option<String> {
        let named = [("CPU", self.cpu), ("GPU", self.gpu), ("both", self.both)];
        let known = named.into_iter().filter_map(|(name, speed)| {
            let speed = speed?;
            Some(if speed < 10.0 { format!("{name} {speed:.1}") } else { format!("{name} {speed:.0}") })
        });
        let known = known.collect::<Vec<_>>().join(", ");
        (!known.is_empty()).then(|| format!("{known} patches a second"))
    }
}

/// What a worker can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Jobs it may hold at once, up to [`crate::limits::MAX_JOBS_PER_WORKER`].
    pub jobs: u8,
    /// Largest audio file it takes, in bytes.
    pub max_audio_bytes: u64,
}

/// A job together with the lease under which a worker holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobRef {
    /// The job.
    pub job: JobId,
    /// The lease.
    pub lease: LeaseToken,
}

/// What a worker is doing with a job. Later stages are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The audio is on its way.
    Fetching,
    /// The audio is there; another job is in analysis.
    Waiting,
    /// Decoding and computing.
    Analysing,
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

/// A track's MusicNN vector and what goes with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vector {
    /// Name of the model that made it.
    pub model: String,
    /// The embedding; its length is the model's.
    #[serde(deserialize_with = "numbers")]
    pub embedding: Vec<f32>,
    /// Tag activations, 0 to 1, in the model's tag order.
    #[serde(deserialize_with = "numbers")]
    pub tags: Vec<f32>,
    /// Length of the decoded audio.
    pub seconds: f64,
    /// Patches averaged.
    pub patches: u32,
    /// What a listener to the vector should know: `silent`, `truncated`.
    #[serde(default)]
    pub flags: Vec<String>,
}

/// JSON has no word for numbers that are not finite, and serde writes `null` for them. They are read back as what they
/// were, so that the vector can be refused by name instead of breaking the connection.
fn numbers<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
    let numbers = Vec::<Option<f32>>::deserialize(deserializer)?;
    Ok(numbers.into_iter().map(|number| number.unwrap_or(f32::NAN)).collect())
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

/// What is known of a track before it is analysed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Track {
    /// Artist, as tagged.
    #[serde(default)]
    pub artist: Option<String>,
    /// Title, as tagged.
    #[serde(default)]
    pub title: Option<String>,
    /// Album, as tagged.
    #[serde(default)]
    pub album: Option<String>,
    /// Path within its library, with `/` between folders.
    pub file: String,
}

impl Track {
    /// How people call it: "Artist – Title", or the file's name without its folders.
    #[must_use]
    pub fn label(&self) -> String {
        match (&self.artist, &self.title) {
            (Some(artist), Some(title)) => format!("{artist} – {title}"),
            (None, Some(title)) => title.clone(),
            _ => self.file.rsplit('/').next().unwrap_or(&self.file).to_owned(),
        }
    }
}

/// Where a job's audio is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioRef {
    /// Address, relative to the coordinator's; good only for the holder of the lease.
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

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// Nothing has been queued yet.
    Idle,
    /// Jobs are handed out.
    Running,
    /// Jobs wait until the owner resumes.
    Paused,
    /// Every job is done or failed.
    Complete,
    /// The code admits nobody any more.
    Ended,
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
    /// No session has this code.
    UnknownCode,
    /// The owner has ended the session.
    SessionEnded,
    /// The two versions do not understand each other.
    ProtocolVersion,
    /// The first message was not a valid `hello`.
    BadHello,
    /// The session has as many workers as it accepts.
    Full,
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_track_without_tags_is_called_by_its_file() {
        let mut track = Track { file: "a/b.mp3".into(), ..Track::default() };
        assert_eq!(track.label(), "b.mp3");
        track.title = Some("T".into());
        assert_eq!(track.label(), "T");
        track.artist = Some("A".into());
        assert_eq!(track.label(), "A – T");
    }
}
