//! What is wrong with a settings file, and where.

use std::{
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
};

use toml_edit::{Document, Item, TableLike};

/// Why settings cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The system has no folder for settings.
    #[error("this system names no folder for settings; name a file with --config")]
    NoFolder,
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is too large for a settings file.
    #[error("{}: it has {bytes} bytes; the limit is {limit}", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// Maximum size.
        limit: u64,
    },
    /// The file contains an error.
    #[error("{}{}: {reason}", path.display(), Place(*line, key))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line number from 1; none when unknown.
        line: Option<usize>,
        /// The key with its tables, such as `manners.max_cpu`; empty when there is none at that position.
        key: String,
        /// The error.
        reason: String,
    },
    /// A value that should be a table is something else.
    #[error("{}: {key} is no table", path.display())]
    NoTable {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A value that should be a list is something else.
    #[error("{}: {key} is no list", path.display())]
    NoList {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
}

/// Displays as `, line 3, manners.max_cpu`.
struct Place<'a>(Option<usize>, &'a str);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.0 {
            write!(f, ", line {line}")?;
        }
        if !self.1.is_empty() {
            write!(f, ", {}", self.1)?;
        }
        Ok(())
    }
}

impl ConfigError {
    /// Converts the parser's error for this text.
    pub(crate) fn of(path: &Path, text: &str, error: impl Into<toml_edit::de::Error>) -> Self {
        let error = error.into();
        let span = error.span();
        let line = span.as_ref().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        // Text that is not valid TOML has no keys.
        let key = span.zip(Document::parse(text).ok()).and_then(|(span, document)| key_at(document.as_table(), &span));
        let reason = error.message().trim().replace('\n', "; ");
        Self::Invalid { path: path.to_owned(), line, key: key.unwrap_or_default(), reason }
    }
}

/// The key, with its tables, whose name or value spans this position.
fn key_at(table: &dyn TableLike, place: &Range<usize>) -> Option<String> {
    table.iter().find_map(|(name, item)| {
        let within = item.as_table_like().and_then(|table| key_at(table, place));
        if let Some(within) = within {
            return Some(format!("{name}.{within}"));
        }
        let spans = [table.key(name).and_then(toml_edit::Key::span), item.span()];
        let is_here = |span: &Range<usize>| span.start <= place.start && place.end <= span.end;
        let is_value = !matches!(item, Item::Table(_) | Item::ArrayOfTables(_));
        let is_key = spans[0].as_ref().is_some_and(is_here);
        (is_key || (is_value && spans[1].as_ref().is_some_and(is_here))).then(|| name.to_owned())
    })
}
