//! The messages between a page and its Web Worker: JSON text through `postMessage`.

use chaarfm_domain::LogLevel;
use chaarfm_protocol::{Trial, WorkerKey};
use serde::{Deserialize, Serialize};

use crate::Status;

/// What the page sends to its Web Worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToWebWorker {
    /// Join a session. Sent once, after `Ready`.
    Start {
        /// The coordinator's address, such as `http://host:8080`.
        server: String,
        /// The code of the invitation.
        code: String,
        /// The key by which the coordinator recognises the worker.
        key: WorkerKey,
        /// The device to compute on, one that the program was built for: `wgpu` or `flex`.
        device: String,
        /// How the page chose that device.
        trial: Trial,
    },
    /// Measure a device and report its speed, nothing else. Sent once, after `Ready`, instead of `Start`.
    Measure {
        /// The coordinator's address.
        server: String,
        /// As for `Start`.
        device: String,
    },
    /// Hand back all jobs, say goodbye, end.
    Stop,
}

/// What a Web Worker sends to its page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromWebWorker {
    /// It is loaded and listens. Messages sent before this one are lost.
    Ready,
    /// The worker's status; at most a few times a second.
    Status {
        /// The status.
        status: Status,
    },
    /// A line for the page's log.
    Log {
        /// How important it is.
        level: LogLevel,
        /// The line.
        message: String,
    },
    /// The measured speed of its device.
    Measured {
        /// Patches a second.
        speed: f32,
    },
    /// It cannot compute on its device, and ended without joining. The page may start the program for another device.
    NoDevice {
        /// Why, for people.
        reason: String,
    },
    /// It ended properly. The page may close it.
    Ended {
        /// The reason, if it was not asked to.
        reason: Option<String>,
    },
    /// It panicked and cannot continue: the page closes it and may start another, on the CPU.
    Crashed {
        /// The panic's message.
        message: String,
    },
}
