//! One thing that was looked at, and how long looking may take.

use std::{panic, thread, time::Duration};

use serde::Serialize;
use tokio::{sync::oneshot, time::timeout};

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// The program works, but less well than it could.
    Warning,
    /// The program does not work.
    Failed,
}

impl State {
    /// The state as a word of seven letters at most.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is, in a word or three.
    pub name: String,
    /// How it stands.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do about it; none when it is as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Check {
    /// As it should be.
    #[must_use]
    pub fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Ok, found: found.into(), advice: None }
    }

    /// Not as well as it could be.
    #[must_use]
    pub fn warning(name: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Warning, found: found.into(), advice: Some(advice.into()) }
    }

    /// Not usable.
    #[must_use]
    pub fn failed(name: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Failed, found: found.into(), advice: Some(advice.into()) }
    }
}

/// The outcome of a probe that may wait for others; a failure when they do not answer in time.
pub async fn within(limit: Duration, name: &str, probe: impl Future<Output = Check>) -> Check {
    timeout(limit, probe).await.unwrap_or_else(|_| too_long(name, limit))
}

/// The outcome of a probe that may block for ever, as a lost network folder or a hung driver do. Its thread is left behind
/// then, and ends with the process.
pub async fn blocking(limit: Duration, name: &str, probe: impl FnOnce() -> Vec<Check> + Send + 'static) -> Vec<Check> {
    let (sender, receiver) = oneshot::channel();
    let started = thread::Builder::new().name(format!("doctor: {name}")).spawn(move || {
        let checks = panic::catch_unwind(panic::AssertUnwindSafe(probe));
        // Nobody waits any more when it took too long.
        drop(sender.send(checks));
    });
    if let Err(error) = started {
        return vec![Check::failed(name, format!("no thread can be started: {error}"), "end other programs")];
    }
    match timeout(limit, receiver).await {
        Ok(Ok(Ok(checks))) => checks,
        Ok(_) => vec![Check::failed(name, "looking at it broke off", "please report this")],
        Err(_) => vec![too_long(name, limit)],
    }
}

fn too_long(name: &str, limit: Duration) -> Check {
    let advice = "what it asks hangs: a driver, a network folder or a server; restarting that often helps";
    Check::failed(name, format!("no answer for {} s", limit.as_secs()), advice)
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::mpsc};

    use super::*;

    #[tokio::test]
    async fn a_probe_that_hangs_is_a_failure() {
        let limit = Duration::from_millis(1);
        let waited = within(limit, "server", pending()).await;
        assert_eq!((waited.state, waited.name.as_str()), (State::Failed, "server"));
        let (_keep, never) = mpsc::channel::<Vec<Check>>();
        let blocked = blocking(limit, "driver", move || never.recv().unwrap_or_default()).await;
        assert!(blocked[0].found.starts_with("no answer for"), "{blocked:?}");
    }

    #[tokio::test]
    async fn a_probe_that_breaks_off_is_a_failure() {
        let broken = blocking(Duration::from_secs(60), "driver", || panic!("as a broken driver has it")).await;
        assert_eq!(broken[0].state, State::Failed);
    }
}
