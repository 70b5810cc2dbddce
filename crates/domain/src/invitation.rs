//! Invitations: by which workers join a session.

use serde::{Deserialize, Serialize};

/// An invitation's number, unique in its database, and never given to another one.
pub type InvitationId = i64;

/// The bounds of an invitation; without one where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct InvitationLimits {
    /// Workers connected at a time.
    pub max_workers: Option<u64>,
    /// Workers that join by it, ever.
    pub max_uses: Option<u64>,
    /// Bytes of audio that its workers are given, all together. The tracks that are given out at one moment may go beyond.
    pub max_bytes: Option<u64>,
}
