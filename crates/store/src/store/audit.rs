//! The audit record in the store.

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::AuditEntry;

use super::{Store, ask};
use crate::error::Stored;

impl Store {
    /// Adds entries to the audit record, all of them or none.
    pub async fn add_audit(&self, entries: &[AuditEntry]) -> Stored<()> {
        ask!(self, engine => engine.add_audit(entries))
    }

    /// Entries of the audit record with their numbers, the newest first: those with a number below `before`, or else the
    /// newest ones.
    pub async fn audit(&self, before: Option<i64>, limit: u32) -> Stored<Vec<(i64, AuditEntry)>> {
        ask!(self, engine => engine.audit(before, limit))
    }

    /// Deletes entries older than `oldest`, and the oldest ones beyond about `most`.
    pub async fn prune_audit(&self, oldest: Timestamp, most: u64) -> Stored<()> {
        ask!(self, engine => engine.prune_audit(oldest, most))
    }
}
