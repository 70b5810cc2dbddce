//! The command `config`.

use std::io::Write;

use anyhow::{Context, bail};
use clap::Subcommand;
use serde::{Serialize, de::DeserializeOwned};

use crate::{ConfigError, ConfigFile};

/// What to do with the file of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Read the file, and say what is wrong with it.
    Check,
    /// Print what holds: the file with the environment and the flags over it.
    Show,
    /// Print where the file is, or would be.
    Path,
    /// Write a commented example to where the file belongs, if there is none.
    Init,
}

impl ConfigCommand {
    /// Runs the command. `effective` computes the settings in effect from the file's content.
    ///
    /// # Errors
    /// When the file is invalid, it cannot be written, or the output cannot be written.
    pub fn run<T: DeserializeOwned + Default, S: Serialize>(
        self,
        file: &ConfigFile,
        example: &str,
        effective: impl FnOnce(T) -> S,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let path = || file.path().ok_or(ConfigError::NoFolder);
        match self {
            Self::Path => writeln!(out, "{}", path()?.display())?,
            Self::Check => {
                file.read::<T>()?;
                match file.path() {
                    Some(path) if path.exists() => writeln!(out, "{} is in order", path.display())?,
                    Some(path) => {
                        writeln!(out, "there is no {}; what holds is what `config show` prints", path.display())?
                    }
                    None => writeln!(out, "this system names no folder for settings")?,
                }
            }
            Self::Show => {
                let effective = effective(file.read()?);
                write!(out, "{}", toml_edit::ser::to_string_pretty(&effective).context("the settings")?)?;
            }
            Self::Init => {
                let path = path()?;
                if path.exists() {
                    bail!("{} is there already", path.display());
                }
                let written = super::write(path, example);
                written.map_err(|source| ConfigError::Write { path: path.to_owned(), source })?;
                writeln!(out, "{}", path.display())?;
            }
        }
        Ok(())
    }
}
