//! The vocabulary that all parts share: sessions, invitations and their codes, jobs, tracks, workers, vectors and their
//! validity checks, collections, roles, and the cleaning of untrusted text.
//!
//! Leaves out what is done with them: messages are in `chaarfm-protocol`, HTTP bodies in `chaarfm-api`, rules in
//! `chaarfm-coordinator`. There is no storage here; a type defines only its JSON form, which is the same everywhere.

mod audit;
mod code;
mod collection;
mod embedding;
mod evidence;
mod invitation;
mod job;
pub mod limits;
mod role;
mod session;
pub mod text;
mod track;
mod worker;

pub use audit::{AuditEntry, AuditEvent, AuditEventError};
pub use code::{CodeError, PairingCode};
pub use collection::{CollectionName, CollectionNameError};
pub use embedding::{Embedding, InvalidVector, ModelSpec, Vector};
pub use evidence::{Evidence, SAMPLED_PATCHES, SampledPatch, Unproven, WrongPatch, compare};
pub use invitation::{InvitationId, InvitationLimits};
pub use job::{Counts, Failure, FailureKind, JobId, JobRef, JobState, LeaseToken, Outcome};
pub use role::{Role, RoleError};
pub use session::{LeftOutFiles, LogLevel, SessionId, SessionState};
pub use track::{Found, Track};
pub use worker::{Device, Speeds, Stage, Standing, Trial, WorkerKind};
