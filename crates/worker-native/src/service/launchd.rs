//! Launch agents of macOS (launchd.plist(5)).

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Manager, Start, Status, ask, remove, tell, write};

/// Name of the agent; the same as the application's.
const LABEL: &str = "com.chaarfm.Worker";

/// The folder of the user's own agents.
pub(super) struct LaunchAgents {
    agent: PathBuf,
    log: PathBuf,
}

impl LaunchAgents {
    pub(super) fn new(home: &Path) -> Self {
        let library = home.join("Library");
        Self {
            agent: library.join("LaunchAgents").join(format!("{LABEL}.plist")),
            log: library.join("Logs/chaarfm-worker.log"),
        }
    }

    /// launchd's name for this user's graphical session.
    fn domain() -> Result<String> {
        let user = tell("id", &["-u"])?;
        Ok(format!("gui/{}", String::from_utf8_lossy(&user.stdout).trim()))
    }
}

impl Manager for LaunchAgents {
    fn install(&self, start: &Start) -> Result<String> {
        let domain = Self::domain()?;
        write(&self.agent, &agent(start, &self.log))?;
        // An agent may already be running, with other arguments.
        drop(ask("launchctl", &["bootout", &format!("{domain}/{LABEL}")])?);
        tell("launchctl", &["bootstrap", &domain, &self.agent.to_string_lossy()])?;
        Ok(format!("the worker runs now and whenever you log in; {} has what it says", self.log.display()))
    }

    fn uninstall(&self) -> Result<bool> {
        if !self.agent.exists() {
            return Ok(false);
        }
        // It may not be running.
        drop(ask("launchctl", &["bootout", &format!("{}/{LABEL}", Self::domain()?)])?);
        remove(&self.log)?;
        remove(&self.agent)
    }

    fn status(&self) -> Result<Status> {
        if !self.agent.exists() {
            return Ok(Status { is_running: false, line: "not installed".into() });
        }
        let known = ask("launchctl", &["print", &format!("{}/{LABEL}", Self::domain()?)])?;
        let known = known.filter(|output| output.status.success());
        let is_running = known.is_some_and(|output| is_running(&String::from_utf8_lossy(&output.stdout)));
        let state = if is_running { "running" } else { "not running" };
        Ok(Status { is_running, line: format!("installed, {state} ({})", self.agent.display()) })
    }
}

/// Whether launchd's output about an agent says that it is running.
fn is_running(printed: &str) -> bool {
    printed.lines().any(|line| line.trim() == "state = running")
}

/// The agent's definition. launchd restarts it after a crash, but not after the coordinator refused it.
fn agent(start: &Start, log: &Path) -> String {
    let program = start.program.to_string_lossy().into_owned();
    let words: String = std::iter::once(&program)
        .chain(&start.arguments)
        .map(|word| format!("    <string>{}</string>\n", escaped(word)))
        .collect();
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>{LABEL}</string>
  <key>ProgramArguments</key>
  <array>
{words}  </array>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <dict>
    <key>Crashed</key>
    <true/>
  </dict>
  <key>ThrottleInterval</key>
  <integer>30</integer>
  <key>ProcessType</key>
  <string>Background</string>
  <key>LowPriorityIO</key>
  <true/>
  <key>Nice</key>
  <integer>19</integer>
  <key>Umask</key>
  <integer>63</integer>
  <key>StandardErrorPath</key>
  <string>{}</string>
</dict>
</plist>
"#,
        escaped(&log.to_string_lossy())
    )
}

/// Escapes a text for XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::tests::awkward;

    #[test]
    fn an_agent_is_escaped_for_xml() {
        let text = agent(&awkward(), Path::new("/Users/a & b/Library/Logs/x.log"));
        for line in [
            r#"    <string>/opt/my "apps" &amp; 100%/chaarfm-worker</string>"#,
            "    <string>http://host:8080/$x</string>",
            r"    <string>&lt;a\b&gt;</string>",
            "  <string>/Users/a &amp; b/Library/Logs/x.log</string>",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
        let (opened, closed) = (text.matches("<dict>").count(), text.matches("</dict>").count());
        assert_eq!((opened, closed, text.matches("<string>").count()), (2, 2, 9));
    }

    #[test]
    fn launchd_says_whether_it_runs() {
        assert!(is_running("gui/501/com.chaarfm.Worker = {\n\tactive count = 1\n\tstate = running\n"));
        assert!(!is_running("gui/501/com.chaarfm.Worker = {\n\tstate = not running\n"));
    }

    #[test]
    fn what_is_not_installed_is_not_there_to_remove() {
        let home = tempfile::tempdir().unwrap();
        let agents = LaunchAgents::new(home.path());
        assert_eq!(agents.status().unwrap().line, "not installed");
        assert!(!agents.uninstall().unwrap());
    }
}
