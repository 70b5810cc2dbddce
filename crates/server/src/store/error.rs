//! Why the database did not do it, and whether that passes.

use sqlx::migrate::MigrateError;

/// Why the database did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// It is down, locked, restarting or overloaded: the same may succeed in a moment.
    #[error("the database cannot be used at the moment: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// Somebody has to make room; until then nothing is written.
    #[error("the database has no room left: {0}")]
    Full(#[source] sqlx::Error),
    /// Its disk has no room in a way that the database cannot tell from a defect, such as a quota; or it has a defect.
    #[error("the database's disk is full or fails: {0}")]
    Disk(#[source] sqlx::Error),
    #[error("the database failed: {0}")]
    Database(#[source] sqlx::Error),
    #[error("the database could not be brought up to date: {0}")]
    Migration(#[source] MigrateError),
    #[error(
        "the database is of version {database}, and this program knows versions up to {program}: it needs a newer program"
    )]
    Newer { database: i64, program: i64 },
    #[error(
        "the database has something called {0} of its own, so this collection cannot have its view; choose another"
    )]
    NameTaken(String),
    #[error("the database has sessions or vectors already; an import needs an empty one, or one in which it has begun")]
    NotEmpty,
    #[error("this database stores vectors of {expected} numbers, and those of the model {model} have {actual}")]
    VectorLength { model: String, expected: usize, actual: usize },
}

impl StoreError {
    /// Whether the same may succeed later, without anything being changed about it.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Full(_) | Self::Disk(_))
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
                Some(Kind::Full) => Self::Full(error),
                Some(Kind::Disk) => Self::Disk(error),
                Some(Kind::Other) | None => Self::Database(error),
            },
            _ => Self::Database(error),
        }
    }
}

/// Why a database could not be brought up to date, `newest` being the last step it has been through.
pub(super) fn not_migrated(error: MigrateError, newest: sqlx::Result<i64>, known: usize) -> StoreError {
    let program = i64::try_from(known).unwrap_or(i64::MAX);
    match (error, newest) {
        (MigrateError::VersionMissing(_), Ok(database)) => StoreError::Newer { database, program },
        (MigrateError::Execute(error), _) => error.into(),
        (error, _) => StoreError::Migration(error),
    }
}

/// Whether something that may be there once is there already.
pub(super) fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|said| said.is_unique_violation())
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Unavailable,
    Full,
    Disk,
    Other,
}

/// What a database's code means: five characters from PostgreSQL
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>), a number from SQLite
/// (<https://www.sqlite.org/rescode.html>), whose lowest byte is the kind.
fn kind_of(code: &str) -> Kind {
    const POSTGRES_CODE_CHARS: usize = 5;
    const SQLITE_BUSY: i32 = 5;
    const SQLITE_LOCKED: i32 = 6;
    const SQLITE_IOERR: i32 = 10;
    const SQLITE_FULL: i32 = 13;
    if code.len() == POSTGRES_CODE_CHARS {
        return match code {
            // The disk is full.
            "53100" => Kind::Full,
            "58030" => Kind::Disk,
            // A lock was not to be had; the server has become a standby.
            "55P03" | "25006" => Kind::Unavailable,
            // Broken connections, deadlocks, too few resources, a stop by the operator.
            _ if ["08", "40", "53", "57P"].iter().any(|class| code.starts_with(class)) => Kind::Unavailable,
            // Waited too long within a transaction.
            "25P03" => Kind::Unavailable,
            _ => Kind::Other,
        };
    }
    match code.parse::<i32>().map(|code| code & 0xff) {
        Ok(SQLITE_BUSY | SQLITE_LOCKED) => Kind::Unavailable,
        Ok(SQLITE_FULL) => Kind::Full,
        // The system's word for a file that may not grow, or a quota, is not the one for a full disk.
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
        for code in ["08006", "57P01", "57P03", "53300", "40P01", "55P03", "5", "6", "261"] {
            assert_eq!(kind_of(code), Kind::Unavailable, "{code}");
        }
        for code in ["53100", "13"] {
            assert_eq!(kind_of(code), Kind::Full, "{code}");
        }
        // 778 is SQLITE_IOERR_WRITE.
        for code in ["58030", "10", "778"] {
            assert_eq!(kind_of(code), Kind::Disk, "{code}");
        }
        // 2067 is SQLITE_CONSTRAINT_UNIQUE.
        for code in ["23505", "42P01", "57014", "1", "2067", "", "nonsense"] {
            assert_eq!(kind_of(code), Kind::Other, "{code}");
        }
        assert!(StoreError::from(sqlx::Error::PoolTimedOut).is_passing());
        assert!(!StoreError::from(sqlx::Error::RowNotFound).is_passing());
    }
}
