//! Persistent data: sessions with their jobs, vectors, invitations and credentials. Two engines store it in the same way:
//! SQLite for one coordinator with a file of its own, PostgreSQL for any number of coordinators. A third engine, in memory,
//! is for tests.
//!
//! The topics are `sessions`, `scans`, `jobs`, `vectors`, `peers`, `invitations`, `audit`, `credentials`, `snapshot` and
//! `transfer`. Each has a file of that name in several places:
//!
//! | place | content |
//! |---|---|
//! | top level | stored types, and the arguments and results of operations |
//! | `store` | the interface, which calls the engine |
//! | `postgres`, `sqlite`, `memory` | the engines: all their statements; the schema is in `migrations` |
//! | `tests` | one suite for all engines |
//!
//! The operations that change jobs are written once for all engines, in `changes`; the readers of rows, in `rows`.
//!
//! There are no rules about jobs here: those are in [`Job`](chaarfm_coordinator::Job). The times that several coordinators
//! compare come from their clocks, which must agree to the second.

mod archive;
mod audit;
mod changes;
mod common;
mod credentials;
mod database;
mod duplicates;
mod error;
mod invitations;
mod jobs;
mod lock;
#[cfg(any(test, feature = "memory"))]
pub mod memory;
mod metrics;
mod models;
mod peers;
mod postgres;
mod rows;
mod scans;
mod sessions;
mod snapshot;
mod sqlite;
mod store;
mod transfer;
mod vectors;

pub use archive::{export_database, import_database};
pub use credentials::{Credential, CredentialKind, NewCredential};
pub use database::{Database, DatabaseError};
pub use error::StoreError;
pub use invitations::{FreshInvitation, INVITATION_DAYS, Invitation, Invited, Origin};
pub use jobs::{Answered, Claim, Claimed, JobRow, QueueStatus, Refusal, Retried, Takers};
pub use lock::{OpenError, create_private};
pub use metrics::StoreMetrics;
pub use models::model_spec;
pub use peers::News;
pub use scans::{Enqueued, NoScan, SCAN_TTL_SECONDS, Scan, ScanOrder};
pub use sessions::{NewSession, SessionRow};
pub use snapshot::{Extent, MAX_STALL_SECONDS};
pub use store::{Snapshot, Store, Wakeups};
pub use transfer::RecordCounts;
pub use vectors::{CollectionRow, Maker, VectorRow};

/// Seconds of a day.
pub const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

#[cfg(test)]
mod tests;
