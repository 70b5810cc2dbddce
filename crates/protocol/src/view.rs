//! What the pages read from the JSON interface. A page shows the latest [`SessionView`]; it keeps no state of its own.

use serde::{Deserialize, Serialize};

use crate::{Device, JobId, Packing, PairingCode, Role, SessionState, Stage, System, Track, Trial, WorkerKind};

/// A session at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionView {
    /// Its pairing code, in groups.
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
    pub left_out: Vec<LeftOutView>,
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
    pub reach: Option<ReachView>,
}

/// How other machines reach a coordinator, as far as it knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ReachView {
    /// It listens on the loopback address only, where no other machine reaches it.
    pub loopback_only: bool,
    /// What its addresses begin with for other machines, such as `http://192.168.1.20:8080`. None when none reaches it, and
    /// when its machine has no network.
    pub origin: Option<String>,
}

/// A program for workers that the coordinator offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DownloadView {
    /// Name of the file.
    pub name: String,
    /// Its address, relative to the coordinator's.
    pub url: String,
    /// The program's version.
    pub version: String,
    /// The system it is for.
    pub system: System,
    /// The processor it is for: `x86_64`, `aarch64`, or `universal` for all; none when its name does not tell.
    pub processor: Option<String>,
    /// How it is packed.
    pub packing: Packing,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file, in lower-case hexadecimal.
    pub sha256: String,
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

/// Files of one kind that a scan left out, because they are no audio or no worker decodes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeftOutView {
    /// The end of their names, such as `.wma`, or what they are, such as `AppleDouble`.
    pub kind: String,
    /// How many there are.
    pub files: u64,
}

/// A connected worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerView {
    /// Its number, by which notices call it; each connection has another one, whichever coordinator it is to.
    pub id: u64,
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

/// Whether a worker is given tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is.
    #[default]
    Good,
    /// It has failed several tracks in a row and gets nothing until others have tried them.
    OnProbation,
    /// Others do what it fails: it gets nothing more in this session.
    SetAside,
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

/// How much a notice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// For the record.
    Info,
    /// A track was stored.
    Success,
    /// Something was lost and will be retried.
    Warning,
    /// A track was given up.
    Error,
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

/// A folder or a bucket that the coordinator offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LibraryView {
    /// Its name: the last part of where it is, made unique.
    pub name: String,
}

/// A library to be offered from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewLibrary {
    /// A folder's whole path on the coordinator's machine, or `s3://BUCKET/PREFIX`.
    pub location: String,
}

/// A library that was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AddedLibraryView {
    /// Its name.
    pub name: String,
    /// Why it will not be there when the coordinator is started anew, if it will not.
    pub problem: Option<String>,
}

/// A model the coordinator serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelView {
    /// Its name, such as `msd-musicnn`.
    pub name: String,
    /// What it is, for people.
    pub description: String,
    /// Whether sessions use it when none is asked for.
    pub default: bool,
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

/// A collection of vectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CollectionView {
    /// Its name.
    pub name: String,
    /// Vectors in it.
    pub tracks: u64,
}

/// A stored vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrackView {
    /// Its number.
    pub id: i64,
    /// The track.
    #[serde(flatten)]
    pub track: Track,
    /// Length of the audio.
    pub seconds: f64,
    /// BLAKE3 of the file's bytes, in lower-case hexadecimal.
    pub content_hash: String,
    /// Model that made the embedding.
    pub model: String,
    /// What it was computed on.
    pub device: Device,
    /// By which kind of worker.
    pub worker: WorkerKind,
    /// What a listener to the vector should know: `silent`, `truncated`.
    pub flags: Vec<String>,
    /// When it was stored: milliseconds since 1970, UTC.
    pub stored_at_ms: u64,
    /// The embedding.
    pub embedding: Vec<f32>,
    /// Tag activations, 0 to 1, in the model's tag order.
    pub tags: Vec<f32>,
}

/// A page of a collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrackPage {
    /// Vectors in the whole collection.
    pub total: u64,
    /// This page's, by number.
    pub tracks: Vec<TrackView>,
}

/// A token that lets a program in, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenView {
    /// Its name.
    pub name: String,
    /// What whoever has it may do.
    pub role: Role,
    /// When it was made: milliseconds since 1970, UTC.
    pub created_at_ms: u64,
}

/// A token that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewToken {
    /// Its name, which no other token has: 1 to 64 letters, digits, spaces and `._-@`.
    pub name: String,
    /// `owner` or `reader`.
    pub role: Role,
}

/// A token that was made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AddedTokenView {
    /// Its name.
    pub name: String,
    /// What whoever has it may do.
    pub role: Role,
    /// The secret, which is shown this once: for `Authorization: Bearer`.
    pub token: String,
}

/// Why a request failed; the body of every answer with a 4xx or 5xx status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorView {
    /// The reason, for people.
    pub error: String,
}
