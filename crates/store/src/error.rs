//! Errors of the database, and whether a retry may succeed.

use std::{io, time::Duration};

use sqlx::migrate::MigrateError;

use crate::snapshot::MAX_SNAPSHOTS;

/// Result of a database operation.
pub(crate) type Stored<T> = Result<T, StoreError>;

/// An error of the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is down, locked, restarting or overloaded: the same operation may succeed in a moment.
    #[error("the database cannot be used at the moment: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// The transaction was rolled back because it conflicted with another coordinator's.
    #[error("the database has put something else first: {0}")]
    Conflict(#[source] sqlx::Error),
    /// The disk is full; nothing can be written until space is freed.
    #[error("the database has no room left: {0}")]
    Full(#[source] sqlx::Error),
    /// The disk is defective, or full in a way that the database cannot tell from a defect, such as a quota.
    #[error("the database's disk is full or fails: {0}")]
    Disk(#[source] sqlx::Error),
    /// An error that a retry cannot fix.
    #[error("the database failed: {0}")]
    Database(#[source] sqlx::Error),
    /// A migration to the current schema failed.
    #[error("the database could not be brought up to date: {0}")]
    Migration(#[source] MigrateError),
    #[error(
        "the database is of version {database}, and this program knows versions up to {program}: it needs a newer program"
    )]
    /// A newer version of the program has migrated the database.
    Newer {
        /// Version of the database.
        database: i64,
        /// Newest version that this program knows.
        program: i64,
    },
    #[error(
        "the database has something called {0} of its own, so this collection cannot have its view; choose another"
    )]
    /// A table or view of that name exists already.
    NameTaken(String),
    /// The database is not empty, so nothing can be imported into it.
    #[error("the database has sessions or vectors already; an import needs an empty one, or one in which it has begun")]
    NotEmpty,
    /// The limit of open snapshots is reached.
    #[error("{MAX_SNAPSHOTS} exports are under way, as many as there may be; try again when one of them is through")]
    TooManySnapshots,
    /// An import is unfinished.
    #[error("an import into the database is unfinished; run import-db again")]
    HalfImported,
    /// A coordinator is using the database.
    #[error("a coordinator works on the database; stop it before something is imported")]
    InUse,
    /// The database stores vectors of another length than the model's.
    #[error("this database stores vectors of {expected} numbers, and those of the model {model} have {actual}")]
    VectorLength {
        /// The model.
        model: String,
        /// Numbers in a vector of the database.
        expected: usize,
        /// Numbers in a vector of the model.
        actual: usize,
    },
}

impl StoreError {
    /// Whether a retry may succeed.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Conflict(_)) || self.is_outage()
    }

    /// Whether every caller would have failed (database down), not just this request.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Full(_) | Self::Disk(_))
    }

    /// An error for an answer that did not come within this time.
    pub(crate) fn unanswered(limit: Duration) -> Self {
        let words = format!("there was no answer within {} s", limit.as_secs());
        Self::Unavailable(io::Error::new(io::ErrorKind::TimedOut, words).into())
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Self::Unavailable(error)
            }
            sqlx::Error::Database(said) => match said.code().as_deref().map(kind_of) {
                Some(Kind::Unavailable) => Self::Unavailable(error),
                Some(Kind::Conflict) => Self::Conflict(error),
                Some(Kind::Full) => Self::Full(error),
                Some(Kind::Disk) => Self::Disk(error),
                Some(Kind::Other) | None => Self::Database(error),
            },
            _ => Self::Database(error),
        }
    }
}

/// Why a migration failed; `newest` is the last migration applied to the database.
pub(crate) fn not_migrated(error: MigrateError, newest: sqlx::Result<i64>, known: usize) -> StoreError {
    let program = i64::try_from(known).unwrap_or(i64::MAX);
    match (error, newest) {
        (MigrateError::VersionMissing(_), Ok(database)) => StoreError::Newer { database, program },
        (MigrateError::Execute(error), _) => error.into(),
        // The migration's number matters only if the migration itself is at fault.
        (MigrateError::ExecuteMigration(error, step), _) => match error.into() {
            StoreError::Database(error) => StoreError::Migration(MigrateError::ExecuteMigration(error, step)),
            passing => passing,
        },
        (error, _) => StoreError::Migration(error),
    }
}

/// Whether a unique index has rejected a row.
pub(crate) fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|said| said.is_unique_violation())
}

/// Whether PostgreSQL gave up waiting for a lock.
pub(crate) fn is_locked(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|said| said.code().as_deref() == Some("55P03"))
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Unavailable,
    Conflict,
    Full,
    Disk,
    Other,
}

/// Classifies a database's error code: five characters from PostgreSQL
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>), a number from SQLite
/// (<https://www.sqlite.org/rescode.html>), whose lowest byte is the kind.
fn kind_of(code: &str) -> Kind {
    const POSTGRES_CODE_CHARS: usize = 5;
    const SQLITE_BUSY: i32 = 5;
    const SQLITE_LOCKED: i32 = 6;
    const SQLITE_NOMEM: i32 = 7;
    const SQLITE_IOERR: i32 = 10;
    const SQLITE_FULL: i32 = 13;
    const SQLITE_CANTOPEN: i32 = 14;
    const SQLITE_PROTOCOL: i32 = 15;
    if code.len() == POSTGRES_CODE_CHARS {
        return match code {
            // The disk is full.
            "53100" => Kind::Full,
            "58030" => Kind::Disk,
            // A lock was not available in time; the server has become a standby.
            "55P03" | "25006" => Kind::Unavailable,
            // Deadlocks.
            _ if code.starts_with("40") => Kind::Conflict,
            // Broken connections, insufficient resources, a stop by the operator.
            _ if ["08", "53", "57P"].iter().any(|class| code.starts_with(class)) => Kind::Unavailable,
            // The transaction was idle for too long; the statement exceeded the operator's time limit, or was cancelled.
            "25P03" | "57014" => Kind::Unavailable,
            _ => Kind::Other,
        };
    }
    match code.parse::<i32>().map(|code| code & 0xff) {
        // The last three: out of memory, too many open files, contention on the file lock.
        Ok(SQLITE_BUSY | SQLITE_LOCKED | SQLITE_NOMEM | SQLITE_CANTOPEN | SQLITE_PROTOCOL) => Kind::Unavailable,
        Ok(SQLITE_FULL) => Kind::Full,
        // The system reports a file size limit or a quota with another error than a full disk.
        Ok(SQLITE_IOERR) => Kind::Disk,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        // SQLite's extended codes have the kind in the lowest byte: 261 is SQLITE_BUSY_RECOVERY.
        for code in ["08006", "57P01", "57P03", "53300", "57014", "55P03", "5", "6", "261", "7", "14", "15"] {
            assert_eq!(kind_of(code), Kind::Unavailable, "{code}");
        }
        for code in ["40P01", "40001"] {
            assert_eq!(kind_of(code), Kind::Conflict, "{code}");
        }
        for code in ["53100", "13"] {
            assert_eq!(kind_of(code), Kind::Full, "{code}");
        }
        // 778 is SQLITE_IOERR_WRITE.
        for code in ["58030", "10", "778"] {
            assert_eq!(kind_of(code), Kind::Disk, "{code}");
        }
        // 2067 is SQLITE_CONSTRAINT_UNIQUE.
        for code in ["23505", "42P01", "1", "2067", "", "nonsense"] {
            assert_eq!(kind_of(code), Kind::Other, "{code}");
        }
        assert!(StoreError::from(sqlx::Error::PoolTimedOut).is_passing());
        assert!(!StoreError::from(sqlx::Error::RowNotFound).is_passing());
        let conflict = StoreError::Conflict(sqlx::Error::PoolTimedOut);
        assert!(conflict.is_passing() && !conflict.is_outage());
    }
}
