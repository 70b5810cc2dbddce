//! What the analysis says, in the protocol's words.

use chaarfm_analysis::{Analysis, AudioError};
use chaarfm_models::Manifest;
use chaarfm_protocol::{Failure, FailureKind, Halves, ModelRef, Vector};

use crate::Analysed;

/// The model that a job asks for, with exactly its weights.
///
/// # Errors
/// The failure to report when this program does not know it; another worker may.
pub fn known_model(wanted: &ModelRef) -> Result<&'static Manifest, Failure> {
    chaarfm_models::find(&wanted.name)
        .filter(|model| model.sha256 == wanted.sha256)
        .ok_or_else(|| passing(format!("this worker does not know the model {} with these weights", wanted.name)))
}

/// A track's answer; `patches` are its patches' embeddings.
#[must_use]
pub fn analysed(model: &Manifest, analysis: Analysis, patches: Halves) -> Analysed {
    let vector = Vector {
        model: model.name.clone(),
        flags: analysis.flags(),
        embedding: analysis.embedding,
        tags: analysis.tags,
        seconds: analysis.seconds,
        patches: analysis.patches,
    };
    Analysed { vector, patches }
}

/// Why a track has none.
#[must_use]
pub fn failure(error: &AudioError) -> Failure {
    let kind = if error.is_permanent() { FailureKind::Permanent } else { FailureKind::Passing };
    Failure { kind, message: error.to_string() }
}

/// A failure of this worker's, not of the track's.
#[must_use]
pub fn passing(message: String) -> Failure {
    Failure { kind: FailureKind::Passing, message }
}
