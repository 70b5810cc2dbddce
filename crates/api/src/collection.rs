//! Collections and their vectors.

use chaarfm_domain::{Device, Track, WorkerKind};
use serde::{Deserialize, Serialize};

/// A collection of vectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CollectionView {
    /// Its name.
    pub name: String,
    /// Number of vectors in it.
    pub tracks: u64,
}

/// A stored vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrackView {
    /// Its number.
    pub id: i64,
    /// The track.
    #[serde(flatten)]
    pub track: Track,
    /// Length of the audio.
    pub seconds: f64,
    /// BLAKE3 of the file's bytes, in lower-case hexadecimal.
    pub content_hash: String,
    /// Model that made the embedding.
    pub model: String,
    /// The device that computed it.
    pub device: Device,
    /// The kind of worker that computed it.
    pub worker: WorkerKind,
    /// Warnings about the vector: `silent`, `truncated`.
    pub flags: Vec<String>,
    /// When it was stored: milliseconds since 1970, UTC.
    pub stored_at_ms: u64,
    /// The embedding.
    pub embedding: Vec<f32>,
    /// Tag activations, 0 to 1, in the model's tag order.
    pub tags: Vec<f32>,
}

/// A page of a collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrackPage {
    /// Vectors in the whole collection.
    pub total: u64,
    /// This page's vectors, ordered by number.
    pub tracks: Vec<TrackView>,
}
