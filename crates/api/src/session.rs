//! A session as shown on a page, and the request to start it.

use chaarfm_domain::{
    Counts, Device, JobId, JobState, LeftOutFiles, LogLevel, PairingCode, SessionState, Stage, Standing, Track, Trial,
    WorkerKind,
};
use serde::{Deserialize, Serialize};

use crate::InvitationView;

/// A session at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionView {
    /// Its identifier in URLs: the code of its first invitation, even when that no longer admits anybody.
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "K7Q-M4X-WDP"))]
    pub code: PairingCode,
    /// Its state.
    pub state: SessionState,
    /// Model that its jobs use.
    pub model: String,
    /// Collection that its vectors go to.
    pub collection: String,
    /// Jobs by state.
    pub counts: Counts,
    /// Tracks finished in the last minute.
    pub tracks_per_minute: f32,
    /// Why no connected worker is given the queued tracks. None while some worker can take one, or when the reason is
    /// evident: no worker is connected, or the session is paused.
    #[serde(default)]
    pub waiting: Option<WaitingView>,
    /// The scan of a library, while it runs.
    pub scan: Option<ScanView>,
    /// Files that the latest scan skipped, the most frequent kind first; empty while a scan runs.
    #[serde(default)]
    pub left_out: Vec<LeftOutFiles>,
    /// Its invitations, in the order in which they were made.
    #[serde(default)]
    pub invitations: Vec<InvitationView>,
    /// Number of workers connected now, to any coordinator.
    #[serde(default)]
    pub worker_count: u64,
    /// The workers in the order they connected. When there are too many, only some: first those that get no tracks because
    /// of their failures, then those at work, then the others.
    pub workers: Vec<WorkerView>,
    /// Notices, the newest first.
    pub log: Vec<LogLine>,
    /// How other machines reach the coordinator that answers; none from an older coordinator.
    #[serde(default)]
    pub advertised: Option<AdvertisedAddressView>,
}

/// How other machines reach a coordinator, as far as it knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct AdvertisedAddressView {
    /// It listens only on the loopback address, which other machines cannot reach.
    pub loopback_only: bool,
    /// Start of its URLs for other machines, such as `http://192.168.1.20:8080`. None when other machines cannot reach it,
    /// or its machine has no network.
    pub origin: Option<String>,
    /// By what native workers recognise a certificate that the coordinator has signed itself: SHA-256 of its public key, in
    /// hexadecimal digits. None where they need nothing of the kind.
    pub pin: Option<String>,
}

/// Why no worker is given the queued tracks at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct WaitingView {
    /// Tracks larger than any worker accepts. Together with `retried` at most 1000: no more are examined.
    pub too_large: u64,
    /// The largest file that any worker accepts, in bytes.
    pub max_bytes: u64,
    /// Tracks that failed or lost their worker and wait for the next try.
    pub retried: u64,
    /// Seconds until the first of these may be tried. A duration instead of a time, because clocks differ.
    pub next_try_seconds: u64,
}

/// A library scan in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScanView {
    /// The library's name.
    pub library: String,
    /// Audio files examined so far.
    pub files: u64,
}

/// A connected worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerView {
    /// Its number in notices; every connection has its own, across all coordinators.
    pub id: u64,
    /// Hash of its key, by which it is known on every connection. Empty when a coordinator of an older version answers.
    #[serde(default)]
    pub key: String,
    /// Native executable or browser tab.
    pub kind: WorkerKind,
    /// The device it computes on.
    pub device: Device,
    /// How it chose that device.
    #[serde(default)]
    pub trial: Trial,
    /// Program and version.
    pub agent: String,
    /// Tracks it has stored since it connected.
    pub done: u64,
    /// Tracks it has failed since it connected.
    pub failed: u64,
    /// Whether it is given tracks.
    #[serde(default)]
    pub standing: Standing,
    /// Its most advanced job.
    pub current: Option<CurrentView>,
}

/// The job that a worker is working on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CurrentView {
    /// The track's label for people.
    pub label: String,
    /// The current stage.
    pub stage: Stage,
    /// Completed share of the stage, 0 to 1.
    pub fraction: f32,
}

/// A notice on the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// Milliseconds since 1970, UTC.
    pub at_ms: u64,
    /// How much it matters.
    pub level: LogLevel,
    /// The notice.
    pub message: String,
}

/// Body of `POST /api/sessions/{code}/start`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StartRequest {
    /// Name of a library listed by `GET /api/libraries`.
    pub library: String,
    /// Collection for the vectors: 1 to 64 of `a-z`, `0-9`, `_` and `-`.
    pub collection: String,
    /// Model to use; the default model when absent.
    #[serde(default)]
    pub model: Option<String>,
    /// Analyse every file with new content, even when the collection has a track of the same artist, title and length.
    #[serde(default)]
    pub every_file: bool,
}

/// A job of a session, finished or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobView {
    /// Its number.
    pub id: JobId,
    /// The track.
    pub track: Track,
    /// Its state.
    pub state: JobState,
    /// Attempts that ended in a passing failure or a lost worker.
    pub attempts: u32,
    /// Kind of worker that has or last had it. A failed job without one is a file that could not be read; only a scan can
    /// retry it.
    #[serde(default)]
    pub worker: Option<WorkerKind>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}
