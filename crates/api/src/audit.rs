//! The audit record.

use chaarfm_domain::AuditEntry;
use serde::{Deserialize, Serialize};

/// An entry of the audit record with its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditView {
    /// Number of the entry: later entries have higher ones.
    pub id: i64,
    /// The entry.
    #[serde(flatten)]
    pub entry: AuditEntry,
}
