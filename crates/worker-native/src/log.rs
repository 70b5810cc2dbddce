//! Where log lines go.

use std::{
    fs,
    io::{IsTerminal, stderr},
    path::{Path, PathBuf},
    sync::Mutex,
};

use anyhow::{Context, Result};
use file_rotate::{ContentLimit, FileRotate, compression::Compression, suffix::AppendCount};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::json_file::folders;

/// Size at which a file is renamed and a new one begun, in bytes.
const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Number of renamed files kept; older ones are deleted.
const MAX_OLD_FILES: usize = 4;

/// Starts logging what `filter` lets through, to standard error or into a file. A program that shows a page and has no
/// terminal logs into a file in the user's folder.
///
/// # Errors
/// When the file's folder cannot be made.
pub(crate) fn begin(filter: Option<Targets>, file: Option<PathBuf>, shows_page: bool) -> Result<()> {
    let without_terminal = || {
        let folders = folders().filter(|_| shows_page && !stderr().is_terminal())?;
        Some(folders.data_local_dir().join("logs").join("chaarfm-worker.log"))
    };
    let lines = fmt::layer().log_internal_errors(false);
    let log = match (file.or_else(without_terminal), filter) {
        (Some(path), filter) => {
            let filter = filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
            lines.with_ansi(false).with_writer(Mutex::new(rotating(&path)?)).with_filter(filter).boxed()
        }
        (None, Some(filter)) => lines.with_writer(stderr).with_filter(filter).boxed(),
        (None, None) => return Ok(()),
    };
    tracing_subscriber::registry().with(log).init();
    Ok(())
}

/// A file of a bounded size, and a bounded number of its predecessors.
fn rotating(path: &Path) -> Result<FileRotate<AppendCount>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let path = folder.join(path.file_name().with_context(|| format!("{} is no file", path.display()))?);
    let (count, limit) = (AppendCount::new(MAX_OLD_FILES), ContentLimit::BytesSurpassed(MAX_FILE_BYTES));
    Ok(FileRotate::new(path, count, limit, Compression::None, None))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn files_are_bounded_in_size_and_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/worker.log");
        let mut log = rotating(&path).unwrap();
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..8 * 1024 {
            log.write_all(line.as_bytes()).unwrap();
        }
        let sizes: Vec<u64> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), 1 + MAX_OLD_FILES);
        assert!(sizes.iter().all(|size| *size <= (MAX_FILE_BYTES + line.len()) as u64), "{sizes:?}");
    }
}
