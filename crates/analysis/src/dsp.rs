//! From decoded samples to log-mel frames, as streams: memory does not grow with the length of a track.

mod downmix;
mod mel;
mod resample;

pub(crate) use downmix::{Downmix, MAX_CHANNELS, Speaker, default_layout};
pub(crate) use mel::LogMel;
pub(crate) use resample::Resampler;

/// Bands of a log-mel frame.
pub const MEL_BANDS: usize = 96;

/// Sample rate of the analysis, in Hz.
pub const SAMPLE_RATE: u32 = 16_000;
