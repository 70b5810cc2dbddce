//! Downmix of any number of channels to mono: folded to stereo by ITU-R BS.775, then the plain mean of left and right.
//!
//! The fold is not rescaled and drops the low-frequency effects. Level matters: the mel is logarithmic with an offset.

use std::f32::consts::FRAC_1_SQRT_2;

/// Maximum number of channels in a file.
pub(crate) const MAX_CHANNELS: usize = 8;

/// Position of a channel's loudspeaker, as far as the fold distinguishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaker {
    Left,
    Right,
    Centre,
    LowFrequency,
    SurroundLeft,
    SurroundRight,
    /// One surround channel for both sides.
    SurroundCentre,
}

impl Speaker {
    /// Gains to (left, right): ITU-R BS.775-3, annex 4, table 2.
    fn gains(self) -> (f32, f32) {
        match self {
            Self::Left => (1.0, 0.0),
            Self::Right => (0.0, 1.0),
            Self::Centre => (FRAC_1_SQRT_2, FRAC_1_SQRT_2),
            Self::LowFrequency => (0.0, 0.0),
            Self::SurroundLeft => (FRAC_1_SQRT_2, 0.0),
            Self::SurroundRight => (0.0, FRAC_1_SQRT_2),
            Self::SurroundCentre => (0.5, 0.5),
        }
    }
}

/// The usual speaker layout for files that do not specify one, for 1 to [`MAX_CHANNELS`] channels.
pub(crate) fn default_layout(channels: usize) -> Vec<Speaker> {
    use Speaker::{
        Centre as C, Left as L, LowFrequency as Lfe, Right as R, SurroundCentre as Sc, SurroundLeft as Sl,
        SurroundRight as Sr,
    };
    match channels {
        0 | 1 => vec![C],
        2 => vec![L, R],
        3 => vec![L, R, C],
        4 => vec![L, R, Sl, Sr],
        5 => vec![L, R, C, Sl, Sr],
        6 => vec![L, R, C, Lfe, Sl, Sr],
        7 => vec![L, R, C, Lfe, Sc, Sl, Sr],
        _ => vec![L, R, C, Lfe, Sl, Sr, Sl, Sr],
    }
}

/// One gain per channel, from all channels directly to mono.
#[derive(Debug)]
pub(crate) struct Downmix {
    gains: Vec<f32>,
}

impl Downmix {
    /// A downmix with one channel for each of `speakers`. One and two channels are averaged regardless of their speakers.
    pub(crate) fn new(speakers: &[Speaker]) -> Self {
        let gains = match speakers.len() {
            1 => vec![1.0],
            2 => vec![0.5, 0.5],
            _ => speakers.iter().map(|speaker| speaker.gains()).map(|(left, right)| (left + right) / 2.0).collect(),
        };
        Self { gains }
    }

    /// Appends the mono samples of `interleaved` frames to `out`.
    pub(crate) fn process(&self, interleaved: &[f32], out: &mut Vec<f32>) {
        // The compiler vectorises loops of a known length.
        match *self.gains {
            [gain] => out.extend(interleaved.iter().map(|sample| sample * gain)),
            [left, right] => {
                let (frames, _) = interleaved.as_chunks::<2>();
                out.extend(frames.iter().map(|frame| frame[0] * left + frame[1] * right));
            }
            _ => {
                let frames = interleaved.chunks_exact(self.gains.len());
                out.extend(
                    frames.map(|frame| frame.iter().zip(&self.gains).map(|(sample, gain)| sample * gain).sum::<f32>()),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mono(speakers: &[Speaker], frame: &[f32]) -> f32 {
        let mut out = Vec::new();
        Downmix::new(speakers).process(frame, &mut out);
        out[0]
    }

    #[test]
    fn stereo_is_the_plain_mean_and_mono_itself() {
        assert_eq!(mono(&default_layout(1), &[0.3]), 0.3);
        assert_eq!(mono(&default_layout(2), &[0.5, -0.25]), 0.125);
    }

    #[test]
    fn surround_is_folded_without_rescaling_and_without_the_low_frequency_channel() {
        let five_one = default_layout(6);
        assert_eq!(mono(&five_one, &[1.0, 1.0, 0.0, 9.0, 0.0, 0.0]), 1.0);
        assert!((mono(&five_one, &[0.0, 0.0, 1.0, 0.0, 0.0, 0.0]) - FRAC_1_SQRT_2).abs() < 1e-7);
        assert!((mono(&five_one, &[0.0, 0.0, 0.0, 0.0, 1.0, 1.0]) - FRAC_1_SQRT_2).abs() < 1e-7);
    }

    #[test]
    fn every_layout_has_its_channels() {
        for channels in 1..=MAX_CHANNELS {
            assert_eq!(default_layout(channels).len(), channels);
        }
    }
}
