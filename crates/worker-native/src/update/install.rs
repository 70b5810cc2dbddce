//! The installed executable, its replacement in one step, and the previous executable.

use std::{
    env::{self, consts::EXE_SUFFIX},
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempPath;
use tokio::{process::Command, time::timeout};

/// Longest wait for a new executable to print its version. A virus scanner may look at it first.
const TRIAL_LIMIT_SECONDS: u64 = 60;

/// This program's file, and the one that it replaced.
#[derive(Debug)]
pub(super) struct Installation {
    program: PathBuf,
    previous: PathBuf,
}

impl Installation {
    /// # Errors
    /// When the system does not tell the path of this program.
    pub(super) fn of_this_program() -> Result<Self> {
        let program = env::current_exe().and_then(fs::canonicalize).context("where this program lies")?;
        let stem = program.file_stem().context("the file of this program has no name")?.to_string_lossy().into_owned();
        let previous = program.with_file_name(format!("{stem}.previous{EXE_SUFFIX}"));
        Ok(Self { program, previous })
    }

    /// The folder of this program.
    pub(super) fn folder(&self) -> &Path {
        self.program.parent().unwrap_or(Path::new("."))
    }

    /// Replaces this executable with a new one, after a test start, and keeps this one.
    ///
    /// # Errors
    /// When the new one does not start or cannot be put in place: nothing is changed then. When this one cannot be kept.
    pub(super) async fn replace(&self, new: TempPath) -> Result<()> {
        // Gives it the same permissions as this program.
        let permissions = fs::metadata(&self.program).context("this program's file")?.permissions();
        fs::set_permissions(&new, permissions).context("the new executable cannot be made one")?;
        try_out(&new).await.context("the new executable is of no use here, so this one stays")?;
        let kept = self.copy_of_this_one()?;
        self_replace::self_replace(&new).context("this program's file cannot be replaced")?;
        kept.persist(&self.previous).context("the new one is in place, but the one before could not be kept")?;
        Ok(())
    }

    /// Exchanges this executable and the previous one.
    ///
    /// # Errors
    /// When there is none, or it does not start or cannot be put in place: nothing is changed then. When this one cannot be
    /// kept.
    pub(super) async fn roll_back(&self) -> Result<()> {
        ensure!(self.previous.is_file(), "there is no version before: no {}", self.previous.display());
        try_out(&self.previous).await.context("the version before is of no use here, so this one stays")?;
        let kept = self.copy_of_this_one()?;
        self_replace::self_replace(&self.previous).context("this program's file cannot be replaced")?;
        kept.persist(&self.previous).context("the version before is back, but this one could not be kept")?;
        Ok(())
    }

    fn copy_of_this_one(&self) -> Result<TempPath> {
        let no_room = || format!("there is no room in {} to keep this version", self.folder().display());
        let named = tempfile::Builder::new().prefix(".chaarfm-worker-").suffix(EXE_SUFFIX).tempfile_in(self.folder());
        let path = named.with_context(no_room)?.into_temp_path();
        // Copies the permissions as well.
        fs::copy(&self.program, &path).with_context(no_room)?;
        Ok(path)
    }
}

/// Lets an executable print its version, which fails for one that was built for another processor or a newer system.
async fn try_out(program: &Path) -> Result<()> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let Ok(output) = timeout(Duration::from_secs(TRIAL_LIMIT_SECONDS), command.output()).await else {
        bail!("it did not say its version within {TRIAL_LIMIT_SECONDS} s");
    };
    let output = output.context("it does not start")?;
    let is_it = output.status.success() && output.stdout.starts_with(b"chaarfm-worker ");
    ensure!(is_it, "it does not say its version ({})", output.status);
    Ok(())
}
