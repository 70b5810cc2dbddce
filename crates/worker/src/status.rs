//! The status that a worker shows on a terminal or a page.

use chaarfm_protocol::{Device, SessionState, Stage, Trial};
use serde::{Deserialize, Serialize};

/// A worker's status at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The state of its connection to the coordinator.
    pub phase: Phase,
    /// The device it computes on; none until that is known.
    pub device: Option<Device>,
    /// How that device was chosen.
    pub trial: Trial,
    /// The session's state, as last heard.
    pub session: Option<SessionState>,
    /// Jobs it holds, the one in analysis first.
    pub jobs: Vec<JobStatus>,
    /// Tracks stored since it started.
    pub done: u64,
    /// Tracks failed since it started.
    pub failed: u64,
    /// Tracks a minute, stored in the last ten minutes (or since it started).
    pub tracks_per_minute: f32,
}

impl Status {
    /// A worker that has just been started: nothing is known yet.
    #[must_use]
    pub fn starting() -> Self {
        Self {
            phase: Phase::Starting,
            device: None,
            trial: Trial::default(),
            session: None,
            jobs: Vec::new(),
            done: 0,
            failed: 0,
            tracks_per_minute: 0.0,
        }
    }
}

/// The state of a worker's connection to its coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Opens the device, loads the model, checks the known answer.
    Starting,
    /// Opens the connection or waits for `welcome`.
    Connecting,
    /// Connected, with a job or waiting for one.
    Connected,
    /// Waits before the next try.
    BackingOff {
        /// Length of the wait.
        seconds: f32,
        /// Why the last connection ended.
        reason: String,
    },
    /// Was asked to stop, and delivers or hands back its jobs.
    Stopping,
    /// The worker has ended.
    Stopped {
        /// The reason, if it was not asked to.
        reason: Option<String>,
    },
}

/// A job a worker holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// The track's name for people.
    pub label: String,
    /// The current stage.
    pub stage: Stage,
    /// Share of the stage that is done, 0 to 1.
    pub fraction: f32,
}
