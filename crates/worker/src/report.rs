//! Turns what the analysis returns into the protocol's types.

use chaarfm_analysis::{Analysis, AudioError};
use chaarfm_models::Manifest;
use chaarfm_protocol::{Failure, FailureKind, Halves, ModelRef, Vector};

use crate::Analysed;

/// Finds the model that a job asks for, with exactly its weights.
///
/// # Errors
/// The failure to report when this program does not know the model; another worker may.
pub fn known_model(wanted: &ModelRef) -> Result<&'static Manifest, Failure> {
    chaarfm_models::find(&wanted.name)
        .filter(|model| model.sha256 == wanted.sha256)
        .ok_or_else(|| passing(format!("this worker does not know the model {} with these weights", wanted.name)))
}

/// A track's result; `patches` are the embeddings of its patches.
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

/// The failure to report for a track without a vector.
#[must_use]
pub fn failure(error: &AudioError) -> Failure {
    let kind = if error.is_permanent() { FailureKind::Permanent } else { FailureKind::Passing };
    Failure { kind, message: error.to_string() }
}

/// A failure of this worker, not of the track.
#[must_use]
pub fn passing(message: String) -> Failure {
    Failure { kind: FailureKind::Passing, message }
}
