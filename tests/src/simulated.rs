//! What a simulated worker computes instead of an analysis, for tests of everything else.

use std::hash::{DefaultHasher, Hasher};

/// The embedding that simulated workers give to a file of this content: a function of its bytes, so that each track can be
/// seen to have its own.
pub fn embedding_of(content: &[u8], length: usize) -> Vec<f32> {
    let mut hasher = DefaultHasher::new();
    hasher.write(content);
    let mut random = fastrand::Rng::with_seed(hasher.finish());
    (0..length).map(|_| random.f32() - 0.5).collect()
}
