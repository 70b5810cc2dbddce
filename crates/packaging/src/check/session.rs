//! A coordinator for testing a worker: starts a session, and waits until every track of it is finished.

use std::{
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::{Value, json};

/// Longest time for a program to answer, or for a session of a few short tracks to end.
const LIMIT_SECONDS: u64 = 120;

/// Polling interval.
const POLL_MILLIS: u64 = 200;

/// A program that is killed when this is dropped.
pub(super) struct Running(Child);

impl Running {
    /// Starts a program in the background.
    pub(super) fn start(command: &mut Command) -> anyhow::Result<Running> {
        println!("$ {} &", xtask::run::describe(command));
        Ok(Running(command.stdin(Stdio::null()).spawn()?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only if it has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A session of a coordinator on this machine.
pub(super) struct Session {
    coordinator: String,
    /// The owner's token.
    token: String,
    pub(super) code: String,
}

impl Session {
    /// Waits until the coordinator answers, and starts a session for its library. `server` runs the server's commands
    /// on its database.
    pub(super) fn start(port: u16, library: &str, server: &mut Command) -> anyhow::Result<Session> {
        let coordinator = format!("http://127.0.0.1:{port}");
        wait_for("the coordinator", || Ok(ureq::get(format!("{coordinator}/readyz")).call().is_ok()))?;
        let made = server.args(["token", "add", "check", "--role", "owner", "--replace"]).output()?;
        if !made.status.success() {
            bail!("no token was made: {}", String::from_utf8_lossy(&made.stderr));
        }
        let token = format!("Bearer {}", String::from_utf8(made.stdout)?.trim_end());
        let post = |path: &str| ureq::post(format!("{coordinator}{path}")).header("authorization", &token);
        let session: Value = post("/api/sessions/current").send_empty()?.body_mut().read_json()?;
        let code = session["code"].as_str().context("a session has a code")?.to_owned();
        let start = json!({ "library": library, "collection": "check" });
        post(&format!("/api/sessions/{code}/start")).send_json(start)?;
        Ok(Session { coordinator, token, code })
    }

    /// The address for workers.
    pub(super) fn coordinator(&self) -> &str {
        &self.coordinator
    }

    /// Waits until every track has its vector.
    pub(super) fn finish(&self) -> anyhow::Result<()> {
        let mut counts = Value::Null;
        wait_for("the session's end", || {
            let address = format!("{}/api/sessions/{}", self.coordinator, self.code);
            let asked = ureq::get(address).header("authorization", &self.token);
            let session: Value = asked.call()?.body_mut().read_json()?;
            counts = session["counts"].clone();
            let count = |state: &str| counts[state].as_u64().unwrap_or_default();
            Ok(session["scan"].is_null()
                && count("done") + count("failed") > 0
                && count("queued") + count("leased") == 0)
        })?;
        println!("the session: {counts}");
        if counts["failed"] != 0 {
            bail!("tracks failed: {counts}");
        }
        Ok(())
    }
}

/// Waits until a condition is true.
pub(super) fn wait_for(what: &str, mut is_true: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let start = Instant::now();
    while !is_true()? {
        if start.elapsed() > Duration::from_secs(LIMIT_SECONDS) {
            bail!("{what} did not come within {LIMIT_SECONDS} s");
        }
        sleep(Duration::from_millis(POLL_MILLIS));
    }
    Ok(())
}
