//! A lock on a database file, which keeps other processes away.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{database::Database, error::StoreError, store::Store};

/// Longest wait for another process's lock: an ending process holds it for a moment longer, and so does a child of this
/// process that is just starting.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Wait between two attempts.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder of its file cannot be created or written to.
    #[error("the data folder {path} cannot be written to: {reason}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Error of the operating system.
        reason: io::Error,
    },
    /// Another process is using the same file.
    #[error("{0} is in use by another coordinator")]
    InUse(PathBuf),
    /// The database itself cannot be opened.
    #[error("{database}: {reason}")]
    Database {
        /// The database.
        database: Database,
        /// The reason.
        reason: StoreError,
    },
}

impl Store {
    /// Opens the database, as [`Store::open`] does. For a file it also takes a lock, which keeps other processes away while
    /// it is held; a missing folder is created.
    ///
    /// # Errors
    /// When the folder cannot be written to, another process has the file locked, or the database cannot be opened.
    pub async fn open_alone(database: &Database) -> Result<(Self, Option<File>), OpenError> {
        let lock = match database {
            Database::Sqlite(path) => Some(lock_file(path).await?),
            Database::Postgres(_) => None,
        };
        match Self::open(database).await {
            Ok(store) => Ok((store, lock)),
            Err(reason) => Err(OpenError::Database { database: database.clone(), reason }),
        }
    }
}

/// Creates a missing folder, accessible to this user only: the database contains session codes.
///
/// # Errors
/// When the system refuses to create it.
pub fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

async fn lock_file(path: &Path) -> Result<File, OpenError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let failed = |reason| OpenError::Folder { path: folder.to_owned(), reason };
    create_private(folder).map_err(failed)?;
    let lock = File::create(path.with_added_extension("lock")).map_err(failed)?;
    let end = Instant::now() + LOCK_WAIT;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if Instant::now() < end => sleep(LOCK_POLL).await,
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path.to_owned())),
            Err(TryLockError::Error(reason)) => return Err(failed(reason)),
        }
    }
}
