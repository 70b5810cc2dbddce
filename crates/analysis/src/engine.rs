//! A model on a device that has proven that it computes correctly.

use std::{fmt, sync::Arc};

use chaarfm_models::Manifest;

use crate::{
    AudioError, Backend, Device, DeviceInfo, EngineError, Limits, MediaSource, PatchOutput, Track,
    dsp::MEL_BANDS,
    guard,
    network::{Network, PATCH_FRAMES, PATCH_HOP},
    weights::Weights,
};

/// Maximum deviation from the known answer. Rounding causes 1e-5 to 1e-4; a device that computes something else is off by
/// 0.1 or more.
const ANSWER_TOLERANCE: f32 = 1e-3;

/// A model loaded on a device.
#[derive(Debug)]
pub struct Engine {
    model: &'static Manifest,
    device: DeviceInfo,
    network: Place,
}

/// Where the network runs.
#[derive(Debug)]
enum Place {
    Here(Box<Network>),
    Elsewhere(Arc<dyn RemoteNetwork>),
}

/// A network outside this process.
pub trait RemoteNetwork: fmt::Debug + Send + Sync {
    /// The outputs for consecutive log-mel frames of [`MEL_BANDS`](crate::MEL_BANDS) numbers that make up whole patches.
    /// Blocks for a bounded time.
    ///
    /// # Errors
    /// Says what is wrong with the device.
    fn run(&self, model: &'static Manifest, log_mel: &[f32]) -> Result<Vec<PatchOutput>, String>;
}

impl Engine {
    /// Opens a device in this process and loads a model onto it.
    ///
    /// # Errors
    /// When the weights do not fit, the device is missing, computes wrong numbers or panics.
    pub async fn open(backend: Backend, model: &'static Manifest, weights: &[u8]) -> Result<Self, EngineError> {
        surviving(async { Self::load(&Device::open(backend).await?, model, weights).await }).await
    }

    /// Loads a model onto a device and checks the known answer.
    ///
    /// # Errors
    /// When the weights do not fit, or the device computes wrong numbers or none.
    pub async fn load(device: &Device, model: &'static Manifest, weights: &[u8]) -> Result<Self, EngineError> {
        let weights =
            Weights::parse(weights).map_err(|reason| EngineError::Weights { model: model.name.clone(), reason })?;
        let network = Network::new(&weights, device);
        let engine = Self::checked(model, device.info.clone(), Place::Here(Box::new(network))).await?;
        engine.check_run().await?;
        Ok(engine)
    }

    /// A model on a device opened by another process; checks the known answer.
    ///
    /// # Errors
    /// When the device computes wrong numbers or none.
    pub async fn remote(
        network: Arc<dyn RemoteNetwork>,
        device: DeviceInfo,
        model: &'static Manifest,
    ) -> Result<Self, EngineError> {
        Self::checked(model, device, Place::Elsewhere(network)).await
    }

    async fn checked(model: &'static Manifest, device: DeviceInfo, network: Place) -> Result<Self, EngineError> {
        let engine = Self { model, device, network };
        engine.check().await?;
        Ok(engine)
    }

    async fn check(&self) -> Result<(), EngineError> {
        let outputs = self.run(&check_patch()).await.map_err(EngineError::Device)?;
        let embedding = first_embedding(outputs);
        let difference = largest_difference(&embedding, &self.model.known_answer);
        // The comparison is written so that NaN fails.
        if embedding.len() == self.model.embedding_length && difference <= ANSWER_TOLERANCE {
            return Ok(());
        }
        Err(self.wrong_answer(difference))
    }

    /// The known answer covers a single patch. A GPU must also give the same answers when patches share frames, and when
    /// a run finds leftovers of a previous run in its buffers.
    async fn check_run(&self) -> Result<(), EngineError> {
        if self.device.backend != Backend::Wgpu {
            return Ok(());
        }
        let mut frames = check_patch();
        frames.extend_from_within(..2 * PATCH_HOP * MEL_BANDS);
        let together = self.run(&frames).await.map_err(EngineError::Device)?;
        for (patch, expected) in together.iter().enumerate() {
            let alone = &frames[patch * PATCH_HOP * MEL_BANDS..][..PATCH_FRAMES * MEL_BANDS];
            let embedding = first_embedding(self.run(alone).await.map_err(EngineError::Device)?);
            let difference = largest_difference(&embedding, &expected.embedding);
            // The comparison is written so that NaN fails.
            let is_same = !embedding.is_empty() && difference <= ANSWER_TOLERANCE;
            if !is_same {
                return Err(self.wrong_answer(difference));
            }
        }
        Ok(())
    }

    fn wrong_answer(&self, difference: f32) -> EngineError {
        EngineError::WrongAnswer { device: self.device.to_string(), difference, tolerance: ANSWER_TOLERANCE }
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &'static Manifest {
        self.model
    }

    /// The device it runs on.
    #[must_use]
    pub fn device(&self) -> &DeviceInfo {
        &self.device
    }

    /// Begins the analysis of a file. `extension` is only a hint: the bytes decide which format it is.
    ///
    /// # Errors
    /// When the file cannot be decoded or exceeds a limit.
    pub fn track(
        &self,
        audio: Box<dyn MediaSource>,
        extension: Option<&str>,
        limits: Limits,
    ) -> Result<Track<'_>, AudioError> {
        Track::open(self, audio, extension, limits)
    }

    /// Runs the network on consecutive log-mel frames of [`MEL_BANDS`](crate::MEL_BANDS) numbers that make up whole
    /// patches.
    ///
    /// # Errors
    /// [`AudioError::Device`] when the device fails or its answer is not finite.
    pub async fn patches(&self, log_mel: &[f32]) -> Result<Vec<PatchOutput>, AudioError> {
        let outputs = self.run(log_mel).await.map_err(AudioError::Device)?;
        let finite = |output: &PatchOutput| output.embedding.iter().chain(&output.tags).all(|x| x.is_finite());
        if outputs.iter().all(finite) {
            Ok(outputs)
        } else {
            Err(AudioError::Device(format!("{} gave an answer that is not finite", self.device)))
        }
    }

    async fn run(&self, log_mel: &[f32]) -> Result<Vec<PatchOutput>, String> {
        match &self.network {
            Place::Here(network) => network.run(log_mel).await,
            Place::Elsewhere(network) => network.run(self.model, log_mel),
        }
    }
}

/// GPU drivers panic if the graphics stack is broken or the device is lost. Such a device counts as not working.
async fn surviving<T>(opening: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
    let opened = guard::caught_future(opening).await;
    opened.unwrap_or_else(|message| Err(EngineError::Device(format!("it crashed: {message}"))))
}

/// The embedding of [`check_patch`] for weights that have no manifest yet.
///
/// # Errors
/// When the weights do not fit or the device fails.
pub async fn known_answer(device: &Device, weights: &[u8]) -> Result<Vec<f32>, EngineError> {
    let weights =
        Weights::parse(weights).map_err(|reason| EngineError::Weights { model: "the new model".to_owned(), reason })?;
    let network = Network::new(&weights, device);
    Ok(first_embedding(network.run(&check_patch()).await.map_err(EngineError::Device)?))
}

fn first_embedding(outputs: Vec<PatchOutput>) -> Vec<f32> {
    outputs.into_iter().next().map(|output| output.embedding).unwrap_or_default()
}

/// Largest absolute difference; NaN if any number is NaN.
fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |worst, x| if x > worst || x.is_nan() { x } else { worst })
}

/// The patch whose embedding every manifest contains: numbers from 0 to 4, like those of music, from the hash i ·
/// 2654435761 mod 2³², which is identical bit by bit on every device.
#[must_use]
pub fn check_patch() -> Vec<f32> {
    (0..(PATCH_FRAMES * MEL_BANDS) as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1u32 << 24) as f32 * 4.0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_crashes_when_it_is_opened_is_one_that_does_not_work() {
        let opening = async { panic!("lost") };
        let error = pollster::block_on(surviving::<()>(opening)).unwrap_err();
        assert_eq!(error.to_string(), "the device failed: it crashed: lost");
    }

    #[test]
    fn a_difference_that_is_no_number_is_never_small() {
        assert_eq!(largest_difference(&[1.0, 2.0], &[1.0, 2.5]), 0.5);
        assert!(largest_difference(&[f32::NAN, 2.0], &[1.0, 2.0]).is_nan());
    }

    #[test]
    fn the_check_patch_looks_like_music() {
        let patch = check_patch();
        assert!(patch.iter().all(|x| (0.0..4.0).contains(x)));
        let mean = patch.iter().sum::<f32>() / patch.len() as f32;
        assert!((mean - 2.0).abs() < 0.05, "{mean}");
    }
}
