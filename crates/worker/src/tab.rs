//! What a page and its Web Worker say to each other: JSON text through `postMessage`.

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
        /// What the coordinator is to know it by.
        key: WorkerKey,
        /// What to compute on, of what the program was built with: `wgpu` or `flex`.
        device: String,
        /// How the page came to that device.
        trial: Trial,
    },
    /// Try a device, say what it does, and no more. Sent once, after `Ready`, instead of `Start`.
    Measure {
        /// The coordinator's address.
        server: String,
        /// As for `Start`.
        device: String,
    },
    /// Hand back what is held, say goodbye, end.
    Stop,
}

/// What a Web Worker sends to its page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromWebWorker {
    /// It is loaded and hears. Messages sent before this one are lost.
    Ready,
    /// How it stands; at most a few a second.
    Status {
        /// The worker now.
        status: Status,
    },
    /// A line for the page's log.
    Log {
        /// How much it matters.
        level: LogLevel,
        /// The line.
        message: String,
    },
    /// What its device does.
    Measured {
        /// Patches a second.
        speed: f32,
    },
    /// It cannot compute on its device, and ended before it had joined. The page may start the program for another one.
    NoDevice {
        /// Why, for people.
        reason: String,
    },
    /// It ended in order. The page may close it.
    Ended {
        /// Why, when it was not asked to.
        reason: Option<String>,
    },
    /// It panicked and cannot go on: the page closes it and may start another, on the CPU.
    Crashed {
        /// The panic's message.
        message: String,
    },
}
