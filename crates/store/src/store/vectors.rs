//! The collections and their vectors in the store.

use super::{Store, ask};
use crate::{
    error::Stored,
    vectors::{CollectionRow, VectorRow},
};

impl Store {
    /// Every collection that has vectors.
    pub async fn collections(&self) -> Stored<Vec<CollectionRow>> {
        ask!(self, engine => engine.collections())
    }

    /// Number of vectors in the collection; none if no vector and no session names it.
    pub async fn count_vectors(&self, collection: &str) -> Stored<Option<u64>> {
        ask!(self, engine => engine.count_vectors(collection))
    }

    /// A collection's vectors by number.
    pub async fn vectors(&self, collection: &str, offset: u64, limit: u32) -> Stored<Vec<VectorRow>> {
        ask!(self, engine => engine.vectors(collection, offset, limit))
    }
}
