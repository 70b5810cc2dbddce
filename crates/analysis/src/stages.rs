//! The individual stages of the analysis, for the benchmarks. Not part of the crate's interface.

#[cfg(feature = "wgpu")]
use crate::network::wgsl::{self, peak};
use crate::{
    AudioError, Limits, MEL_BANDS, MediaSource,
    decode::{self, Decoder},
    dsp::{LogMel, Resampler},
    network::{
        patches_in,
        simd::{Front, Trunk},
    },
    weights::Weights,
};

/// A file's downmixed samples, and their rate in Hz.
///
/// # Errors
/// When it cannot be decoded.
pub fn decode(audio: Box<dyn MediaSource>, limits: &Limits) -> Result<(Vec<f32>, u32), AudioError> {
    decode_named(audio, None, limits)
}

/// `decode` for a file whose name has an extension.
///
/// # Errors
/// When it cannot be decoded.
pub fn decode_named(
    audio: Box<dyn MediaSource>,
    extension: Option<&str>,
    limits: &Limits,
) -> Result<(Vec<f32>, u32), AudioError> {
    let mut decoder = Decoder::open(audio, extension, limits)?;
    let mut samples = Vec::new();
    while decoder.next(&mut samples)? {}
    Ok((samples, decoder.rate().unwrap_or_default()))
}

/// Names of a file's container and codec.
///
/// # Errors
/// When it cannot be opened.
pub fn kind(audio: Box<dyn MediaSource>, limits: &Limits) -> Result<(String, String), AudioError> {
    Ok(Decoder::open(audio, None, limits)?.kind())
}

/// Kinds of files that are refused by their first bytes: whether they are audio, and their names.
pub fn refused_kinds() -> impl Iterator<Item = (bool, &'static str)> {
    decode::refused_kinds()
}

/// Resamples to 16 kHz.
#[must_use]
pub fn resample(samples: &[f32], rate: u32) -> Vec<f32> {
    let mut resampler = Resampler::new(rate);
    let mut out = Vec::new();
    resampler.process(samples, &mut out);
    resampler.finish(&mut out);
    out
}

/// Log-mel frames of samples at 16 kHz.
#[must_use]
pub fn log_mel(samples: &[f32]) -> Vec<f32> {
    let mut mel = LogMel::new();
    let mut frames = Vec::new();
    mel.process(samples, &mut frames);
    mel.finish(&mut frames);
    frames
}

/// Multiply-adds of the convolutions on a GPU for a run of `patches` patches.
#[cfg(feature = "wgpu")]
#[must_use]
pub fn gpu_multiply_adds(patches: usize) -> u64 {
    wgsl::multiply_adds(patches)
}

/// Multiply-adds per second that the GPU is capable of, measured by a kernel that does nothing else.
///
/// # Errors
/// When there is no GPU, or it fails.
#[cfg(feature = "wgpu")]
pub async fn gpu_peak() -> Result<f64, String> {
    let device = crate::Device::open(crate::Backend::Wgpu).await.map_err(|error| error.to_string())?;
    peak::multiply_adds_a_second(&device.gpu.ok_or("it has no kernels of its own")?)
}

/// The convolutions on the CPU, in two stages.
pub struct Convolutions(Trunk);

/// The front end's output for a run of patches.
pub struct FrontEnd {
    front: Front,
    patches: usize,
}

impl Convolutions {
    /// Creates the convolutions from the weights of a model.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn new(weights: &[u8]) -> Result<Self, String> {
        Ok(Self(Trunk::new(&Weights::parse(weights)?, pulp::Arch::new())))
    }

    /// The front end's output for consecutive log-mel frames, which must cover at least one patch.
    #[must_use]
    pub fn front_end(&self, log_mel: &[f32]) -> FrontEnd {
        let patches = patches_in(log_mel.len() / MEL_BANDS).unwrap_or_default();
        FrontEnd { front: self.0.front(log_mel, patches), patches }
    }

    /// Mid end and pooling.
    #[must_use]
    pub fn mid_end(&self, front: &FrontEnd) -> Vec<f32> {
        self.0.back(&front.front, front.patches)
    }
}
