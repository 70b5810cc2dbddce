//! Collections and their vectors.

use sqlx::Row;

use super::{
    Postgres,
    rows::{collection_of, vector_of},
};
use crate::{
    common::{signed, unsigned},
    error::Stored,
    vectors::{CollectionRow, VectorRow},
};

/// The columns from which a vector is read.
macro_rules! select_vectors {
    ($rest:literal) => {
        concat!(
            "SELECT id, model, content_hash, artist, title, album, file, seconds, backend, device, worker, flags,
                stored_ms, embedding::REAL[] AS embedding, tags
            FROM chaarfm.vectors ",
            $rest
        )
    };
}

pub(super) use select_vectors;

impl Postgres {
    pub(crate) async fn collections(&self) -> Stored<Vec<CollectionRow>> {
        let query = sqlx::query(
            "SELECT collection, SUM(vectors)::BIGINT AS tracks FROM chaarfm.vector_counts GROUP BY collection
            HAVING SUM(vectors) > 0 ORDER BY collection",
        );
        let rows = query.fetch_all(&self.pool).await?;
        Ok(rows.iter().map(collection_of).collect::<sqlx::Result<_>>()?)
    }

    pub(crate) async fn count_vectors(&self, collection: &str) -> Stored<Option<u64>> {
        let query = sqlx::query(
            "SELECT (SELECT COALESCE(SUM(vectors), 0)::BIGINT FROM chaarfm.vector_counts WHERE collection = $1) AS tracks,
                EXISTS (SELECT 1 FROM chaarfm.sessions WHERE collection = $1) AS named",
        );
        let row = query.bind(collection).fetch_one(&self.pool).await?;
        let tracks = unsigned(row.try_get("tracks")?);
        Ok((tracks > 0 || row.try_get("named")?).then_some(tracks))
    }

    pub(crate) async fn vectors(&self, collection: &str, offset: u64, limit: u32) -> Stored<Vec<VectorRow>> {
        let query = sqlx::query(select_vectors!("WHERE collection = $1 ORDER BY id LIMIT $2 OFFSET $3"));
        let rows = query.bind(collection).bind(i64::from(limit)).bind(signed(offset)).fetch_all(&self.pool).await?;
        Ok(rows.iter().map(vector_of).collect::<sqlx::Result<_>>()?)
    }
}
