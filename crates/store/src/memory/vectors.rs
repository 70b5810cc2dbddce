//! Collections and their vectors.

use std::collections::BTreeMap;

use super::Memory;
use crate::{
    error::Stored,
    vectors::{CollectionRow, VectorRow},
};

impl Memory {
    pub(crate) async fn collections(&self) -> Stored<Vec<CollectionRow>> {
        let rows = self.read().await;
        let mut tracks: BTreeMap<&str, u64> = BTreeMap::new();
        rows.vectors.iter().for_each(|kept| *tracks.entry(&kept.collection).or_default() += 1);
        Ok(tracks.into_iter().map(|(name, vectors)| CollectionRow { name: name.to_owned(), vectors }).collect())
    }

    pub(crate) async fn count_vectors(&self, collection: &str) -> Stored<Option<u64>> {
        let rows = self.read().await;
        let tracks = rows.vectors.iter().filter(|kept| kept.collection == collection).count() as u64;
        let is_named = rows.sessions.values().any(|session| session.row.collection == collection);
        Ok((tracks > 0 || is_named).then_some(tracks))
    }

    pub(crate) async fn vectors(&self, collection: &str, offset: u64, limit: u32) -> Stored<Vec<VectorRow>> {
        let rows = self.read().await;
        let some = rows.vectors.iter().filter(|kept| kept.collection == collection);
        Ok(some.skip(offset as usize).take(limit as usize).map(|kept| kept.row.clone()).collect())
    }
}
