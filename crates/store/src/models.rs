//! What stored vectors look like.

use chaarfm_domain::ModelSpec;

/// What vectors of the model of this name look like; none when this program has no such model.
#[must_use]
pub fn model_spec(name: &str) -> Option<ModelSpec> {
    chaarfm_models::find(name).map(|model| ModelSpec {
        name: model.name.clone(),
        embedding_length: model.embedding_length,
        tag_count: model.tags.len(),
    })
}
