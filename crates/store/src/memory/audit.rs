//! The audit record.

use std::sync::Arc;

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::AuditEntry;

use super::{Memory, rows::Rows};
use crate::error::Stored;

impl Memory {
    pub(crate) async fn add_audit(&self, entries: &[AuditEntry]) -> Stored<()> {
        let add = |rows: &mut Rows| {
            let audit = Arc::make_mut(&mut rows.audit);
            for entry in entries {
                audit.last += 1;
                audit.entries.push((audit.last, entry.clone()));
            }
        };
        self.write(add).await;
        Ok(())
    }

    pub(crate) async fn audit(&self, before: Option<i64>, limit: u32) -> Stored<Vec<(i64, AuditEntry)>> {
        let rows = self.read().await;
        let newest = rows.audit.entries.iter().rev();
        let wanted = newest.filter(|(id, _)| before.is_none_or(|before| *id < before)).take(limit as usize);
        Ok(wanted.cloned().collect())
    }

    pub(crate) async fn prune_audit(&self, oldest: Timestamp, most: u64) -> Stored<()> {
        let prune = |rows: &mut Rows| {
            let audit = Arc::make_mut(&mut rows.audit);
            let excess = audit.last.saturating_sub_unsigned(most);
            audit.entries.retain(|(id, entry)| entry.at_ms >= oldest.0 && *id > excess);
        };
        self.write(prune).await;
        Ok(())
    }
}
