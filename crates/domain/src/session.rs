//! The public view of sessions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A session's number, unique in its database. It identifies the session to its owner and in the log, and admits nobody:
/// the [`PairingCode`](crate::PairingCode) does that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub i64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// State of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// Nothing has been queued yet.
    Idle,
    /// Jobs are handed out.
    Running,
    /// Jobs wait until the owner resumes.
    Paused,
    /// Every job is done or failed.
    Complete,
    /// The code no longer admits anybody.
    Ended,
}

/// Files of one kind that a scan skipped, because they are not audio or no worker can decode them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeftOutFiles {
    /// Their file extension, such as `.wma`, or a description, such as `AppleDouble`.
    pub kind: String,
    /// How many there are.
    pub files: u64,
}

/// How much a notice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// For the record.
    Info,
    /// A track was stored.
    Success,
    /// Something was lost and will be retried.
    Warning,
    /// A track was given up.
    Error,
}
