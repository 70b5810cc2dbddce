//! What coordinators, workers and pages say to each other: wire messages, versions, pairing codes and limits.
//!
//! Leaves out everything that acts: no sockets, no clock, no storage. Who gets which job is `chaarfm-coordinator`;
//! how a worker lives is `chaarfm-worker`.
//!
//! # Compatibility
//! Frames are JSON text. Both ends ignore fields and message types they do not know, so a field may be added with
//! `#[serde(default)]` and a message may be added at any time; anything else is a new [`VERSION`].

mod code;
mod download;
mod halves;
pub mod limits;
mod message;
mod pace;
mod role;
pub mod text;
pub mod view;

pub use code::{CodeError, PairingCode};
pub use download::{DownloadName, Packing, System};
pub use halves::Halves;
pub use message::{
    AcceptedAs, AudioRef, Capacity, Device, Failure, FailureKind, Job, JobId, JobRef, LeaseToken, ModelRef, Outcome,
    ProgramRef, RefusalReason, RejectionReason, SessionState, Speeds, Stage, ToServer, ToWorker, Track, Trial, Vector,
    WorkerKind,
};
pub use pace::Pace;
pub use role::{Role, RoleError};

/// The protocol spoken by this crate. "v1" is the protocol of the Python worker.
pub const VERSION: u32 = 2;

/// Path of a worker's WebSocket, relative to the coordinator's address.
pub fn worker_socket_path(code: &PairingCode) -> String {
    format!("/api/sessions/{code}/worker")
}
