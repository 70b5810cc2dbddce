//! Sessions, as everybody sees them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A session's number, unique in its database. It names a session to its owner and in the log, and lets nobody in: that
/// does its [`PairingCode`](crate::PairingCode).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub i64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a session stands.
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
    /// The code admits nobody any more.
    Ended,
}

/// Files of one kind that a scan left out, because they are no audio or no worker decodes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeftOutFiles {
    /// The end of their names, such as `.wma`, or what they are, such as `AppleDouble`.
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
