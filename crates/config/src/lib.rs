//! One TOML settings file per program, in the platform's folder; flags and environment variables override it.
//!
//! Each program defines a type for its file, in which every field is optional, and a commented example. This crate finds,
//! reads and writes the file, and implements the `config` command of both programs. Leaves out the meaning of the settings.

pub mod as_text;
mod command;
mod error;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

pub use self::{command::ConfigCommand, error::ConfigError};

/// Largest file read, in bytes.
pub const MAX_BYTES: u64 = 256 * 1024;

/// A program's settings file.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    path: Option<PathBuf>,
    /// Whether the user named the file, so that it must exist.
    is_named: bool,
}

impl ConfigFile {
    /// The named file, or the program's file in the platform's folder: `~/.config/PROGRAM` on Linux,
    /// `~/Library/Application Support/PROGRAM` on macOS, `%APPDATA%\PROGRAM\config` on Windows.
    #[must_use]
    pub fn find(program: &str, named: Option<PathBuf>) -> Self {
        let is_named = named.is_some();
        let of_user = || {
            let folders = directories::ProjectDirs::from("", "", program)?;
            Some(folders.config_dir().join("config.toml"))
        };
        Self { path: named.or_else(of_user), is_named }
    }

    /// Path of the file, whether it exists or not; none on a system without a folder for settings.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Reads the file; the default `T` when there is no file.
    ///
    /// # Errors
    /// When it cannot be read, is too long, or has invalid content: with file, line and key.
    pub fn read<T: DeserializeOwned + Default>(&self) -> Result<T, ConfigError> {
        let Some(path) = &self.path else { return Ok(T::default()) };
        match self.text(path)? {
            Some(text) => parse(path, &text),
            None => Ok(T::default()),
        }
    }

    fn text(&self, path: &Path) -> Result<Option<String>, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        match fs::metadata(path) {
            Ok(file) if file.len() > MAX_BYTES => {
                Err(ConfigError::TooLong { path: path.to_owned(), bytes: file.len(), limit: MAX_BYTES })
            }
            Ok(_) => fs::read_to_string(path).map(Some).map_err(failed),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_named => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Writes `values` into a table of the file, key by key, and keeps everything else, including comments. Keys that are
    /// missing in `values` (`None` in TOML) are removed. Creates the file and its folder if necessary.
    ///
    /// # Errors
    /// When the existing file is not valid TOML, or the new one cannot be written.
    pub fn set(&self, table: &str, keys: &[&str], values: &impl Serialize) -> Result<(), ConfigError> {
        let values = toml_edit::ser::to_document(values).expect("settings are a table of plain values");
        self.edit(|path, document| {
            let into = document.entry(table).or_insert_with(toml_edit::table);
            let no_table = || ConfigError::NoTable { path: path.to_owned(), key: table.into() };
            let into = into.as_table_like_mut().ok_or_else(no_table)?;
            for key in keys {
                match values.get(key).and_then(toml_edit::Item::as_value) {
                    Some(value) => put(into, key, value.clone()),
                    None => drop(into.remove(key)),
                }
            }
            Ok(())
        })
    }

    /// Appends a text to a top-level list of the file unless the list already contains it, and keeps everything else,
    /// including comments. Creates the list, the file and its folder if necessary.
    ///
    /// # Errors
    /// When the existing file is not valid TOML, the key is not a list, or the new file cannot be written.
    pub fn append(&self, list: &str, text: &str) -> Result<(), ConfigError> {
        self.edit(|path, document| {
            let into = document.entry(list).or_insert_with(|| toml_edit::value(toml_edit::Array::new()));
            let no_list = || ConfigError::NoList { path: path.to_owned(), key: list.into() };
            let into = into.as_array_mut().ok_or_else(no_list)?;
            if !into.iter().any(|value| value.as_str() == Some(text)) {
                into.push(text);
            }
            Ok(())
        })
    }

    fn edit(
        &self,
        change: impl FnOnce(&Path, &mut toml_edit::DocumentMut) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        let path = self.path.as_deref().ok_or(ConfigError::NoFolder)?;
        let text = self.text(path)?.unwrap_or_default();
        let mut document = text.parse().map_err(|error: toml_edit::TomlError| ConfigError::of(path, &text, error))?;
        change(path, &mut document)?;
        let written = write(path, &document.to_string());
        written.map_err(|source| ConfigError::Write { path: path.to_owned(), source })
    }
}

/// Replaces a value and keeps the formatting around it.
fn put(table: &mut dyn toml_edit::TableLike, key: &str, mut value: toml_edit::Value) {
    match table.get_mut(key).and_then(toml_edit::Item::as_value_mut) {
        Some(before) => {
            *value.decor_mut() = before.decor().clone();
            *before = value;
        }
        None => drop(table.insert(key, toml_edit::Item::Value(value))),
    }
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml_edit::de::from_str(text).map_err(|error| ConfigError::of(path, text, error))
}

/// Writes via a temporary file in the same folder, so that nobody reads a half-written file.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests;
