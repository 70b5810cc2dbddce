//! Evidence for a vector: the embeddings of its patches. The vector must be their mean, and a recomputed patch must match.

use half::f16;

use crate::{Vector, limits::MAX_EMBEDDING_LENGTH};

/// Patches kept per track for recomputation.
pub const SAMPLED_PATCHES: usize = 16;

/// Largest relative error of rounding to half precision: half a unit in the last of its 11 bits.
const HALF_ROUNDING: f64 = 1.0 / 2048.0;

/// Largest absolute error of a mean on top of that: the smallest half-precision numbers are 6e-8 apart, and the vector
/// itself is rounded to single precision.
const MEAN_ROUNDING: f64 = 1e-6;

/// Largest distance between a patch's embedding and the recomputed one, relative to its length. Devices differ by less than
/// 2e-3, and half precision adds less than 5e-4; the embeddings of two passages of one song are at least 0.14 apart. An angle
/// is not enough: patches of the right direction and a wrong length have a wrong mean.
const MAX_DISTANCE: f64 = 0.014;

/// Collects the embeddings of a track's patches as they arrive. Keeps only their sums and a sample, so that memory does not
/// depend on the track's length.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    patches: u32,
    sums: Vec<f64>,
    /// Sums of the numbers' absolute values.
    magnitudes: Vec<f64>,
    sample: Vec<SampledPatch>,
}

/// A patch to recompute.
#[derive(Debug, Clone, PartialEq)]
pub struct SampledPatch {
    /// Its index within the track, from 0.
    pub index: u32,
    /// Its embedding according to the worker.
    pub embedding: Vec<f16>,
}

/// A patch whose recomputed embedding differs.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("patch {index} was computed again, and what the worker sent is {distance:.4} of its length away")]
pub struct WrongPatch {
    /// Its index within the track, from 0.
    pub index: u32,
    /// Distance of the two embeddings, relative to the length of the recomputed one; infinite when there is none.
    pub distance: f64,
}

/// Why patches do not prove a vector.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Unproven {
    /// Patches are missing between these and the previous ones.
    #[error("patch {expected} was to come next; {actual} came")]
    Gap {
        /// Index of the next patch in order.
        expected: u32,
        /// Index of the patch that arrived.
        actual: u32,
    },
    /// No model has embeddings of this length.
    #[error("embeddings of {actual} numbers; there are none of more than {MAX_EMBEDDING_LENGTH} or less than 1")]
    LengthOutOfRange {
        /// Length according to the worker.
        actual: u16,
    },
    /// The count is not a multiple of the embedding's length.
    #[error("{numbers} numbers are no whole embeddings of {length}")]
    Length {
        /// How many numbers arrived.
        numbers: usize,
        /// The length of the model's embeddings.
        length: usize,
    },
    /// A number is infinite or NaN.
    #[error("number {index} of patch {patch} is not finite")]
    NotFinite {
        /// The patch, from 0.
        patch: u32,
        /// The number's index in its embedding, from 0.
        index: usize,
    },
    /// The patch count differs from the vector's.
    #[error("the vector is the mean of {expected} patches; {actual} came")]
    Count {
        /// Patches according to the vector.
        expected: u32,
        /// Patches that arrived.
        actual: u32,
    },
    /// The vector's length differs from that of the patches' embeddings.
    #[error("the embedding has {actual} numbers, and those of its patches {expected}")]
    OtherLength {
        /// Length of a patch's embedding.
        expected: usize,
        /// Length of the vector's embedding.
        actual: usize,
    },
    /// The vector is not the mean.
    #[error("number {index} of the embedding is {actual}, and the mean of its patches {expected}")]
    Mean {
        /// The number's index in the embedding, from 0.
        index: usize,
        /// The mean of the patches' numbers.
        expected: f64,
        /// The vector's number.
        actual: f32,
    },
}

impl Evidence {
    /// For embeddings of `length` numbers.
    ///
    /// # Errors
    /// When no model has embeddings of that length.
    pub fn new(length: u16) -> Result<Self, Unproven> {
        if !(1..=MAX_EMBEDDING_LENGTH).contains(&length) {
            return Err(Unproven::LengthOutOfRange { actual: length });
        }
        let zeros = vec![0.0; usize::from(length)];
        Ok(Self { patches: 0, sums: zeros.clone(), magnitudes: zeros, sample: Vec::new() })
    }

    /// Adds the embeddings of consecutive patches. `below(n)` draws a number from `0..n` that the worker cannot predict:
    /// every patch is equally likely to be sampled (Vitter's algorithm R).
    ///
    /// # Errors
    /// When they do not continue the previous ones, the last embedding is incomplete, or a number is not finite.
    pub fn add(&mut self, first: u32, numbers: &[f16], mut below: impl FnMut(u32) -> u32) -> Result<(), Unproven> {
        let length = self.sums.len();
        if first != self.patches {
            return Err(Unproven::Gap { expected: self.patches, actual: first });
        }
        if numbers.is_empty() || !numbers.len().is_multiple_of(length) {
            return Err(Unproven::Length { numbers: numbers.len(), length });
        }
        for embedding in numbers.chunks_exact(length) {
            let index = self.patches;
            if let Some(place) = embedding.iter().position(|number| !number.is_finite()) {
                return Err(Unproven::NotFinite { patch: index, index: place });
            }
            for (place, number) in embedding.iter().enumerate() {
                self.sums[place] += number.to_f64();
                self.magnitudes[place] += number.to_f64().abs();
            }
            // A track has far fewer patches than a u32 can count; a worker gains nothing by sending more.
            self.patches = index.saturating_add(1);
            let patch = || SampledPatch { index, embedding: embedding.to_vec() };
            if self.sample.len() < SAMPLED_PATCHES {
                self.sample.push(patch());
            } else if let Some(replaced) = self.sample.get_mut(below(self.patches) as usize) {
                *replaced = patch();
            }
        }
        Ok(())
    }

    /// Checks that the vector is the mean of these patches, within rounding error.
    ///
    /// # Errors
    /// When it is not, or when its patch count differs.
    pub fn proves(&self, vector: &Vector) -> Result<(), Unproven> {
        if self.patches != vector.patches || self.patches == 0 {
            return Err(Unproven::Count { expected: vector.patches, actual: self.patches });
        }
        if self.sums.len() != vector.embedding.len() {
            return Err(Unproven::OtherLength { expected: self.sums.len(), actual: vector.embedding.len() });
        }
        let count = f64::from(self.patches);
        let means = self.sums.iter().zip(&self.magnitudes).map(|(sum, magnitude)| (sum / count, magnitude / count));
        for (index, ((mean, magnitude), &actual)) in means.zip(&vector.embedding).enumerate() {
            // Written so that NaN counts as too large a difference.
            let is_near = (f64::from(actual) - mean).abs() <= magnitude * HALF_ROUNDING + MEAN_ROUNDING;
            if !is_near {
                return Err(Unproven::Mean { index, expected: mean, actual });
            }
        }
        Ok(())
    }

    /// The patches to recompute, in track order.
    #[must_use]
    pub fn into_sample(mut self) -> Vec<SampledPatch> {
        self.sample.sort_by_key(|patch| patch.index);
        self.sample
    }
}

/// Compares the sampled patches with their recomputed embeddings (`computed`, in the sample's order).
///
/// # Errors
/// The first patch that differs, or that the track does not have.
pub fn compare(sample: &[SampledPatch], computed: &[Vec<f32>]) -> Result<(), WrongPatch> {
    for (place, patch) in sample.iter().enumerate() {
        let compared = computed.get(place).map_or(Err(f64::INFINITY), |embedding| distance(patch, embedding));
        if let Err(distance) = compared {
            return Err(WrongPatch { index: patch.index, distance });
        }
    }
    Ok(())
}

/// The error is the relative distance, when that is too large.
fn distance(patch: &SampledPatch, computed: &[f32]) -> Result<(), f64> {
    if patch.embedding.len() != computed.len() {
        return Err(f64::INFINITY);
    }
    let (mut apart, mut own) = (0.0, 0.0);
    for (a, &b) in patch.embedding.iter().zip(computed) {
        let (a, b) = (a.to_f64(), f64::from(b));
        apart += (a - b) * (a - b);
        own += b * b;
    }
    let (apart, own) = (apart.sqrt(), own.sqrt());
    // Written so that NaN counts as too far. An embedding of zeros has no length to compare with.
    let is_near = apart <= own * MAX_DISTANCE + MEAN_ROUNDING;
    if is_near { Ok(()) } else { Err(apart / own) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: usize = 200;

    /// Single-precision numbers like those of music.
    fn track(patches: u32) -> Vec<Vec<f32>> {
        let number = |patch: u32, place: usize| (patch as f32 * 0.37 + place as f32 * 1.3).sin() * 4.0;
        (0..patches).map(|patch| (0..LENGTH).map(|place| number(patch, place)).collect()).collect()
    }

    fn mean(track: &[Vec<f32>]) -> Vector {
        let mean = |place: usize| {
            let sum: f64 = track.iter().map(|patch| f64::from(patch[place])).sum();
            (sum / track.len() as f64) as f32
        };
        Vector {
            model: "m".into(),
            embedding: (0..LENGTH).map(mean).collect(),
            tags: vec![0.5; 50],
            seconds: 1.0,
            patches: track.len() as u32,
            flags: Vec::new(),
        }
    }

    fn halves(track: &[Vec<f32>]) -> Vec<f16> {
        track.iter().flatten().map(|&number| f16::from_f32(number)).collect()
    }

    /// A random generator good enough for tests.
    fn generator(mut state: u64) -> impl FnMut(u32) -> u32 {
        move |n| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (((state >> 32) * u64::from(n)) >> 32) as u32
        }
    }

    fn evidence(track: &[Vec<f32>], seed: u64) -> Evidence {
        let mut evidence = Evidence::new(LENGTH as u16).unwrap();
        let mut below = generator(seed);
        for (index, patches) in track.chunks(100).enumerate() {
            evidence.add(index as u32 * 100, &halves(patches), &mut below).unwrap();
        }
        evidence
    }

    #[test]
    fn the_mean_of_its_patches_is_proven() {
        for patches in [1, 2, 99, 100, 101, 1000] {
            let track = track(patches);
            assert_eq!(evidence(&track, 1).proves(&mean(&track)), Ok(()), "{patches} patches");
        }
    }

    #[test]
    fn another_vector_is_not() {
        let track = track(150);
        let evidence = evidence(&track, 1);
        let mut vector = mean(&track);
        vector.embedding[7] += 0.02;
        assert!(matches!(evidence.proves(&vector), Err(Unproven::Mean { index: 7, .. })));
        vector.embedding[7] = f32::NAN;
        assert!(matches!(evidence.proves(&vector), Err(Unproven::Mean { index: 7, .. })));
        let fewer = Vector { patches: 149, ..mean(&track) };
        assert_eq!(evidence.proves(&fewer), Err(Unproven::Count { expected: 149, actual: 150 }));
        let none = Vector { patches: 0, ..mean(&track) };
        let nothing = Evidence::new(LENGTH as u16).unwrap();
        assert_eq!(nothing.proves(&none), Err(Unproven::Count { expected: 0, actual: 0 }));
        let mut longer = mean(&track);
        longer.embedding.push(1e6);
        assert_eq!(evidence.proves(&longer), Err(Unproven::OtherLength { expected: 200, actual: 201 }));
        assert_eq!(Evidence::new(0), Err(Unproven::LengthOutOfRange { actual: 0 }));
        assert_eq!(Evidence::new(1025), Err(Unproven::LengthOutOfRange { actual: 1025 }));
    }

    #[test]
    fn patches_come_in_their_order_whole_and_finite() {
        let mut evidence = Evidence::new(LENGTH as u16).unwrap();
        let patch = halves(&track(1));
        assert_eq!(evidence.add(1, &patch, |_| 0), Err(Unproven::Gap { expected: 0, actual: 1 }));
        assert_eq!(evidence.add(0, &patch[1..], |_| 0), Err(Unproven::Length { numbers: 199, length: 200 }));
        assert_eq!(evidence.add(0, &[], |_| 0), Err(Unproven::Length { numbers: 0, length: 200 }));
        let mut broken = patch.clone();
        broken[3] = f16::INFINITY;
        assert_eq!(evidence.add(0, &broken, |_| 0), Err(Unproven::NotFinite { patch: 0, index: 3 }));
        assert_eq!(evidence.add(0, &patch, |_| 0), Ok(()));
        assert_eq!(evidence.add(0, &patch, |_| 0), Err(Unproven::Gap { expected: 1, actual: 0 }));
    }

    #[test]
    fn every_patch_is_as_likely_to_be_in_the_sample() {
        const PATCHES: u32 = 64;
        const RUNS: u64 = 2_000;
        let track = track(PATCHES);
        let mut hits = [0_u32; PATCHES as usize];
        for seed in 0..RUNS {
            let sample = evidence(&track, seed).into_sample();
            assert_eq!(sample.len(), SAMPLED_PATCHES);
            assert!(sample.is_sorted_by(|a, b| a.index < b.index));
            for patch in sample {
                assert_eq!(patch.embedding, halves(&track[patch.index as usize..][..1]));
                hits[patch.index as usize] += 1;
            }
        }
        // Expect a quarter of the draws each: 500 hits, with a standard deviation of 19.
        assert!(hits.iter().all(|hits| (400..600).contains(hits)), "{hits:?}");
    }

    #[test]
    fn a_short_track_is_its_own_sample() {
        let sample = evidence(&track(3), 5).into_sample();
        assert_eq!(sample.iter().map(|patch| patch.index).collect::<Vec<_>>(), [0, 1, 2]);
    }

    fn patch(index: u32, numbers: &[f32]) -> SampledPatch {
        SampledPatch { index, embedding: numbers.iter().map(|&number| f16::from_f32(number)).collect() }
    }

    #[test]
    fn rounding_is_no_lie_and_everything_else_is() {
        let numbers: Vec<f32> = (0..200).map(|place| (place as f32 * 0.7).sin() * 3.0).collect();
        let near: Vec<f32> = numbers.iter().map(|number| number + 1e-3).collect();
        let sample = [patch(4, &numbers), patch(9, &numbers)];
        assert_eq!(compare(&sample, &[numbers.clone(), near]), Ok(()));

        let mut other = numbers.clone();
        other[..20].fill(0.0);
        let wrong = compare(&sample, &[numbers.clone(), other]).unwrap_err();
        assert!(wrong.index == 9 && wrong.distance > MAX_DISTANCE, "{wrong}");
        assert_eq!(
            compare(&sample, std::slice::from_ref(&numbers)),
            Err(WrongPatch { index: 9, distance: f64::INFINITY }),
            "not in the track"
        );
        assert!(compare(&[patch(0, &[0.0; 200])], &[numbers]).is_err());
        assert_eq!(compare(&[patch(0, &[0.0; 200])], &[vec![0.0; 200]]), Ok(()), "whatever a silent patch gives");
    }

    #[test]
    fn a_patch_of_the_right_direction_has_the_right_length_too() {
        let numbers: Vec<f32> = (0..200).map(|place| (place as f32 * 0.7).sin() * 3.0).collect();
        for (factor, is_right) in
            [(1.001, true), (0.999, true), (1.02, false), (0.98, false), (100.0, false), (-1.0, false)]
        {
            let scaled: Vec<f32> = numbers.iter().map(|number| number * factor).collect();
            assert_eq!(compare(&[patch(0, &scaled)], std::slice::from_ref(&numbers)).is_ok(), is_right, "{factor}");
        }
    }
}
