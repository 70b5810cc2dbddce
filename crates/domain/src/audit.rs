//! The audit record: who did what, and when. It is separate from the log, kept for longer, and contains no secrets.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Kind of an entry of the audit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum AuditEvent {
    /// A browser was let in by the owner's link.
    Entered,
    /// An owner changed something.
    Commanded,
    /// A worker joined a session.
    Joined,
    /// A worker was refused.
    Refused,
    /// A worker was set aside, because it lied or failed too much.
    SetAside,
    /// Results of a worker were deleted, to be computed again by others.
    Retracted,
    /// Entries are missing: more came than could be written.
    Lost,
}

/// The text is not an event of the audit record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no event of the audit record")]
pub struct AuditEventError(String);

impl AuditEvent {
    const ALL: [Self; 7] =
        [Self::Entered, Self::Commanded, Self::Joined, Self::Refused, Self::SetAside, Self::Retracted, Self::Lost];

    /// Its name in the database, in JSON and in exports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Entered => "entered",
            Self::Commanded => "commanded",
            Self::Joined => "joined",
            Self::Refused => "refused",
            Self::SetAside => "set_aside",
            Self::Retracted => "retracted",
            Self::Lost => "lost",
        }
    }
}

impl FromStr for AuditEvent {
    type Err = AuditEventError;

    fn from_str(text: &str) -> Result<Self, AuditEventError> {
        Self::ALL.into_iter().find(|event| event.name() == text).ok_or_else(|| AuditEventError(text.to_owned()))
    }
}

/// An entry of the audit record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// When it happened, in milliseconds since 1970.
    pub at_ms: u64,
    /// What happened.
    pub event: AuditEvent,
    /// Number of the session concerned, if any.
    pub session: Option<i64>,
    /// The actor, or the worker concerned: the hash of a worker's key, a browser's number or a token's name. Empty for
    /// strangers.
    pub actor: String,
    /// The network address of the client; empty if there is none.
    pub address: String,
    /// The command, the invitation or the reason, in words.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_one_name_everywhere() {
        for event in AuditEvent::ALL {
            assert_eq!(event.name().parse(), Ok(event));
        }
        assert!("unknown".parse::<AuditEvent>().is_err());
    }
}
