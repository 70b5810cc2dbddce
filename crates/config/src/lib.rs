//! One file of settings a program: TOML in the platform's folder, under flags and environment.
//!
//! Each program has a type for its file, in which everything may be missing, and a commented example of it. Here is how the
//! file is found, read, and written, and the command `config` of both programs. Leaves out what the settings mean.

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

/// A program's file.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    path: Option<PathBuf>,
    /// Whether a person named it, so that it has to be there.
    is_named: bool,
}

impl ConfigFile {
    /// The file that was named, or the one in the platform's folder for this program: `~/.config/PROGRAM` on Linux,
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

    /// Where it is, or would be; none on a system that names no folder for it.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What is in it; what a `T` is by itself where there is no file.
    ///
    /// # Errors
    /// When it cannot be read, is too long, or holds what it should not: with file, line and key.
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

    /// Writes `values` into a table of the file, one key after the other, and leaves everything else there as it is, comments
    /// too. What is `None` in TOML, which is missing in `values`, is taken out. The file and its folder are made when there are
    /// none.
    ///
    /// # Errors
    /// When the file that is there cannot be read as TOML, or the new one cannot be written.
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

    /// Appends a text to a list of the file's that is in no table, unless it is there, and leaves everything else as it is,
    /// comments too. The list, the file and its folder are made when there are none.
    ///
    /// # Errors
    /// When the file that is there cannot be read as TOML, has something else in the list's place, or the new one cannot be
    /// written.
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

/// Replaces a value and keeps what is written around it.
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

/// By way of another file in the same folder, so that nobody finds half of it.
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
