//! The vector that a worker computes, and the checks it must pass before it is stored.

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Unproven, WrongPatch};

/// A track's MusicNN vector and its metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vector {
    /// Name of the model that made it.
    pub model: String,
    /// The embedding; the model determines its length.
    #[serde(deserialize_with = "numbers")]
    pub embedding: Vec<f32>,
    /// Tag activations, 0 to 1, in the model's tag order.
    #[serde(deserialize_with = "numbers")]
    pub tags: Vec<f32>,
    /// Length of the decoded audio.
    pub seconds: f64,
    /// Number of patches averaged.
    pub patches: u32,
    /// Warnings about the vector: `silent`, `truncated`.
    #[serde(default)]
    pub flags: Vec<String>,
}

/// JSON cannot express NaN and infinity, and serde writes them as `null`. Reading `null` as NaN lets the vector be rejected
/// with a reason instead of breaking the connection.
fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
    let numbers = Vec::<Option<f32>>::deserialize(deserializer)?;
    Ok(numbers.into_iter().map(|number| number.unwrap_or(f32::NAN)).collect())
}

/// The shape of a model's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSpec {
    /// Its name.
    pub name: String,
    /// Length of an embedding.
    pub embedding_length: usize,
    /// Number of tag activations.
    pub tag_count: usize,
}

/// An embedding that matches its model: it has the model's length, and all its numbers are finite, as are the tags and the
/// track's length.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    model: String,
    numbers: Vec<f32>,
    tags: Vec<f32>,
    seconds: f64,
    flags: Vec<String>,
}

/// Why a vector is rejected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidVector {
    /// It was computed with another model than the job asks for.
    #[error("the job asks for model {expected}; the vector is of model {actual}")]
    Model {
        /// The job's model.
        expected: String,
        /// The vector's model.
        actual: String,
    },
    /// It has too few or too many numbers.
    #[error("the {part} of model {model} has {expected} numbers; this one has {actual}")]
    Length {
        /// Which list of numbers.
        part: &'static str,
        /// The model.
        model: String,
        /// The model's length.
        expected: usize,
        /// The actual length.
        actual: usize,
    },
    /// A number is infinite or not a number.
    #[error("number {index} of the {part} is {value}, not a finite number")]
    NotFinite {
        /// Which list of numbers.
        part: &'static str,
        /// Its index, from 0.
        index: usize,
        /// The number.
        value: f32,
    },
    /// Its patches do not support it.
    #[error("the vector is not proven: {0}")]
    Unproven(#[from] Unproven),
    /// A patch differed when the coordinator recomputed it.
    #[error("the vector is wrong: {0}")]
    Wrong(#[from] WrongPatch),
    /// It is the mean of more or fewer patches than the track has.
    #[error("the track has {expected} patches; the vector is the mean of {actual}")]
    Patches {
        /// Patches in the track.
        expected: u32,
        /// Patches according to the vector.
        actual: u32,
    },
    /// The track's length is not plausible.
    #[error("the track's length is {0} seconds")]
    Seconds(f64),
}

impl Embedding {
    /// Checks what a worker sent against what its job asks for.
    ///
    /// # Errors
    /// When the model differs, a list has the wrong length, or a number is not finite.
    pub fn check(spec: &ModelSpec, vector: Vector) -> Result<Self, InvalidVector> {
        if vector.model != spec.name {
            return Err(InvalidVector::Model { expected: spec.name.clone(), actual: vector.model });
        }
        if !(vector.seconds.is_finite() && vector.seconds >= 0.0) {
            return Err(InvalidVector::Seconds(vector.seconds));
        }
        check_numbers("embedding", &spec.name, &vector.embedding, spec.embedding_length)?;
        check_numbers("tag list", &spec.name, &vector.tags, spec.tag_count)?;
        let Vector { model, embedding: numbers, tags, seconds, flags, patches: _ } = vector;
        Ok(Self { model, numbers, tags, seconds, flags })
    }

    /// Name of the model that computed it.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The numbers.
    #[must_use]
    pub fn numbers(&self) -> &[f32] {
        &self.numbers
    }

    /// The tag activations, in the model's tag order.
    #[must_use]
    pub fn tags(&self) -> &[f32] {
        &self.tags
    }

    /// Length of the decoded audio, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Warnings about the vector: see [`Vector::flags`].
    #[must_use]
    pub fn flags(&self) -> &[String] {
        &self.flags
    }
}

fn check_numbers(part: &'static str, model: &str, numbers: &[f32], expected: usize) -> Result<(), InvalidVector> {
    if numbers.len() != expected {
        return Err(InvalidVector::Length { part, model: model.to_owned(), expected, actual: numbers.len() });
    }
    match numbers.iter().enumerate().find(|(_, number)| !number.is_finite()) {
        Some((index, &value)) => Err(InvalidVector::NotFinite { part, index, value }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ModelSpec {
        ModelSpec { name: "m".into(), embedding_length: 3, tag_count: 2 }
    }

    fn vector() -> Vector {
        Vector {
            model: "m".into(),
            embedding: vec![1.0, -2.0, 0.0],
            tags: vec![0.5, 1.0],
            seconds: 3.5,
            patches: 1,
            flags: vec![],
        }
    }

    fn refusal(change: impl FnOnce(&mut Vector)) -> String {
        let mut vector = vector();
        change(&mut vector);
        Embedding::check(&spec(), vector).unwrap_err().to_string()
    }

    #[test]
    fn a_fitting_vector_keeps_its_numbers() {
        let embedding = Embedding::check(&spec(), vector()).unwrap();
        assert_eq!(
            (embedding.model(), embedding.numbers(), embedding.tags()),
            ("m", &[1.0, -2.0, 0.0][..], &[0.5, 1.0][..])
        );
    }

    #[test]
    fn a_refusal_names_what_is_wrong() {
        assert_eq!(refusal(|v| v.model = "n".into()), "the job asks for model m; the vector is of model n");
        assert_eq!(refusal(|v| v.embedding.truncate(2)), "the embedding of model m has 3 numbers; this one has 2");
        assert_eq!(refusal(|v| v.tags.push(0.0)), "the tag list of model m has 2 numbers; this one has 3");
        assert_eq!(refusal(|v| v.embedding[1] = f32::NAN), "number 1 of the embedding is NaN, not a finite number");
        assert_eq!(refusal(|v| v.tags[0] = f32::INFINITY), "number 0 of the tag list is inf, not a finite number");
        assert_eq!(refusal(|v| v.seconds = -1.0), "the track's length is -1 seconds");
    }
}
