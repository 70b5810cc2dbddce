//! The words that all parts share: sessions, invitations and their codes, jobs, tracks, workers, vectors and what makes one fit
//! to be stored, collections, roles, and what texts of others may have in them.
//!
//! Leaves out what is done with them: messages are `chaarfm-protocol`, what pages get is `chaarfm-api`, rules are
//! `chaarfm-coordinator`. There is no storage here, and a type says only how it is written in JSON wherever that is.

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
pub use evidence::{Evidence, MIN_COSINE, SAMPLED_PATCHES, SampledPatch, Unproven, WrongPatch, compare};
pub use invitation::{InvitationId, InvitationLimits};
pub use job::{Counts, Failure, FailureKind, JobId, JobRef, JobState, LeaseToken, Outcome};
pub use role::{Role, RoleError};
pub use session::{LeftOutFiles, LogLevel, SessionId, SessionState};
pub use track::{Found, Track};
pub use worker::{Device, Speeds, Stage, Standing, Trial, WorkerKind};
