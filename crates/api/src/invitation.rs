//! Invitations, as their owner sees them.

use chaarfm_domain::{InvitationId, InvitationLimits, PairingCode};
use serde::{Deserialize, Serialize};

/// By which workers join a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InvitationView {
    /// Its number.
    pub id: InvitationId,
    /// Its code, in groups. It lets workers join, and nothing else.
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "K7Q-M4X-WDP"))]
    pub code: PairingCode,
    /// What its owner calls it.
    pub name: String,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// From when on its code lets in nobody who is new, in milliseconds since 1970.
    pub expires_at_ms: u64,
    /// It has been revoked: nobody is let in by it any more, known or new.
    pub is_revoked: bool,
    /// Whether its code lets in somebody new at this moment, as far as the coordinator's clock and the uses go.
    pub is_open: bool,
    /// Its bounds.
    #[serde(flatten)]
    pub limits: InvitationLimits,
    /// How many workers have joined by it, each counted once.
    pub uses: u64,
    /// Bytes of audio that its workers have been given.
    pub bytes: u64,
    /// Its workers that are connected now, to whichever coordinator.
    pub workers: u64,
}

/// An invitation to be made. A bound whose name is mistyped is an error: it would not bind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewInvitation {
    /// What to call it: 1 to 64 characters.
    pub name: String,
    /// Days for which its code is good, up to 365; 7 when nothing is said.
    #[serde(default)]
    pub days: Option<u32>,
    /// Workers connected at a time.
    #[serde(default)]
    pub max_workers: Option<u64>,
    /// Workers that join by it, ever.
    #[serde(default)]
    pub max_uses: Option<u64>,
    /// Bytes of audio that its workers are given, all together.
    #[serde(default)]
    pub max_bytes: Option<u64>,
}

impl NewInvitation {
    /// Its bounds.
    #[must_use]
    pub fn limits(&self) -> InvitationLimits {
        let Self { max_workers, max_uses, max_bytes, .. } = *self;
        InvitationLimits { max_workers, max_uses, max_bytes }
    }
}
