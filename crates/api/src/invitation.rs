//! Invitations, as their owner sees them.

use chaarfm_domain::{InvitationId, InvitationLimits, PairingCode};
use serde::{Deserialize, Serialize};

/// An invitation, which lets workers join a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InvitationView {
    /// Its number.
    pub id: InvitationId,
    /// Its code, in groups. It only lets workers join.
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "K7Q-M4X-WDP"))]
    pub code: PairingCode,
    /// What its owner calls it.
    pub name: String,
    /// Creation time, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// Expiry time of its code for new workers, in milliseconds since 1970.
    pub expires_at_ms: u64,
    /// It was revoked: it no longer admits any worker, known or new.
    pub is_revoked: bool,
    /// Whether its code admits a new worker at this moment, judged by the coordinator's clock and the number of uses.
    pub is_open: bool,
    /// Its limits.
    #[serde(flatten)]
    pub limits: InvitationLimits,
    /// Number of workers that have joined with it, each counted once.
    pub uses: u64,
    /// Bytes of audio given to its workers.
    pub bytes: u64,
    /// Number of its workers connected now, to any coordinator.
    pub workers: u64,
}

/// A request for a new invitation. Unknown fields are errors: a limit with a mistyped name would be ignored otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewInvitation {
    /// Its name: 1 to 64 characters.
    pub name: String,
    /// Days for which its code is valid, up to 365; 7 by default.
    #[serde(default)]
    pub days: Option<u32>,
    /// Maximum number of workers connected at once.
    #[serde(default)]
    pub max_workers: Option<u64>,
    /// Maximum number of workers that ever join with it.
    #[serde(default)]
    pub max_uses: Option<u64>,
    /// Maximum bytes of audio given to its workers in total.
    #[serde(default)]
    pub max_bytes: Option<u64>,
}

impl NewInvitation {
    /// Its limits.
    #[must_use]
    pub fn limits(&self) -> InvitationLimits {
        let Self { max_workers, max_uses, max_bytes, .. } = *self;
        InvitationLimits { max_workers, max_uses, max_bytes }
    }
}
