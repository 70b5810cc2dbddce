//! Units of systemd's user manager (systemd.service(5), systemd.exec(5)).

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::{Manager, Start, Status, ask, remove, tell, write};

/// Name of the unit.
const UNIT: &str = "chaarfm-worker.service";

/// The folder of the user's own units.
pub(super) struct UserUnits {
    unit: PathBuf,
}

impl UserUnits {
    pub(super) fn new(config: &Path) -> Self {
        Self { unit: config.join("systemd/user").join(UNIT) }
    }

    /// # Errors
    /// When no systemd manages services for this user; the error says what else can be done.
    fn expect_manager(start: &Start) -> Result<()> {
        let running = ask("systemctl", &["--user", "show-environment"])?;
        if running.is_some_and(|output| output.status.success()) {
            return Ok(());
        }
        let command = std::iter::once(start.program.to_string_lossy().into_owned()).chain(start.arguments.clone());
        let command: Vec<String> = command.map(|word| shell_quoted(&word)).collect();
        bail!(
            "no systemd keeps services for this user here. Have the system start this in its own way, such as a line \
             “@reboot …” of crontab -e or an entry of the desktop's start-up programs:\n{}",
            command.join(" ")
        )
    }
}

impl Manager for UserUnits {
    fn install(&self, start: &Start) -> Result<String> {
        Self::expect_manager(start)?;
        write(&self.unit, &unit(start))?;
        tell("systemctl", &["--user", "daemon-reload"])?;
        tell("systemctl", &["--user", "enable", UNIT])?;
        // The unit may already be running, with other arguments.
        tell("systemctl", &["--user", "restart", UNIT])?;
        Ok(format!(
            "the worker runs now and whenever you sign in; `journalctl --user --unit {UNIT}` shows what it says. To have it \
             run while you are signed out as well: loginctl enable-linger"
        ))
    }

    fn uninstall(&self) -> Result<bool> {
        if !self.unit.exists() {
            return Ok(false);
        }
        // Without a manager nothing is running, but the file and its link must still be removed.
        drop(ask("systemctl", &["--user", "disable", "--now", UNIT])?);
        let folder = self.unit.parent().unwrap_or(Path::new("."));
        remove(&folder.join("default.target.wants").join(UNIT))?;
        let was_there = remove(&self.unit)?;
        drop(ask("systemctl", &["--user", "daemon-reload"])?);
        Ok(was_there)
    }

    fn status(&self) -> Result<Status> {
        if !self.unit.exists() {
            return Ok(Status { is_running: false, line: "not installed".into() });
        }
        let state = ask("systemctl", &["--user", "is-active", UNIT])?;
        let state = state.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
        let state = if state.is_empty() { "systemd does not tell its state".to_owned() } else { state };
        Ok(Status { is_running: state == "active", line: format!("installed, {state} ({})", self.unit.display()) })
    }
}

/// The unit. Its sandboxing options are those that a user manager supports on every system: the others need namespaces,
/// which some systems deny to users.
fn unit(start: &Start) -> String {
    let program = start.program.to_string_lossy().into_owned();
    let words: Vec<String> = std::iter::once(&program).chain(&start.arguments).map(|word| quoted(word)).collect();
    format!(
        "[Unit]
Description=ChaarFM worker: computes music vectors for a coordinator
Documentation={}
# Without this it would be given up after five failures, as when there is no network in the morning.
StartLimitIntervalSec=0

[Service]
ExecStart={}
Restart=on-failure
RestartSec=30
# The coordinator does not know the code, or the session has ended: trying again would change nothing.
RestartPreventExitStatus=2 3
TimeoutStopSec=15

# It shall not be noticed.
Nice=19
CPUSchedulingPolicy=idle
IOSchedulingClass=idle

# It reads the network and writes its own folders. Drivers of graphics cards write machine code, so memory may be that.
NoNewPrivileges=yes
LockPersonality=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077

[Install]
WantedBy=default.target
",
        env!("CARGO_PKG_REPOSITORY"),
        words.join(" ")
    )
}

/// Quotes a word for a systemd command line (systemd.service(5), "Command lines"; systemd.unit(5), "Specifiers").
fn quoted(word: &str) -> String {
    let word = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{word}\"")
}

/// Quotes a word for a shell command line.
fn shell_quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;
    use crate::service::tests::awkward;

    #[test]
    fn a_command_line_is_quoted_for_systemd() {
        let text = unit(&awkward());
        let line = r#"ExecStart="/opt/my \"apps\" & 100%%/chaarfm-worker" "--url" "http://host:8080/$$x" "--code" "K7Q-M4X-WDP" "<a\\b>""#;
        assert!(text.lines().any(|found| found == line), "{text}");
        for hardening in ["NoNewPrivileges=yes", "SystemCallFilter=@system-service", "RestartPreventExitStatus=2 3"] {
            assert!(text.contains(hardening), "{hardening}");
        }
        assert_eq!(shell_quoted("it's"), r"'it'\''s'");
        assert_eq!(shell_quoted("http://h:1/x"), "http://h:1/x");
    }

    #[test]
    fn systemd_understands_the_unit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(UNIT);
        let start = Start { program: std::env::current_exe().unwrap(), ..awkward() };
        fs::write(&path, unit(&start)).unwrap();
        let Ok(output) = Command::new("systemd-analyze").args(["verify", "--user"]).arg(&path).output() else {
            eprintln!("left out: there is no systemd-analyze");
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let about_it: Vec<&str> = said.lines().filter(|line| line.contains("chaarfm-worker")).collect();
        assert!(about_it.is_empty(), "{said}");
    }

    #[test]
    fn what_is_not_installed_is_not_there_to_remove() {
        let folder = tempfile::tempdir().unwrap();
        let units = UserUnits::new(folder.path());
        assert_eq!(units.status().unwrap(), Status { is_running: false, line: "not installed".into() });
        assert!(!units.uninstall().unwrap());
        // Writes the unit as an installation does.
        write(&units.unit, &unit(&awkward())).unwrap();
        assert!(units.status().unwrap().line.starts_with("installed, "));
        assert!(units.uninstall().unwrap());
        assert!(!units.unit.exists());
    }
}
