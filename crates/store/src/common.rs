//! Helpers shared by the engines: number and time formats, the schema's migrations, and time limits for a server's answers.

use std::time::Duration;

use chaarfm_coordinator::Timestamp;
use sqlx::{
    SqlSafeStr, SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

use crate::error::{StoreError, Stored};

/// Time limit for a server's answer, longer than the waits for a connection and for a lock together. Without it, a vanished
/// host would be noticed only after a quarter of an hour, when the system gives up.
pub(crate) const MAX_ANSWER_SECONDS: u64 = 20;

/// The same for operations that go through a whole queue, create an index or handle a page of an export.
pub(crate) const MAX_LONG_ANSWER_SECONDS: u64 = 600;

/// Waits for a server's answer up to the limit.
pub(crate) async fn within<T>(limit_seconds: u64, asked: impl Future<Output = Stored<T>>) -> Stored<T> {
    let limit = Duration::from_secs(limit_seconds);
    tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| Err(StoreError::unanswered(limit)))
}

/// A random name for this process among those that use the database.
pub(crate) fn random_owner() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The migrations from an empty database to the current schema.
pub(crate) fn migrator(steps: &[(&'static str, &'static str)]) -> Migrator {
    let numbered = (1..).zip(steps);
    let migration = |(version, (name, sql)): (i64, &(&'static str, &'static str))| {
        let sql: SqlStr = sql.into_sql_str();
        Migration::new(version, (*name).into(), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations(numbered.map(migration).collect())
}

/// Converts to the databases' signed integers; no number here comes near their limit.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(crate) fn millis(moment: Timestamp) -> i64 {
    signed(moment.0)
}
