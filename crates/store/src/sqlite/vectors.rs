//! Collections and their vectors.

use sqlx::Row;

use super::{
    Sqlite,
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
                stored_ms, embedding, tags
            FROM vectors ",
            $rest
        )
    };
}

pub(super) use select_vectors;

impl Sqlite {
    pub(crate) async fn collections(&self) -> Stored<Vec<CollectionRow>> {
        let query = sqlx::query(
            "SELECT collection, vectors AS tracks FROM vector_counts WHERE vectors > 0 ORDER BY collection",
        );
        let rows = query.fetch_all(&self.reader).await?;
        Ok(rows.iter().map(collection_of).collect::<sqlx::Result<_>>()?)
    }

    pub(crate) async fn count_vectors(&self, collection: &str) -> Stored<Option<u64>> {
        let query = sqlx::query(
            "SELECT COALESCE((SELECT vectors FROM vector_counts WHERE collection = ?1), 0) AS tracks,
                EXISTS (SELECT 1 FROM sessions WHERE collection = ?1) AS named",
        );
        let row = query.bind(collection).fetch_one(&self.reader).await?;
        let tracks = unsigned(row.try_get("tracks")?);
        Ok((tracks > 0 || row.try_get("named")?).then_some(tracks))
    }

    pub(crate) async fn vectors(&self, collection: &str, offset: u64, limit: u32) -> Stored<Vec<VectorRow>> {
        let query = sqlx::query(select_vectors!("WHERE collection = ? ORDER BY id LIMIT ? OFFSET ?"));
        let rows = query.bind(collection).bind(limit).bind(signed(offset)).fetch_all(&self.reader).await?;
        Ok(rows.iter().map(vector_of).collect::<sqlx::Result<_>>()?)
    }
}
