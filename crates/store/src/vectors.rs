//! Stored vectors and collections.

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::{Device, InvitationId, Track, WorkerKind};

/// A collection and its number of vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionRow {
    /// Its name.
    pub name: String,
    /// Number of vectors.
    pub vectors: u64,
}

/// A stored vector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorRow {
    /// Its number.
    pub id: i64,
    /// The track.
    pub track: Track,
    /// Length of the audio.
    pub seconds: f64,
    /// BLAKE3 of the file's bytes, in lower-case hexadecimal.
    pub content_hash: String,
    /// Name of the model.
    pub model: String,
    /// Kind of the worker that made it.
    pub kind: WorkerKind,
    /// Device on which it was computed.
    pub device: Device,
    /// Peculiarities of the audio: see [`chaarfm_domain::Vector::flags`].
    pub flags: Vec<String>,
    /// When it was stored.
    pub stored: Timestamp,
    /// The embedding.
    pub embedding: Vec<f32>,
    /// Tag activations, 0 to 1, in the model's tag order.
    pub tags: Vec<f32>,
}

/// The worker that made a vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Maker {
    /// Kind of the worker.
    pub kind: WorkerKind,
    /// Device on which it computed.
    pub device: Device,
    /// Hash of its key.
    pub key: String,
    /// Invitation by which it joined.
    pub invitation: InvitationId,
}
