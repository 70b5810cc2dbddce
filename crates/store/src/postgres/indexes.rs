//! The index of each collection, by which other programs search for near vectors. It is built while vectors are stored and
//! read, which takes minutes for a large collection and cannot be part of a transaction.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use tokio::time::timeout;

use super::{
    MAX_PING, MAX_WAIT_SECONDS, Postgres,
    views::{identifier, quoted},
};
use crate::{common::within, error::Stored};

/// Key of the lock under which indexes are built, by one coordinator at a time. A build that outlives its coordinator keeps
/// the lock until it ends.
const INDEXES_LOCK: i64 = i64::from_be_bytes(*b"chaarfmx");

/// Time limit for all missing indexes: a graph of ten million vectors takes hours.
const MAX_BUILD_SECONDS: u64 = 24 * 60 * 60;

/// A build waits for all older transactions, including other programs', and nothing waits for the build. So neither this
/// program's limits nor the operator's limits for ordinary statements apply to it.
const UNHURRIED: [(&str, &str); 2] = [("lock_timeout", "0"), ("statement_timeout", "0")];

/// A missing index of a collection.
#[derive(Debug)]
struct Lacking {
    collection: String,
    /// Name of the index.
    index: String,
    /// An interrupted build has left an index that is maintained but not used.
    is_invalid: bool,
}

impl Postgres {
    /// Builds the missing indexes, and returns how many; 0 while another coordinator builds them.
    pub(crate) async fn build_indexes(&self) -> Stored<u64> {
        let mut connection = within(MAX_WAIT_SECONDS, async { Ok(self.pool.acquire().await?) }).await?;
        let lacking = within(MAX_WAIT_SECONDS, lacking(&mut connection)).await?;
        drop(connection);
        if lacking.is_empty() {
            return Ok(0);
        }
        let options = self.pool.connect_options().as_ref().clone().options(UNHURRIED);
        let mut connection = within(MAX_WAIT_SECONDS, async { Ok(options.connect().await?) }).await?;
        let built = within(MAX_BUILD_SECONDS, build_all(&mut connection)).await;
        // Closing the connection releases the lock, however the build has ended.
        let _ = timeout(MAX_PING, connection.close()).await;
        built
    }
}

async fn build_all(connection: &mut PgConnection) -> Stored<u64> {
    // A coordinator waiting for the lock would be in a statement, and the build waits for all statements to end.
    let lock = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(INDEXES_LOCK);
    let is_alone: bool = lock.fetch_one(&mut *connection).await?;
    if !is_alone {
        return Ok(0);
    }
    let mut built = 0;
    // Queried again: another coordinator may have built them in the meantime.
    for Lacking { collection, index, is_invalid } in lacking(connection).await? {
        let index = quoted(&index, '"');
        if is_invalid {
            tracing::warn!("the index of {collection} was left unfinished; it is built again");
            let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS chaarfm.{index}");
            sqlx::query(AssertSqlSafe(drop)).execute(&mut *connection).await?;
        }
        // Each collection has its own index, or a search in a small one would find mostly neighbours from large ones.
        let create = format!(
            "CREATE INDEX CONCURRENTLY {index} ON chaarfm.vectors USING hnsw (embedding vector_cosine_ops)
            WHERE collection = {}",
            quoted(&collection, '\'')
        );
        sqlx::query(AssertSqlSafe(create)).execute(&mut *connection).await?;
        tracing::info!("the index of {collection} is built");
        built += 1;
    }
    Ok(built)
}

async fn lacking(connection: &mut PgConnection) -> Stored<Vec<Lacking>> {
    let query = "SELECT relname::TEXT AS name, indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE indrelid = 'chaarfm.vectors'::REGCLASS";
    let rows = sqlx::query(query).fetch_all(&mut *connection).await?;
    let is_valid = rows.iter().map(|row| Ok((row.try_get("name")?, row.try_get("indisvalid")?)));
    let is_valid: HashMap<String, bool> = is_valid.collect::<sqlx::Result<_>>()?;
    let query = sqlx::query_scalar("SELECT name FROM chaarfm.collections ORDER BY name");
    let collections: Vec<String> = query.fetch_all(&mut *connection).await?;
    let lacking = collections.into_iter().filter_map(|collection| {
        let index = identifier("vectors_cosine_", &collection);
        match is_valid.get(&index) {
            Some(true) => None,
            found => Some(Lacking { collection, index, is_invalid: found.is_some() }),
        }
    });
    Ok(lacking.collect())
}
