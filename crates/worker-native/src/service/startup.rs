//! Start-up programs of Windows, as its settings show them under Apps, Startup. Services and logon tasks would need an
//! administrator.

use anyhow::Result;

use super::{Manager, Start, Status, ask, tell};

/// Registry key of a user's start-up programs.
const KEY: &str = r"HKCU\Software\Microsoft\Windows\CurrentVersion\Run";

/// Registry key that says which of them are switched off.
const SWITCHES: &str = r"HKCU\Software\Microsoft\Windows\CurrentVersion\Explorer\StartupApproved\Run";

/// Name of our entry; the installer uses the same name.
const NAME: &str = "ChaarFM Worker";

pub(super) struct StartupPrograms;

impl Manager for StartupPrograms {
    fn install(&self, start: &Start) -> Result<String> {
        let line = command_line(start);
        tell("reg", &["add", KEY, "/v", NAME, "/t", "REG_SZ", "/d", &line, "/f"])?;
        // An entry that was switched off is switched on again.
        drop(ask("reg", &["delete", SWITCHES, "/v", NAME, "/f"])?);
        Ok(format!("the worker starts whenever you sign in; to start it now, run\n{line}"))
    }

    fn uninstall(&self) -> Result<bool> {
        drop(ask("reg", &["delete", SWITCHES, "/v", NAME, "/f"])?);
        let deleted = ask("reg", &["delete", KEY, "/v", NAME, "/f"])?;
        Ok(deleted.is_some_and(|output| output.status.success()))
    }

    fn status(&self) -> Result<Status> {
        let entry = ask("reg", &["query", KEY, "/v", NAME])?.is_some_and(|output| output.status.success());
        if !entry {
            return Ok(Status { is_running: false, line: "not installed".into() });
        }
        // The list includes this process.
        let list = ask("tasklist", &["/NH", "/FO", "CSV", "/FI", "IMAGENAME eq chaarfm-worker.exe"])?;
        let others = list.map_or(0, |output| processes(&String::from_utf8_lossy(&output.stdout)).saturating_sub(1));
        let state = if others > 0 { "running" } else { "not running" };
        Ok(Status { is_running: others > 0, line: format!("installed, {state} ({KEY}, {NAME})") })
    }
}

/// The number of our processes in tasklist's output.
fn processes(list: &str) -> usize {
    list.lines().filter(|line| line.starts_with("\"chaarfm-worker.exe\"")).count()
}

/// The command line, quoted for Windows programs ("Parsing C++ command-line arguments").
fn command_line(start: &Start) -> String {
    let program = start.program.to_string_lossy().into_owned();
    // Long paths have a prefix that other programs do not understand.
    let program = program.strip_prefix(r"\\?\").unwrap_or(&program).to_owned();
    let words: Vec<String> = std::iter::once(&program).chain(&start.arguments).map(|word| quoted(word)).collect();
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let mut quoted = String::from("\"");
    let mut backslashes = 0;
    for c in word.chars() {
        match c {
            '\\' => backslashes += 1,
            '"' => {
                // Backslashes before a quotation mark are doubled, and one more escapes the mark.
                quoted.push_str(&"\\".repeat(2 * backslashes + 1));
                quoted.push('"');
                backslashes = 0;
                continue;
            }
            _ => {
                quoted.push_str(&"\\".repeat(backslashes));
                backslashes = 0;
            }
        }
        if c != '\\' {
            quoted.push(c);
        }
    }
    quoted.push_str(&"\\".repeat(2 * backslashes));
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_quoted_for_windows() {
        let start = Start {
            program: r"\\?\C:\Program Files\ChaarFM\chaarfm-worker.exe".into(),
            arguments: ["--url", "http://h:1", r"C:\dir\", r#"say "hi""#, r#"a\"b"#, ""].map(str::to_owned).to_vec(),
        };
        let line =
            r#""C:\Program Files\ChaarFM\chaarfm-worker.exe" "--url" "http://h:1" "C:\dir\\" "say \"hi\"" "a\\\"b" """#;
        assert_eq!(command_line(&start), line);
    }

    #[test]
    fn the_processes_of_ours_are_counted() {
        let list =
            "\"chaarfm-worker.exe\",\"1234\",\"Console\",\"1\",\"30,000 K\"\r\n\"chaarfm-worker.exe\",\"1235\"\r\n";
        assert_eq!(processes(list), 2);
        assert_eq!(processes("INFO: No tasks are running which match the specified criteria.\r\n"), 0);
    }
}
