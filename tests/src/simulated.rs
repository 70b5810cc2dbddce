//! The result that a simulated worker computes instead of an analysis, for tests of everything else.

use std::hash::{DefaultHasher, Hasher};

/// The embedding that simulated workers return for a file's content: a function of the bytes, so that tests can verify
/// that each track got its own.
pub fn embedding_of(content: &[u8], length: usize) -> Vec<f32> {
    let mut hasher = DefaultHasher::new();
    hasher.write(content);
    let mut random = fastrand::Rng::with_seed(hasher.finish());
    (0..length).map(|_| random.f32() - 0.5).collect()
}
