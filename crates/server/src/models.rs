//! The models that this coordinator serves: their names and weights.

use chaarfm_api::ModelView;
use chaarfm_models::Manifest;
use chaarfm_protocol::ModelRef;

/// The model of sessions that request none.
pub(crate) fn default_name() -> &'static str {
    &chaarfm_models::default().name
}

/// Whether a model of that name exists.
pub(crate) fn exists(name: &str) -> bool {
    chaarfm_models::find(name).is_some()
}

/// The model, as referenced by jobs.
pub(crate) fn reference(name: &str) -> Option<ModelRef> {
    chaarfm_models::find(name).map(|model| ModelRef {
        name: model.name.clone(),
        sha256: model.sha256.clone(),
        url: format!("/models/{}/{}", model.sha256, model.file),
    })
}

/// Every model, for pages.
pub(crate) fn views() -> Vec<ModelView> {
    let view = |model: &Manifest| ModelView {
        name: model.name.clone(),
        description: model.description.clone(),
        default: model.name == default_name(),
    };
    chaarfm_models::all().iter().map(view).collect()
}

/// The weights at the URL given by [`reference`].
pub(crate) fn weights(sha256: &str, file: &str) -> Option<&'static [u8]> {
    let model = chaarfm_models::all().iter().find(|model| model.sha256 == sha256 && model.file == file)?;
    Some(chaarfm_models::weights(model))
}
