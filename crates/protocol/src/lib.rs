//! What coordinators and workers say to each other: messages, versions and limits.
//!
//! Leaves out everything that acts: no sockets, no clock, no storage. Who gets which job is `chaarfm-coordinator`;
//! how a worker lives is `chaarfm-worker`; what pages get is `chaarfm-api`. What messages are about is in `chaarfm-domain`,
//! and is exported again here.
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

/// The protocol spoken by this crate. "v1" is the protocol of the Python worker; up to version 2 leases stood in addresses,
/// workers were known by names that they made up at each start, and results came without their patches.
pub const VERSION: u32 = 3;

/// The header in which a worker shows the lease of a job whose audio it asks for. An address would end up in the logs of
/// proxies.
pub const LEASE_HEADER: &str = "x-chaarfm-lease";

/// Path of a worker's WebSocket, relative to the coordinator's address.
pub fn worker_socket_path(code: &PairingCode) -> String {
    format!("/api/sessions/{code}/worker")
}
