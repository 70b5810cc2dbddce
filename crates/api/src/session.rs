//! A session: what a page shows of it, and how it is started.

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
    /// What it is called by in addresses: the code of its first invitation, whether that still lets anybody in or not.
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "K7Q-M4X-WDP"))]
    pub code: PairingCode,
    /// Where it stands.
    pub state: SessionState,
    /// Model its jobs ask for.
    pub model: String,
    /// Collection its vectors go to.
    pub collection: String,
    /// Jobs by state.
    pub counts: Counts,
    /// Tracks finished in the last minute.
    pub tracks_per_minute: f32,
    /// Why queued tracks are given to none of the workers that are there. None as long as one of them can have one, or it
    /// is seen otherwise: nobody is there, or the session is paused.
    #[serde(default)]
    pub waiting: Option<WaitingView>,
    /// The scan of a library, while it runs.
    pub scan: Option<ScanView>,
    /// What the newest scan left out, the most frequent kind first; empty while it runs.
    #[serde(default)]
    pub left_out: Vec<LeftOutFiles>,
    /// By which workers join, in the order in which they were made.
    #[serde(default)]
    pub invitations: Vec<InvitationView>,
    /// Workers connected now, to whichever coordinator.
    #[serde(default)]
    pub worker_count: u64,
    /// The workers in the order in which they came. When there are very many, some of them: first those that get no tracks
    /// because of what they failed, then those at work, then the others.
    pub workers: Vec<WorkerView>,
    /// Notices, the newest first.
    pub log: Vec<LogLine>,
    /// How other machines reach the coordinator that answers; none when an older one does.
    #[serde(default)]
    pub advertised: Option<AdvertisedAddressView>,
}

/// How other machines reach a coordinator, as far as it knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct AdvertisedAddressView {
    /// It listens on the loopback address only, where no other machine reaches it.
    pub loopback_only: bool,
    /// What its addresses begin with for other machines, such as `http://192.168.1.20:8080`. None when none reaches it, and
    /// when its machine has no network.
    pub origin: Option<String>,
    /// By what native workers recognise a certificate that the coordinator has signed itself: SHA-256 of its public key, in
    /// hexadecimal digits. None where they need nothing of the kind.
    pub pin: Option<String>,
}

/// Why queued tracks are given to nobody at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct WaitingView {
    /// Tracks larger than any worker takes. Together with `retried` 1000 at most: no more are looked at.
    pub too_large: u64,
    /// The largest file that a worker takes, in bytes.
    pub max_bytes: u64,
    /// Tracks that have failed, or whose workers were lost, and that wait for their next try.
    pub retried: u64,
    /// Seconds until the first of these may be tried. Not the moment: clocks differ.
    pub next_try_seconds: u64,
}

/// A library scan in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScanView {
    /// The library's name.
    pub library: String,
    /// Audio files looked at so far.
    pub files: u64,
}

/// A connected worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerView {
    /// Its number, by which notices call it; each connection has another one, whichever coordinator it is to.
    pub id: u64,
    /// Hash of its key, by which it is known on every connection. Empty when a coordinator of an older version answers.
    #[serde(default)]
    pub key: String,
    /// Native executable or browser tab.
    pub kind: WorkerKind,
    /// What it computes on.
    pub device: Device,
    /// How it came to that device.
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
    /// The job it is furthest with.
    pub current: Option<CurrentView>,
}

/// The job a worker is at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CurrentView {
    /// How people call the track.
    pub label: String,
    /// What is being done.
    pub stage: Stage,
    /// Share of the stage that is done, 0 to 1.
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

/// What `POST /api/sessions/{code}/start` takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StartRequest {
    /// Name of a library, of those that `GET /api/libraries` lists.
    pub library: String,
    /// Collection for the vectors: 1 to 64 of `a-z`, `0-9`, `_` and `-`.
    pub collection: String,
    /// Model to compute; the default model when absent.
    #[serde(default)]
    pub model: Option<String>,
    /// Analyse every content, also where the collection has a track of the same artist, title and length.
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
    /// Where it stands.
    pub state: JobState,
    /// Attempts that ended in a passing failure or a lost worker.
    pub attempts: u32,
    /// Kind of the worker that has it, or had it last. A job that has failed and has none is a file that could not be read;
    /// only a scan can look at it again.
    #[serde(default)]
    pub worker: Option<WorkerKind>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}
