//! One check, and its time limit.

use std::{panic, thread, time::Duration};

use serde::Serialize;
use tokio::{sync::oneshot, time::timeout};

/// The state of a checked thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Everything is fine.
    Ok,
    /// The program works, but less well than it could.
    Warning,
    /// The program does not work.
    Failed,
}

impl State {
    /// The state as a word of at most seven letters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// A check and its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name, one to three words.
    pub name: String,
    /// The state.
    pub state: State,
    /// What was found.
    pub found: String,
    /// How to fix it; none when everything is fine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Check {
    /// A passed check.
    #[must_use]
    pub fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Ok, found: found.into(), advice: None }
    }

    /// A check with a warning.
    #[must_use]
    pub fn warning(name: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Warning, found: found.into(), advice: Some(advice.into()) }
    }

    /// A failed check.
    #[must_use]
    pub fn failed(name: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Failed, found: found.into(), advice: Some(advice.into()) }
    }
}

/// Result of a probe that may wait for something external; a failure on timeout.
pub async fn within(limit: Duration, name: &str, probe: impl Future<Output = Check>) -> Check {
    timeout(limit, probe).await.unwrap_or_else(|_| too_long(name, limit))
}

/// Result of a probe that may block for ever, such as on a lost network folder or a hung driver. Its thread is then
/// abandoned and ends with the process.
pub async fn blocking(limit: Duration, name: &str, probe: impl FnOnce() -> Vec<Check> + Send + 'static) -> Vec<Check> {
    let (sender, receiver) = oneshot::channel();
    let started = thread::Builder::new().name(format!("doctor: {name}")).spawn(move || {
        let checks = panic::catch_unwind(panic::AssertUnwindSafe(probe));
        // After a timeout nobody receives this.
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
