//! `chaarfm-worker service`: a worker that the system starts when this user signs in, and keeps running.
//!
//! Everything is per user and needs no administrator: a unit of systemd's user manager, a launch agent of macOS, an
//! entry in Windows' start-up programs.

mod launchd;
mod startup;
mod systemd;

use std::{
    env::{self, consts::OS},
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use crate::{
    cli::{Cli, ServiceCommand},
    settings::Settings,
};

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Start {
    program: PathBuf,
    arguments: Vec<String>,
}

/// The state of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Status {
    is_running: bool,
    /// One line for people.
    line: String,
}

/// The system's service manager.
trait Manager {
    /// Installs or replaces a service, and starts it. Returns a message for the person.
    ///
    /// # Errors
    /// When the system refuses.
    fn install(&self, start: &Start) -> Result<String>;

    /// Stops and removes the service. Returns whether there was one.
    ///
    /// # Errors
    /// When the system fails to remove it.
    fn uninstall(&self) -> Result<bool>;

    /// # Errors
    /// When the system does not tell.
    fn status(&self) -> Result<Status>;
}

/// Executes a command.
///
/// # Errors
/// When the system fails to do it.
pub(crate) fn run(command: ServiceCommand) -> Result<ExitCode> {
    let manager = manager()?;
    let (line, exit_code) = match command {
        ServiceCommand::Install(args) => (manager.install(&start(args.arguments)?)?, ExitCode::SUCCESS),
        ServiceCommand::Uninstall if manager.uninstall()? => ("the service is gone".to_owned(), ExitCode::SUCCESS),
        ServiceCommand::Uninstall => ("there was no service".to_owned(), ExitCode::SUCCESS),
        ServiceCommand::Status => {
            let Status { is_running, line } = manager.status()?;
            (line, ExitCode::from(u8::from(!is_running)))
        }
    };
    writeln!(io::stdout(), "{line}")?;
    Ok(exit_code)
}

fn manager() -> Result<Box<dyn Manager>> {
    let folders = directories::BaseDirs::new().context("this system names no home folder")?;
    Ok(match OS {
        "linux" => Box::new(systemd::UserUnits::new(folders.config_dir())),
        "macos" => Box::new(launchd::LaunchAgents::new(folders.home_dir())),
        "windows" => Box::new(startup::StartupPrograms),
        other => bail!("this program knows no services on {other}; have the system start it in its own way"),
    })
}

/// This program with arguments, after checking that they are valid and complete: a service cannot ask anybody.
fn start(arguments: Vec<String>) -> Result<Start> {
    let parsed = Cli::try_parse_from(std::iter::once("chaarfm-worker").chain(arguments.iter().map(String::as_str)))?;
    ensure!(parsed.command.is_none(), "a service joins a session; of the commands it knows none");
    let settings = Settings::file(&parsed).read::<Settings>()?.under(&parsed);
    ensure!(
        settings.url.is_some() && settings.code.is_some(),
        "say whom the service works for, in the file of settings or here: chaarfm-worker service install --url \
         http://host:8080 --code K7Q-M4X-WDP"
    );
    // Service files cannot contain these.
    ensure!(!arguments.iter().any(|text| text.contains(char::is_control)), "control characters in an argument");
    let program = env::current_exe().and_then(fs::canonicalize).context("where this program lies")?;
    Ok(Start { program, arguments })
}

/// Writes a file atomically and readable only by this user, because it contains a code.
fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("the file has no folder")?;
    let not_written = || format!("{} cannot be written", path.display());
    fs::create_dir_all(folder).with_context(not_written)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(not_written)?;
    file.write_all(text.as_bytes()).with_context(not_written)?;
    file.persist(path).with_context(not_written)?;
    Ok(())
}

/// Removes a file. Returns whether there was one.
fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{} cannot be removed", path.display())),
    }
}

/// Runs a system program. None if it does not exist.
fn ask(program: &str, arguments: &[&str]) -> Result<Option<Output>> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    match output {
        Ok(output) => Ok(Some(output)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{program} cannot be started")),
    }
}

/// Runs a system program, which must succeed.
fn tell(program: &str, arguments: &[&str]) -> Result<Output> {
    let output = ask(program, arguments)?.with_context(|| format!("this system has no {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {} ({})", arguments.join(" "), said.trim(), output.status);
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arguments that need quoting in every format.
    pub(super) fn awkward() -> Start {
        Start {
            program: "/opt/my \"apps\" & 100%/chaarfm-worker".into(),
            arguments: ["--url", "http://host:8080/$x", "--code", "K7Q-M4X-WDP", "<a\\b>"].map(str::to_owned).to_vec(),
        }
    }

    fn refusal(arguments: &[&str]) -> String {
        start(arguments.iter().map(|&text| text.to_owned()).collect()).unwrap_err().to_string()
    }

    #[test]
    fn a_service_knows_whom_to_work_for_and_nothing_else() {
        let arguments = ["--url", "http://h:1/join/K7Q-M4X-WDP", "--device", "flex"].map(str::to_owned).to_vec();
        assert_eq!(start(arguments.clone()).unwrap().arguments, arguments);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml").display().to_string();
        fs::write(&file, "").unwrap();
        let with_file = |arguments: &[&'static str]| [&["--config", file.as_str()], arguments].concat();
        assert!(refusal(&with_file(&["--url", "http://h:1"])).starts_with("say whom the service works for"));
        fs::write(&file, "url = \"http://h:1\"\ncode = \"K7Q-M4X-WDP\"").unwrap();
        start(with_file(&[]).iter().map(|&text| text.to_owned()).collect()).unwrap();
        assert!(refusal(&["devices"]).starts_with("a service joins a session"));
        assert!(refusal(&["--url", "h:1"]).contains("does not begin with http://"));
    }

    #[test]
    fn a_file_is_for_this_user_and_goes_as_it_came() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/unit");
        write(&path, "text").unwrap();
        write(&path, "other").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "other");
        assert_eq!((remove(&path).unwrap(), remove(&path).unwrap()), (true, false));
    }

    #[test]
    fn what_the_system_refuses_is_told_in_its_words() {
        assert!(ask("there-is-no-such-program", &[]).unwrap().is_none());
        let error = tell(env!("CARGO"), &["there-is-no-such-command"]).unwrap_err().to_string();
        assert!(error.contains("no such command"), "{error}");
    }
}
