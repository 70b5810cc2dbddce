//! All checks of a run, formatted for people, for programs and for a bug report.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::{Check, Secrets, State};

/// The report of a doctor run. Secrets are removed when a check is added, so that no part is unsafe to paste.
#[derive(Debug)]
pub struct Report {
    program: &'static str,
    version: &'static str,
    secrets: Secrets,
    checks: Vec<Check>,
}

impl Report {
    /// An empty report.
    #[must_use]
    pub fn new(program: &'static str, version: &'static str) -> Self {
        Self { program, version, secrets: Secrets::of_this_machine(), checks: Vec::new() }
    }

    /// Adds a check, and returns its lines for people.
    pub fn add(&mut self, check: Check) -> String {
        let strip = |text: &str| self.secrets.strip(text);
        let check = Check {
            name: check.name,
            state: check.state,
            found: strip(&check.found),
            advice: check.advice.as_deref().map(strip),
        };
        let mut lines = line(&check);
        if let Some(advice) = &check.advice {
            lines.push_str(&format!("\n         → {advice}"));
        }
        self.checks.push(check);
        lines
    }

    /// The checks so far.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// The worst state of all checks; a program with warnings works.
    #[must_use]
    pub fn state(&self) -> State {
        self.checks.iter().map(|check| check.state).max().unwrap_or(State::Ok)
    }

    /// 1 when a check failed.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(u8::from(self.state() == State::Failed))
    }

    /// The end of the output for people: a summary, and the text to paste into a bug report.
    #[must_use]
    pub fn end(&self) -> String {
        let summary = match self.state() {
            State::Ok => "All is well.",
            State::Warning => "It works; the warnings say what would make it work better.",
            State::Failed => "Something is in the way; see what failed.",
        };
        format!("\n{summary}\n\nTo report a problem, paste this; it names neither you nor a code:\n\n{}", self.block())
    }

    /// A Markdown block for a bug report.
    #[must_use]
    pub fn block(&self) -> String {
        let lines: String = self.checks.iter().map(|check| line(check) + "\n").collect();
        format!("```text\n{} {}\n{lines}```", self.program, self.version)
    }

    /// The report for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "program": self.program, "version": self.version, "state": self.state(), "checks": self.checks })
    }
}

fn line(check: &Check) -> String {
    format!("{:<7}  {}: {}", check.state.name(), check.name, check.found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_each_check_with_what_to_do_and_nothing_secret() {
        let mut report = Report::new("chaarfm-worker", "0.1.0");
        assert_eq!(report.add(Check::ok("memory", "3 GiB free of 8 GiB")), "ok       memory: 3 GiB free of 8 GiB");
        let lines = report.add(Check::warning("x", "slow at http://h/join/K7Q-M4X-WDP", "ask about K7Q-M4X-WDP"));
        assert_eq!(lines, "warning  x: slow at http://h/join/<code>\n         → ask about <code>");
        assert_eq!(report.exit_code(), ExitCode::SUCCESS);
        report.add(Check::failed("disk", "full", "empty it"));
        assert_eq!(report.exit_code(), ExitCode::FAILURE);
        assert_eq!(
            report.block(),
            "```text\nchaarfm-worker 0.1.0\nok       memory: 3 GiB free of 8 GiB\nwarning  x: slow at http://h/join/<code>\n\
             failed   disk: full\n```"
        );
        let json = report.json();
        assert_eq!(json["state"], "failed");
        assert_eq!(json["checks"][0], json!({ "name": "memory", "state": "ok", "found": "3 GiB free of 8 GiB" }));
        assert!(!json.to_string().contains("K7Q"));
    }
}
