//! Snapshots, and the queries of exports on them.

use chaarfm_domain::{JobId, JobState, SessionId};
use sqlx::{ConnectOptions, Executor, SqliteConnection};

use super::{
    Sqlite,
    jobs::select_jobs,
    rows::{extent_of, vector_of},
    vectors::select_vectors,
};
use crate::{error::Stored, jobs::JobRow, snapshot::Extent, vectors::VectorRow};

/// Begins a snapshot of the database as of the first query, on a connection outside the pool, so that a slow reader takes
/// no connection from others. It locks nothing, and ends with its connection.
pub(crate) async fn begin_snapshot(engine: &Sqlite) -> Stored<SqliteConnection> {
    let mut connection = engine.reader.connect_options().connect().await?;
    connection.execute("BEGIN").await?;
    Ok(connection)
}

pub(crate) async fn extent(tx: &mut SqliteConnection, collection: &str, model: Option<&str>) -> Stored<Extent> {
    // A number takes 4 bytes.
    let query = sqlx::query(
        "SELECT COUNT(*) AS tracks, COUNT(DISTINCT model) AS models,
            MIN(length(embedding) / 4) AS shortest, MAX(length(embedding) / 4) AS longest
        FROM vectors WHERE collection = ?1 AND (?2 IS NULL OR model = ?2)",
    );
    Ok(extent_of(&query.bind(collection).bind(model).fetch_one(tx).await?)?)
}

pub(crate) async fn vectors_after(
    tx: &mut SqliteConnection,
    collection: &str,
    model: Option<&str>,
    after: i64,
    limit: u32,
) -> Stored<Vec<VectorRow>> {
    let query = sqlx::query(select_vectors!(
        "WHERE collection = ?1 AND id > ?2 AND (?3 IS NULL OR model = ?3) ORDER BY id LIMIT ?4"
    ));
    let rows = query.bind(collection).bind(after).bind(model).bind(limit).fetch_all(tx).await?;
    Ok(rows.iter().map(vector_of).collect::<sqlx::Result<_>>()?)
}

pub(crate) async fn jobs_after(
    tx: &mut SqliteConnection,
    session: SessionId,
    state: Option<JobState>,
    after: JobId,
    limit: u32,
) -> Stored<Vec<JobRow>> {
    let query = match state {
        Some(state) => sqlx::query_as(select_jobs!("WHERE session = ? AND state = ? AND id > ? ORDER BY id LIMIT ?"))
            .bind(session.0)
            .bind(state.name()),
        None => sqlx::query_as(select_jobs!("WHERE session = ? AND id > ? ORDER BY id LIMIT ?")).bind(session.0),
    };
    Ok(query.bind(after).bind(limit).fetch_all(tx).await?)
}
