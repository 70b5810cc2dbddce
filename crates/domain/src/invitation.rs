//! Invitations, which let workers join a session.

use serde::{Deserialize, Serialize};

/// An invitation's number, unique in its database and never reused.
pub type InvitationId = i64;

/// The limits of an invitation; `None` means unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct InvitationLimits {
    /// Maximum number of workers connected at once.
    pub max_workers: Option<u64>,
    /// Maximum number of workers that ever join with it.
    pub max_uses: Option<u64>,
    /// Maximum bytes of audio given to its workers in total. Tracks handed out at the same moment may exceed it.
    pub max_bytes: Option<u64>,
}
