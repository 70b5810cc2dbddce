//! Snapshots, and the queries of exports on them.

use chaarfm_domain::{JobId, JobState, SessionId};
use sqlx::{ConnectOptions, Executor, PgConnection};

use super::{
    Postgres,
    jobs::select_jobs,
    rows::{extent_of, vector_of},
    vectors::select_vectors,
};
use crate::{
    error::Stored,
    jobs::JobRow,
    snapshot::{Extent, MAX_STALL_SECONDS},
    vectors::VectorRow,
};

/// Begins a transaction that sees the database as of one moment. An export's client may pause for [`MAX_STALL_SECONDS`]
/// between two pages.
const BEGIN_SNAPSHOT: &str = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL idle_in_transaction_session_timeout = '150s'";
const _: () = assert!(MAX_STALL_SECONDS < 150);

/// Begins a snapshot of the current database on a connection outside the pool, so that a slow reader takes no connection
/// from others. It locks nothing, and ends with its connection.
pub(crate) async fn begin_snapshot(engine: &Postgres) -> Stored<PgConnection> {
    let mut connection = engine.pool.connect_options().connect().await?;
    connection.execute(BEGIN_SNAPSHOT).await?;
    Ok(connection)
}

pub(crate) async fn extent(tx: &mut PgConnection, collection: &str, model: Option<&str>) -> Stored<Extent> {
    let query = sqlx::query(
        "SELECT COUNT(*) AS tracks, COUNT(DISTINCT model) AS models,
            MIN(vector_dims(embedding))::BIGINT AS shortest, MAX(vector_dims(embedding))::BIGINT AS longest
        FROM chaarfm.vectors WHERE collection = $1 AND ($2 IS NULL OR model = $2)",
    );
    Ok(extent_of(&query.bind(collection).bind(model).fetch_one(tx).await?)?)
}

pub(crate) async fn vectors_after(
    tx: &mut PgConnection,
    collection: &str,
    model: Option<&str>,
    after: i64,
    limit: u32,
) -> Stored<Vec<VectorRow>> {
    let query = sqlx::query(select_vectors!(
        "WHERE collection = $1 AND id > $2 AND ($3 IS NULL OR model = $3) ORDER BY id LIMIT $4"
    ));
    let rows = query.bind(collection).bind(after).bind(model).bind(i64::from(limit)).fetch_all(tx).await?;
    Ok(rows.iter().map(vector_of).collect::<sqlx::Result<_>>()?)
}

pub(crate) async fn jobs_after(
    tx: &mut PgConnection,
    session: SessionId,
    state: Option<JobState>,
    after: JobId,
    limit: u32,
) -> Stored<Vec<JobRow>> {
    let query = match state {
        Some(state) => {
            sqlx::query_as(select_jobs!("WHERE session = $1 AND state = $2 AND id > $3 ORDER BY id LIMIT $4"))
                .bind(session.0)
                .bind(state.name())
        }
        None => sqlx::query_as(select_jobs!("WHERE session = $1 AND id > $2 ORDER BY id LIMIT $3")).bind(session.0),
    };
    Ok(query.bind(after).bind(i64::from(limit)).fetch_all(tx).await?)
}
