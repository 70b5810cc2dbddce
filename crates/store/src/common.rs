//! What the engines have in common: how they write numbers and moments, the steps of a schema, and how long a server's answer
//! is waited for.

use std::time::Duration;

use chaarfm_coordinator::Timestamp;
use sqlx::{
    SqlSafeStr, SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

use crate::error::{StoreError, Stored};

/// Longest wait for a server's answer. It is longer than the waits for a connection and for a lock together. Without it, a
/// host that vanishes would be waited for until the system gives up, which takes a quarter of an hour.
pub(crate) const MAX_ANSWER_SECONDS: u64 = 20;

/// The same for operations that go through a whole queue, make an index or handle a page of an export.
pub(crate) const MAX_LONG_ANSWER_SECONDS: u64 = 600;

/// Waits for a server's answer, but no longer than the limit.
pub(crate) async fn within<T>(limit_seconds: u64, asked: impl Future<Output = Stored<T>>) -> Stored<T> {
    let limit = Duration::from_secs(limit_seconds);
    tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| Err(StoreError::unanswered(limit)))
}

/// A name for this process among those that work on one database.
pub(crate) fn random_owner() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The steps from an empty database to the present schema.
pub(crate) fn migrator(steps: &[(&'static str, &'static str)]) -> Migrator {
    let numbered = (1..).zip(steps);
    let migration = |(version, (name, sql)): (i64, &(&'static str, &'static str))| {
        let sql: SqlStr = sql.into_sql_str();
        Migration::new(version, (*name).into(), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations(numbered.map(migration).collect())
}

/// The databases' integers are signed; no number here comes near their limit.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(crate) fn millis(moment: Timestamp) -> i64 {
    signed(moment.0)
}
