//! The models: each one's entry in `manifest.json` and, with the feature `weights`, the weights themselves.
//!
//! `cargo xtask models` creates the files (see `models/README.md`); nothing here computes.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// Metadata of a model, available without reading its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name, such as `msd-musicnn`.
    pub name: String,
    /// Version of the weights; any change of a vector requires a new version.
    pub version: String,
    /// Description for users.
    pub description: String,
    /// Where the weights come from.
    pub source: String,
    /// SPDX identifier of the weights' licence.
    pub licence: String,
    /// Copyright notice that must accompany the weights.
    pub notice: String,
    /// File name of the weights in this folder: safetensors.
    pub file: String,
    /// SHA-256 of that file, in lower-case hexadecimal.
    pub sha256: String,
    /// SHA-256 of the exported checkpoint it was converted from.
    pub source_sha256: String,
    /// Numbers in an embedding.
    pub embedding_length: usize,
    /// Names of the tags, in output order.
    pub tags: Vec<String>,
    /// Embedding of the check patch (`chaarfm_analysis::check_patch`), to recognise devices that compute wrong numbers.
    pub known_answer: Vec<f32>,
}

static MANIFEST: LazyLock<Vec<Manifest>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../manifest.json")).expect("manifest.json is checked by a test of this crate")
});

/// Every model; the first is the default.
#[must_use]
pub fn all() -> &'static [Manifest] {
    &MANIFEST
}

/// The model used by default.
#[must_use]
pub fn default() -> &'static Manifest {
    all().first().expect("manifest.json names a model, which a test of this crate checks")
}

/// The model with a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Manifest> {
    all().iter().find(|model| model.name == name)
}

/// The model's weights: the bytes of its safetensors file.
#[cfg(feature = "weights")]
#[must_use]
pub fn weights(model: &Manifest) -> &'static [u8] {
    match model.file.as_str() {
        "msd-musicnn.safetensors" => include_bytes!("../msd-musicnn.safetensors"),
        "mtt-musicnn.safetensors" => include_bytes!("../mtt-musicnn.safetensors"),
        file => unreachable!("manifest.json names {file}, which no arm here embeds; a test of this crate checks"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_is_whole() {
        assert_eq!(default().name, "msd-musicnn");
        for model in all() {
            assert_eq!(model.known_answer.len(), model.embedding_length, "{}", model.name);
            assert_eq!(model.tags.len(), 50, "{}", model.name);
            assert!(model.notice.contains("Universitat Pompeu Fabra"), "{}", model.name);
            assert_eq!(find(&model.name), Some(model));
        }
        assert_eq!(find("no-such-model"), None);
    }

    #[cfg(feature = "weights")]
    #[test]
    fn every_model_of_the_manifest_is_embedded() {
        for model in all() {
            assert!(weights(model).len() > 3_000_000, "{}", model.name);
        }
    }
}
