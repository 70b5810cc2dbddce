//! Properties of stored vectors.

use chaarfm_domain::ModelSpec;

/// Properties of the vectors of this model; none if the program does not know the model.
#[must_use]
pub fn model_spec(name: &str) -> Option<ModelSpec> {
    chaarfm_models::find(name).map(|model| ModelSpec {
        name: model.name.clone(),
        embedding_length: model.embedding_length,
        tag_count: model.tags.len(),
    })
}
