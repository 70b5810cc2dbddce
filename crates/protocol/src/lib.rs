//! The protocol between coordinators and workers: messages, versions and limits.
//!
//! There is no behaviour here: no sockets, no clock, no storage. Job assignment is in `chaarfm-coordinator`, the worker's
//! behaviour in `chaarfm-worker`, and HTTP bodies in `chaarfm-api`. The types inside messages are in `chaarfm-domain` and
//! re-exported here.
//!
//! # Compatibility
//! Frames are JSON text. Both ends ignore fields and message types they do not know, so a field may be added with
//! `#[serde(default)]` and a message may be added at any time; anything else is a new [`VERSION`].

mod halves;
mod key;
pub mod limits;
mod message;
mod pace;
mod pin;

pub use chaarfm_domain::{
    CodeError, Device, Failure, FailureKind, JobId, JobRef, LeaseToken, Outcome, PairingCode, SessionState, Speeds,
    Stage, Track, Trial, Vector, WorkerKind, text,
};
pub use halves::Halves;
pub use key::{KeyError, WorkerKey};
pub use message::{
    AcceptedAs, AudioRef, Capacity, Job, ModelRef, ProgramRef, RefusalReason, RejectionReason, ToServer, ToWorker,
};
pub use pace::Pace;
pub use pin::{KeyPin, PinError};

/// The protocol version of this crate. "v1" is the protocol of the Python worker. Up to version 2, URLs contained leases,
/// workers made up a new name at each start, and results came without their patches.
pub const VERSION: u32 = 3;

/// The header in which a worker sends a job's lease to fetch its audio. In a URL the lease would end up in proxy logs.
pub const LEASE_HEADER: &str = "x-chaarfm-lease";

/// Path of a worker's WebSocket, relative to the coordinator's address.
pub fn worker_socket_path(code: &PairingCode) -> String {
    format!("/api/sessions/{code}/worker")
}
